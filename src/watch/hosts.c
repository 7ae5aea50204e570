#include "src/watch/hosts.h"

#include <unistd.h>

enum status hosts_create(struct context *context, struct mesh *mesh, struct hosts *hosts)
{
    char mine[HOST_NAME] = "";
    hosts->ranks = mesh_size(mesh, MESH_TEAM);
    hosts->name = memory_allocate(context, (size_t)hosts->ranks * sizeof *hosts->name, MEMORY_OTHER);
    CHECK(mesh_agree(mesh, context, hosts->name ? STATUS_OK : STATUS_MEMORY));
    gethostname(mine, sizeof mine - 1);
    mesh_all_gather(mesh, MESH_TEAM, mine, hosts->name, hosts->ranks, HOST_NAME, DTYPE_BYTE);
    return STATUS_OK;
}

void hosts_destroy(struct context *context, struct hosts *hosts)
{
    memory_free(context, hosts->name);
    *hosts = (struct hosts){0};
}
