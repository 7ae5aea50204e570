/* What a command reads: a file, or standard input as "-". */
#ifndef CAIRN_CLI_INPUT_H
#define CAIRN_CLI_INPUT_H

#include "src/cli/command.h"
#include "src/core/grow.h"

/* Appends all of it. FILE error that names it. Local. */
enum status input_read(struct context *context, const char *name, struct bytes *text) MUST_USE;

/* Integers between blanks, commas, line ends and brackets, from 0 to `largest`. USAGE error that shows what is none. */
enum status input_numbers(struct context *context, const char *what, const char *text, int64_t largest,
                          struct bytes *numbers) MUST_USE;

#endif
