/* Inside of a mesh; for this folder only. */
#ifndef CAIRN_DIST_MESH_PRIVATE_H
#define CAIRN_DIST_MESH_PRIVATE_H

#include "dist/mesh/events.h"
#include "dist/mesh/mesh_mpi.h"
#include "dist/mesh/team_private.h"

/* Up to so many ranks a slice travels in chunks of 256 KiB or more, however large it is. */
enum { DIRECT_MOST = 16 };

struct mesh {
    struct context *context;
    const struct team *team; /* NULL of a dry mesh */
    struct mesh_config config;
    bool dry;                         /* all communicators are MPI_COMM_NULL, and MPI may not have been started */
    MPI_Comm communicator[MESH_AXES]; /* MPI_COMM_NULL where this rank takes no part */
    MPI_Comm reversed[MESH_AXES];     /* the same ranks from last to first; MPI_COMM_NULL until a scan needs it */
    int size[MESH_AXES];
    int rank[MESH_AXES];
    struct mesh_traffic traffic[MESH_AXES];
    MPI_Datatype bf16;
    MPI_Op bf16_sum;
    int64_t message_most; /* elements that MPI takes at once */
    int direct_most;      /* ranks up to which each sends each other one its slice */
    int *counts;          /* for the collectives with uneven parts: four entries a rank of the largest axis */
    int *offsets;
    struct reduction_queue *reductions[MESH_AXES]; /* NULL until an axis needs it */
    struct mesh_reduction *spare_reductions;
    struct event_ring *ring;
};

MPI_Datatype mesh_datatype(const struct mesh *mesh, enum dtype dtype);

/* A stay in MPI: what the account of time goes back to, and the event in the ring. */
struct mesh_mark {
    enum time_kind before;
    uint64_t number;
};

enum status mesh_ring_create(struct mesh *mesh) MUST_USE;
void mesh_ring_destroy(struct mesh *mesh);

/* Around every call of MPI: counts its time as communication and notes it as an event, or again as one that was
 * started before. */
struct mesh_mark mesh_enter(struct mesh *mesh, enum mesh_axis axis, enum mesh_call call, int64_t bytes);
struct mesh_mark mesh_enter_message(struct mesh *mesh, enum mesh_axis axis, enum mesh_call call, int64_t bytes,
                                    int peer, int tag);
struct mesh_mark mesh_enter_again(struct mesh *mesh, uint64_t number);

/* The communication is done, or only started (or still not done). */
void mesh_leave(struct mesh *mesh, struct mesh_mark mark);
void mesh_leave_started(struct mesh *mesh, struct mesh_mark mark);

/* Moves a started reduce-scatter on; true, and the request cleared, when it is complete. */
bool mesh_reduction_test(struct mesh_request *request);
void mesh_reductions_destroy(struct mesh *mesh);

/* Counts bytes and calls. */
void mesh_count(struct mesh *mesh, enum mesh_axis axis, int64_t count, enum dtype dtype);

/* MPI counts in int, so more elements than that go in parts of at most mesh->message_most, or as one element of a type
 * that is made for it. */
enum { MESSAGE_MOST = 1 << 30 };

#endif
