/* Every field is atomic, and written in an order that lets a reader see whether it was overtaken; on x86 that costs
 * plain stores. */
#include "dist/mesh/events.h"

#include <string.h>

#include "dist/mesh/mesh_private.h"

enum { AXIS_SHIFT = 8, PEER_SHIFT = 16, TAG_SHIFT = 40, PEER_BITS = 24 };

/* A cache line. */
struct entry {
    _Atomic uint64_t number; /* 0 while the rest changes */
    _Atomic uint64_t kind;   /* call, axis, peer + 1, tag + 1 */
    _Atomic uint64_t sequence;
    _Atomic uint64_t bytes;
    _Atomic uint64_t begun; /* the bits of a double */
    _Atomic uint64_t where, position;
    _Atomic uint64_t done;
};

_Static_assert(sizeof(struct entry) == 64, "an entry fills a cache line");

struct event_ring {
    struct entry entry[MESH_EVENTS];
    _Atomic uint64_t count;
    _Atomic uint64_t waited;
    _Atomic uint64_t sequence[MESH_AXES][2]; /* of the last collective and the last message */
};

static void put(_Atomic uint64_t *field, uint64_t value)
{
    atomic_store_explicit(field, value, memory_order_release);
}

static uint64_t get(const _Atomic uint64_t *field)
{
    return atomic_load_explicit(field, memory_order_acquire);
}

bool mesh_call_is_message(enum mesh_call call)
{
    return call == CALL_SEND || call == CALL_RECEIVE;
}

const char *mesh_call_name(enum mesh_call call)
{
    static const char *const names[MESH_CALLS] = {
        [CALL_BARRIER] = "barrier",
        [CALL_ALL_REDUCE] = "all-reduce",
        [CALL_BROADCAST] = "broadcast",
        [CALL_ALL_GATHER] = "all-gather",
        [CALL_SCAN] = "scan",
        [CALL_REDUCE_SCATTER] = "reduce-scatter",
        [CALL_AGREE] = "agreement",
        [CALL_SEND] = "send",
        [CALL_RECEIVE] = "receive",
        [CALL_ALL_TO_ALL] = "all-to-all",
        [CALL_LIBRARY] = "ScaLAPACK call",
    };
    return names[call];
}

const char *mesh_axis_name(enum mesh_axis axis)
{
    static const char *const names[MESH_AXES] = {
        [MESH_DATA] = "data",     [MESH_PIPELINE] = "pipeline", [MESH_CONTEXT] = "context",
        [MESH_TENSOR] = "tensor", [MESH_REPLICA] = "replica",   [MESH_STAGE] = "stage",
        [MESH_ENDS] = "ends",     [MESH_HOST] = "host",         [MESH_TEAM] = "team",
    };
    return names[axis];
}

/* -- Writing -- */

enum status mesh_ring_create(struct mesh *mesh)
{
    mesh->ring = memory_allocate(mesh->context, sizeof *mesh->ring, MEMORY_OTHER);
    return mesh->ring ? STATUS_OK : STATUS_MEMORY;
}

void mesh_ring_destroy(struct mesh *mesh)
{
    memory_free(mesh->context, mesh->ring);
}

struct mesh_mark mesh_enter_message(struct mesh *mesh, enum mesh_axis axis, enum mesh_call call, int64_t bytes,
                                    int peer, int tag)
{
    struct context *context = mesh->context;
    struct event_ring *ring = mesh->ring;
    struct mesh_mark mark = {.before = time_enter(&context->time, TIME_COMMUNICATION)};
    mark.number = atomic_load_explicit(&ring->count, memory_order_relaxed) + 1;
    struct entry *entry = &ring->entry[mark.number % MESH_EVENTS];
    _Atomic uint64_t *last = &ring->sequence[axis][mesh_call_is_message(call)];
    uint64_t sequence = atomic_load_explicit(last, memory_order_relaxed) + 1;
    uint64_t begun;
    memcpy(&begun, &context->time.since, sizeof begun);
    atomic_store_explicit(&entry->number, 0, memory_order_relaxed);
    put(&entry->kind, (uint64_t)call | (uint64_t)axis << AXIS_SHIFT | (uint64_t)(peer + 1) << PEER_SHIFT |
                          (uint64_t)(tag + 1) << TAG_SHIFT);
    put(&entry->sequence, sequence);
    put(&entry->bytes, (uint64_t)bytes);
    put(&entry->begun, begun);
    put(&entry->where, location_where(&context->location));
    put(&entry->position, location_position(&context->location));
    put(&entry->done, 0);
    put(&entry->number, mark.number);
    put(last, sequence);
    put(&ring->waited, mark.number);
    put(&ring->count, mark.number);
    return mark;
}

struct mesh_mark mesh_enter(struct mesh *mesh, enum mesh_axis axis, enum mesh_call call, int64_t bytes)
{
    return mesh_enter_message(mesh, axis, call, bytes, -1, -1);
}

struct mesh_mark mesh_enter_again(struct mesh *mesh, uint64_t number)
{
    struct mesh_mark mark = {.before = time_enter(&mesh->context->time, TIME_COMMUNICATION), .number = number};
    put(&mesh->ring->waited, number);
    return mark;
}

void mesh_leave_started(struct mesh *mesh, struct mesh_mark mark)
{
    put(&mesh->ring->waited, 0);
    time_leave(&mesh->context->time, mark.before);
}

void mesh_leave(struct mesh *mesh, struct mesh_mark mark)
{
    struct entry *entry = &mesh->ring->entry[mark.number % MESH_EVENTS];
    if (atomic_load_explicit(&entry->number, memory_order_relaxed) == mark.number)
        put(&entry->done, 1);
    mesh_leave_started(mesh, mark);
}

/* -- Reading -- */

/* False if the entry was overwritten meanwhile. */
static bool read_entry(const struct entry *entry, uint64_t number, struct mesh_event *event)
{
    if (get(&entry->number) != number)
        return false;
    uint64_t kind = get(&entry->kind);
    uint64_t begun = get(&entry->begun);
    *event = (struct mesh_event){
        .number = (int64_t)number,
        .call = (enum mesh_call)(kind & 0xff),
        .axis = (enum mesh_axis)(kind >> AXIS_SHIFT & 0xff),
        .peer = (int)(kind >> PEER_SHIFT & ((1u << PEER_BITS) - 1)) - 1,
        .tag = (int)(kind >> TAG_SHIFT) - 1,
        .sequence = (int64_t)get(&entry->sequence),
        .bytes = (int64_t)get(&entry->bytes),
        .place = location_unpack(get(&entry->where), get(&entry->position)),
        .done = get(&entry->done) != 0,
    };
    memcpy(&event->begun, &begun, sizeof begun);
    return get(&entry->number) == number;
}

int mesh_events(const struct mesh *mesh, struct mesh_event *events, int most)
{
    const struct event_ring *ring = mesh->ring;
    int64_t last = mesh_event_count(mesh);
    int64_t first = integer_max(1, last + 1 - integer_min(most, MESH_EVENTS));
    int count = 0;
    for (int64_t number = first; number <= last; number++)
        count += read_entry(&ring->entry[number % MESH_EVENTS], (uint64_t)number, &events[count]);
    return count;
}

bool mesh_event_find(const struct mesh *mesh, int64_t number, struct mesh_event *event)
{
    return read_entry(&mesh->ring->entry[number % MESH_EVENTS], (uint64_t)number, event);
}

int64_t mesh_event_count(const struct mesh *mesh)
{
    return (int64_t)get(&mesh->ring->count);
}

int64_t mesh_event_waited(const struct mesh *mesh)
{
    return (int64_t)get(&mesh->ring->waited);
}

int64_t mesh_collectives(const struct mesh *mesh, enum mesh_axis axis)
{
    return (int64_t)get(&mesh->ring->sequence[axis][0]);
}
