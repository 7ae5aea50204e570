/* Who shares a communicator with whom, by arithmetic alone. MESH_HOST cannot be told this way: it counts as empty. */
#ifndef CAIRN_DIST_MESH_MEMBERS_H
#define CAIRN_DIST_MESH_MEMBERS_H

#include "dist/mesh/mesh.h"

struct members_place {
    int data, stage, along, tensor; /* `along` the context axis */
};

/* Where a rank of the team is in the mesh; tensor is innermost. */
struct members_place members_place(const struct mesh_config *mesh, int team_rank);

/* Ranks on an axis; 0 for a rank of the team that is not on it. `mesh` is resolved. */
int members_count(const struct mesh_config *mesh, enum mesh_axis axis, int team_rank);

/* The number in the team of the rank that is `rank` on the axis of team_rank. */
int members_team_rank(const struct mesh_config *mesh, enum mesh_axis axis, int team_rank, int rank);

/* The pipeline stage of a rank: ranks of a stage run the same program. */
int members_stage(const struct mesh_config *mesh, int team_rank);

#endif
