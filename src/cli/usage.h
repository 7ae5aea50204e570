/* What the help of a command says of its options. */
#ifndef CAIRN_CLI_USAGE_H
#define CAIRN_CLI_USAGE_H

#include <stdbool.h>

/* Whether an option, as "--steps", takes the argument behind it: the line of the help that explains it, "  --steps N
 * ...", has one space and a word there, and that of an option without a value at least two spaces. */
bool usage_takes_value(const char *help, const char *option);

/* Whether the words of a command line, argv[2] and on, hold an option; values of other options do not count. */
bool usage_has_option(const char *help, int argc, char **argv, const char *option);

#endif
