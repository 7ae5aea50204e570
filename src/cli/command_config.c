#include <limits.h>
#include <stdio.h>

#include "io/config/config.h"
#include "src/cli/command.h"
#include "src/model/model.h"

/* What any run of these settings would refuse, on however many ranks. */
static enum status check(struct context *context, const struct config *config)
{
    const int64_t sizes[] = {config->mesh.data, config->mesh.pipeline, config->mesh.context, config->mesh.tensor};
    struct mesh_config mesh;
    int64_t ranks = 1;
    for (int i = 0; i < 4; i++)
        ranks = ranks > INT_MAX ? ranks : ranks * (sizes[i] ? sizes[i] : 1);
    if (ranks > INT_MAX)
        return context_fail(context, STATUS_USAGE, "mesh: its sizes make more than %d ranks", INT_MAX);
    CHECK(mesh_resolve(context, &config->mesh, (int)ranks, &mesh));
    return model_find(&config->model)->check(context, &config->model, &mesh);
}

static enum status show(struct command *command, const char *path)
{
    struct context *context = &command->context;
    struct config *config = memory_allocate(context, sizeof *config, MEMORY_OTHER);
    char *text = NULL;
    size_t size;
    enum status status = STATUS_MEMORY;
    if (!config)
        goto done;
    TRY(config_load(context, path, command->overrides, command->override_count, config));
    TRY(check(context, config));
    size = config_format(config, NULL, 0) + 1;
    text = memory_allocate(context, size, MEMORY_OTHER);
    TRY(text ? STATUS_OK : STATUS_MEMORY);
    config_format(config, text, size);
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
    return config_describe(&command->context, stdout, "");
}
