#include <stdio.h>

#include "io/config/config.h"
#include "src/cli/command.h"

static enum status show(struct command *command, const char *path)
{
    struct context *context = &command->context;
    enum { SIZE = 65536 };
    struct config *config = memory_allocate(context, sizeof *config, MEMORY_OTHER);
    char *text = memory_allocate(context, SIZE, MEMORY_OTHER);
    enum status status = STATUS_MEMORY;
    if (!config || !text)
        goto done;
    TRY(config_load(context, path, command->overrides, command->override_count, config));
    config_format(config, text, SIZE);
    if (command->rank == 0)
        fputs(text, stdout);
done:
    memory_free(context, config);
    memory_free(context, text);
    return status;
}

enum status command_config(struct command *command, int argc, char **argv)
{
    const char *path = NULL;
    int count;
    CHECK(command_parse(command, argc, argv, NULL, 0, &path, 1, &count));
    if (count == 1)
        return show(command, path);
    if (command->rank == 0)
        config_describe(stdout);
    return STATUS_OK;
}
