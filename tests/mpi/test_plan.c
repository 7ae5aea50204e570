/* What a rehearsal says of a rank is what that rank holds and sends. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/plan/rehearsal.h"
#include "tests/mpi/kinds.h"

static const char *const axis_names[MESH_AXES] = {"data",  "pipeline", "context", "tensor", "replica",
                                                  "stage", "ends",     "host",    "team"};

static void take_traffic(const struct bench *bench, struct mesh_traffic *traffic)
{
    for (int axis = 0; axis < MESH_AXES; axis++)
        traffic[axis] = mesh_traffic(bench->mesh, (enum mesh_axis)axis);
}

/* Memory of this test's own. */
static int64_t own_memory(const struct bench *bench)
{
    const struct batch *batch = &bench->trainer.batch;
    int64_t own = batch->micro_batches * (int64_t)sizeof *bench->eyes;
    own += batch->mine.count * batch->length * KIND_VOCABULARY * (int64_t)sizeof *bench->logits;
    if (bench->streams->size == 0)
        own += (int64_t)sizeof *bench->streams +
               2 * bench->config.model.layers * (int64_t)sizeof *bench->streams->memory.before;
    return own;
}

static void check(const char *name, struct bench *bench, const struct memory_account *before,
                  const struct mesh_traffic *traffic)
{
    struct rehearsal rehearsal;
    struct config config = bench->config;
    config.data.sampling = SAMPLING_STREAM;
    int rank = mesh_rank(bench->mesh, MESH_TEAM);
    assert_ok(bench->context, rehearse(bench->context, &config, mesh_config(bench->mesh), rank, 1, &rehearsal));
    const struct mesh_config *mesh = mesh_config(bench->mesh);
    bool good = true;
    for (int axis = 0; axis < MESH_AXES; axis++) {
        const struct mesh_traffic *planned = &rehearsal.traffic[axis];
        if (planned->calls == traffic[axis].calls && planned->bytes == traffic[axis].bytes)
            continue;
        good = false;
        fprintf(stderr, "%s: axis %s: %lld calls and %lld bytes, planned %lld and %lld\n", name, axis_names[axis],
                (long long)traffic[axis].calls, (long long)traffic[axis].bytes, (long long)planned->calls,
                (long long)planned->bytes);
    }
    for (int kind = 0; kind < MEMORY_KINDS; kind++) {
        int64_t held = bench->context->memory.bytes[kind] - before->bytes[kind];
        if (kind == MEMORY_OTHER)
            held -= own_memory(bench);
        int64_t planned = rehearsal.memory.bytes[kind];
        /* Where nobody else waits for a buffer of the same size, tokens that choose their own depth take as much as
         * they chose; the plan knows the mean. */
        bool chosen = mesh->pipeline * mesh->context * mesh->tensor == 1 && config.model.depth.kind == DEPTH_MOR &&
                      config.model.depth.routing == ROUTING_TOKEN;
        if (held == planned || (chosen && kind == MEMORY_ACTIVATIONS && llabs(held - planned) <= held / 10))
            continue;
        good = false;
        fprintf(stderr, "%s: memory for %s: %lld bytes, planned %lld\n", name, memory_kind_name((enum memory_kind)kind),
                (long long)held, (long long)planned);
    }
    if (!good)
        fail_msg("%s on data %d pipeline %d context %d tensor %d virtual %d, rank %d", name, (int)mesh->data,
                 (int)mesh->pipeline, (int)mesh->context, (int)mesh->tensor, (int)mesh->virtual_stages, rank);
}

/* Three steps, of which the last is compared. */
static void compare(void **state, const struct kind *kind, const struct kind_options *options)
{
    struct bench bench;
    struct mesh_traffic before[MESH_AXES];
    struct mesh_traffic traffic[MESH_AXES];
    struct memory_account empty = mpi_fixture_of(state)->context.memory;
    if (!bench_create(&bench, state, kind, options))
        return;
    for (int step = 0; step < 3; step++) {
        take_traffic(&bench, before);
        bench_step(&bench);
    }
    take_traffic(&bench, traffic);
    for (int axis = 0; axis < MESH_AXES; axis++) {
        traffic[axis].calls -= before[axis].calls;
        traffic[axis].bytes -= before[axis].bytes;
    }
    check(kind->name, &bench, &empty, traffic);
    bench_destroy(&bench);
}

static const struct kind plain[] = {
    {"llama", "layers: 5"},
    {"gpt, tied", "layers: 5, norm: layer, mlp: gelu, bias: true, tied_embeddings: true, positions: learned, "
                  "max_positions: 40"},
    {"palm", "layers: 4, parallel_block: true, tied_embeddings: true"},
};

static void every_kind_on_every_mesh(void **state)
{
    struct mesh_config meshes[KIND_MESHES];
    int ranks = mpi_fixture_of(state)->ranks;
    int count = kind_meshes(ranks, meshes);
    for (int i = 0; i < count; i++) {
        struct kind_options options = {.mesh = meshes[i], .micro_batch = 1};
        /* Many ranks take long: each mesh gets some of the kinds. */
        for (int kind = ranks > 3 ? i : 0; kind<KINDS; kind += ranks> 3 ? count : 1)
            compare(state, &kinds[kind], &options);
        for (size_t kind = 0; kind < sizeof plain / sizeof *plain; kind++)
            compare(state, &plain[kind], &options);
    }
}

/* A plan does not run them all. */
static void many_micro_batches(void **state)
{
    struct mesh_config meshes[KIND_MESHES];
    int count = kind_meshes(mpi_fixture_of(state)->ranks, meshes);
    for (int i = 0; i < count; i++) {
        struct kind_options options = {.mesh = meshes[i], .micro_batch = 1, .rows = 47 * meshes[i].data};
        for (size_t kind = 0; kind < sizeof plain / sizeof *plain; kind++)
            compare(state, &plain[kind], &options);
        for (int kind = i % 4; kind < KINDS; kind += 4)
            compare(state, &kinds[kind], &options);
    }
}

static void every_type_and_recomputation(void **state)
{
    struct mesh_config meshes[KIND_MESHES];
    int count = kind_meshes(mpi_fixture_of(state)->ranks, meshes);
    for (int i = 0; i < count; i++)
        for (int type = COMPUTE_FP32; type <= COMPUTE_BF16; type++)
            for (int recompute = RECOMPUTE_NONE; recompute <= RECOMPUTE_LAYER; recompute++) {
                struct kind_options options = {.mesh = meshes[i],
                                               .type = (enum compute_type)type,
                                               .recompute = (enum recompute_kind)recompute,
                                               .micro_batch = 3,
                                               .rows = 7};
                compare(state, &plain[1], &options);
                compare(state, &kinds[KINDS - 1], &options);
            }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(every_kind_on_every_mesh),
    cmocka_unit_test(many_micro_batches),
    cmocka_unit_test(every_type_and_recomputation),
};

MPI_MAIN(tests)
