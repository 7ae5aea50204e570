/* The communicators of a mesh, for io/checkpoint, which hands one to HDF5. */
#ifndef CAIRN_DIST_MESH_MPI_H
#define CAIRN_DIST_MESH_MPI_H

#include <mpi.h>

#include "dist/mesh/mesh.h"

MPI_Comm mesh_communicator(const struct mesh *mesh, enum mesh_axis axis);

#endif
