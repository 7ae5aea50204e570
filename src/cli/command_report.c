#include <stdio.h>

#include "src/cli/command.h"
#include "src/study/runs.h"

enum status command_report(struct command *command, int argc, char **argv)
{
    const char *names[RUNS_MOST];
    const char *output = NULL;
    int count;
    const struct option_row rows[] = {{"--output", &output, NULL}};
    CHECK(command_parse(command, argc, argv, rows, 1, names, RUNS_MOST, &count));
    if (command->override_count > 0)
        return context_fail(&command->context, STATUS_USAGE, "report: takes no --set; see `cairn report --help`");
    if (count == 0)
        return context_fail(&command->context, STATUS_USAGE, "report: name a run's folder; see `cairn report --help`");
    return runs_report(&command->context, names, count, output, stdout);
}
