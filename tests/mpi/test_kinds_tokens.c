/* What a token's output may depend on, in every kind of model: nothing later, no other row, no padding; and that it is
 * the same whether tokens come together or one by one. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "src/generate/generate.h"
#include "tests/mpi/kinds.h"
#include "tests/support/fields.h"

enum { LONG = 20, WARM = 3 }; /* three segments of 5 and five tokens more; steps that part a model from its beginning */

/* Trains a little, then has routers decide token by token if that is wanted. False if the mesh cannot split it. */
static bool warm_bench_create(struct bench *bench, void **state, int kind, struct kind_options options)
{
    bool causal = options.causal;
    options.causal = false;
    if (!bench_create(bench, state, &kinds[kind], &options))
        return false;
    for (int step = 0; step < WARM; step++)
        (void)bench_step(bench);
    bench->trainer.batch.causal = causal;
    bench_prepare(bench);
    return true;
}

static int64_t logit_count(const struct bench *bench)
{
    return bench->trainer.batch.mine.count * bench->trainer.batch.length * KIND_VOCABULARY;
}

/* A copy of the logits of a pass; freed by memory_free. */
static float *look(struct bench *bench)
{
    size_t bytes = (size_t)logit_count(bench) * sizeof(float);
    memset(bench->logits, 0, bytes);
    bench_look(bench);
    float *copy = memory_allocate(bench->context, bytes, MEMORY_OTHER);
    memcpy(copy, bench->logits, bytes);
    return copy;
}

static void change_token(struct bench *bench, int64_t row, int64_t position)
{
    int32_t *token = &batch_tokens(&bench->trainer.batch)[row * bench->trainer.batch.length + position];
    *token = (*token + 7) % KIND_VOCABULARY;
}

/* Whether any rank sees a difference between logits of a token, be it of a single bit. */
static bool differs(struct bench *bench, const float *a, const float *b, int64_t token)
{
    float most = 0.0f;
    for (int64_t i = token * KIND_VOCABULARY; i < (token + 1) * KIND_VOCABULARY; i++)
        most = fmaxf(most, fabsf(a[i] - b[i]));
    mesh_all_reduce(bench->mesh, MESH_TEAM, &most, 1, DTYPE_F32, MESH_MAX);
    return most > 0.0f;
}

/* Logits of a whole model, on all ranks that hold the same rows. */
static void share_logits(struct bench *bench, float *logits)
{
    mesh_all_reduce(bench->mesh, MESH_PIPELINE, logits, logit_count(bench), DTYPE_F32, MESH_SUM);
    mesh_all_reduce(bench->mesh, MESH_CONTEXT, logits, logit_count(bench), DTYPE_F32, MESH_SUM);
    mesh_all_reduce(bench->mesh, MESH_TENSOR, logits, logit_count(bench), DTYPE_F32, MESH_SUM);
}

/* -- Nothing later -- */

static void check_causality(struct bench *bench, const char *name)
{
    static const int64_t positions[] = {0, 1, 3, 4, 5, 6, 9, 10, 12};
    int64_t length = bench->trainer.batch.length;
    float *before = look(bench);
    for (size_t i = 0; i < sizeof positions / sizeof *positions; i++) {
        for (int64_t row = 0; row < bench->trainer.batch.mine.count; row++)
            change_token(bench, row, positions[i]);
        bench_prepare(bench);
        float *after = look(bench);
        for (int64_t row = 0; row < bench->trainer.batch.mine.count; row++) {
            for (int64_t t = 0; t < positions[i]; t++)
                if (differs(bench, before, after, row * length + t))
                    fail_msg("%s: token %d of row %d sees token %d", name, (int)t, (int)row, (int)positions[i]);
            for (int64_t t = positions[i]; t < length; t++)
                if (!differs(bench, before, after, row * length + t) && t == positions[i])
                    fail_msg("%s: token %d does not see itself", name, (int)t);
        }
        /* Across all segments: through the memory. */
        if (positions[i] == 0 && strstr(name, "infini") && !strstr(name, "mo"))
            assert_true(differs(bench, before, after, length - 1));
        memory_free(bench->context, before);
        before = after;
    }
    memory_free(bench->context, before);
}

static void no_token_sees_a_later_one(void **state)
{
    struct mesh_config meshes[KIND_MESHES];
    int count = kind_meshes(mpi_fixture_of(state)->ranks, meshes);
    for (int kind = 0; kind < KINDS; kind++)
        for (int i = 0; i < count; i++) {
            struct bench bench;
            struct kind_options options = {.mesh = meshes[i], .causal = true};
            if (meshes[i].data > 1 || !warm_bench_create(&bench, state, kind, options))
                continue;
            check_causality(&bench, kinds[kind].name);
            bench_destroy(&bench);
        }
}

/* -- No other row, no padding -- */

/* Whether a row's memories after the pass are those that were kept, on all ranks. */
static bool same_memory(struct bench *bench, int64_t row, float *const *kept)
{
    int64_t size = bench->streams->size;
    int64_t differences = 0;
    for (int64_t layer = 0; layer < bench->config.model.layers; layer++) {
        const float *memory = bench->streams->memory.after[layer];
        for (int64_t i = row * size; memory && i < (row + 1) * size; i++)
            differences += !(fabsf(memory[i] - kept[layer][i]) <= 1e-5f + 1e-5f * fabsf(kept[layer][i]));
    }
    mesh_all_reduce(bench->mesh, MESH_TEAM, &differences, 1, DTYPE_I64, MESH_SUM);
    return differences == 0;
}

enum { LAYERS_MOST = 16 };

static void keep_memory(const struct bench *bench, float **kept)
{
    size_t bytes = (size_t)(bench->trainer.batch.mine.count * bench->streams->size) * sizeof(float);
    for (int64_t layer = 0; layer < bench->config.model.layers; layer++) {
        kept[layer] = memory_allocate(bench->context, bytes, MEMORY_OTHER);
        if (bench->streams->memory.after[layer])
            memcpy(kept[layer], bench->streams->memory.after[layer], bytes);
    }
}

static void release_memory(const struct bench *bench, float **kept)
{
    for (int64_t layer = 0; layer < bench->config.model.layers; layer++)
        memory_free(bench->context, kept[layer]);
}

/* All rows pass together; one of them changes. */
static void check_rows(struct bench *bench, const char *name)
{
    enum { CHANGED = 2 };
    float *kept[LAYERS_MOST];
    int64_t length = bench->trainer.batch.length;
    float *before = look(bench);
    keep_memory(bench, kept);
    for (int64_t t = 0; t < length; t += 2)
        change_token(bench, CHANGED, t);
    bench_prepare(bench);
    float *after = look(bench);
    for (int64_t row = 0; row < bench->trainer.batch.mine.count; row++) {
        for (int64_t t = 0; t < length; t++)
            if (row != CHANGED && differs(bench, before, after, row * length + t))
                fail_msg("%s: row %d sees row %d", name, (int)row, CHANGED);
        if (same_memory(bench, row, kept) != (row != CHANGED || bench->streams->size == 0))
            fail_msg("%s: memory of row %d", name, (int)row);
    }
    release_memory(bench, kept);
    memory_free(bench->context, before);
    memory_free(bench->context, after);
}

static void no_row_sees_another(void **state)
{
    struct mesh_config meshes[KIND_MESHES];
    int count = kind_meshes(mpi_fixture_of(state)->ranks, meshes);
    for (int kind = 0; kind < KINDS; kind++)
        for (int i = 0; i < count; i++)
            for (int causal = 0; causal < 2; causal++) {
                struct bench bench;
                struct kind_options options = {.mesh = meshes[i], .causal = causal, .micro_batch = KIND_ROWS};
                if (meshes[i].data > 1 || !warm_bench_create(&bench, state, kind, options))
                    continue;
                check_rows(&bench, kinds[kind].name);
                bench_destroy(&bench);
            }
}

enum { PADDED = 1 }; /* the row that is shorter than the others */

/* Whatever stands behind the row's end. */
static void check_behind(struct bench *bench, int64_t valid, const char *name)
{
    float *kept[LAYERS_MOST];
    int64_t length = bench->trainer.batch.length;
    batch_valid(&bench->trainer.batch)[PADDED] = valid;
    bench_prepare(bench);
    float *first = look(bench);
    keep_memory(bench, kept);
    for (int64_t t = valid; t < length; t++)
        change_token(bench, PADDED, t);
    bench_prepare(bench);
    float *second = look(bench);
    for (int64_t t = 0; t < valid; t++)
        if (differs(bench, first, second, PADDED * length + t))
            fail_msg("%s: token %d sees padding", name, (int)t);
    if (!same_memory(bench, PADDED, kept))
        fail_msg("%s: the memory has padding in it", name);
    release_memory(bench, kept);
    memory_free(bench->context, first);
    memory_free(bench->context, second);
}

/* As if the row had come alone. Chosen tokens are a share of the whole length, so this is for routers that decide token
 * by token. */
static void check_alone(struct bench *padded, struct bench *alone, int64_t valid, const char *name)
{
    float *kept[LAYERS_MOST];
    float *expected = look(alone);
    keep_memory(alone, kept);
    share_logits(alone, expected);
    float *logits = look(padded);
    share_logits(padded, logits);
    assert_near(logits + PADDED * padded->trainer.batch.length * KIND_VOCABULARY,
                expected + PADDED * valid * KIND_VOCABULARY, valid * KIND_VOCABULARY, 2e-5, name);
    if (!same_memory(padded, PADDED, kept))
        fail_msg("%s: the memory differs from that without padding", name);
    release_memory(alone, kept);
    memory_free(padded->context, expected);
    memory_free(padded->context, logits);
}

/* Not trained: so two lengths have the same parameters. */
static void nothing_sees_padding(void **state)
{
    static const int64_t lengths[] = {5, 12};
    struct mesh_config meshes[KIND_MESHES];
    int count = kind_meshes(mpi_fixture_of(state)->ranks, meshes);
    for (int kind = 0; kind < KINDS; kind++)
        for (int i = 0; i < count; i++)
            for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++) {
                struct bench padded;
                struct bench alone;
                struct kind_options options = {.mesh = meshes[i], .causal = true};
                if (meshes[i].data > 1 || !bench_create(&padded, state, &kinds[kind], &options))
                    continue;
                options.length = lengths[l];
                assert_true(bench_create(&alone, state, &kinds[kind], &options));
                check_behind(&padded, lengths[l], kinds[kind].name);
                check_alone(&padded, &alone, lengths[l], kinds[kind].name);
                padded.trainer.batch.causal = false;
                check_behind(&padded, lengths[l], kinds[kind].name);
                bench_destroy(&alone);
                bench_destroy(&padded);
            }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(no_token_sees_a_later_one),
    cmocka_unit_test(no_row_sees_another),
    cmocka_unit_test(nothing_sees_padding),
};

MPI_MAIN(tests)
