/* `cairn data tokenize`: texts to token files. */
#include <stdio.h>
#include <string.h>

#include "src/cli/texts.h"
#include "src/core/text.h"

struct tokenize_run {
    struct command *command;
    const char *tokenizer_path, *output, *end, *begin;
    struct text_choice choice;
    bool special;
    struct tokenize_options options;
    struct text_list *files;
    struct corpus_names names;
    struct tokenizer *tokenizer;
};

/* A token by its text or its number; "none" is none. */
static enum status find_token(struct tokenize_run *run, const char *option, const char *text, int32_t *id)
{
    int64_t number;
    if (!text)
        return STATUS_OK;
    *id = -1;
    if (strcmp(text, "none") == 0)
        return STATUS_OK;
    *id = tokenizer_find(run->tokenizer, text);
    if (*id < 0 && text_to_integer(text, &number) && number >= 0 && number < tokenizer_size(run->tokenizer))
        *id = (int32_t)number;
    return *id >= 0 ? STATUS_OK
                    : context_fail(&run->command->context, STATUS_USAGE,
                                   "%s: \"%.64s\" is no token of %s; name one, its number, or none", option, text,
                                   run->tokenizer_path);
}

static enum status prepare(struct tokenize_run *run)
{
    struct context *context = &run->command->context;
    if (!run->tokenizer_path || !run->output || run->files->count == 0)
        return context_fail(context, STATUS_USAGE,
                            "data tokenize: name files, --tokenizer and --output; see `cairn data --help`");
    CHECK(text_choice_read(context, &run->choice, &run->options));
    CHECK(tokenizer_open(context, run->tokenizer_path, &run->tokenizer));
    run->options.prefix = run->output;
    run->options.specials = run->special;
    run->options.begin = -1;
    run->options.end = tokenizer_end(run->tokenizer);
    CHECK(find_token(run, "--begin", run->begin, &run->options.begin));
    CHECK(find_token(run, "--end", run->end, &run->options.end));
    return corpus_names_create(context, run->files, &run->names);
}

static void print_result(const struct tokenize_run *run, const struct tokenize_result *result)
{
    printf("%s.bin: %lld documents, %lld tokens of %lld bytes, %.3f bytes a token; %.1f s, %.1f MB/s\n", run->output,
           (long long)result->documents, (long long)result->tokens, (long long)result->bytes,
           (double)result->bytes / (double)result->tokens, result->seconds,
           1e-6 * (double)result->bytes / result->seconds);
    if (result->replaced > 0)
        printf("%lld parts are no UTF-8 and were read as U+FFFD\n", (long long)result->replaced);
    if (result->bad > 0)
        printf("%lld lines are no JSON with a text and were left out\n", (long long)result->bad);
}

static enum status run_tokenize(struct tokenize_run *run)
{
    struct command *command = run->command;
    struct context *context = &command->context;
    struct tokenize_result result;
    CHECK(team_agree(command->team, context, prepare(run)));
    CHECK(text_names_same(context, command->team, &run->names, tokenizer_hash(run->tokenizer)));
    CHECK(mesh_create(context, command->team, &(struct mesh_config){command->ranks, 1, 1, 1, 1}, &command->mesh));
    CHECK(tokenize_files(context, command->mesh, run->tokenizer, run->names.name, run->names.count, &run->options,
                         &result));
    if (command->rank == 0)
        print_result(run, &result);
    return STATUS_OK;
}

enum status command_data_tokenize(struct command *command, int argc, char **argv)
{
    struct context *context = &command->context;
    struct tokenize_run run = {.command = command};
    const char *words[TEXT_LIST_ITEMS + 1];
    int count;
    const struct option_row rows[] = {
        {"--tokenizer", &run.tokenizer_path, NULL},
        {"--output", &run.output, NULL},
        {"--format", &run.choice.format, NULL},
        {"--field", &run.choice.field, NULL},
        {"--begin", &run.begin, NULL},
        {"--end", &run.end, NULL},
        {"--skip-bad", NULL, &run.choice.skip_bad},
        {"--special", NULL, &run.special},
    };
    CHECK(command_parse(command, argc, argv, rows, (int)(sizeof rows / sizeof *rows), words,
                        (int)(sizeof words / sizeof *words), &count));
    run.files = memory_allocate(context, sizeof *run.files, MEMORY_OTHER);
    if (!run.files)
        return STATUS_MEMORY;
    enum status status = text_names_take(context, words + 1, count - 1, run.files);
    status = team_agree(command->team, context, status);
    if (status == STATUS_OK)
        status = run_tokenize(&run);
    corpus_names_destroy(context, &run.names);
    tokenizer_close(&run.tokenizer);
    memory_free(context, run.files);
    return status;
}
