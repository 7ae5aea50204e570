#include "dist/mesh/mesh_private.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

MPI_Datatype mesh_datatype(const struct mesh *mesh, enum dtype dtype)
{
    switch (dtype) {
    case DTYPE_F32:
        return MPI_FLOAT;
    case DTYPE_BF16:
        return mesh->bf16;
    case DTYPE_F64:
        return MPI_DOUBLE;
    case DTYPE_I32:
        return MPI_INT32_T;
    case DTYPE_I64:
        return MPI_INT64_T;
    default:
        return MPI_BYTE;
    }
}

int mesh_count(struct mesh *mesh, enum mesh_axis axis, int64_t count, enum dtype dtype)
{
    if (mesh->dry && count > INT_MAX) {
        context_fail(mesh->context, STATUS_USAGE,
                     "a message of %lld elements is more than MPI can take at once; use a smaller micro-batch or "
                     "compute.bucket_bytes",
                     (long long)count);
    } else if (count < 0 || count > INT_MAX) {
        fprintf(
            stderr,
            "cairn: rank %d: a message of %lld elements is more than MPI can take at once; use a smaller micro-batch "
            "or compute.bucket_bytes\n",
            mesh->rank[MESH_WORLD], (long long)count);
        mesh_abort(1);
    }
    mesh->traffic[axis].calls++;
    mesh->traffic[axis].bytes += count * (int64_t)dtype_size(dtype);
    return (int)count;
}

static MPI_Op operation_of(const struct mesh *mesh, enum mesh_operation operation, enum dtype dtype)
{
    if (dtype == DTYPE_BF16)
        return mesh->bf16_sum;
    switch (operation) {
    case MESH_SUM:
        return MPI_SUM;
    case MESH_MAX:
        return MPI_MAX;
    case MESH_MIN:
        return MPI_MIN;
    case MESH_XOR:
        return MPI_BXOR;
    }
    return MPI_OP_NULL;
}

void mesh_barrier(struct mesh *mesh, enum mesh_axis axis)
{
    if (mesh->dry)
        return;
    struct mesh_mark mark = mesh_enter(mesh, axis, CALL_BARRIER, 0);
    MPI_Barrier(mesh->communicator[axis]);
    mesh_leave(mesh, mark);
}

void mesh_all_reduce(struct mesh *mesh, enum mesh_axis axis, void *buffer, int64_t count, enum dtype dtype,
                     enum mesh_operation operation)
{
    if (mesh->size[axis] == 1 || count == 0)
        return;
    int number = mesh_count(mesh, axis, count, dtype);
    if (mesh->dry)
        return;
    struct mesh_mark mark = mesh_enter(mesh, axis, CALL_ALL_REDUCE, count * (int64_t)dtype_size(dtype));
    MPI_Allreduce(MPI_IN_PLACE, buffer, number, mesh_datatype(mesh, dtype), operation_of(mesh, operation, dtype),
                  mesh->communicator[axis]);
    mesh_leave(mesh, mark);
}

void mesh_broadcast(struct mesh *mesh, enum mesh_axis axis, int root, void *buffer, int64_t count, enum dtype dtype)
{
    if (mesh->size[axis] == 1 || count == 0)
        return;
    int number = mesh_count(mesh, axis, count, dtype);
    if (mesh->dry)
        return;
    struct mesh_mark mark = mesh_enter(mesh, axis, CALL_BROADCAST, count * (int64_t)dtype_size(dtype));
    MPI_Bcast(buffer, number, mesh_datatype(mesh, dtype), root, mesh->communicator[axis]);
    mesh_leave(mesh, mark);
}

/* Fills mesh->counts and offsets with each rank's part of the rows, in elements. */
static void divide_rows(struct mesh *mesh, enum mesh_axis axis, int64_t rows, int64_t columns)
{
    for (int i = 0; i < mesh->size[axis]; i++) {
        struct range part = range_partition(rows, mesh->size[axis], i);
        mesh->counts[i] = (int)(part.count * columns);
        mesh->offsets[i] = (int)(part.begin * columns);
    }
}

void mesh_all_gather(struct mesh *mesh, enum mesh_axis axis, const void *mine, void *all, int64_t rows, int64_t columns,
                     enum dtype dtype)
{
    int size = mesh->size[axis];
    struct range part = range_partition(rows, size, mesh->rank[axis]);
    if (size == 1) {
        memcpy(all, mine, (size_t)(rows * columns) * dtype_size(dtype));
        return;
    }
    if (rows * columns == 0)
        return;
    mesh_count(mesh, axis, rows * columns, dtype);
    mesh->traffic[axis].bytes -= (rows - part.count) * columns * (int64_t)dtype_size(dtype);
    if (mesh->dry)
        return;
    MPI_Datatype type = mesh_datatype(mesh, dtype);
    int number = (int)(part.count * columns);
    struct mesh_mark mark = mesh_enter(mesh, axis, CALL_ALL_GATHER, rows * columns * (int64_t)dtype_size(dtype));
    if (rows % size == 0) {
        MPI_Allgather(mine, number, type, all, number, type, mesh->communicator[axis]);
    } else {
        divide_rows(mesh, axis, rows, columns);
        MPI_Allgatherv(mine, number, type, all, mesh->counts, mesh->offsets, type, mesh->communicator[axis]);
    }
    mesh_leave(mesh, mark);
}

void mesh_reduce_scatter(struct mesh *mesh, enum mesh_axis axis, const void *all, void *mine, int64_t rows,
                         int64_t columns, enum dtype dtype)
{
    int size = mesh->size[axis];
    if (size == 1) {
        memcpy(mine, all, (size_t)(rows * columns) * dtype_size(dtype));
        return;
    }
    if (rows * columns == 0)
        return;
    mesh_count(mesh, axis, rows * columns, dtype);
    if (mesh->dry)
        return;
    MPI_Datatype type = mesh_datatype(mesh, dtype);
    divide_rows(mesh, axis, rows, columns);
    struct mesh_mark mark = mesh_enter(mesh, axis, CALL_REDUCE_SCATTER, rows * columns * (int64_t)dtype_size(dtype));
    MPI_Reduce_scatter(all, mine, mesh->counts, type, operation_of(mesh, MESH_SUM, dtype), mesh->communicator[axis]);
    mesh_leave(mesh, mark);
}

/* -- What runs behind the computation ---------------------------------------------------------------------------- */

_Static_assert(sizeof(MPI_Request) <= sizeof(void *), "a request must fit in struct mesh_request");

static MPI_Request request_get(const struct mesh_request *request)
{
    MPI_Request mpi;
    memcpy(&mpi, &request->state, sizeof mpi);
    return mpi;
}

static void request_set(struct mesh_request *request, MPI_Request mpi)
{
    request->state = NULL;
    memcpy(&request->state, &mpi, sizeof mpi);
}

static void request_started(struct mesh_request *request, struct mesh *mesh, MPI_Request mpi, struct mesh_mark mark)
{
    mesh_leave_started(mesh, mark);
    request->mesh = mesh;
    request->reduction = NULL;
    request->event = mark.number;
    request_set(request, mpi);
}

void mesh_request_clear(struct mesh_request *request)
{
    request->mesh = NULL;
    request->reduction = NULL;
    request->event = 0;
    request_set(request, MPI_REQUEST_NULL);
}

void mesh_send(struct mesh *mesh, enum mesh_axis axis, int to, int tag, const void *data, int64_t count,
               enum dtype dtype, struct mesh_request *request)
{
    MPI_Request mpi;
    mesh_request_clear(request);
    int number = mesh_count(mesh, axis, count, dtype);
    if (mesh->dry)
        return;
    struct mesh_mark mark = mesh_enter_message(mesh, axis, CALL_SEND, count * (int64_t)dtype_size(dtype), to, tag);
    MPI_Isend(data, number, mesh_datatype(mesh, dtype), to, tag, mesh->communicator[axis], &mpi);
    request_started(request, mesh, mpi, mark);
}

void mesh_receive(struct mesh *mesh, enum mesh_axis axis, int from, int tag, void *data, int64_t count,
                  enum dtype dtype, struct mesh_request *request)
{
    MPI_Request mpi;
    mesh_request_clear(request);
    if (mesh->dry)
        return;
    struct mesh_mark mark = mesh_enter_message(mesh, axis, CALL_RECEIVE, count * (int64_t)dtype_size(dtype), from, tag);
    MPI_Irecv(data, (int)count, mesh_datatype(mesh, dtype), from, tag, mesh->communicator[axis], &mpi);
    request_started(request, mesh, mpi, mark);
}

void mesh_all_gather_start(struct mesh *mesh, enum mesh_axis axis, void *all, int64_t each, enum dtype dtype,
                           struct mesh_request *request)
{
    MPI_Request mpi;
    mesh_request_clear(request);
    int number = mesh_count(mesh, axis, each, dtype);
    if (mesh->dry)
        return;
    struct mesh_mark mark =
        mesh_enter(mesh, axis, CALL_ALL_GATHER, each * mesh->size[axis] * (int64_t)dtype_size(dtype));
    MPI_Iallgather(MPI_IN_PLACE, number, mesh_datatype(mesh, dtype), all, number, mesh_datatype(mesh, dtype),
                   mesh->communicator[axis], &mpi);
    request_started(request, mesh, mpi, mark);
}

bool mesh_test(struct mesh_request *request)
{
    struct mesh *mesh = request->mesh;
    if (!mesh)
        return true;
    struct mesh_mark mark = mesh_enter_again(mesh, request->event);
    int done = 0;
    if (request->reduction) {
        done = mesh_reduction_test(request);
    } else {
        MPI_Request mpi = request_get(request);
        MPI_Test(&mpi, &done, MPI_STATUS_IGNORE);
        request_set(request, mpi);
    }
    (done ? mesh_leave : mesh_leave_started)(mesh, mark);
    return done;
}

void mesh_wait(struct mesh_request *request)
{
    struct mesh *mesh = request->mesh;
    if (!mesh)
        return;
    struct mesh_mark mark = mesh_enter_again(mesh, request->event);
    if (request->reduction) {
        while (!mesh_reduction_test(request))
            ;
    } else {
        MPI_Request mpi = request_get(request);
        MPI_Wait(&mpi, MPI_STATUS_IGNORE);
        request_set(request, mpi);
    }
    mesh_leave(mesh, mark);
}
