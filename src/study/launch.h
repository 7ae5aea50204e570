/* Starting a program and waiting for it. */
#ifndef CAIRN_STUDY_LAUNCH_H
#define CAIRN_STUDY_LAUNCH_H

#include "src/core/context.h"

enum { ARGUMENTS_MOST = 256, ARGUMENTS_BYTES = 32768 };

/* The words of a command, each with its end. */
struct arguments {
    int count;
    size_t used;
    bool full; /* something did not fit */
    char *word[ARGUMENTS_MOST + 1];
    char text[ARGUMENTS_BYTES];
};

void arguments_add(struct arguments *arguments, const char *format, ...) PRINTF_LIKE(2, 3);

/* The words of a template between spaces, with `ranks` for each %n. */
void arguments_add_template(struct arguments *arguments, const char *words, int ranks);

/* As it would be typed into a shell; cut to `size`. */
void arguments_format(const struct arguments *arguments, char *text, size_t size);

/* Runs the command with its output and its messages in files. A command that takes longer than `limit` seconds is asked
 * to end, and made to ten seconds later. Empty `why` when it succeeded, otherwise what happened, with the first words
 * of its messages that say so. */
void launch(struct arguments *arguments, const char *output, const char *messages, int64_t limit, char *why,
            size_t size);

#endif
