#include <stdio.h>
#include <string.h>

#include "io/config/config.h"
#include "src/cli/command.h"
#include "src/train/train.h"

enum status command_train(struct command *command, int argc, char **argv)
{
    struct context *context = &command->context;
    const char *path = NULL;
    const char *from = "auto";
    const char *limit = NULL;
    bool anew = false;
    bool accept_changes = false;
    int others;
    const struct option_row rows[] = {{"--resume", &from, NULL},
                                      {"--anew", NULL, &anew},
                                      {"--accept-changes", NULL, &accept_changes},
                                      {"--time-limit", &limit, NULL}};
    CHECK(command_parse(command, argc, argv, rows, sizeof rows / sizeof *rows, &path, 1, &others));
    if (others != 1)
        return context_fail(context, STATUS_USAGE, "train: name a configuration; see `cairn train --help`");
    struct config *config = memory_allocate(context, sizeof *config, MEMORY_OTHER);
    if (!config)
        return STATUS_MEMORY;
    struct resume resume = {.kind = RESUME_FILE, .path = from, .anew = anew, .accept_changes = accept_changes};
    if (strcmp(from, "auto") == 0)
        resume.kind = RESUME_AUTO;
    else if (strcmp(from, "none") == 0)
        resume.kind = RESUME_NONE;
    char setting[TEXT_LENGTH + 32];
    snprintf(setting, sizeof setting, "job.time_limit=%s", limit ? limit : "");
    if (limit && command->override_count < OVERRIDES)
        command->overrides[command->override_count++] = setting;
    bool stopped = false;
    enum status status = config_load(context, path, command->overrides, command->override_count, config);
    TRY(team_agree(command->team, context, status));
    TRY(command_start_with(command, config));
    TRY(train_run(context, command->mesh, &command->engine, config, &resume, &stopped));
    command->exit_code = stopped ? TRAIN_AGAIN : 0;
done:
    memory_free(context, config);
    return status;
}
