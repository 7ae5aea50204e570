/* `cairn export` and `cairn import`. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/config/config.h"
#include "src/cli/command.h"
#include "src/cli/new_run.h"
#include "src/prepare/run_tokenizer.h"
#include "src/session/exchange.h"
#include "src/session/load.h"
#include "src/train/run_folder.h"
#include "src/train/state.h"

/* -- Out -- */

struct export_run {
    struct command *command;
    const char *source, *output;
    const char *type, *shard_size;
    int64_t shard_bytes;
    struct config config;
    struct checkpoint_header header;
    struct session session;
    struct exchange_card card;
};

static enum status read_export_options(struct export_run *run)
{
    struct command *command = run->command;
    bool is_bf16 = run->type && strcmp(run->type, "bf16") == 0;
    if (run->type && !is_bf16 && strcmp(run->type, "fp32") != 0)
        return context_fail(&command->context, STATUS_USAGE, "--type: expected fp32 or bf16, got \"%s\"", run->type);
    run->card.type = is_bf16 ? EXCHANGE_BF16 : EXCHANGE_F32;
    run->shard_bytes = 5000000000;
    CHECK(command_integer(command, "--shard-size", run->shard_size, 1, INT64_MAX, &run->shard_bytes));
    if (command->override_count == OVERRIDES)
        return context_fail(&command->context, STATUS_USAGE, "--set: at most %d", OVERRIDES - 1);
    command->overrides[command->override_count++] = "compute.type=fp32"; /* the weights, not rounded copies */
    return STATUS_OK;
}

/* On rank 0. Nothing that is there may be mixed with what is written. */
static enum status make_folder(const struct export_run *run)
{
    static const char *const names[] = {"config.json", "model.safetensors", "model.safetensors.index.json"};
    struct context *context = &run->command->context;
    char path[EXCHANGE_PATH];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (snprintf(path, sizeof path, "%s/%s", run->output, names[i]) >= (int)sizeof path - 64)
            return context_fail(context, STATUS_USAGE, "%s: the name is too long", run->output);
        if (access(path, F_OK) == 0)
            return context_fail(context, STATUS_USAGE, "%s: is there; name another folder", path);
    }
    return run_folder_make(context, run->output);
}

/* On rank 0: the tokenizer goes with the model. */
static enum status export_tokenizer(const struct export_run *run, const char *checkpoint)
{
    struct context *context = &run->command->context;
    struct tokenizer *tokenizer = NULL;
    char path[TEXT_LENGTH + 64];
    if (family_of_images(run->config.model.family) || !run_tokenizer_beside(checkpoint, path))
        return STATUS_OK;
    CHECK(run_tokenizer_open(context, path, run->config.model.vocabulary, checkpoint, run->header.data, &tokenizer));
    tokenizer_close(&tokenizer);
    return run_tokenizer_keep(context, path, run->output);
}

static enum status run_export(struct export_run *run)
{
    struct command *command = run->command;
    struct context *context = &command->context;
    char path[CHECKPOINT_PATH];
    CHECK(command_start_stored(command, run->source, &run->config, &run->header, path));
    run->card.model = &run->config.model;
    run->card.length = run->config.training.sequence_length;
    run->card.end = run->config.data.eot;
    run->card.facts = run->header.data;
    run->card.source = path;
    run->card.step = run->header.step;
    run->card.tokens = run->header.tokens;
    CHECK(exchange_family_of(context, path, run->card.model, &run->card.family)); /* the same on all ranks */
    CHECK(session_create(context, command->mesh, &command->engine, &run->config, NULL, NULL, false, &run->session));
    CHECK(session_load(&run->session, path));
    CHECK(mesh_agree(command->mesh, context, command->rank == 0 ? make_folder(run) : STATUS_OK));
    CHECK(session_export(&run->session, run->output, run->shard_bytes, &run->card));
    CHECK(mesh_agree(command->mesh, context, command->rank == 0 ? export_tokenizer(run, path) : STATUS_OK));
    if (command->rank == 0)
        printf("%s: %lld parameters of %s\n", run->output, (long long)parameter_list_elements(&run->session.parameters),
               path);
    return STATUS_OK;
}

enum status command_export(struct command *command, int argc, char **argv)
{
    struct context *context = &command->context;
    const char *words[2] = {NULL, NULL};
    int count;
    struct export_run *run = memory_allocate(context, sizeof *run, MEMORY_OTHER);
    if (!run)
        return STATUS_MEMORY;
    run->command = command;
    run->session.context = context;
    const struct option_row rows[] = {{"--type", &run->type, NULL}, {"--shard-size", &run->shard_size, NULL}};
    enum status status = command_parse(command, argc, argv, rows, 2, words, 2, &count);
    if (status == STATUS_OK && count < 2)
        status =
            context_fail(context, STATUS_USAGE, "export: name a checkpoint and a folder; see `cairn export --help`");
    run->source = words[0];
    run->output = words[1];
    if (status == STATUS_OK)
        status = read_export_options(run);
    if (status == STATUS_OK)
        status = run_export(run);
    if (run->session.mesh)
        session_destroy(&run->session);
    memory_free(context, run);
    return status;
}

/* -- In -- */

struct import_run {
    struct command *command;
    const char *source;
    struct new_run folder;
    struct exchange_model model;
    struct config config;
    struct trainer trainer;
    char text[CHECKPOINT_CONFIG_SIZE];
    char tokenizer[TEXT_LENGTH]; /* the source's; empty: it has none */
    char facts[TOKENIZER_FACTS];
};

/* Of a kind that is not read here a model is imported without. */
static enum status find_tokenizer(struct import_run *run)
{
    struct context *context = &run->command->context;
    struct tokenizer *tokenizer = NULL;
    char path[TEXT_LENGTH];
    run->tokenizer[0] = '\0';
    if (snprintf(path, sizeof path, "%s/tokenizer.json", run->source) >= (int)sizeof path || access(path, F_OK) != 0)
        return STATUS_OK;
    if (tokenizer_open(context, path, &tokenizer) != STATUS_OK) {
        context_log(context, "%s; the model is imported without it", context->text);
        context_clear(context);
        return STATUS_OK;
    }
    run_tokenizer_facts(tokenizer_hash(tokenizer), run->facts);
    memcpy(run->tokenizer, path, sizeof path);
    tokenizer_close(&tokenizer);
    return STATUS_OK;
}

static enum status prepare_import(struct import_run *run, const char *output)
{
    struct command *command = run->command;
    struct context *context = &command->context;
    char path[EXCHANGE_PATH + 16];
    char own[TEXT_LENGTH + 16];
    char tokenizer[TEXT_LENGTH + 32];
    const char *overrides[OVERRIDES + 2] = {own};
    CHECK(new_run_find(context, output, &run->folder));
    CHECK(exchange_read_config(context, run->source, &run->model));
    if (snprintf(own, sizeof own, "run.folder=%s", output) >= (int)sizeof own)
        return context_fail(context, STATUS_USAGE, "%s: the name is too long", output);
    CHECK(find_tokenizer(run));
    if (run->tokenizer[0]) {
        if (snprintf(tokenizer, sizeof tokenizer, "data.tokenizer=%s/tokenizer.json", output) >= (int)sizeof tokenizer)
            return context_fail(context, STATUS_USAGE, "%s: the name is too long", output);
        overrides[1] = tokenizer;
    }
    int own_count = run->tokenizer[0] ? 2 : 1;
    snprintf(path, sizeof path, "%.1000s/config.json", run->source);
    memcpy(overrides + own_count, command->overrides, (size_t)command->override_count * sizeof *overrides);
    return config_parse(context, path, run->model.settings, strlen(run->model.settings), overrides,
                        command->override_count + own_count, &run->config);
}

/* On rank 0: settings that train, eval and plan take. */
static enum status write_settings(struct import_run *run)
{
    struct context *context = &run->command->context;
    char path[CHECKPOINT_PATH + 16];
    CHECK(new_run_take(context, &run->folder));
    snprintf(path, sizeof path, "%s/config.yaml", run->folder.output);
    if (config_format(&run->config, run->text, sizeof run->text) >= sizeof run->text)
        return context_fail(context, STATUS_USAGE, "the configuration is longer than a checkpoint can hold");
    CHECK(run_folder_write(context, path, run->text));
    return run->tokenizer[0] ? run_tokenizer_keep(context, run->tokenizer, run->folder.output) : STATUS_OK;
}

static enum status run_import(struct import_run *run, const char *output)
{
    struct command *command = run->command;
    struct context *context = &command->context;
    struct trainer *trainer = &run->trainer;
    CHECK(team_agree(command->team, context, prepare_import(run, output)));
    CHECK(command_start_with(command, &run->config));
    CHECK(trainer_create(context, command->mesh, &command->engine, &run->config, trainer));
    CHECK(session_import(&trainer->session, run->source));
    trainer->data_facts = run->tokenizer[0] ? run->facts : run->model.facts;
    CHECK(mesh_agree(command->mesh, context, command->rank == 0 ? write_settings(run) : STATUS_OK));
    CHECK(state_save(trainer, NULL, run->folder.folder));
    if (command->rank == 0)
        printf("%s/step-%08d.h5: %lld parameters of %s\n", run->folder.folder, 0,
               (long long)parameter_list_elements(&trainer->session.parameters), run->source);
    return STATUS_OK;
}

enum status command_import(struct command *command, int argc, char **argv)
{
    struct context *context = &command->context;
    const char *words[2] = {NULL, NULL};
    int count;
    struct import_run *run = memory_allocate(context, sizeof *run, MEMORY_OTHER);
    if (!run)
        return STATUS_MEMORY;
    run->command = command;
    run->trainer.context = context;
    enum status status = command_parse(command, argc, argv, NULL, 0, words, 2, &count);
    run->source = words[0];
    if (status == STATUS_OK && count < 2)
        status = context_fail(context, STATUS_USAGE,
                              "import: name a folder and that of a new run; see `cairn import --help`");
    if (status == STATUS_OK)
        status = run_import(run, words[1]);
    new_run_release(&run->folder);
    trainer_destroy(&run->trainer);
    memory_free(context, run);
    return status;
}
