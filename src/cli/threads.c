#define _GNU_SOURCE /* the masks of cores */
#include "src/cli/threads.h"

#include <omp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "src/core/text.h"

enum { CORES = CPU_SETSIZE, NAME_LENGTH = 48, NAMES_SHOWN = 3 };

/* What one rank tells the first about its host. */
struct host {
    char name[NAME_LENGTH];
    char isa[NAME_LENGTH];
    int32_t first; /* of the host's ranks, and the one that speaks for it */
    int32_t ranks;
    int32_t threads; /* of all its ranks */
    int32_t cores;   /* that any of them may use */
    int32_t crowded; /* a rank has more threads than cores */
    int32_t lacking; /* threads that were asked for and not granted, of all its ranks */
};

/* How many ranks of this host may use each core. */
static void count_users(struct mesh *mesh, const cpu_set_t *granted, int32_t users[CORES])
{
    for (int core = 0; core < CORES; core++)
        users[core] = CPU_ISSET(core, granted) != 0;
    mesh_all_reduce(mesh, MESH_HOST, users, CORES, DTYPE_I32, MESH_SUM);
}

/* The first thread stays free within the rank's cores: threads that OpenMP starts later inherit its mask. With cores
 * to spare on an undivided machine another program's threads would be pinned to the same ones. */
static void pin_threads(const struct engine *engine, const cpu_set_t *granted, const int32_t users[CORES])
{
    int cores = CPU_COUNT(granted);
    bool divided = cores < (int)sysconf(_SC_NPROCESSORS_ONLN);
    if (engine->threads < 2 || engine->threads > cores || (engine->threads < cores && !divided) ||
        omp_get_proc_bind() != omp_proc_bind_false)
        return;
    int own[CORES];
    int count = 0;
    for (int core = 0; core < CORES; core++) {
        if (!CPU_ISSET(core, granted))
            continue;
        if (users[core] > 1)
            return;
        own[count++] = core;
    }
#pragma omp parallel num_threads(engine->threads)
    {
        int thread = omp_get_thread_num();
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(own[thread], &one);
        if (thread > 0)
            (void)sched_setaffinity(0, sizeof one, &one);
    }
}

static bool hosts_alike(const struct host *a, const struct host *b)
{
    return strcmp(a->isa, b->isa) == 0 && a->ranks == b->ranks && a->threads == b->threads && a->cores == b->cores &&
           a->crowded == b->crowded && a->lacking == b->lacking;
}

/* Names of the hosts like `hosts[index]`; 0 if an earlier one is alike, which has named it then. */
static int name_hosts(const struct host *hosts, int count, int index, char *names, size_t size)
{
    int alike = 0;
    size_t used = 0;
    names[0] = '\0';
    for (int i = 0; i < count; i++) {
        if (!hosts[i].first || !hosts_alike(&hosts[i], &hosts[index]))
            continue;
        if (i < index)
            return 0;
        if (alike++ < NAMES_SHOWN && used < size)
            used += (size_t)snprintf(names + used, size - used, "%s%s", used ? ", " : "", hosts[i].name);
    }
    if (alike > NAMES_SHOWN && used < size)
        snprintf(names + used, size - used, " and %d more", alike - NAMES_SHOWN);
    return alike;
}

static void describe_hosts(const struct context *context, const struct host *hosts, int count)
{
    for (int i = 0; i < count; i++) {
        const struct host *host = &hosts[i];
        char names[(NAMES_SHOWN + 1) * NAME_LENGTH];
        int alike = host->first ? name_hosts(hosts, count, i, names, sizeof names) : 0;
        if (alike == 0)
            continue;
        context_log(context, "%s: %d rank%s, %d thread%s in all, %d core%s granted, %s kernels%s", names, host->ranks,
                    host->ranks == 1 ? "" : "s", host->threads, host->threads == 1 ? "" : "s", host->cores,
                    host->cores == 1 ? "" : "s", host->isa, alike > 1 ? " (each)" : "");
        if (host->crowded || host->threads > host->cores)
            context_log(context,
                        "warning: %s: %s; they take turns. Start fewer ranks, lower compute.threads or "
                        "OMP_NUM_THREADS, or ask for more cores",
                        names, host->crowded ? "a rank has more threads than cores" : "more threads than cores");
        if (host->lacking > 0)
            context_log(context,
                        "warning: %s: %d of %d threads that were asked for are not granted; raise or unset "
                        "OMP_THREAD_LIMIT, or the limit of processes (ulimit -u, pids.max), or lower compute.threads",
                        names, host->lacking, host->threads + host->lacking);
    }
}

enum status threads_settle(struct context *context, struct mesh *mesh, struct engine *engine)
{
    int32_t users[CORES];
    cpu_set_t granted;
    CPU_ZERO(&granted);
    int ranks = mesh_size(mesh, MESH_TEAM);
    struct host *hosts = memory_allocate(context, (size_t)ranks * sizeof *hosts, MEMORY_OTHER);
    CHECK(mesh_agree(mesh, context, hosts ? STATUS_OK : STATUS_MEMORY));
    bool known = sched_getaffinity(0, sizeof granted, &granted) == 0;
    count_users(mesh, &granted, users);
    struct host mine = {.first = mesh_rank(mesh, MESH_HOST) == 0,
                        .ranks = mesh_size(mesh, MESH_HOST),
                        .threads = engine->threads,
                        .lacking = engine->threads_wanted - engine->threads,
                        .crowded = known && engine->threads > CPU_COUNT(&granted)};
    mesh_all_reduce(mesh, MESH_HOST, &mine.threads, 1, DTYPE_I32, MESH_SUM);
    mesh_all_reduce(mesh, MESH_HOST, &mine.lacking, 1, DTYPE_I32, MESH_SUM);
    mesh_all_reduce(mesh, MESH_HOST, &mine.crowded, 1, DTYPE_I32, MESH_MAX);
    for (int core = 0; core < CORES; core++)
        mine.cores += users[core] > 0;
    if (gethostname(mine.name, sizeof mine.name - 1) != 0)
        text_copy(mine.name, sizeof mine.name, "this host");
    text_copy(mine.isa, sizeof mine.isa, engine->isa);
    mesh_all_gather(mesh, MESH_TEAM, &mine, hosts, ranks, sizeof mine, DTYPE_BYTE);
    describe_hosts(context, hosts, ranks);
    if (known)
        pin_threads(engine, &granted, users);
    memory_free(context, hosts);
    return STATUS_OK;
}
