#include <string.h>

#include "io/config/config.h"
#include "src/cli/command.h"

static enum status read_config(struct command *command, const char *path, const struct checkpoint_header *header,
                               struct config *config)
{
    static const char *const mesh[] = {"mesh.data=1", "mesh.pipeline=1", "mesh.context=1", "mesh.tensor=auto",
                                       "mesh.virtual_stages=1"};
    /* The batch of a family that classifies may be divided. */
    static const char *const data[] = {"mesh.data=auto", "mesh.tensor=1"};
    enum { OWN = sizeof mesh / sizeof *mesh, OTHERS = sizeof data / sizeof *data };
    const char *overrides[OWN + OTHERS + OVERRIDES];
    int count = OWN;
    memcpy(overrides, mesh, sizeof mesh);
    CHECK(config_parse(&command->context, path, header->config, strlen(header->config), NULL, 0, config));
    if (config->model.family != FAMILY_DECODER) {
        memcpy(overrides + count, data, sizeof data);
        count += OTHERS;
    }
    memcpy(overrides + count, command->overrides, (size_t)command->override_count * sizeof *overrides);
    count += command->override_count;
    return config_parse(&command->context, path, header->config, strlen(header->config), overrides, count, config);
}

enum status command_start_stored(struct command *command, const char *name, struct config *config,
                                 struct checkpoint_header *header, char path[CHECKPOINT_PATH])
{
    struct context *context = &command->context;
    struct mesh *readers = NULL;
    enum status status;
    /* The mesh depends on a setting in the file, so another reads it. */
    TRY(mesh_create(context, command->team, &(struct mesh_config){command->ranks, 1, 1, 1, 1}, &readers));
    command->mesh = readers;
    TRY(checkpoint_named(context, readers, name, path));
    TRY(checkpoint_read_header(context, readers, path, header));
    TRY(mesh_agree(readers, context, read_config(command, path, header, config)));
    command->mesh = NULL;
    mesh_destroy(&readers);
    return command_start_with(command, config);
done:
    command->mesh = NULL;
    mesh_destroy(&readers);
    return status;
}
