/* `cairn tokenizer train`: a BPE of bytes learned of texts. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/data/data.h"
#include "src/cli/command.h"
#include "src/cli/texts.h"
#include "src/prepare/train_tokenizer.h"
#include "src/train/run_folder.h"

enum { SPECIALS = 256 };

struct training_run {
    struct command *command;
    const char *output, *size, *least, *pattern, *special;
    struct text_choice choice;
    struct tokenize_options options;
    struct tokenizer_plan plan;
    char *special_text; /* cut at its commas */
    const char *specials[SPECIALS];
    struct corpus_names names;
    struct bytes text;
};

static enum status read_specials(struct training_run *run)
{
    struct context *context = &run->command->context;
    const char *list = run->special ? run->special : "<|endoftext|>";
    run->special_text = memory_allocate(context, strlen(list) + 1, MEMORY_OTHER);
    if (!run->special_text)
        return STATUS_MEMORY;
    strcpy(run->special_text, list);
    char *rest = NULL;
    for (char *word = strtok_r(run->special_text, ",", &rest); word; word = strtok_r(NULL, ",", &rest)) {
        if (run->plan.special_count == SPECIALS)
            return context_fail(context, STATUS_USAGE, "--specials: more than %d", SPECIALS);
        run->specials[run->plan.special_count++] = word;
    }
    run->plan.specials = run->specials;
    return STATUS_OK;
}

static enum status prepare(struct training_run *run, const struct text_list *files)
{
    struct command *command = run->command;
    struct context *context = &command->context;
    if (!run->output || !run->size || files->count == 0)
        return context_fail(context, STATUS_USAGE,
                            "tokenizer train: name files, --size and --output; see `cairn tokenizer --help`");
    CHECK(read_specials(run));
    CHECK(command_integer(command, "--size", run->size, 256 + run->plan.special_count, TOKENIZER_LARGEST_ID,
                          &run->plan.size));
    CHECK(command_integer(command, "--least", run->least, 1, INT64_MAX, &run->plan.least));
    run->plan.pattern = run->pattern ? run->pattern : "gpt2";
    CHECK(text_choice_read(context, &run->choice, &run->options));
    return corpus_names_create(context, files, &run->names);
}

/* On rank 0: the file, which is read once to know that it can be. */
static enum status finish(struct training_run *run, const struct tokenize_result *result)
{
    struct context *context = &run->command->context;
    struct tokenizer *tokenizer = NULL;
    CHECK(tokenizer_parse(context, run->output, run->text.data, run->text.count, &tokenizer));
    CHECK(bytes_add(&run->text, "\n", 2));
    enum status status = run_folder_write(context, run->output, run->text.data);
    if (status == STATUS_OK)
        printf("%s: %lld tokens, hash %s, learned of %lld documents, %lld bytes; %.1f s\n", run->output,
               (long long)tokenizer_size(tokenizer), tokenizer_hash(tokenizer), (long long)result->documents,
               (long long)result->bytes, result->seconds);
    if (status == STATUS_OK && tokenizer_size(tokenizer) < run->plan.size)
        printf("fewer than %lld: no pair is left that occurs %lld times\n", (long long)run->plan.size,
               (long long)run->plan.least);
    tokenizer_close(&tokenizer);
    return status;
}

static enum status run_training(struct training_run *run, const struct text_list *files)
{
    struct command *command = run->command;
    struct context *context = &command->context;
    struct tokenize_result result;
    CHECK(team_agree(command->team, context, prepare(run, files)));
    CHECK(text_names_same(context, command->team, &run->names, ""));
    CHECK(mesh_create(context, command->team, &(struct mesh_config){command->ranks, 1, 1, 1, 1}, &command->mesh));
    CHECK(tokenizer_train(context, command->mesh, &run->plan, run->names.name, run->names.count, &run->options,
                          &run->text, &result));
    return team_agree(command->team, context, command->rank == 0 ? finish(run, &result) : STATUS_OK);
}

enum status command_tokenizer_train(struct command *command, int argc, char **argv)
{
    struct context *context = &command->context;
    struct training_run run = {.command = command, .plan = {.least = 2}, .text = {.context = context}};
    const char *words[TEXT_LIST_ITEMS + 1];
    int count;
    const struct option_row rows[] = {
        {"--output", &run.output, NULL},      {"--size", &run.size, NULL},
        {"--least", &run.least, NULL},        {"--pattern", &run.pattern, NULL},
        {"--specials", &run.special, NULL},   {"--format", &run.choice.format, NULL},
        {"--field", &run.choice.field, NULL}, {"--skip-bad", NULL, &run.choice.skip_bad},
    };
    CHECK(command_parse(command, argc, argv, rows, (int)(sizeof rows / sizeof *rows), words,
                        (int)(sizeof words / sizeof *words), &count));
    struct text_list *files = memory_allocate(context, sizeof *files, MEMORY_OTHER);
    if (!files)
        return STATUS_MEMORY;
    enum status status = text_names_take(context, words + 1, count - 1, files);
    status = team_agree(command->team, context, status);
    if (status == STATUS_OK)
        status = run_training(&run, files);
    corpus_names_destroy(context, &run.names);
    memory_free(context, run.special_text);
    bytes_release(&run.text);
    memory_free(context, files);
    return status;
}
