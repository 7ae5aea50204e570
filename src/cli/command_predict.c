#include <stdlib.h>

#include "src/cli/command.h"
#include "src/cli/predict.h"
#include "src/session/load.h"

struct predict {
    struct command *command;
    struct config *config;
    struct checkpoint_header *header;
    struct image_facts facts;
    struct session session;
    struct predictions wanted;
};

static enum status prepare(struct predict *predict, const char *path)
{
    struct context *context = &predict->command->context;
    struct config *config = predict->config;
    if (config->model.family == FAMILY_DECODER)
        return context_fail(context, STATUS_USAGE,
                            "predict: %s is a language model; `cairn generate` continues a text with it", path);
    CHECK(image_facts_read(context, path, predict->header->data, &predict->facts));
    config->training.batch = config->training.micro_batch = predict_rows(predict->wanted.count);
    return STATUS_OK;
}

static enum status run(struct predict *predict, const char *checkpoint)
{
    struct command *command = predict->command;
    struct context *context = &command->context;
    char path[CHECKPOINT_PATH];
    enum status status;
    TRY(command_start_stored(command, checkpoint, predict->config, predict->header, path));
    TRY(mesh_agree(command->mesh, context, prepare(predict, path)));
    TRY(session_create(context, command->mesh, &command->engine, predict->config, NULL, NULL, false,
                       &predict->session));
    TRY(session_load(&predict->session, path));
    status = predict_images(&predict->session, &predict->wanted);
done:
    session_destroy(&predict->session);
    image_facts_destroy(context, &predict->facts);
    return status;
}

enum status command_predict(struct command *command, int argc, char **argv)
{
    struct context *context = &command->context;
    struct predict predict = {.command = command, .wanted = {.facts = &predict.facts, .top = 5}};
    const char *top = NULL;
    int count = 0;
    const struct option_row rows[] = {{"--top", &top, NULL}, {"--json", NULL, &predict.wanted.json}};
    const char **others = calloc((size_t)argc + 1, sizeof *others);
    if (!others)
        return context_fail(context, STATUS_MEMORY, "out of memory");
    enum status status = command_parse(command, argc, argv, rows, 2, others, argc, &count);
    if (status == STATUS_OK && count < 2)
        status =
            context_fail(context, STATUS_USAGE, "predict: name a checkpoint and images; see `cairn predict --help`");
    if (status == STATUS_OK)
        status = command_integer(command, "--top", top, 1, INT32_MAX, &predict.wanted.top);
    predict.wanted.image = others + 1;
    predict.wanted.count = count - 1;
    predict.config = memory_allocate(context, sizeof *predict.config, MEMORY_OTHER);
    predict.header = memory_allocate(context, sizeof *predict.header, MEMORY_OTHER);
    if (status == STATUS_OK)
        status = team_agree(command->team, context, predict.config && predict.header ? STATUS_OK : STATUS_MEMORY);
    if (status == STATUS_OK)
        status = run(&predict, others[0]);
    memory_free(context, predict.config);
    memory_free(context, predict.header);
    free(others);
    return status;
}
