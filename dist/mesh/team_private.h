/* Inside of a team; for this folder only. */
#ifndef CAIRN_DIST_MESH_TEAM_PRIVATE_H
#define CAIRN_DIST_MESH_TEAM_PRIVATE_H

#include <mpi.h>

#include "dist/mesh/team.h"

struct team {
    MPI_Comm communicator; /* MPI_COMM_NULL of a process that is alone */
    int size, rank;
    bool outermost;
};

#endif
