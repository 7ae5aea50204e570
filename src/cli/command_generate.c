#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/checkpoint/checkpoint.h"
#include "src/cli/command.h"
#include "src/cli/input.h"
#include "src/core/clock.h"
#include "src/generate/generate.h"
#include "src/prepare/run_tokenizer.h"
#include "src/session/load.h"

struct generate_options {
    const char *checkpoint, *prompt, *file, *tokenizer, *tokens, *temperature, *top_k, *top_p, *seed;
};

struct generate_run {
    struct command *command;
    struct config *config;
    struct checkpoint_header *header;
    struct sampling sampling;
    int64_t count;
    struct bytes text;           /* the prompt, on rank 0 */
    struct token_list prompt;    /* on all ranks */
    int32_t *tokens;             /* that are drawn */
    struct tokenizer *tokenizer; /* on rank 0; NULL: there is none */
    struct decoder_stream *stream;
    struct bytes shown;
    int32_t end; /* token that ends the text; -1: none does */
    bool ended;
    int64_t drawn;
};

static bool is_bytes(const struct config *config)
{
    return config->model.vocabulary == 256;
}

static bool has_ended(void *self)
{
    return ((const struct generate_run *)self)->ended;
}

static void print_shown(struct generate_run *run)
{
    fwrite(run->shown.data, 1, (size_t)run->shown.count, stdout);
    run->shown.count = 0;
}

static void print_token(void *self, int64_t continuation, int32_t token)
{
    (void)continuation;
    struct generate_run *run = self;
    run->ended = run->ended || token == run->end;
    run->drawn++;
    if (run->command->rank != 0)
        return;
    if (run->stream) {
        context_keep(&run->command->context, decoder_stream_push(run->stream, token, &run->shown));
        print_shown(run);
    } else if (is_bytes(run->config)) {
        putchar(token);
    } else {
        printf(" %d", (int)token);
    }
    fflush(stdout);
}

/* -- The prompt: read by rank 0 and shared as tokens -- */

static enum status read_text(struct generate_run *run, const struct generate_options *options)
{
    struct context *context = &run->command->context;
    if (options->prompt)
        CHECK(bytes_add(&run->text, options->prompt, (int64_t)strlen(options->prompt)));
    else
        CHECK(input_read(context, options->file ? options->file : "-", &run->text));
    CHECK(bytes_add(&run->text, "", 1));
    run->text.count--;
    return STATUS_OK;
}

static enum status make_tokens(struct generate_run *run)
{
    struct context *context = &run->command->context;
    struct token_list *prompt = &run->prompt;
    const char *text = run->text.data;
    int64_t length = run->text.count;
    if (run->tokenizer) {
        struct encoder *encoder = NULL;
        CHECK(encoder_create(context, run->tokenizer, &encoder));
        enum status status =
            encoder_encode(encoder, text, length, (struct encoding){.specials = true, .frame = true}, prompt);
        encoder_destroy(&encoder);
        return status;
    }
    if (!is_bytes(run->config)) {
        struct bytes numbers = {.context = context};
        enum status status = input_numbers(
            context, "--prompt: this model has no tokenizer and its tokens are not bytes (--tokenizer names one)", text,
            run->config->model.vocabulary - 1, &numbers);
        prompt->ids = (int32_t *)(void *)numbers.data; /* which bytes of memory_allocate may be */
        prompt->count = numbers.count / (int64_t)sizeof *prompt->ids;
        prompt->room = numbers.room / (int64_t)sizeof *prompt->ids;
        return status;
    }
    CHECK(array_grow(context, &prompt->ids, 0, &prompt->room, length, sizeof *prompt->ids));
    for (; prompt->count < length; prompt->count++)
        prompt->ids[prompt->count] = (unsigned char)text[prompt->count];
    return STATUS_OK;
}

static enum status read_prompt(struct generate_run *run, const struct generate_options *options, const char *path)
{
    struct context *context = &run->command->context;
    CHECK(read_text(run, options));
    CHECK(run_tokenizer_find(context, options->tokenizer, run->config, path, run->header->data, &run->tokenizer));
    CHECK(make_tokens(run));
    if (run->prompt.count == 0)
        return context_fail(context, STATUS_USAGE, "--prompt: give at least one token to continue");
    if (!run->tokenizer)
        return STATUS_OK;
    run->end = tokenizer_end(run->tokenizer);
    return decoder_stream_create(context, run->tokenizer, true, &run->stream);
}

static enum status share_prompt(struct generate_run *run, const struct generate_options *options, const char *path)
{
    struct command *command = run->command;
    struct context *context = &command->context;
    struct mesh *mesh = command->mesh;
    int64_t facts[2];
    run->end = -1;
    if (family_of_images(run->config->model.family))
        return context_fail(context, STATUS_USAGE,
                            "--checkpoint: this model is of images and continues no text; `cairn predict` says what "
                            "it sees");
    if (run->config->model.classes > 0)
        return context_fail(context, STATUS_USAGE,
                            "--checkpoint: this model tells texts apart (model.classes) and continues none");
    CHECK(mesh_agree(mesh, context, command->rank == 0 ? read_prompt(run, options, path) : STATUS_OK));
    facts[0] = run->prompt.count;
    facts[1] = run->end;
    mesh_broadcast(mesh, MESH_TEAM, 0, facts, 2, DTYPE_I64);
    enum status status =
        array_grow(context, &run->prompt.ids, run->prompt.count, &run->prompt.room, facts[0], sizeof *run->prompt.ids);
    run->prompt.count = facts[0];
    run->end = (int32_t)facts[1];
    run->tokens = memory_allocate(context, (size_t)run->count * sizeof *run->tokens, MEMORY_OTHER);
    CHECK(mesh_agree(mesh, context, run->tokens ? status : STATUS_MEMORY));
    mesh_broadcast(mesh, MESH_TEAM, 0, run->prompt.ids, run->prompt.count, DTYPE_I32);
    run->sampling.stops = has_ended;
    run->sampling.stops_self = run;
    return STATUS_OK;
}

static enum status read_options(struct generate_run *run, const struct generate_options *options)
{
    struct command *command = run->command;
    int64_t seed = 1;
    if (!options->checkpoint)
        return context_fail(&command->context, STATUS_USAGE,
                            "generate: needs --checkpoint; see `cairn generate --help`");
    if (options->prompt && options->file)
        return context_fail(&command->context, STATUS_USAGE, "generate: --prompt and --file are two prompts");
    CHECK(command_integer(command, "--tokens", options->tokens, 0, INT32_MAX, &run->count));
    CHECK(command_integer(command, "--top-k", options->top_k, 0, INT32_MAX, &run->sampling.top_k));
    CHECK(command_integer(command, "--seed", options->seed, 0, INT64_MAX, &seed));
    CHECK(command_real(command, "--temperature", options->temperature, 0.0, 100.0, &run->sampling.temperature));
    CHECK(command_real(command, "--top-p", options->top_p, 0.0, 1.0, &run->sampling.top_p));
    run->sampling.seed = (uint64_t)seed;
    return STATUS_OK;
}

static enum status speak(struct generate_run *run, struct session *session)
{
    struct command *command = run->command;
    bool first = command->rank == 0;
    struct continuation continuation = {
        .prompt = run->prompt.ids, .prompt_count = run->prompt.count, .count = run->count, .tokens = run->tokens};
    double start = clock_seconds();
    if (first)
        fwrite(run->text.data, 1, (size_t)run->text.count, stdout);
    CHECK(generate(session, &run->sampling, &continuation, 1, 1, print_token, run));
    if (!first)
        return STATUS_OK;
    if (run->stream)
        CHECK(decoder_stream_finish(run->stream, &run->shown));
    print_shown(run);
    putchar('\n');
    double seconds = clock_seconds() - start;
    if (isatty(STDERR_FILENO) && run->drawn > 0)
        context_log(&command->context, "%lld tokens, %.1f tokens/s", (long long)run->drawn,
                    (double)run->drawn / seconds);
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
    TRY(share_prompt(run, options, path));
    TRY(session_create(context, command->mesh, &command->engine, run->config, NULL, NULL, false, &session));
    TRY(session_load(&session, path));
    TRY(speak(run, &session));
done:
    session_destroy(&session);
    return status;
}

enum status command_generate(struct command *command, int argc, char **argv)
{
    struct context *context = &command->context;
    struct generate_options options = {0};
    struct generate_run run = {.command = command,
                               .count = 200,
                               .sampling = {.temperature = 1.0, .top_p = 1.0},
                               .text = {.context = context},
                               .shown = {.context = context}};
    int others;
    const struct option_row rows[] = {
        {"--checkpoint", &options.checkpoint, NULL},
        {"--prompt", &options.prompt, NULL},
        {"--file", &options.file, NULL},
        {"--tokenizer", &options.tokenizer, NULL},
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
    decoder_stream_destroy(&run.stream);
    tokenizer_close(&run.tokenizer);
    token_list_release(context, &run.prompt);
    bytes_release(&run.text);
    bytes_release(&run.shown);
    memory_free(context, run.tokens);
    memory_free(context, run.config);
    memory_free(context, run.header);
    return status;
}
