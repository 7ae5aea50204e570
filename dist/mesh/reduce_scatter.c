/* The reduce-scatter that runs behind the computation: every rank sends each other rank its slice and adds up what it
 * receives for its own. MPI's, in Open MPI, gathers the whole sum on one rank first.
 *
 * Slices travel in chunks. All are sent at once; receives are posted for a few chunks at a time, into a buffer that
 * all calls on an axis share, so calls on an axis complete in the order in which they started. */
#include "dist/mesh/mesh_private.h"

#include <stdio.h>
#include <string.h>

/* Chunks are small enough to be added while they lie in the cache. */
enum { CHUNK_MOST = 1 << 18, BUFFER_ELEMENTS = 1 << 20, AHEAD = 2, REDUCE_TAG = 7002 };

struct mesh_reduction {
    struct mesh_reduction *next; /* in the queue, or among those that nobody uses */
    enum mesh_axis axis;
    const float *all;
    float *mine;
    int64_t each;
    int64_t posted, added; /* chunks */
    MPI_Request *sends;
    int send_count;
    int send_room;
};

/* Of an axis. */
struct reduction_queue {
    struct mesh_reduction *first;
    float *received;       /* [AHEAD, ranks - 1, chunk] */
    MPI_Request *receives; /* [AHEAD, ranks - 1] */
};

static void *allocate_or_stop(struct mesh *mesh, size_t bytes)
{
    void *memory = memory_allocate(mesh->context, bytes, MEMORY_BUFFERS);
    if (!memory) {
        fprintf(stderr, "cairn: rank %d: %s\n", mesh->rank[MESH_WORLD], mesh->context->text);
        mesh_abort(1);
    }
    return memory;
}

/* -- Chunks -------------------------------------------------------------------------------------------------------- */

/* Elements of a chunk, the same on all ranks. */
static int64_t chunk_most(const struct mesh *mesh, enum mesh_axis axis)
{
    int64_t share = BUFFER_ELEMENTS / (mesh->size[axis] - 1);
    return integer_max(1, integer_min(share, CHUNK_MOST));
}

static struct range chunk_range(const struct mesh *mesh, const struct mesh_reduction *reduction, int64_t chunk)
{
    int64_t most = chunk_most(mesh, reduction->axis);
    return range_intersect((struct range){chunk * most, most}, (struct range){0, reduction->each});
}

static int64_t chunk_count(const struct mesh *mesh, const struct mesh_reduction *reduction)
{
    return integer_divide_up(reduction->each, chunk_most(mesh, reduction->axis));
}

/* The rank that comes `step` after this one: ranks do not all send to the same one first. */
static int peer_of(const struct mesh *mesh, enum mesh_axis axis, int step)
{
    return (mesh->rank[axis] + step) % mesh->size[axis];
}

static float *received_at(const struct mesh *mesh, const struct mesh_reduction *reduction, int64_t chunk, int step)
{
    int64_t peers = mesh->size[reduction->axis] - 1;
    return mesh->reductions[reduction->axis]->received +
           (chunk % AHEAD * peers + step - 1) * chunk_most(mesh, reduction->axis);
}

static MPI_Request *receives_at(const struct mesh *mesh, const struct mesh_reduction *reduction, int64_t chunk)
{
    return mesh->reductions[reduction->axis]->receives + chunk % AHEAD * (mesh->size[reduction->axis] - 1);
}

static void post_receives(struct mesh *mesh, const struct mesh_reduction *reduction, int64_t chunk)
{
    enum mesh_axis axis = reduction->axis;
    int number = (int)chunk_range(mesh, reduction, chunk).count;
    for (int step = 1; step < mesh->size[axis]; step++)
        MPI_Irecv(received_at(mesh, reduction, chunk, step), number, MPI_FLOAT, peer_of(mesh, axis, step), REDUCE_TAG,
                  mesh->communicator[axis], &receives_at(mesh, reduction, chunk)[step - 1]);
}

static void post_sends(struct mesh *mesh, struct mesh_reduction *reduction)
{
    enum mesh_axis axis = reduction->axis;
    reduction->send_count = 0;
    for (int64_t chunk = 0; chunk < chunk_count(mesh, reduction); chunk++)
        for (int step = 1; step < mesh->size[axis]; step++) {
            struct range range = chunk_range(mesh, reduction, chunk);
            int peer = peer_of(mesh, axis, step);
            MPI_Isend(reduction->all + peer * reduction->each + range.begin, (int)range.count, MPI_FLOAT, peer,
                      REDUCE_TAG, mesh->communicator[axis], &reduction->sends[reduction->send_count++]);
        }
}

/* In the order of the ranks, whatever arrived first. */
static void add_chunk(const struct mesh *mesh, const struct mesh_reduction *reduction, int64_t chunk)
{
    int size = mesh->size[reduction->axis];
    int rank = mesh->rank[reduction->axis];
    struct range range = chunk_range(mesh, reduction, chunk);
    float *sum = reduction->mine + range.begin;
    for (int from = 0; from < size; from++) {
        const float *term = from == rank ? reduction->all + rank * reduction->each + range.begin
                                         : received_at(mesh, reduction, chunk, (from - rank + size) % size);
        if (from == 0)
            memcpy(sum, term, (size_t)range.count * sizeof *sum);
        else
            for (int64_t i = 0; i < range.count; i++)
                sum[i] += term[i];
    }
}

/* -- The queue of an axis ------------------------------------------------------------------------------------------ */

/* Adds what has arrived. */
static void queue_advance(struct mesh *mesh, enum mesh_axis axis)
{
    struct reduction_queue *queue = mesh->reductions[axis];
    while (queue->first) {
        struct mesh_reduction *reduction = queue->first;
        int64_t count = chunk_count(mesh, reduction);
        while (reduction->posted < integer_min(count, reduction->added + AHEAD))
            post_receives(mesh, reduction, reduction->posted++);
        int arrived = 0;
        if (reduction->added < count)
            MPI_Testall(mesh->size[axis] - 1, receives_at(mesh, reduction, reduction->added), &arrived,
                        MPI_STATUSES_IGNORE);
        if (arrived)
            add_chunk(mesh, reduction, reduction->added++);
        else if (reduction->added < count)
            return;
        if (reduction->added == count)
            queue->first = reduction->next;
    }
}

static void queue_create(struct mesh *mesh, enum mesh_axis axis)
{
    size_t peers = (size_t)mesh->size[axis] - 1;
    struct reduction_queue *queue = allocate_or_stop(mesh, sizeof *queue);
    queue->received = allocate_or_stop(mesh, AHEAD * peers * (size_t)chunk_most(mesh, axis) * sizeof(float));
    queue->receives = allocate_or_stop(mesh, AHEAD * peers * sizeof(MPI_Request));
    mesh->reductions[axis] = queue;
}

/* One that nobody uses, with room for so many sends. */
static struct mesh_reduction *reduction_take(struct mesh *mesh, int sends)
{
    struct mesh_reduction *reduction = mesh->spare_reductions;
    if (reduction)
        mesh->spare_reductions = reduction->next;
    else
        reduction = allocate_or_stop(mesh, sizeof *reduction);
    if (reduction->send_room < sends) {
        memory_free(mesh->context, reduction->sends);
        reduction->sends = allocate_or_stop(mesh, (size_t)sends * sizeof(MPI_Request));
        reduction->send_room = sends;
    }
    return reduction;
}

static void reduction_return(struct mesh *mesh, struct mesh_reduction *reduction)
{
    reduction->next = mesh->spare_reductions;
    mesh->spare_reductions = reduction;
}

void mesh_reduce_scatter_reserve(struct mesh *mesh, enum mesh_axis axis, int count, int64_t each)
{
    int peers = mesh->size[axis] - 1;
    struct mesh_reduction shape = {.axis = axis, .each = each};
    struct mesh_reduction *taken = NULL;
    if (peers == 0 || each == 0)
        return;
    if (!mesh->reductions[axis])
        queue_create(mesh, axis);
    for (int i = 0; i < count; i++) {
        struct mesh_reduction *reduction = reduction_take(mesh, peers * (int)chunk_count(mesh, &shape));
        reduction->next = taken;
        taken = reduction;
    }
    while (taken) {
        struct mesh_reduction *next = taken->next;
        reduction_return(mesh, taken);
        taken = next;
    }
}

void mesh_reduce_scatter_start(struct mesh *mesh, enum mesh_axis axis, const float *all, float *mine, int64_t each,
                               struct mesh_request *request)
{
    mesh_request_clear(request);
    int peers = mesh->size[axis] - 1;
    if (peers == 0 || each == 0) {
        memcpy(mine, all, (size_t)each * sizeof *mine);
        return;
    }
    mesh_count(mesh, axis, each * peers, DTYPE_F32);
    struct mesh_mark mark = mesh_enter(mesh, axis, CALL_REDUCE_SCATTER, each * peers * (int64_t)sizeof(float));
    if (!mesh->reductions[axis])
        queue_create(mesh, axis);
    struct mesh_reduction shape = {.axis = axis, .all = all, .mine = mine, .each = each};
    struct mesh_reduction *reduction = reduction_take(mesh, peers * (int)chunk_count(mesh, &shape));
    if (mesh->dry) {
        reduction_return(mesh, reduction);
        mesh_leave(mesh, mark);
        return;
    }
    shape.sends = reduction->sends;
    shape.send_room = reduction->send_room;
    *reduction = shape;
    post_sends(mesh, reduction);
    struct mesh_reduction **last = &mesh->reductions[axis]->first;
    while (*last)
        last = &(*last)->next;
    *last = reduction;
    queue_advance(mesh, axis);
    mesh_leave_started(mesh, mark);
    request->mesh = mesh;
    request->reduction = reduction;
    request->event = mark.number;
}

bool mesh_reduction_test(struct mesh_request *request)
{
    struct mesh *mesh = request->mesh;
    struct mesh_reduction *reduction = request->reduction;
    queue_advance(mesh, reduction->axis);
    int sent = 0;
    if (reduction->added == chunk_count(mesh, reduction))
        MPI_Testall(reduction->send_count, reduction->sends, &sent, MPI_STATUSES_IGNORE);
    if (!sent)
        return false;
    reduction_return(mesh, reduction);
    mesh_request_clear(request);
    return true;
}

void mesh_reductions_destroy(struct mesh *mesh)
{
    for (int axis = 0; axis < MESH_AXES; axis++) {
        struct reduction_queue *queue = mesh->reductions[axis];
        if (!queue)
            continue;
        memory_free(mesh->context, queue->received);
        memory_free(mesh->context, queue->receives);
        memory_free(mesh->context, queue);
    }
    while (mesh->spare_reductions) {
        struct mesh_reduction *next = mesh->spare_reductions->next;
        memory_free(mesh->context, mesh->spare_reductions->sends);
        memory_free(mesh->context, mesh->spare_reductions);
        mesh->spare_reductions = next;
    }
}
