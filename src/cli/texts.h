/* What commands that read texts share: which files, and how they are read. */
#ifndef CAIRN_CLI_TEXTS_H
#define CAIRN_CLI_TEXTS_H

#include "io/data/data.h"
#include "src/cli/command.h"
#include "src/prepare/tokenize.h"

/* Options of the command line, as they stand. */
struct text_choice {
    const char *format, *field;
    bool skip_bad;
};

enum status text_choice_read(struct context *context, const struct text_choice *choice,
                             struct tokenize_options *options) MUST_USE;

enum status text_names_take(struct context *context, const char *const *words, int count,
                            struct text_list *files) MUST_USE;

/* All ranks must mean the same files, and the same `hash` of a tokenizer. Collective over the team; agreed. */
enum status text_names_same(struct context *context, const struct team *team, const struct corpus_names *names,
                            const char *hash) MUST_USE;

#endif
