#include <stdio.h>
#include <string.h>

#include "io/checkpoint/layout.h"

static enum status read_list(struct context *context, const char *path, struct layout_entry **entries, int *count)
{
    struct seal seal;
    CHECK(seal_check(context, path, &seal));
    return layout_list(context, path, &seal, entries, count);
}

enum status checkpoint_list(struct context *context, struct mesh *mesh, const char *path,
                            struct checkpoint_dataset **datasets, int *count)
{
    struct layout_entry *entries = NULL;
    enum status status = STATUS_OK;
    bool first = mesh_rank(mesh, MESH_TEAM) == 0;
    int found = 0;
    *datasets = NULL;
    *count = 0;
    layout_quiet();
    if (first)
        status = read_list(context, path, &entries, &found);
    TRY(mesh_agree(mesh, context, status));
    mesh_broadcast(mesh, MESH_TEAM, 0, &found, 1, DTYPE_I32);
    *datasets = memory_allocate(context, (size_t)found * sizeof **datasets, MEMORY_OTHER);
    TRY(mesh_agree(mesh, context, *datasets ? STATUS_OK : STATUS_MEMORY));
    for (int i = 0; first && i < found; i++) {
        struct checkpoint_dataset *dataset = &(*datasets)[i];
        *dataset = (struct checkpoint_dataset){.rank = entries[i].rank, .doubles = entries[i].doubles};
        snprintf(dataset->name, sizeof dataset->name, "%s", entries[i].name);
        memcpy(dataset->shape, entries[i].shape, sizeof dataset->shape);
    }
    mesh_broadcast(mesh, MESH_TEAM, 0, *datasets, (int64_t)found * (int64_t)sizeof **datasets, DTYPE_BYTE);
    *count = found;
done:
    memory_free(context, entries);
    return status;
}
