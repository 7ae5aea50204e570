/* What all ranks of a command must have alike, which is made sure of before they do anything together. */
#ifndef CAIRN_CLI_SHARE_H
#define CAIRN_CLI_SHARE_H

#include "src/cli/command.h"

/* Program, MPI library and options of the command line, by the command's help; positional arguments and --set are
 * compared by what they name. Collective over the team; USAGE error, agreed. */
enum status share_command(struct command *command, const char *help, int argc, char **argv) MUST_USE;

/* Every setting, and the files of data by size and content. Collective over the team; USAGE error, agreed. */
enum status share_config(struct command *command, const struct config *config) MUST_USE;

#endif
