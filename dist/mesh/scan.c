/* Exclusive scans over the ranks of an axis. */
#include "dist/mesh/mesh_private.h"

#include <string.h>

enum { SCAN_TAG = 7001 };

static void sum_scan(struct mesh *mesh, enum mesh_axis axis, float *buffer, const struct mesh_scan *scan)
{
    mesh_count(mesh, axis, scan->count, DTYPE_F32);
    if (mesh->dry)
        return;
    struct mesh_mark mark = mesh_enter(mesh, axis, CALL_SCAN, scan->count * (int64_t)sizeof(float));
    if (scan->reverse && mesh->reversed[axis] == MPI_COMM_NULL)
        MPI_Comm_split(mesh->communicator[axis], 0, -mesh->rank[axis], &mesh->reversed[axis]);
    for (int64_t begin = 0; begin < scan->count; begin += mesh->message_most)
        MPI_Exscan(MPI_IN_PLACE, buffer + begin, (int)integer_min(mesh->message_most, scan->count - begin), MPI_FLOAT,
                   MPI_SUM, scan->reverse ? mesh->reversed[axis] : mesh->communicator[axis]);
    mesh_leave(mesh, mark);
}

/* Sends the buffer `distance` places on and receives into spare what comes from as far behind, among the places from
 * `first` on. True if something came. */
static bool exchange(struct mesh *mesh, enum mesh_axis axis, const float *buffer, const struct mesh_scan *scan,
                     int first, int distance)
{
    int last = mesh->size[axis] - 1;
    int place = scan->reverse ? last - mesh->rank[axis] : mesh->rank[axis];
    int from = place - distance;
    int to = place + distance;
    struct mesh_request sent;
    struct mesh_request received;
    mesh_request_clear(&sent);
    mesh_request_clear(&received);
    if (from >= first)
        mesh_receive(mesh, axis, scan->reverse ? last - from : from, SCAN_TAG, scan->spare, scan->count, DTYPE_F32,
                     &received);
    if (place >= first && to <= last)
        mesh_send(mesh, axis, scan->reverse ? last - to : to, SCAN_TAG, buffer, scan->count, DTYPE_F32, &sent);
    mesh_wait(&received);
    mesh_wait(&sent);
    return from >= first;
}

/* Everyone takes over its predecessor's buffer; then each round doubles how many are joined in it (Hillis and Steele
 * 1986). The first place holds nothing from then on, and is left out. */
void mesh_exclusive_scan(struct mesh *mesh, enum mesh_axis axis, float *buffer, const struct mesh_scan *scan)
{
    if (mesh->size[axis] == 1 || scan->count == 0)
        return;
    if (!scan->join) {
        sum_scan(mesh, axis, buffer, scan);
        return;
    }
    if (exchange(mesh, axis, buffer, scan, 0, 1))
        memcpy(buffer, scan->spare, (size_t)scan->count * sizeof *buffer);
    for (int distance = 1; distance < mesh->size[axis] - 1; distance *= 2)
        if (exchange(mesh, axis, buffer, scan, 1, distance))
            scan->join(scan->self, scan->spare, buffer);
}
