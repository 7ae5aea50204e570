/* The reduce-scatter that runs behind the computation. MPI's, in Open MPI, gathers the whole sum on one rank first.
 *
 * Between few ranks each sends each other rank its slice at once, and adds up what it receives for its own in the order
 * of the ranks. Between many those messages would be too many and too small, so the ranks halve: one half of them sends
 * the other what it has of the other's slices, each rank to one in the other half, and both halves go on by themselves.
 * That is as many bytes from every rank, in about log2(ranks) messages, and the order of the sum depends only on the
 * number of ranks and on whose slice it is.
 *
 * Slices travel in chunks. What goes out in a round is sent at once; receives are posted for a few chunks at a time,
 * into a buffer that all calls on an axis share, so calls on an axis complete in the order in which they started. Two
 * ranks are in different halves only once, so between them messages keep that order too. */
#include "dist/mesh/mesh_private.h"

#include <stdio.h>
#include <string.h>

/* Chunks are small enough to be added while they lie in the cache. */
enum { CHUNK_MOST = 1 << 18, BUFFER_ELEMENTS = 1 << 20, AHEAD = 2, REDUCE_TAG = 7002 };

/* Of a rank that halves: one more than its half has may send to the last of the other. */
enum { HALVING_SOURCES = 2 };

struct mesh_reduction {
    struct mesh_reduction *next; /* in the queue, or among those that nobody uses */
    enum mesh_axis axis;
    float *all;
    float *mine;
    int64_t each;
    struct range group;    /* of ranks whose slices are still summed here: all, and one half after the other */
    int64_t posted, added; /* chunks of the round */
    bool done;             /* but for the sends */
    MPI_Request *sends;
    int send_count;
    int send_room;
};

/* Of an axis. */
struct reduction_queue {
    struct mesh_reduction *first;
    float *received;       /* [AHEAD, sources, chunk] */
    MPI_Request *receives; /* [AHEAD, sources] */
};

static void *allocate_or_stop(struct mesh *mesh, size_t bytes)
{
    void *memory = memory_allocate(mesh->context, bytes, MEMORY_BUFFERS);
    if (!memory) {
        fprintf(stderr, "cairn: rank %d: %s\n", mesh->rank[MESH_TEAM], mesh->context->text);
        team_abort(1);
    }
    return memory;
}

/* -- Rounds -- */

static bool halves(const struct mesh *mesh, enum mesh_axis axis)
{
    return mesh->size[axis] > mesh->direct_most;
}

/* What a rank does with a group of several that it belongs to. */
struct halving {
    struct range keeps, gives; /* halves of the group */
    int to;
    int sources, from[HALVING_SOURCES];
};

/* The first half has the odd one, which sends to the last of the second and hears from nobody. */
static struct halving halve(struct range group, int rank)
{
    struct range first = range_partition(group.count, 2, 0);
    struct range second = range_partition(group.count, 2, 1);
    first.begin += group.begin;
    second.begin += group.begin;
    bool in_first = rank < second.begin;
    struct halving halving = {.keeps = in_first ? first : second, .gives = in_first ? second : first};
    int64_t place = rank - halving.keeps.begin;
    halving.to = (int)(halving.gives.begin + integer_min(place, halving.gives.count - 1));
    if (place < halving.gives.count)
        halving.from[halving.sources++] = (int)(halving.gives.begin + place);
    if (!in_first && place == second.count - 1 && first.count > second.count)
        halving.from[halving.sources++] = (int)(first.begin + first.count - 1);
    return halving;
}

/* The rank that comes `step` after this one: ranks do not all send to the same one first. */
static int peer_of(const struct mesh *mesh, enum mesh_axis axis, int step)
{
    return (mesh->rank[axis] + step) % mesh->size[axis];
}

/* The most that send to a rank in a round. */
static int sources_most(const struct mesh *mesh, enum mesh_axis axis)
{
    return halves(mesh, axis) ? HALVING_SOURCES : mesh->size[axis] - 1;
}

static int source_count(const struct mesh *mesh, const struct mesh_reduction *reduction)
{
    enum mesh_axis axis = reduction->axis;
    return halves(mesh, axis) ? halve(reduction->group, mesh->rank[axis]).sources : mesh->size[axis] - 1;
}

static int source_of(const struct mesh *mesh, const struct mesh_reduction *reduction, int source)
{
    enum mesh_axis axis = reduction->axis;
    return halves(mesh, axis) ? halve(reduction->group, mesh->rank[axis]).from[source]
                              : peer_of(mesh, axis, source + 1);
}

/* -- Chunks -- */

/* Elements of a chunk, the same on all ranks. */
static int64_t chunk_most(const struct mesh *mesh, enum mesh_axis axis)
{
    int64_t share = BUFFER_ELEMENTS / sources_most(mesh, axis);
    return integer_max(1, integer_min(share, CHUNK_MOST));
}

static struct range chunk_range(const struct mesh *mesh, enum mesh_axis axis, int64_t elements, int64_t chunk)
{
    int64_t most = chunk_most(mesh, axis);
    return range_intersect((struct range){chunk * most, most}, (struct range){0, elements});
}

static int64_t chunk_count(const struct mesh *mesh, enum mesh_axis axis, int64_t elements)
{
    return integer_divide_up(elements, chunk_most(mesh, axis));
}

/* Elements that each source sends this rank in the round. */
static int64_t round_elements(const struct mesh *mesh, const struct mesh_reduction *reduction)
{
    if (!halves(mesh, reduction->axis))
        return reduction->each;
    struct halving halving = halve(reduction->group, mesh->rank[reduction->axis]);
    return halving.sources > 0 ? halving.keeps.count * reduction->each : 0;
}

static float *received_at(const struct mesh *mesh, const struct mesh_reduction *reduction, int64_t chunk, int source)
{
    enum mesh_axis axis = reduction->axis;
    return mesh->reductions[axis]->received +
           (chunk % AHEAD * sources_most(mesh, axis) + source) * chunk_most(mesh, axis);
}

static MPI_Request *receives_at(const struct mesh *mesh, const struct mesh_reduction *reduction, int64_t chunk)
{
    return mesh->reductions[reduction->axis]->receives + chunk % AHEAD * sources_most(mesh, reduction->axis);
}

static void post_receives(struct mesh *mesh, const struct mesh_reduction *reduction, int64_t chunk)
{
    enum mesh_axis axis = reduction->axis;
    int number = (int)chunk_range(mesh, axis, round_elements(mesh, reduction), chunk).count;
    for (int i = 0; i < source_count(mesh, reduction); i++)
        MPI_Irecv(received_at(mesh, reduction, chunk, i), number, MPI_FLOAT, source_of(mesh, reduction, i), REDUCE_TAG,
                  mesh->communicator[axis], &receives_at(mesh, reduction, chunk)[i]);
}

static void post_send(struct mesh *mesh, struct mesh_reduction *reduction, int to, struct range range)
{
    MPI_Isend(reduction->all + range.begin, (int)range.count, MPI_FLOAT, to, REDUCE_TAG,
              mesh->communicator[reduction->axis], &reduction->sends[reduction->send_count++]);
}

static void post_sends(struct mesh *mesh, struct mesh_reduction *reduction)
{
    enum mesh_axis axis = reduction->axis;
    if (halves(mesh, axis)) {
        struct halving halving = halve(reduction->group, mesh->rank[axis]);
        int64_t elements = halving.gives.count * reduction->each;
        for (int64_t chunk = 0; chunk < chunk_count(mesh, axis, elements); chunk++) {
            struct range range = chunk_range(mesh, axis, elements, chunk);
            range.begin += halving.gives.begin * reduction->each;
            post_send(mesh, reduction, halving.to, range);
        }
        return;
    }
    for (int64_t chunk = 0; chunk < chunk_count(mesh, axis, reduction->each); chunk++)
        for (int step = 1; step < mesh->size[axis]; step++) {
            struct range range = chunk_range(mesh, axis, reduction->each, chunk);
            int peer = peer_of(mesh, axis, step);
            range.begin += peer * reduction->each;
            post_send(mesh, reduction, peer, range);
        }
}

/* Sends that this rank posts in all rounds. */
static int64_t send_total(const struct mesh *mesh, enum mesh_axis axis, int64_t each)
{
    int64_t count = 0;
    if (!halves(mesh, axis))
        return (mesh->size[axis] - 1) * chunk_count(mesh, axis, each);
    for (struct range group = {.begin = 0, .count = mesh->size[axis]}; group.count > 1;) {
        struct halving halving = halve(group, mesh->rank[axis]);
        count += chunk_count(mesh, axis, halving.gives.count * each);
        group = halving.keeps;
    }
    return count;
}

static void add(float *sum, const float *term, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        sum[i] += term[i];
}

/* Adds a chunk of what was sent, in an order that does not depend on what arrived first. */
static void add_chunk(const struct mesh *mesh, const struct mesh_reduction *reduction, int64_t chunk)
{
    enum mesh_axis axis = reduction->axis;
    int size = mesh->size[axis];
    int rank = mesh->rank[axis];
    struct range range = chunk_range(mesh, axis, round_elements(mesh, reduction), chunk);
    if (halves(mesh, axis)) {
        float *sum = reduction->all + halve(reduction->group, rank).keeps.begin * reduction->each + range.begin;
        for (int i = 0; i < source_count(mesh, reduction); i++)
            add(sum, received_at(mesh, reduction, chunk, i), range.count);
        return;
    }
    float *sum = reduction->mine + range.begin;
    for (int from = 0; from < size; from++) {
        const float *term = from == rank ? reduction->all + rank * reduction->each + range.begin
                                         : received_at(mesh, reduction, chunk, (from - rank + size) % size - 1);
        if (from == 0)
            memcpy(sum, term, (size_t)range.count * sizeof *sum);
        else
            add(sum, term, range.count);
    }
}

/* -- The queue of an axis -- */

/* Goes on to the next round, or is done. */
static void end_round(struct mesh *mesh, struct mesh_reduction *reduction)
{
    enum mesh_axis axis = reduction->axis;
    reduction->done = !halves(mesh, axis);
    if (reduction->done)
        return;
    reduction->group = halve(reduction->group, mesh->rank[axis]).keeps;
    reduction->posted = reduction->added = 0;
    reduction->done = reduction->group.count == 1;
    if (reduction->done)
        memcpy(reduction->mine, reduction->all + mesh->rank[axis] * reduction->each,
               (size_t)reduction->each * sizeof *reduction->mine);
    else
        post_sends(mesh, reduction);
}

/* Adds what has arrived. */
static void queue_advance(struct mesh *mesh, enum mesh_axis axis)
{
    struct reduction_queue *queue = mesh->reductions[axis];
    while (queue->first) {
        struct mesh_reduction *reduction = queue->first;
        int64_t count = chunk_count(mesh, axis, round_elements(mesh, reduction));
        while (reduction->posted < integer_min(count, reduction->added + AHEAD))
            post_receives(mesh, reduction, reduction->posted++);
        int arrived = 0;
        if (reduction->added < count)
            MPI_Testall(source_count(mesh, reduction), receives_at(mesh, reduction, reduction->added), &arrived,
                        MPI_STATUSES_IGNORE);
        if (arrived)
            add_chunk(mesh, reduction, reduction->added++);
        else if (reduction->added < count)
            return;
        if (reduction->added == count)
            end_round(mesh, reduction);
        if (reduction->done)
            queue->first = reduction->next;
    }
}

static void queue_create(struct mesh *mesh, enum mesh_axis axis)
{
    size_t sources = (size_t)sources_most(mesh, axis);
    struct reduction_queue *queue = allocate_or_stop(mesh, sizeof *queue);
    queue->received = allocate_or_stop(mesh, AHEAD * sources * (size_t)chunk_most(mesh, axis) * sizeof(float));
    queue->receives = allocate_or_stop(mesh, AHEAD * sources * sizeof(MPI_Request));
    mesh->reductions[axis] = queue;
}

/* One that nobody uses, with room for so many sends. */
static struct mesh_reduction *reduction_take(struct mesh *mesh, int64_t sends)
{
    struct mesh_reduction *reduction = mesh->spare_reductions;
    if (reduction)
        mesh->spare_reductions = reduction->next;
    else
        reduction = allocate_or_stop(mesh, sizeof *reduction);
    if (reduction->send_room < sends) {
        memory_free(mesh->context, reduction->sends);
        reduction->sends = allocate_or_stop(mesh, (size_t)sends * sizeof(MPI_Request));
        reduction->send_room = (int)sends;
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
    struct mesh_reduction *taken = NULL;
    if (mesh->size[axis] == 1 || each == 0)
        return;
    if (!mesh->reductions[axis])
        queue_create(mesh, axis);
    for (int i = 0; i < count; i++) {
        struct mesh_reduction *reduction = reduction_take(mesh, send_total(mesh, axis, each));
        reduction->next = taken;
        taken = reduction;
    }
    while (taken) {
        struct mesh_reduction *next = taken->next;
        reduction_return(mesh, taken);
        taken = next;
    }
}

void mesh_reduce_scatter_start(struct mesh *mesh, enum mesh_axis axis, float *all, float *mine, int64_t each,
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
    struct mesh_reduction shape = {
        .axis = axis, .all = all, .mine = mine, .each = each, .group = {.begin = 0, .count = mesh->size[axis]}};
    struct mesh_reduction *reduction = reduction_take(mesh, send_total(mesh, axis, each));
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
    if (reduction->done)
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
