/* Conversions that must not change what a model computes: of a dense model to a recursive one whose low-rank maps are
 * wide enough, to one with LoRA maps, and of LoRA maps into their matrices. On every mesh, from a file of the same
 * mesh.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/config/config.h"
#include "src/session/load.h"
#include "src/train/convert.h"
#include "src/train/state.h"
#include "tests/mpi/kinds.h"

enum { STEPS = 6, FOLDER = 64 };

/* A folder that all ranks know. */
static void make_folder(struct mesh *mesh, char folder[FOLDER])
{
    snprintf(folder, FOLDER, "/tmp/cairn-convert-XXXXXX");
    if (mesh_rank(mesh, MESH_TEAM) == 0)
        assert_non_null(mkdtemp(folder));
    mesh_broadcast(mesh, MESH_TEAM, 0, folder, FOLDER, DTYPE_BYTE);
}

static void remove_folder(struct mesh *mesh, const char *folder)
{
    char command[CHECKPOINT_PATH + 16];
    mesh_barrier(mesh, MESH_TEAM);
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    if (mesh_rank(mesh, MESH_TEAM) == 0)
        assert_int_equal(system(command), 0);
}

/* Writes FOLDER/step-00000000.h5 with settings that can be read again. */
static void save(struct bench *bench, const char *folder, char path[CHECKPOINT_PATH])
{
    static const char text[] = "model: {vocabulary: 8, width: 8, layers: 1, heads: 1, hidden: 8}\n";
    struct config *config = memory_allocate(bench->context, sizeof *config, MEMORY_OTHER);
    assert_ok(bench->context, config_parse(bench->context, "t", text, strlen(text), NULL, 0, config));
    config->model = bench->config.model;
    bench->trainer.config = config;
    bench->trainer.step = 0;
    assert_ok(bench->context, state_save(&bench->trainer, NULL, folder));
    bench->trainer.config = &bench->config;
    memory_free(bench->context, config);
    snprintf(path, CHECKPOINT_PATH, "%s/step-00000000.h5", folder);
}

static float *copy_logits(const struct bench *bench, int64_t *count)
{
    const struct batch *batch = &bench->trainer.batch;
    *count = batch->mine.count * batch->length * KIND_VOCABULARY;
    float *copy = malloc((size_t)*count * sizeof *copy);
    assert_non_null(copy);
    memcpy(copy, bench->logits, (size_t)*count * sizeof *copy);
    return copy;
}

/* Every rank that sees logits saw them before, too; some rank does. */
static double largest_deviation(struct bench *bench, const float *expected, int64_t count)
{
    double largest[2] = {0.0, 0.0};
    for (int64_t i = 0; i < count; i++) {
        double deviation = fabs((double)bench->logits[i] - (double)expected[i]);
        largest[0] = deviation <= largest[0] ? largest[0] : deviation; /* a not-a-number stays */
        largest[1] = fmax(largest[1], fabs((double)expected[i]));
    }
    mesh_all_reduce(bench->mesh, MESH_TEAM, largest, 2, DTYPE_F64, MESH_MAX);
    assert_true(largest[1] > 0.1);
    return largest[0];
}

static enum status load(struct bench *bench, const char *path, const struct convert_way *way,
                        struct conversion_counts *counts)
{
    return convert_load(&bench->trainer, path, way, counts);
}

/* -- Relaxed recursion -- */

struct relaxed {
    const char *dense, *recursive;
    int64_t matrices;
    int64_t least, most; /* ranks that what is left can have */
};

/* Layers of different norms, so that no mean is a layer. */
static const struct relaxed pairs[] = {
    {"layers: 6", "layers: 6, depth: {kind: mor, recursions: 2, sharing: cycle, routing: none, lora_rank: 24}", 42, 12,
     24},
    {"layers: 8", "layers: 8, depth: {kind: mor, recursions: 3, routing: none, lora_rank: 24}", 42, 12, 24},
    {"layers: 6, parallel_block: true, norm: layer, mlp: gelu",
     "layers: 6, parallel_block: true, norm: layer, mlp: gelu, "
     "depth: {kind: mor, recursions: 3, sharing: sequence, routing: none, lora_rank: 24}",
     36, 12, 24},
};

enum { PAIRS = sizeof pairs / sizeof *pairs };

static void check_relaxed(void **state, const struct relaxed *pair, const struct mesh_config *mesh)
{
    struct kind_options options = {.mesh = *mesh};
    const struct convert_way way = {.initialization = CONVERT_AVERAGE};
    struct conversion_counts counts;
    struct bench dense, recursive;
    char folder[FOLDER], path[CHECKPOINT_PATH];
    int64_t count;
    if (!bench_create(&dense, state, &(struct kind){"dense", pair->dense}, &options))
        return;
    for (int step = 0; step < STEPS; step++)
        bench_step(&dense);
    bench_look(&dense);
    float *expected = copy_logits(&dense, &count);
    make_folder(dense.mesh, folder);
    save(&dense, folder, path);
    bench_destroy(&dense);
    if (bench_create(&recursive, state, &(struct kind){"recursive", pair->recursive}, &options)) {
        assert_ok(recursive.context, load(&recursive, path, &way, &counts));
        bench_look(&recursive);
        double deviation = largest_deviation(&recursive, expected, count);
        if (!(deviation < 1e-4))
            fail_msg("%s: logits differ by %g", pair->recursive, deviation);
        assert_int_equal(counts.fresh, 0);
        assert_int_equal(counts.ranks.count, pair->matrices);
        assert_int_equal(counts.ranks.least, pair->least);
        assert_int_equal(counts.ranks.most, pair->most);
        assert_close(counts.ranks.kept, 1.0, 0.0, 1e-12);
        remove_folder(recursive.mesh, folder);
        bench_destroy(&recursive);
    }
    free(expected);
}

static void full_rank_keeps_the_logits(void **state)
{
    struct mesh_config meshes[KIND_MESHES];
    int ranks = mpi_fixture_of(state)->ranks;
    int count = kind_meshes(ranks, meshes);
    for (int i = 0; i < count; i++)
        for (int p = ranks > 2 ? i % PAIRS : 0; p<PAIRS; p += ranks> 2 ? PAIRS : 1)
            check_relaxed(state, &pairs[p], &meshes[i]);
}

/* The smallest ranks that keep so much, against those of one that keeps all; what a rank of 2 loses shows. */
static void less_rank_keeps_less(void **state)
{
    struct kind_options options = {.mesh = {mpi_fixture_of(state)->ranks, 1, 1, 1, 1}, .rows = 4};
    struct convert_way way = {.initialization = CONVERT_AVERAGE};
    struct conversion_counts counts;
    struct convert_ranks ranks;
    struct bench dense, recursive;
    char folder[FOLDER], path[CHECKPOINT_PATH];
    int64_t count;
    assert_true(bench_create(&dense, state, &(struct kind){"dense", "layers: 4"}, &options));
    for (int step = 0; step < STEPS; step++)
        bench_step(&dense);
    bench_look(&dense);
    float *expected = copy_logits(&dense, &count);
    make_folder(dense.mesh, folder);
    save(&dense, folder, path);
    bench_destroy(&dense);
    const char *model = "layers: 4, depth: {kind: mor, recursions: 2, sharing: cycle, routing: none, lora_rank: 2}";
    assert_true(bench_create(&recursive, state, &(struct kind){"recursive", model}, &options));
    assert_ok(recursive.context, load(&recursive, path, &way, &counts));
    assert_int_equal(counts.ranks.least, 2);
    assert_int_equal(counts.ranks.most, 2);
    double kept = counts.ranks.kept;
    assert_true(kept > 0.2 && kept < 0.9);
    bench_look(&recursive);
    assert_true(largest_deviation(&recursive, expected, count) > 1e-3);
    way.energy = 0.9;
    assert_ok(recursive.context,
              convert_find_ranks(recursive.context, recursive.mesh, &recursive.config, path, &way, &ranks));
    assert_int_equal(ranks.count, 28);
    assert_true(ranks.kept >= 0.9 && ranks.kept < 0.95);
    assert_true(ranks.least > 2 && ranks.least < ranks.most && ranks.most < 24);
    assert_true(ranks.mean > (double)ranks.least && ranks.mean < (double)ranks.most);
    way.energy = 1e-9;
    assert_ok(recursive.context,
              convert_find_ranks(recursive.context, recursive.mesh, &recursive.config, path, &way, &ranks));
    assert_int_equal(ranks.most, 1);
    remove_folder(recursive.mesh, folder);
    bench_destroy(&recursive);
    free(expected);
}

/* -- LoRA maps -- */

#define ADAPTED "layers: 3, lora: {rank: 3, alpha: 7.5, targets: [q_proj, v_proj, o_proj, gate_proj, down_proj]}"

static void check_lora_maps(void **state, const struct mesh_config *mesh)
{
    struct kind_options options = {.mesh = *mesh};
    const struct convert_way plain = {0};
    const struct convert_way merge = {.merges = true};
    struct conversion_counts counts;
    struct bench base, adapted, merged;
    char folder[FOLDER], path[CHECKPOINT_PATH];
    int64_t count;
    if (!bench_create(&base, state, &(struct kind){"base", "layers: 3"}, &options))
        return;
    for (int step = 0; step < STEPS; step++)
        bench_step(&base);
    bench_look(&base);
    float *expected = copy_logits(&base, &count);
    make_folder(base.mesh, folder);
    save(&base, folder, path);
    bench_destroy(&base);

    /* As `cairn checkpoint convert` does it: all of it is read where all of it learns. */
    assert_true(bench_create(&adapted, state, &(struct kind){"adapted", ADAPTED}, &options));
    char whole[CHECKPOINT_PATH];
    trainer_destroy(&adapted.trainer);
    adapted.config.training.train_only = (struct text_list){.count = 1, .item = {"*"}};
    assert_ok(adapted.context,
              trainer_create(adapted.context, adapted.mesh, &adapted.engine, &adapted.config, &adapted.trainer));
    assert_ok(adapted.context, load(&adapted, path, &plain, &counts));
    assert_int_equal(counts.fresh, 30);
    snprintf(whole, sizeof whole, "%s/whole", folder);
    save(&adapted, whole, path);
    bench_destroy(&adapted);

    assert_true(bench_create(&adapted, state, &(struct kind){"adapted", ADAPTED}, &options));
    assert_ok(adapted.context, session_load(&adapted.trainer.session, path));
    bench_look(&adapted);
    assert_true(largest_deviation(&adapted, expected, count) == 0.0);
    struct step_result result = {0};
    for (int step = 0; step < STEPS; step++)
        result = bench_step(&adapted);
    assert_true(result.gradient_norm > 0.0);
    bench_look(&adapted);
    assert_true(largest_deviation(&adapted, expected, count) > 1e-2);
    free(expected);
    expected = copy_logits(&adapted, &count);
    snprintf(whole, sizeof whole, "%s/trained", folder);
    save(&adapted, whole, path);
    bench_destroy(&adapted);

    assert_true(bench_create(&merged, state, &(struct kind){"merged", "layers: 3"}, &options));
    assert_ok(merged.context, load(&merged, path, &merge, &counts));
    assert_int_equal(counts.fresh, 0);
    bench_look(&merged);
    double deviation = largest_deviation(&merged, expected, count);
    if (!(deviation < 1e-5))
        fail_msg("merged: logits differ by %g", deviation);
    remove_folder(merged.mesh, folder);
    bench_destroy(&merged);
    free(expected);
}

static void lora_begins_as_nothing_and_ends_in_the_matrices(void **state)
{
    struct mesh_config meshes[KIND_MESHES];
    int count = kind_meshes(mpi_fixture_of(state)->ranks, meshes);
    for (int i = 0; i < count; i++)
        check_lora_maps(state, &meshes[i]);
}

/* -- What cannot be -- */

static void what_does_not_go_together_is_said(void **state)
{
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    struct kind_options options = {.mesh = {fixture->ranks, 1, 1, 1, 1}, .rows = 4};
    struct context *context = &fixture->context;
    const struct convert_way way = {.initialization = CONVERT_AVERAGE};
    struct conversion_counts counts;
    struct bench dense, recursive;
    char folder[FOLDER], path[CHECKPOINT_PATH];
    assert_true(bench_create(&dense, state, &(struct kind){"dense", "layers: 2"}, &options));
    /* One element of one matrix, on whichever rank has it. */
    int shards;
    const struct shard *shard = replica_shards(dense.trainer.session.replica, &shards);
    for (int i = 0; i < shards; i++)
        if (strcmp(shard[i].parameter->spec.name, "model.layers.1.mlp.up_proj.weight") == 0 &&
            shard[i].flat.begin <= 30 && shard[i].flat.begin + shard[i].flat.count > 30)
            shard[i].master[30 - shard[i].flat.begin] = NAN;
    make_folder(dense.mesh, folder);
    save(&dense, folder, path);
    bench_destroy(&dense);
    const char *model = "layers: 2, depth: {kind: mor, recursions: 2, sharing: cycle, routing: none, lora_rank: 2}";
    assert_true(bench_create(&recursive, state, &(struct kind){"recursive", model}, &options));
    assert_fails(context, load(&recursive, path, &way, &counts), STATUS_NUMERIC,
                 "model.layers.0.mlp.up_proj.weight, less the mean, for recursion 0: element [1, 6] is not a number");
    context_clear(context);
    remove_folder(recursive.mesh, folder);
    bench_destroy(&recursive);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(full_rank_keeps_the_logits),
    cmocka_unit_test(less_rank_keeps_less),
    cmocka_unit_test(lora_begins_as_nothing_and_ends_in_the_matrices),
    cmocka_unit_test(what_does_not_go_together_is_said),
};

MPI_MAIN(tests)
