#include <string.h>

#include "dist/mesh/mesh_private.h"

enum { PARTS_TAG = 31 };

static int64_t sum_of(const int64_t *counts, int size, int without)
{
    int64_t sum = 0;
    for (int r = 0; r < size; r++)
        sum += r == without ? 0 : counts[r];
    return sum;
}

static char *part_at(const void *data, const int64_t *counts, int rank, enum dtype dtype)
{
    return (char *)(uintptr_t)data + (size_t)sum_of(counts, rank, -1) * dtype_size(dtype);
}

/* Of more elements than MPI counts: round i sends to the i-th rank behind this one, in as many messages as it takes. */
static void exchange_parts(struct mesh *mesh, enum mesh_axis axis, const void *parts, const int64_t *counts,
                           void *arrived, const int64_t *arriving, enum dtype dtype)
{
    int size = mesh->size[axis];
    int rank = mesh->rank[axis];
    int64_t most = mesh->message_most;
    MPI_Datatype type = mesh_datatype(mesh, dtype);
    MPI_Comm communicator = mesh->communicator[axis];
    for (int i = 1; i < size; i++) {
        int to = (rank + i) % size;
        int from = (rank + size - i) % size;
        char *out = part_at(parts, counts, to, dtype);
        char *in = part_at(arrived, arriving, from, dtype);
        int64_t longest = integer_max(counts[to], arriving[from]);
        for (int64_t begin = 0; begin < longest; begin += most) {
            size_t offset = (size_t)begin * dtype_size(dtype);
            int64_t outward = integer_min(most, counts[to] - begin);
            int64_t inward = integer_min(most, arriving[from] - begin);
            MPI_Request request[2] = {MPI_REQUEST_NULL, MPI_REQUEST_NULL};
            if (inward > 0)
                MPI_Irecv(in + offset, (int)inward, type, from, PARTS_TAG, communicator, &request[0]);
            if (outward > 0)
                MPI_Isend(out + offset, (int)outward, type, to, PARTS_TAG, communicator, &request[1]);
            for (int r = 0; r < 2; r++)
                MPI_Wait(&request[r], MPI_STATUS_IGNORE);
        }
    }
}

/* MPI's numbers of one direction; what stays here is none of them. */
static void fill_numbers(int size, int rank, const int64_t *counts, int *numbers, int *offsets)
{
    int64_t begin = 0;
    for (int r = 0; r < size; r++) {
        numbers[r] = r == rank ? 0 : (int)counts[r];
        offsets[r] = (int)begin;
        begin += counts[r];
    }
}

void mesh_all_to_all(struct mesh *mesh, enum mesh_axis axis, const void *parts, const int64_t *counts, void *arrived,
                     const int64_t *arriving, int64_t most, enum dtype dtype)
{
    int size = mesh->size[axis];
    int rank = mesh->rank[axis];
    int64_t outward = sum_of(counts, size, rank);
    if (size > 1)
        mesh_count(mesh, axis, outward, dtype);
    if (mesh->dry)
        return;
    memcpy(part_at(arrived, arriving, rank, dtype), part_at(parts, counts, rank, dtype),
           (size_t)counts[rank] * dtype_size(dtype));
    if (size == 1)
        return;
    struct mesh_mark mark = mesh_enter(mesh, axis, CALL_ALL_TO_ALL, outward * (int64_t)dtype_size(dtype));
    if (most > mesh->message_most) {
        exchange_parts(mesh, axis, parts, counts, arrived, arriving, dtype);
    } else {
        MPI_Datatype type = mesh_datatype(mesh, dtype);
        int *numbers = mesh->counts;
        fill_numbers(size, rank, counts, numbers, numbers + size);
        fill_numbers(size, rank, arriving, numbers + 2 * (ptrdiff_t)size, numbers + 3 * (ptrdiff_t)size);
        MPI_Alltoallv(parts, numbers, numbers + size, type, arrived, numbers + 2 * (ptrdiff_t)size,
                      numbers + 3 * (ptrdiff_t)size, type, mesh->communicator[axis]);
    }
    mesh_leave(mesh, mark);
}
