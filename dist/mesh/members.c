#include "dist/mesh/members.h"

struct members_place members_place(const struct mesh_config *mesh, int team_rank)
{
    return (struct members_place){.data = (int)(team_rank / (mesh->tensor * mesh->context * mesh->pipeline)),
                                  .stage = (int)(team_rank / (mesh->tensor * mesh->context) % mesh->pipeline),
                                  .along = (int)(team_rank / mesh->tensor % mesh->context),
                                  .tensor = (int)(team_rank % mesh->tensor)};
}

int members_stage(const struct mesh_config *mesh, int team_rank)
{
    return members_place(mesh, team_rank).stage;
}

int members_count(const struct mesh_config *mesh, enum mesh_axis axis, int team_rank)
{
    int stage = members_stage(mesh, team_rank);
    bool end = stage == 0 || stage == mesh->pipeline - 1;
    switch (axis) {
    case MESH_DATA:
        return (int)mesh->data;
    case MESH_PIPELINE:
        return (int)mesh->pipeline;
    case MESH_CONTEXT:
        return (int)mesh->context;
    case MESH_TENSOR:
        return (int)mesh->tensor;
    case MESH_REPLICA:
        return (int)(mesh->data * mesh->context);
    case MESH_STAGE:
        return (int)(mesh->data * mesh->context * mesh->tensor);
    case MESH_ENDS:
        return end ? (int)integer_min(2, mesh->pipeline) : 0;
    case MESH_TEAM:
        return (int)(mesh->data * mesh->pipeline * mesh->context * mesh->tensor);
    default:
        return 0;
    }
}

int members_team_rank(const struct mesh_config *mesh, enum mesh_axis axis, int team_rank, int rank)
{
    struct members_place at = members_place(mesh, team_rank);
    int contexts = (int)mesh->context;
    int stages = (int)mesh->pipeline;
    if (axis == MESH_TEAM)
        return rank;
    if (axis == MESH_DATA)
        at.data = rank;
    if (axis == MESH_PIPELINE)
        at.stage = rank;
    if (axis == MESH_CONTEXT)
        at.along = rank;
    if (axis == MESH_TENSOR)
        at.tensor = rank;
    if (axis == MESH_ENDS)
        at.stage = rank == 0 ? 0 : stages - 1;
    if (axis == MESH_REPLICA) {
        at.data = rank / contexts;
        at.along = rank % contexts;
    }
    if (axis == MESH_STAGE) {
        at.data = rank / ((int)mesh->tensor * contexts);
        at.along = rank / (int)mesh->tensor % contexts;
        at.tensor = rank % (int)mesh->tensor;
    }
    return ((at.data * stages + at.stage) * contexts + at.along) * (int)mesh->tensor + at.tensor;
}
