#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "src/bench/step_private.h"

enum { NAME_LENGTH = 64, ENTRY_LENGTH = NAME_LENGTH + 16 };

/* Whether a rank is the first of its host, and how many the host has. */
static bool is_first(const char (*names)[NAME_LENGTH], int ranks, int rank, int *count)
{
    *count = 0;
    for (int i = 0; i < ranks; i++) {
        if (strcmp(names[i], names[rank]) != 0)
            continue;
        if (i < rank)
            return false;
        (*count)++;
    }
    return true;
}

enum status gather_hosts(struct context *context, struct mesh *mesh, struct step_report *report)
{
    int ranks = mesh_size(mesh, MESH_TEAM);
    char mine[NAME_LENGTH] = "";
    char(*names)[NAME_LENGTH] = memory_allocate(context, (size_t)ranks * sizeof *names, MEMORY_OTHER);
    report->hosts = memory_allocate(context, (size_t)ranks * ENTRY_LENGTH, MEMORY_OTHER);
    CHECK(mesh_agree(mesh, context, context->status));
    if (gethostname(mine, sizeof mine - 1) != 0)
        snprintf(mine, sizeof mine, "unknown");
    mesh_all_gather(mesh, MESH_TEAM, mine, names, ranks, sizeof mine, DTYPE_BYTE);
    size_t used = 0;
    for (int rank = 0; rank < ranks; rank++) {
        int count;
        if (!is_first((const char(*)[NAME_LENGTH])names, ranks, rank, &count))
            continue;
        used += (size_t)sprintf(report->hosts + used, "%s%s*%d", used ? ";" : "", names[rank], count);
        report->nodes++;
    }
    memory_free(context, names);
    return STATUS_OK;
}
