#include <math.h>
#include <stdio.h>

#include "io/config/config.h"
#include "src/cli/command.h"
#include "src/core/text.h"
#include "src/train/evaluate.h"
#include "src/train/state.h"

static enum status open_corpus(struct context *context, const struct config *config, const char *data,
                               struct corpus **corpus)
{
    const struct data_config *wanted = &config->data;
    struct text_list named = {.count = 1};
    int64_t vocabulary = config->model.vocabulary;
    if (data && !text_copy(named.item[0], TEXT_LENGTH, data))
        return context_fail(context, STATUS_USAGE, "--data: the name is too long");
    if (data)
        return corpus_open(context, &named, wanted->format, vocabulary, 0.0, 1.0, corpus);
    if (wanted->validation.count > 0)
        return corpus_open(context, &wanted->validation, wanted->format, vocabulary, 0.0, 1.0, corpus);
    if (wanted->train.count == 0 || wanted->validation_fraction == 0.0)
        return context_fail(context, STATUS_USAGE,
                            "eval: the configuration has no validation data; name some with --data");
    return corpus_open(context, &wanted->train, wanted->format, vocabulary, 1.0 - wanted->validation_fraction, 1.0,
                       corpus);
}

static enum status open_text(struct context *context, const struct config *config, const char *data,
                             struct corpus **corpus)
{
    const char *name = data                                ? data
                       : config->data.validation.count > 0 ? config->data.validation.item[0]
                                                           : config->data.train.item[0];
    CHECK(open_corpus(context, config, data, corpus));
    if (corpus_windows(*corpus, config->training.sequence_length) == 0)
        return context_fail(context, STATUS_FILE, "%s: fewer than two tokens to evaluate on", name);
    return STATUS_OK;
}

static void print_result(const struct command *command, const struct config *config,
                         const struct evaluation *evaluation)
{
    if (command->rank != 0)
        return;
    printf("loss %.6f nats a token, perplexity %.4f, %.4f bits a %s, over %lld tokens in windows of %lld; "
           "%.0f tokens/s\n",
           evaluation->loss, exp(evaluation->loss), evaluation->loss / log(2.0),
           config->model.vocabulary == 256 ? "byte" : "token", (long long)evaluation->targets,
           (long long)config->training.sequence_length, (double)evaluation->targets / evaluation->seconds);
}

/* Options of the command line, as they stand. */
struct eval_options {
    const char *config;
    const char *checkpoint;
    const char *data;
    const char *length;
};

static enum status load_config(struct command *command, const struct eval_options *options, struct config *config)
{
    CHECK(config_load(&command->context, options->config, command->overrides, command->override_count, config));
    return command_integer(command, "--context-length", options->length, 1, INT32_MAX,
                           &config->training.sequence_length);
}

static enum status run(struct command *command, const struct eval_options *options, struct config *config)
{
    struct context *context = &command->context;
    struct corpus *corpus = NULL;
    struct trainer trainer = {.context = context};
    struct evaluation evaluation;
    char path[CHECKPOINT_PATH];
    enum status status = load_config(command, options, config);
    TRY(mesh_agree(NULL, context, status));
    TRY(command_start(command, &config->mesh, &config->compute));
    TRY(mesh_agree(command->mesh, context, open_text(context, config, options->data, &corpus)));
    TRY(command_checkpoint(command, options->checkpoint ? options->checkpoint : config->run.folder, path, sizeof path));
    TRY(checkpoint_verify(context, command->mesh, path));
    TRY(trainer_create(context, command->mesh, &command->engine, config, false, &trainer));
    TRY(state_load(&trainer, NULL, path));
    TRY(evaluate(&trainer, corpus, 0, &evaluation));
    print_result(command, config, &evaluation);
done:
    trainer_destroy(&trainer);
    corpus_close(&corpus);
    return status;
}

enum status command_eval(struct command *command, int argc, char **argv)
{
    struct context *context = &command->context;
    struct eval_options options = {0};
    int others;
    const struct option_row rows[] = {
        {"--checkpoint", &options.checkpoint, NULL},
        {"--data", &options.data, NULL},
        {"--context-length", &options.length, NULL},
    };
    CHECK(command_parse(command, argc, argv, rows, 3, &options.config, 1, &others));
    if (others != 1)
        return context_fail(context, STATUS_USAGE, "eval: name a configuration; see `cairn eval --help`");
    struct config *config = memory_allocate(context, sizeof *config, MEMORY_OTHER);
    if (!config)
        return STATUS_MEMORY;
    enum status status = run(command, &options, config);
    memory_free(context, config);
    return status;
}
