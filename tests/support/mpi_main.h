/* The main of a test under MPI: starts it, makes one mesh, runs the group, ends it. The mesh is in `state`. */
#ifndef CAIRN_TESTS_MPI_MAIN_H
#define CAIRN_TESTS_MPI_MAIN_H

#include "dist/mesh/mesh.h"
#include "tests/support/support.h"

struct mpi_fixture {
    struct context context;
    struct team *team;
    int rank;
    int ranks;
};

static struct mpi_fixture *mpi_fixture_of(void **state)
{
    return *state;
}

/* A mesh for one test; sizes of 0 are auto. */
static inline struct mesh *mpi_mesh(struct mpi_fixture *fixture, struct mesh_config wanted)
{
    struct mesh_config resolved;
    struct mesh *mesh = NULL;
    if (wanted.virtual_stages == 0)
        wanted.virtual_stages = 1;
    assert_ok(&fixture->context, mesh_resolve(&fixture->context, &wanted, fixture->ranks, &resolved));
    assert_ok(&fixture->context, mesh_create(&fixture->context, fixture->team, &resolved, &mesh));
    return mesh;
}

/* Runs a group: `static int run(void **state)` hands its fixture to cmocka's tests through the initial state. */
#define MPI_MAIN(tests)                                                             \
    static struct mpi_fixture *mpi_shared;                                          \
    static int mpi_set_up(void **state)                                             \
    {                                                                               \
        *state = mpi_shared;                                                        \
        return 0;                                                                   \
    }                                                                               \
    int main(int argc, char **argv)                                                 \
    {                                                                               \
        struct mpi_fixture fixture;                                                 \
        context_create(&fixture.context);                                           \
        if (team_start(&fixture.context, &argc, &argv, &fixture.team) != STATUS_OK) \
            return 1;                                                               \
        fixture.rank = team_rank(fixture.team);                                     \
        fixture.ranks = team_size(fixture.team);                                    \
        fixture.context.quiet = fixture.rank != 0;                                  \
        mpi_shared = &fixture;                                                      \
        int failed = cmocka_run_group_tests(tests, mpi_set_up, NULL);               \
        team_destroy(&fixture.team);                                                \
        return failed;                                                              \
    }

#endif
