/* The last communications of a rank: what a report of a hang is made of. The thread that communicates writes them into
 * a ring; any other thread may read them at any time. Nothing here is collective. */
#ifndef CAIRN_DIST_MESH_EVENTS_H
#define CAIRN_DIST_MESH_EVENTS_H

#include "dist/mesh/mesh.h"

enum mesh_call {
    CALL_BARRIER,
    CALL_ALL_REDUCE,
    CALL_BROADCAST,
    CALL_ALL_GATHER,
    CALL_REDUCE_SCATTER,
    CALL_ALL_TO_ALL,
    CALL_SCAN,
    CALL_AGREE,
    CALL_LIBRARY, /* what ScaLAPACK sends on its own */
    CALL_SEND,
    CALL_RECEIVE,
    MESH_CALLS,
};

enum { MESH_EVENTS = 512 };

struct mesh_event {
    int64_t number; /* among all events of this rank, from 1 */
    enum mesh_axis axis;
    enum mesh_call call;
    int64_t sequence; /* among the collectives of the axis, the same on all its ranks; or among its messages. From 1 */
    int64_t bytes;    /* payload of this rank */
    int peer;         /* of messages: the rank on the axis, and the tag; else -1 */
    int tag;
    struct location place;
    double begun; /* clock_seconds */
    bool done;
};

bool mesh_call_is_message(enum mesh_call call);

/* "all-reduce", ... and "tensor", ... */
const char *mesh_call_name(enum mesh_call call);
const char *mesh_axis_name(enum mesh_axis axis);

/* The newest events, at most `most`, oldest first. Returns their number. */
int mesh_events(const struct mesh *mesh, struct mesh_event *events, int most);

/* One of them by its number; false if newer ones have taken its place. */
bool mesh_event_find(const struct mesh *mesh, int64_t number, struct mesh_event *event);

/* How many there have been. */
int64_t mesh_event_count(const struct mesh *mesh);

/* The number of the event that the thread waits for inside of MPI; 0: it is not in there. */
int64_t mesh_event_waited(const struct mesh *mesh);

/* How many collectives this rank has begun on an axis. */
int64_t mesh_collectives(const struct mesh *mesh, enum mesh_axis axis);

#endif
