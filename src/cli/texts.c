#include "src/cli/texts.h"

#include <stdio.h>
#include <string.h>

#include "src/core/sample.h"
#include "src/core/text.h"

enum status text_choice_read(struct context *context, const struct text_choice *choice,
                             struct tokenize_options *options)
{
    static const char *const names[] = {"auto", "text", "jsonl"};
    options->documents =
        (struct document_options){.field = choice->field ? choice->field : "text", .skip_bad = choice->skip_bad};
    for (int i = 0; choice->format && i < 3; i++)
        if (strcmp(choice->format, names[i]) == 0) {
            options->format = (enum document_format)i;
            return STATUS_OK;
        }
    return !choice->format ? STATUS_OK
                           : context_fail(context, STATUS_USAGE, "--format: expected auto, text or jsonl, got \"%s\"",
                                          choice->format);
}

enum status text_names_take(struct context *context, const char *const *words, int count, struct text_list *files)
{
    for (int i = 0; i < count; i++)
        if (!text_copy(files->item[files->count++], TEXT_LENGTH, words[i]))
            return context_fail(context, STATUS_USAGE, "%.64s...: the name is too long", words[i]);
    return STATUS_OK;
}

enum status text_names_same(struct context *context, const struct team *team, const struct corpus_names *names,
                            const char *hash)
{
    struct bytes text = {.context = context};
    char line[TEXT_LENGTH + 320];
    char words[96];
    enum status status = STATUS_OK;
    for (int i = 0; status == STATUS_OK && i < names->count; i++) {
        sample_describe(names->name[i], words, sizeof words);
        snprintf(line, sizeof line, "file %s: %s\n", names->name[i], words);
        status = bytes_add(&text, line, (int64_t)strlen(line));
    }
    snprintf(line, sizeof line, "tokenizer: %s\n", hash);
    if (status == STATUS_OK)
        status = bytes_add(&text, line, (int64_t)strlen(line) + 1);
    status = team_agree(team, context, status);
    if (status == STATUS_OK)
        status = team_same(team, context, text.data);
    bytes_release(&text);
    return status;
}
