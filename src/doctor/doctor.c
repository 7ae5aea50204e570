/* The facts of all ranks, and the probes that take two of them. */
#define _GNU_SOURCE /* process_vm_readv */
#include "src/doctor/doctor.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "src/core/text.h"

static double clock_of_day(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Where another process finds a word of this one. */
struct remote_word {
    int64_t process;
    uint64_t address;
    uint64_t word;
};

/* Reads the memory of the next rank of the host as Open MPI does for long messages. Collective over the host. */
static void probe_copy(struct mesh *mesh, struct remote_word *places, struct doctor_facts *mine)
{
    int ranks = mesh_size(mesh, MESH_HOST);
    int next = (mesh_rank(mesh, MESH_HOST) + 1) % ranks;
    const char *mechanism = getenv("OMPI_MCA_btl_vader_single_copy_mechanism");
    volatile uint64_t word = (uint64_t)getpid() * UINT64_C(0x9e3779b97f4a7c15);
    struct remote_word own = {.process = getpid(), .address = (uint64_t)(uintptr_t)&word, .word = word};
    mesh_all_gather(mesh, MESH_HOST, &own, places, ranks, sizeof own, DTYPE_BYTE);
    mine->copy = -1;
    if (ranks > 1 && !(mechanism && strcmp(mechanism, "none") == 0)) {
        uint64_t seen = 0;
        struct iovec here = {&seen, sizeof seen};
        struct iovec there = {(void *)(uintptr_t)places[next].address, sizeof seen};
        ssize_t length = process_vm_readv((pid_t)places[next].process, &here, 1, &there, 1, 0);
        mine->copy = length < 0 ? errno : seen == places[next].word ? 0 : ESRCH;
    }
    mesh_barrier(mesh, MESH_HOST); /* the word lives until its neighbour has read it */
}

/* Whether this rank sees what the first one writes. Collective over the team. */
static void probe_token(struct mesh *mesh, const char *path, struct doctor_facts *mine)
{
    char token[DOCTOR_NAME] = "";
    int32_t failure = 0;
    if (mine->rank == 0) {
        snprintf(token, sizeof token, "%ld-%.9f", (long)getpid(), clock_of_day());
        failure = doctor_write_token(path, token);
    }
    mesh_broadcast(mesh, MESH_TEAM, 0, token, sizeof token, DTYPE_BYTE);
    mesh_broadcast(mesh, MESH_TEAM, 0, &failure, 1, DTYPE_I32);
    mine->folder.differs = failure == 0 && !doctor_sees_token(path, token);
    mesh_barrier(mesh, MESH_TEAM);
    if (mine->rank == 0)
        doctor_remove_token(path, token);
}

static int compare_places(const void *a, const void *b)
{
    const struct doctor_facts *one = a, *other = b;
    if (one->host_first != other->host_first)
        return one->host_first < other->host_first ? -1 : 1;
    return (one->rank > other->rank) - (one->rank < other->rank);
}

void doctor_look(const char *path, struct doctor_facts *facts)
{
    if (gethostname(facts->host, sizeof facts->host - 1) != 0)
        (void)text_copy(facts->host, sizeof facts->host, "a host without name");
    facts->copy = -1;
    doctor_read("", facts);
    doctor_read_environment(facts);
    doctor_read_folder("", path, facts->rank, &facts->folder);
}

enum status doctor_gather(struct context *context, struct mesh *mesh, const char *folder, struct doctor_facts *mine,
                          struct doctor_facts *all)
{
    char path[DOCTOR_PATH] = "";
    int ranks = mesh_size(mesh, MESH_TEAM);
    mine->ranks = ranks;
    mine->rank = mine->host_first = mesh_rank(mesh, MESH_TEAM);
    enum status status = STATUS_OK;
    if (mine->rank == 0 && !doctor_find_folder(folder, path))
        status = context_fail(context, STATUS_USAGE, "--folder: the name is too long");
    struct remote_word *places = memory_allocate(context, (size_t)ranks * sizeof *places, MEMORY_OTHER);
    TRY(mesh_agree(mesh, context, places ? status : STATUS_MEMORY));
    mesh_all_reduce(mesh, MESH_HOST, &mine->host_first, 1, DTYPE_I32, MESH_MIN);
    mesh_broadcast(mesh, MESH_TEAM, 0, path, sizeof path, DTYPE_BYTE);
    doctor_look(path, mine);
    probe_token(mesh, path, mine);
    probe_copy(mesh, places, mine);
    mesh_barrier(mesh, MESH_TEAM);
    mine->clock = clock_of_day();
    double first = mine->clock;
    mesh_broadcast(mesh, MESH_TEAM, 0, &first, 1, DTYPE_F64);
    mine->clock -= first;
    mesh_all_gather(mesh, MESH_TEAM, mine, all, ranks, sizeof *mine, DTYPE_BYTE);
    qsort(all, (size_t)ranks, sizeof *all, compare_places);
done:
    memory_free(context, places);
    return status;
}
