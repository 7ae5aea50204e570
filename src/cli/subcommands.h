/* The subcommands, and what their help says. */
#ifndef CAIRN_CLI_SUBCOMMANDS_H
#define CAIRN_CLI_SUBCOMMANDS_H

#include "src/cli/command.h"

struct subcommand {
    const char *name;
    enum status (*run)(struct command *command, int argc, char **argv) MUST_USE;
    const char *summary;
    const char *help;
};

extern const struct subcommand subcommands[];
extern const int subcommand_count;

#endif
