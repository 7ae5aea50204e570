/* The communicators of a mesh, for io/checkpoint, which hands one to HDF5, and for dist/matrix, which makes grids of
 * BLACS from them. */
#ifndef CAIRN_DIST_MESH_MPI_H
#define CAIRN_DIST_MESH_MPI_H

#include <mpi.h>

#include "dist/mesh/mesh.h"

MPI_Comm mesh_communicator(const struct mesh *mesh, enum mesh_axis axis);

/* Around a call of a library that communicates on its own over the axis: all ranks of the axis say so, also those that
 * take no part, and the watch sees who is in it. Its time is counted as what it was before. Returns what leaving
 * needs. */
uint64_t mesh_library_enter(struct mesh *mesh, enum mesh_axis axis);
void mesh_library_leave(struct mesh *mesh, uint64_t number);

#endif
