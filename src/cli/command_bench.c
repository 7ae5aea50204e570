#include <string.h>

#include "io/config/config.h"
#include "src/bench/bench.h"
#include "src/cli/command.h"

/* Options of the command line, as they stand. */
struct bench_words {
    const char *type, *steps, *warmup, *peak, *rows, *prompt, *tokens, *requests, *routing, *batching;
};

static enum status read_options(struct command *command, const struct bench_words *words, struct bench_options *options)
{
    const int64_t most = 100000;
    double gigaflops = 0.0;
    if (words->type && strcmp(words->type, "fp32") != 0 && strcmp(words->type, "bf16") != 0)
        return context_fail(&command->context, STATUS_USAGE, "--type: expected fp32 or bf16, got \"%s\"", words->type);
    if (words->type && strcmp(words->type, "fp32") == 0)
        options->type = COMPUTE_FP32;
    CHECK(command_integer(command, "--steps", words->steps, 1, most, &options->steps));
    CHECK(command_integer(command, "--warmup", words->warmup, 0, most, &options->warmup));
    CHECK(command_real(command, "--peak-gflops", words->peak, 1e-3, 1e15, &gigaflops));
    CHECK(command_integer(command, "--rows", words->rows, 1, most, &options->rows));
    CHECK(command_integer(command, "--prompt", words->prompt, 1, most, &options->prompt));
    CHECK(command_integer(command, "--tokens", words->tokens, 2, most, &options->tokens));
    if (words->routing && strcmp(words->routing, "trained") != 0 && strcmp(words->routing, "balanced") != 0)
        return context_fail(&command->context, STATUS_USAGE, "--routing: expected trained or balanced, got \"%s\"",
                            words->routing);
    options->requests = options->rows;
    CHECK(command_integer(command, "--requests", words->requests, options->rows, most, &options->requests));
    if (words->batching && strcmp(words->batching, "depthwise") != 0 && strcmp(words->batching, "step") != 0)
        return context_fail(&command->context, STATUS_USAGE, "--batching: expected depthwise or step, got \"%s\"",
                            words->batching);
    options->in_step = words->batching && strcmp(words->batching, "step") == 0;
    options->balanced = words->routing && strcmp(words->routing, "balanced") == 0;
    options->datasheet = 1e9 * gigaflops;
    return STATUS_OK;
}

/* What takes no configuration runs on all ranks as they are. */
static enum status start_plain(struct command *command)
{
    if (command->override_count > 0)
        return context_fail(&command->context, STATUS_USAGE,
                            "bench: --set is for `bench step` and `bench generate` only");
    return command_start(command, &(struct mesh_config){command->ranks, 1, 1, 1, 1}, &(struct compute_config){0});
}

typedef enum status (*model_bench)(struct context *context, struct mesh *mesh, struct engine *engine,
                                   const struct config *config, const struct bench_options *options) MUST_USE;

static enum status run_model(struct command *command, const char *path, model_bench bench,
                             const struct bench_options *options)
{
    struct context *context = &command->context;
    struct config *config = memory_allocate(context, sizeof *config, MEMORY_OTHER);
    if (!config)
        return STATUS_MEMORY;
    enum status status = config_load(context, path, command->overrides, command->override_count, config);
    TRY(team_agree(command->team, context, status));
    TRY(command_start_with(command, config));
    TRY(bench(context, command->mesh, &command->engine, config, options));
done:
    memory_free(context, config);
    return status;
}

enum status command_bench(struct command *command, int argc, char **argv)
{
    struct context *context = &command->context;
    struct bench_options options = {
        .type = COMPUTE_BF16, .warmup = 2, .steps = 5, .rows = 32, .prompt = 64, .tokens = 64};
    struct bench_words words = {0};
    const char *names[2];
    int count;
    const struct option_row rows[] = {
        {"--type", &words.type, NULL},         {"--steps", &words.steps, NULL},       {"--warmup", &words.warmup, NULL},
        {"--peak-gflops", &words.peak, NULL},  {"--rows", &words.rows, NULL},         {"--prompt", &words.prompt, NULL},
        {"--tokens", &words.tokens, NULL},     {"--routing", &words.routing, NULL},   {"--quick", NULL, &options.quick},
        {"--requests", &words.requests, NULL}, {"--batching", &words.batching, NULL}, {"--json", NULL, &options.json},
    };
    CHECK(command_parse(command, argc, argv, rows, sizeof rows / sizeof *rows, names, 2, &count));
    const char *what = count > 0 ? names[0] : "";
    model_bench bench = strcmp(what, "step") == 0 ? bench_step : strcmp(what, "generate") == 0 ? bench_generate : NULL;
    if (bench == bench_generate)
        options.warmup = 1;
    CHECK(read_options(command, &words, &options));
    bool matrices = strcmp(what, "matrices") == 0;
    if (!bench && !matrices && strcmp(what, "kernels") != 0 && strcmp(what, "collectives") != 0)
        return context_fail(
            context, STATUS_USAGE,
            "bench: name what to measure: kernels, collectives, matrices, step or generate; see `cairn bench --help`");
    if (count != (bench ? 2 : 1))
        return context_fail(context, STATUS_USAGE,
                            bench ? "bench %s: name a configuration; see `cairn bench --help`"
                                  : "bench %s: takes no further argument",
                            what);
    if (bench)
        return run_model(command, names[1], bench, &options);
    CHECK(start_plain(command));
    if (matrices)
        return bench_matrices(context, command->mesh, &command->engine, &options);
    return strcmp(what, "kernels") == 0 ? bench_kernels(context, command->mesh, &command->engine, &options)
                                        : bench_collectives(context, command->mesh, &options);
}
