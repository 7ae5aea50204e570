#include "dist/mesh/mesh_private.h"

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

void mesh_count(struct mesh *mesh, enum mesh_axis axis, int64_t count, enum dtype dtype)
{
    mesh->traffic[axis].calls++;
    mesh->traffic[axis].bytes += count * (int64_t)dtype_size(dtype);
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

/* What MPI is given for `count` elements: their number and type, or one of a type made for them, to be given back. */
struct elements {
    int number;
    MPI_Datatype type;
    bool made;
};

static struct elements elements_take(const struct mesh *mesh, int64_t count, enum dtype dtype)
{
    struct elements elements = {.number = (int)count, .type = mesh_datatype(mesh, dtype)};
    int64_t most = mesh->message_most;
    if (count <= most)
        return elements;
    MPI_Datatype parts[2];
    MPI_Datatype part;
    MPI_Type_contiguous((int)most, elements.type, &part);
    MPI_Type_contiguous((int)(count / most), part, &parts[0]);
    MPI_Type_contiguous((int)(count % most), elements.type, &parts[1]);
    MPI_Aint begins[2] = {0, (MPI_Aint)(count / most * most * (int64_t)dtype_size(dtype))};
    MPI_Type_create_struct(2, (int[]){1, 1}, begins, parts, &elements.type);
    MPI_Type_commit(&elements.type);
    MPI_Type_free(&part);
    MPI_Type_free(&parts[0]);
    MPI_Type_free(&parts[1]);
    elements.number = 1;
    elements.made = true;
    return elements;
}

/* What is under way goes on with it. */
static void elements_return(struct elements *elements)
{
    if (elements->made)
        MPI_Type_free(&elements->type);
}

/* The part of `count` elements from `begin` on that one call takes. */
static int part_count(const struct mesh *mesh, int64_t count, int64_t begin)
{
    return (int)integer_min(mesh->message_most, count - begin);
}

static void *element_at(void *data, int64_t index, enum dtype dtype)
{
    return (char *)data + (size_t)index * dtype_size(dtype);
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
    mesh_count(mesh, axis, count, dtype);
    if (mesh->dry)
        return;
    struct mesh_mark mark = mesh_enter(mesh, axis, CALL_ALL_REDUCE, count * (int64_t)dtype_size(dtype));
    for (int64_t begin = 0; begin < count; begin += mesh->message_most)
        MPI_Allreduce(MPI_IN_PLACE, element_at(buffer, begin, dtype), part_count(mesh, count, begin),
                      mesh_datatype(mesh, dtype), operation_of(mesh, operation, dtype), mesh->communicator[axis]);
    mesh_leave(mesh, mark);
}

static void broadcast_parts(const struct mesh *mesh, enum mesh_axis axis, int root, void *buffer, int64_t count,
                            enum dtype dtype)
{
    for (int64_t begin = 0; begin < count; begin += mesh->message_most)
        MPI_Bcast(element_at(buffer, begin, dtype), part_count(mesh, count, begin), mesh_datatype(mesh, dtype), root,
                  mesh->communicator[axis]);
}

void mesh_broadcast(struct mesh *mesh, enum mesh_axis axis, int root, void *buffer, int64_t count, enum dtype dtype)
{
    if (mesh->size[axis] == 1 || count == 0)
        return;
    mesh_count(mesh, axis, count, dtype);
    if (mesh->dry)
        return;
    struct mesh_mark mark = mesh_enter(mesh, axis, CALL_BROADCAST, count * (int64_t)dtype_size(dtype));
    broadcast_parts(mesh, axis, root, buffer, count, dtype);
    mesh_leave(mesh, mark);
}

/* Of more elements than MPI counts: rank after rank hands out its rows. */
static void gather_parts(const struct mesh *mesh, enum mesh_axis axis, const void *mine, void *all, int64_t rows,
                         int64_t columns, enum dtype dtype)
{
    for (int i = 0; i < mesh->size[axis]; i++) {
        struct range part = range_partition(rows, mesh->size[axis], i);
        void *to = element_at(all, part.begin * columns, dtype);
        if (i == mesh->rank[axis])
            memcpy(to, mine, (size_t)(part.count * columns) * dtype_size(dtype));
        broadcast_parts(mesh, axis, i, to, part.count * columns, dtype);
    }
}

/* The same: rank after rank receives the sum of its rows. */
static void reduce_parts(const struct mesh *mesh, enum mesh_axis axis, const void *all, void *mine, int64_t rows,
                         int64_t columns, enum dtype dtype)
{
    for (int i = 0; i < mesh->size[axis]; i++) {
        struct range part = range_partition(rows, mesh->size[axis], i);
        int64_t count = part.count * columns;
        for (int64_t begin = 0; begin < count; begin += mesh->message_most)
            MPI_Reduce((const char *)all + (size_t)(part.begin * columns + begin) * dtype_size(dtype),
                       i == mesh->rank[axis] ? element_at(mine, begin, dtype) : NULL, part_count(mesh, count, begin),
                       mesh_datatype(mesh, dtype), operation_of(mesh, MESH_SUM, dtype), i, mesh->communicator[axis]);
    }
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
    if (rows * columns > mesh->message_most) {
        gather_parts(mesh, axis, mine, all, rows, columns, dtype);
    } else if (rows % size == 0) {
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
    struct mesh_mark mark = mesh_enter(mesh, axis, CALL_REDUCE_SCATTER, rows * columns * (int64_t)dtype_size(dtype));
    if (rows * columns > mesh->message_most) {
        reduce_parts(mesh, axis, all, mine, rows, columns, dtype);
    } else {
        divide_rows(mesh, axis, rows, columns);
        MPI_Reduce_scatter(all, mine, mesh->counts, mesh_datatype(mesh, dtype), operation_of(mesh, MESH_SUM, dtype),
                           mesh->communicator[axis]);
    }
    mesh_leave(mesh, mark);
}

/* -- What runs behind the computation -- */

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
    mesh_count(mesh, axis, count, dtype);
    if (mesh->dry)
        return;
    struct mesh_mark mark = mesh_enter_message(mesh, axis, CALL_SEND, count * (int64_t)dtype_size(dtype), to, tag);
    struct elements elements = elements_take(mesh, count, dtype);
    MPI_Isend(data, elements.number, elements.type, to, tag, mesh->communicator[axis], &mpi);
    elements_return(&elements);
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
    struct elements elements = elements_take(mesh, count, dtype);
    MPI_Irecv(data, elements.number, elements.type, from, tag, mesh->communicator[axis], &mpi);
    elements_return(&elements);
    request_started(request, mesh, mpi, mark);
}

void mesh_all_gather_start(struct mesh *mesh, enum mesh_axis axis, void *all, int64_t each, enum dtype dtype,
                           struct mesh_request *request)
{
    MPI_Request mpi;
    mesh_request_clear(request);
    mesh_count(mesh, axis, each, dtype);
    if (mesh->dry)
        return;
    struct mesh_mark mark =
        mesh_enter(mesh, axis, CALL_ALL_GATHER, each * mesh->size[axis] * (int64_t)dtype_size(dtype));
    struct elements elements = elements_take(mesh, each, dtype);
    MPI_Iallgather(MPI_IN_PLACE, elements.number, elements.type, all, elements.number, elements.type,
                   mesh->communicator[axis], &mpi);
    elements_return(&elements);
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
