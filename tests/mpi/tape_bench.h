/* For tests of operations on a mesh. */
#ifndef CAIRN_TESTS_MPI_TAPE_BENCH_H
#define CAIRN_TESTS_MPI_TAPE_BENCH_H

#include "src/ops/engine.h"
#include "src/ops/ops.h"
#include "tests/support/mpi_main.h"

/* A tape and what it needs, on a mesh. */
struct bench {
    struct mpi_fixture *fixture;
    struct context *context;
    struct mesh *mesh;
    struct engine engine;
    struct arena work;
    struct pool pool;
    struct tape tape;
};

static inline void bench_create(struct bench *bench, void **state, struct mesh_config mesh)
{
    bench->fixture = mpi_fixture_of(state);
    bench->context = &bench->fixture->context;
    bench->mesh = mpi_mesh(bench->fixture, mesh);
    assert_ok(bench->context, engine_create(bench->context, 1, &bench->engine));
    arena_create(&bench->work, bench->context, MEMORY_ACTIVATIONS);
    pool_create(&bench->pool, bench->context, MEMORY_ACTIVATIONS);
    tape_create(&bench->tape, bench->context, &bench->engine, &bench->work, &bench->pool);
    bench->tape.recording = true;
}

static inline void bench_destroy(struct bench *bench)
{
    tape_reset(&bench->tape);
    tape_destroy(&bench->tape);
    arena_destroy(&bench->work);
    pool_destroy(&bench->pool);
    engine_destroy(&bench->engine);
    mesh_destroy(&bench->mesh);
    assert_int_equal(bench->context->memory.bytes_total, 0);
}

#endif
