/* Inside of a mesh; for this folder only. */
#ifndef CAIRN_DIST_MESH_PRIVATE_H
#define CAIRN_DIST_MESH_PRIVATE_H

#include "dist/mesh/mesh_mpi.h"

struct mesh {
    struct context *context;
    struct mesh_config config;
    bool dry;                         /* all communicators are MPI_COMM_NULL, and MPI may not have been started */
    MPI_Comm communicator[MESH_AXES]; /* MPI_COMM_NULL where this rank takes no part */
    MPI_Comm reversed[MESH_AXES];     /* the same ranks from last to first; MPI_COMM_NULL until a scan needs it */
    int size[MESH_AXES];
    int rank[MESH_AXES];
    struct mesh_traffic traffic[MESH_AXES];
    MPI_Datatype bf16;
    MPI_Op bf16_sum;
    int *counts; /* for the collectives with uneven parts: one entry a rank of the largest axis */
    int *offsets;
    struct reduction_queue *reductions[MESH_AXES]; /* NULL until an axis needs it */
    struct mesh_reduction *spare_reductions;
};

MPI_Datatype mesh_datatype(const struct mesh *mesh, enum dtype dtype);

/* The account of the time that calls of MPI take. */
static inline enum time_kind mesh_enter(struct mesh *mesh)
{
    return time_enter(&mesh->context->time, TIME_COMMUNICATION);
}

static inline void mesh_leave(struct mesh *mesh, enum time_kind before)
{
    time_leave(&mesh->context->time, before);
}

/* Moves a started reduce-scatter on; true, and the request cleared, when it is complete. */
bool mesh_reduction_test(struct mesh_request *request);
void mesh_reductions_destroy(struct mesh *mesh);

/* Counts bytes and calls; ends the job if `count` does not fit in MPI's int (a dry mesh: the context's error). */
int mesh_count(struct mesh *mesh, enum mesh_axis axis, int64_t count, enum dtype dtype);

#endif
