#include "src/watch/straggler.h"

#include <stdlib.h>

#include "dist/mesh/members.h"

enum status straggler_create(struct context *context, struct mesh *mesh, double factor, int64_t steps, double share,
                             struct straggler_watch *watch)
{
    size_t ranks = (size_t)mesh_size(mesh, MESH_TEAM);
    *watch =
        (struct straggler_watch){.context = context, .mesh = mesh, .factor = factor, .steps = steps, .share = share};
    watch->work = memory_allocate(context, ranks * sizeof *watch->work, MEMORY_OTHER);
    watch->sorted = memory_allocate(context, ranks * sizeof *watch->sorted, MEMORY_OTHER);
    watch->slow = memory_allocate(context, ranks * sizeof *watch->slow, MEMORY_OTHER);
    watch->found = memory_allocate(context, ranks * sizeof *watch->found, MEMORY_OTHER);
    return watch->work && watch->sorted && watch->slow && watch->found ? STATUS_OK : STATUS_MEMORY;
}

void straggler_destroy(struct straggler_watch *watch)
{
    if (!watch->context)
        return;
    memory_free(watch->context, watch->work);
    memory_free(watch->context, watch->sorted);
    memory_free(watch->context, watch->slow);
    memory_free(watch->context, watch->found);
    *watch = (struct straggler_watch){0};
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The median of a sorted list without one of its members. */
static double median_without(const double *sorted, int count, double value)
{
    int own = 0;
    while (own < count - 1 && sorted[own] < value)
        own++;
    int others = count - 1;
    int low = (others - 1) / 2;
    int high = others / 2;
    return 0.5 * (sorted[low + (low >= own)] + sorted[high + (high >= own)]);
}

int straggler_look(struct straggler_watch *watch, const double *work)
{
    const struct mesh_config *mesh = mesh_config(watch->mesh);
    int ranks = mesh_size(watch->mesh, MESH_TEAM);
    int found = 0;
    for (int stage = 0; stage < mesh->pipeline; stage++) {
        int count = 0;
        for (int rank = 0; rank < ranks; rank++)
            if (members_stage(mesh, rank) == stage && work[rank] >= 0.0)
                watch->sorted[count++] = work[rank];
        qsort(watch->sorted, (size_t)count, sizeof *watch->sorted, compare);
        for (int rank = 0; rank < ranks; rank++) {
            if (members_stage(mesh, rank) != stage || work[rank] < 0.0 || count < 2)
                continue;
            double peers = median_without(watch->sorted, count, work[rank]);
            watch->slow[rank] = work[rank] > watch->factor * peers ? watch->slow[rank] + 1 : 0;
            if (watch->slow[rank] > 0 && watch->slow[rank] % STRAGGLER_LOOKS == 0)
                watch->found[found++] = (struct straggler){.rank = rank, .seconds = work[rank], .peers = peers};
        }
    }
    return found;
}

int straggler_step(struct straggler_watch *watch, double seconds)
{
    if (watch->factor <= 0.0)
        return 0;
    watch->seconds += seconds;
    if (++watch->seen < watch->steps)
        return 0;
    double mine = watch->share > 0.0 ? watch->seconds / (double)watch->seen / watch->share : -1.0;
    watch->seconds = 0.0;
    watch->seen = 0;
    mesh_all_gather(watch->mesh, MESH_TEAM, &mine, watch->work, mesh_size(watch->mesh, MESH_TEAM), 1, DTYPE_F64);
    return straggler_look(watch, watch->work);
}
