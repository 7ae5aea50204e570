#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/checkpoint/checkpoint.h"
#include "src/cli/command.h"
#include "src/generate/generate.h"
#include "src/session/load.h"

struct generate_options {
    const char *checkpoint, *prompt, *tokens, *temperature, *top_k, *top_p, *seed;
};

struct generate_run {
    struct command *command;
    struct config *config;
    struct checkpoint_header *header;
    struct sampling sampling;
    int64_t count;
    int32_t *prompt;
    int64_t prompt_count;
    int32_t *tokens;
};

static bool is_bytes(const struct config *config)
{
    return config->model.vocabulary == 256;
}

static void print_token(void *self, int64_t continuation, int32_t token)
{
    (void)continuation;
    const struct generate_run *run = self;
    if (run->command->rank != 0)
        return;
    if (is_bytes(run->config))
        putchar(token);
    else
        printf(" %d", (int)token);
    fflush(stdout);
}

static enum status read_numbers(struct generate_run *run, const char *text)
{
    struct context *context = &run->command->context;
    const char *next = text;
    while (*next) {
        char *end;
        long token = strtol(next, &end, 10);
        if (end == next || token < 0 || token >= run->config->model.vocabulary || (*end && !strchr(" ,", *end)))
            return context_fail(context, STATUS_USAGE,
                                "--prompt: this model's tokens are not bytes; give token numbers below %lld, as in "
                                "\"464 995\"",
                                (long long)run->config->model.vocabulary);
        run->prompt[run->prompt_count++] = (int32_t)token;
        next = end + strspn(end, " ,");
    }
    return STATUS_OK;
}

static enum status read_prompt(struct generate_run *run, const char *text)
{
    struct context *context = &run->command->context;
    size_t length = strlen(text);
    run->prompt = memory_allocate(context, (length + 1) * sizeof *run->prompt, MEMORY_OTHER);
    run->tokens = memory_allocate(context, (size_t)run->count * sizeof *run->tokens, MEMORY_OTHER);
    if (!run->prompt || !run->tokens)
        return STATUS_MEMORY;
    if (family_of_images(run->config->model.family))
        return context_fail(context, STATUS_USAGE,
                            "--checkpoint: this model is of images and continues no text; `cairn predict` says what "
                            "it sees");
    if (is_bytes(run->config)) {
        for (size_t i = 0; i < length; i++)
            run->prompt[run->prompt_count++] = (unsigned char)text[i];
    } else {
        CHECK(read_numbers(run, text));
    }
    if (run->prompt_count == 0)
        return context_fail(context, STATUS_USAGE, "--prompt: give at least one token to continue");
    return STATUS_OK;
}

static enum status read_options(struct generate_run *run, const struct generate_options *options)
{
    struct command *command = run->command;
    int64_t seed = 1;
    if (!options->checkpoint || !options->prompt)
        return context_fail(&command->context, STATUS_USAGE,
                            "generate: needs --checkpoint and --prompt; see `cairn generate --help`");
    CHECK(command_integer(command, "--tokens", options->tokens, 0, INT32_MAX, &run->count));
    CHECK(command_integer(command, "--top-k", options->top_k, 0, INT32_MAX, &run->sampling.top_k));
    CHECK(command_integer(command, "--seed", options->seed, 0, INT64_MAX, &seed));
    CHECK(command_real(command, "--temperature", options->temperature, 0.0, 100.0, &run->sampling.temperature));
    CHECK(command_real(command, "--top-p", options->top_p, 0.0, 1.0, &run->sampling.top_p));
    run->sampling.seed = (uint64_t)seed;
    return STATUS_OK;
}

static enum status run_generate(struct generate_run *run, const struct generate_options *options)
{
    struct command *command = run->command;
    struct context *context = &command->context;
    struct session session = {0};
    char path[CHECKPOINT_PATH];
    enum status status;
    TRY(command_start_stored(command, options->checkpoint, run->config, run->header, path));
    status = read_prompt(run, options->prompt);
    TRY(mesh_agree(command->mesh, context, status));
    TRY(session_create(context, command->mesh, &command->engine, run->config, NULL, NULL, false, &session));
    TRY(session_load(&session, path));
    if (command->rank == 0)
        fputs(options->prompt, stdout);
    struct continuation continuation = {
        .prompt = run->prompt, .prompt_count = run->prompt_count, .count = run->count, .tokens = run->tokens};
    TRY(generate(&session, &run->sampling, &continuation, 1, 1, print_token, run));
    if (command->rank == 0)
        putchar('\n');
done:
    session_destroy(&session);
    return status;
}

enum status command_generate(struct command *command, int argc, char **argv)
{
    struct context *context = &command->context;
    struct generate_options options = {0};
    struct generate_run run = {.command = command, .count = 200, .sampling = {.temperature = 1.0, .top_p = 1.0}};
    int others;
    const struct option_row rows[] = {
        {"--checkpoint", &options.checkpoint, NULL},
        {"--prompt", &options.prompt, NULL},
        {"--tokens", &options.tokens, NULL},
        {"--temperature", &options.temperature, NULL},
        {"--top-k", &options.top_k, NULL},
        {"--top-p", &options.top_p, NULL},
        {"--seed", &options.seed, NULL},
    };
    CHECK(command_parse(command, argc, argv, rows, (int)(sizeof rows / sizeof *rows), NULL, 0, &others));
    CHECK(read_options(&run, &options));
    run.config = memory_allocate(context, sizeof *run.config, MEMORY_OTHER);
    run.header = memory_allocate(context, sizeof *run.header, MEMORY_OTHER);
    enum status status = team_agree(command->team, context, run.config && run.header ? STATUS_OK : STATUS_MEMORY);
    if (status == STATUS_OK)
        status = run_generate(&run, &options);
    memory_free(context, run.prompt);
    memory_free(context, run.tokens);
    memory_free(context, run.config);
    memory_free(context, run.header);
    return status;
}
