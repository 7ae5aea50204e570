#include <stdio.h>

#include "src/cli/command.h"
#include "src/study/runs.h"

enum status command_report(struct command *command, int argc, char **argv)
{
    const char *names[RUNS_MOST];
    const char *output = NULL;
    const char *tensorboard = NULL;
    int count;
    const struct option_row rows[] = {{"--output", &output, NULL}, {"--tensorboard", &tensorboard, NULL}};
    CHECK(command_parse(command, argc, argv, rows, 2, names, RUNS_MOST, &count));
    if (command->override_count > 0)
        return context_fail(&command->context, STATUS_USAGE, "report: takes no --set; see `cairn report --help`");
    if (count == 0)
        return context_fail(&command->context, STATUS_USAGE, "report: name a run's folder; see `cairn report --help`");
    if (tensorboard && output)
        return context_fail(&command->context, STATUS_USAGE,
                            "report: --tensorboard writes no page; leave --output out, or call it twice");
    if (tensorboard)
        return runs_events(&command->context, names, count, tensorboard);
    return runs_report(&command->context, names, count, output, stdout);
}
