#include "src/cli/command.h"

enum status command_report(struct command *command, int argc, char **argv)
{
    (void)argc;
    (void)argv;
    return context_fail(&command->context, STATUS_USAGE, "report: not yet");
}
