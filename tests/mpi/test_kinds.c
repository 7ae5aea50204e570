/* Every kind of model trains to the same on every mesh, with and without recomputation, and nearly so in bf16. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/mpi/kinds.h"
#include "tests/support/fields.h"
#include "tests/support/held.h"

enum { STEPS = 5, PROJECTIONS = 3 };

struct answer {
    double loss[STEPS], router_loss[STEPS];
    double projection[PROJECTIONS]; /* of the parameters after the steps */
    int64_t selections;             /* a hash of all steps' */
};

/* What one rank comes to. With CAIRN_PRINT_ANSWERS in its environment it prints the table anew. */
static const struct answer answers[KINDS] = {
#include "tests/mpi/kind_answers.inc"
};

static void train(struct bench *bench, struct answer *answer)
{
    for (int step = 0; step < STEPS; step++) {
        struct step_result result = bench_step(bench);
        answer->loss[step] = result.loss;
        answer->router_loss[step] = result.router_loss;
    }
    for (int i = 0; i < PROJECTIONS; i++)
        answer->projection[i] = bench_projection(bench, i);
    answer->selections = bench->selections;
    mesh_all_reduce(bench->mesh, MESH_TEAM, &answer->selections, 1, DTYPE_I64, MESH_SUM);
}

/* Rounding moves gradients by 1e-7 of themselves or so, of which the optimiser makes up to 1e-4 in the norm of the
 * parameters, which these steps have moved by 2 to 4. What is wrong in a single step of one weight is 1e-2. */
static void check(const char *kind, const struct mesh_config *mesh, const struct answer *answer,
                  const struct answer *expected)
{
    bool good = answer->selections == expected->selections;
    for (int step = 0; step < STEPS; step++) {
        good = good && fabs(answer->loss[step] - expected->loss[step]) <= 1e-5 * expected->loss[step];
        good = good && fabs(answer->router_loss[step] - expected->router_loss[step]) <= 2e-6;
    }
    for (int i = 0; i < PROJECTIONS; i++)
        good = good && fabs(answer->projection[i] - expected->projection[i]) <= 3e-4;
    if (good)
        return;
    fprintf(stderr, "%s on data %d pipeline %d (%s) context %d tensor %d:\n", kind, (int)mesh->data,
            (int)mesh->pipeline, mesh->recursions == RECURSIONS_STAGE ? "recursions on a stage" : "ring",
            (int)mesh->context, (int)mesh->tensor);
    for (int step = 0; step < STEPS; step++)
        fprintf(stderr, "loss %.9f, expected %.9f; of routers %.9f, expected %.9f\n", answer->loss[step],
                expected->loss[step], answer->router_loss[step], expected->router_loss[step]);
    for (int i = 0; i < PROJECTIONS; i++)
        fprintf(stderr, "projection %.7f, expected %.7f\n", answer->projection[i], expected->projection[i]);
    fail_msg("selections %lld, expected %lld", (long long)answer->selections, (long long)expected->selections);
}

static void print_row(const double *values, int count, const char *format)
{
    printf("{");
    for (int i = 0; i < count; i++) {
        printf(format, values[i]);
        printf(i + 1 < count ? ", " : "}, ");
    }
}

static void print(const struct answer *answer)
{
    printf("{");
    print_row(answer->loss, STEPS, "%.9f");
    print_row(answer->router_loss, STEPS, "%.9f");
    print_row(answer->projection, PROJECTIONS, "%.7f");
    printf("%lld},\n", (long long)answer->selections);
}

static void every_mesh_trains_alike(void **state)
{
    struct mesh_config meshes[KIND_MESHES];
    int ranks = mpi_fixture_of(state)->ranks;
    int count = kind_meshes(ranks, meshes);
    int64_t most = ranks > 3 ? 1 : 3; /* rows that pass together: one, but also more where that does not take long */
    for (int kind = 0; kind < KINDS; kind++)
        for (int i = 0; i < count; i++)
            for (int64_t micro_batch = 1; micro_batch <= most; micro_batch += 2) {
                struct bench bench;
                struct answer answer;
                struct kind_options options = {.mesh = meshes[i], .micro_batch = micro_batch};
                if (!bench_create(&bench, state, &kinds[kind], &options))
                    continue;
                train(&bench, &answer);
                bench_destroy(&bench);
                if (getenv("CAIRN_PRINT_ANSWERS") && micro_batch == 1)
                    print(&answer);
                else if (!getenv("CAIRN_PRINT_ANSWERS"))
                    check(kinds[kind].name, &meshes[i], &answer, &answers[kind]);
            }
}

/* Fewer tokens than context ranks, more data ranks than rows: the same as on one axis less. */
static void ranks_may_have_nothing_to_do(void **state)
{
    int ranks = mpi_fixture_of(state)->ranks;
    if (ranks != 4)
        skip();
    struct kind_options few = {.mesh = {4, 1, 1, 1, 1}, .length = 3};
    struct kind_options others[] = {{.mesh = {1, 1, 4, 1, 1}, .length = 3},
                                    {.mesh = {1, 1, 2, 2, 1}, .length = 3},
                                    {.mesh = {4, 1, 1, 1, 1}, .length = 3, .micro_batch = 1}};
    for (int kind = 0; kind < KINDS; kind++) {
        struct bench bench;
        struct answer expected;
        assert_true(bench_create(&bench, state, &kinds[kind], &few));
        train(&bench, &expected);
        bench_destroy(&bench);
        for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
            struct answer answer;
            assert_true(bench_create(&bench, state, &kinds[kind], &others[i]));
            train(&bench, &answer);
            bench_destroy(&bench);
            check(kinds[kind].name, &others[i].mesh, &answer, &expected);
        }
    }
}

/* But for the order in which gradients are summed. */
static void recomputation_changes_nothing(void **state)
{
    struct mesh_config meshes[KIND_MESHES];
    int ranks = mpi_fixture_of(state)->ranks;
    int count = kind_meshes(ranks, meshes);
    if (ranks > 2)
        skip();
    for (int kind = 0; kind < KINDS; kind++)
        for (int i = 0; i < count; i++) {
            struct answer answer[3];
            if (meshes[i].data > 1 || meshes[i].tensor > 1)
                continue;
            memset(answer, 0, sizeof answer);
            for (int recompute = RECOMPUTE_NONE; recompute <= RECOMPUTE_LAYER; recompute++) {
                struct kind_options options = {.mesh = meshes[i], .recompute = (enum recompute_kind)recompute};
                struct bench bench;
                if (!bench_create(&bench, state, &kinds[kind], &options))
                    break;
                train(&bench, &answer[recompute]);
                bench_destroy(&bench);
            }
            for (int recompute = RECOMPUTE_ATTENTION; recompute <= RECOMPUTE_LAYER; recompute++)
                check(kinds[kind].name, &meshes[i], &answer[recompute], &answer[RECOMPUTE_NONE]);
        }
}

/* Few numbers on which much depends. */
static bool is_small(const char *name)
{
    static const char *const words[] = {"memory_gate",   "memory_conv",      "memory_norm",
                                        "router.weight", "residual.weights", "residual.gamma"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strstr(name, words[i]))
            return true;
    return false;
}

/* A step that is smaller than what bf16 resolves moves them none the less. */
static void check_small_steps(struct bench *bench)
{
    enum { MOST = 256 };
    static float before[MOST][MOST];
    struct decoder *decoder = decoder_of(bench->trainer.model);
    for (int i = 0; i < held_count(decoder->list); i++) {
        const struct parameter *parameter = held(decoder->list, i);
        if (is_small(parameter->spec.name)) {
            assert_int_equal(parameter->value.dtype, DTYPE_F32);
            memcpy(before[i], parameter->value.data, (size_t)tensor_count(&parameter->value) * sizeof(float));
        }
    }
    bench->config.optimizer.learning_rate = 1e-5;
    (void)bench_step(bench);
    for (int i = 0; i < held_count(decoder->list); i++) {
        const struct parameter *parameter = held(decoder->list, i);
        const float *after = parameter->value.data;
        int64_t moved = 0;
        if (!is_small(parameter->spec.name) || !parameter_learns(parameter))
            continue;
        for (int64_t e = 0; e < tensor_count(&parameter->value); e++) {
            float step = fabsf(after[e] - before[i][e]);
            moved += step > 0.0f && step < fabsf(before[i][e]) / 256.0f;
        }
        if (moved == 0)
            fail_msg("%s stands still", parameter->spec.name);
    }
}

static void bf16_learns_the_same(void **state)
{
    enum { MANY = 20 };
    struct mesh_config meshes[KIND_MESHES];
    int ranks = mpi_fixture_of(state)->ranks;
    int count = kind_meshes(ranks, meshes);
    if (ranks > 2)
        skip();
    for (int kind = 0; kind < KINDS; kind++)
        for (int i = 0; i < count; i++) {
            double loss[2][MANY];
            if (ranks > 1 && meshes[i].context == 1)
                continue;
            for (int type = COMPUTE_FP32; type <= COMPUTE_BF16; type++) {
                struct kind_options options = {.mesh = meshes[i], .type = (enum compute_type)type};
                struct bench bench;
                assert_true(bench_create(&bench, state, &kinds[kind], &options));
                for (int step = 0; step < MANY; step++)
                    loss[type][step] = bench_step(&bench).loss;
                if (type == COMPUTE_BF16)
                    check_small_steps(&bench);
                bench_destroy(&bench);
            }
            for (int step = 0; step < MANY; step++)
                if (!(fabs(loss[COMPUTE_BF16][step] - loss[COMPUTE_FP32][step]) < 0.05 * loss[COMPUTE_FP32][0]))
                    fail_msg("%s: loss %d is %.5f in bf16, %.5f in fp32", kinds[kind].name, step,
                             loss[COMPUTE_BF16][step], loss[COMPUTE_FP32][step]);
            /* Beside matrices that have learned nothing, and do not learn, LoRA maps come less far. */
            double most = strstr(kinds[kind].model, "lora: {rank") ? 0.99 : 0.8;
            assert_true(loss[COMPUTE_BF16][MANY - 1] < most * loss[COMPUTE_BF16][0]);
        }
}

/* Bytes that this rank sends to other context ranks in a step. */
static int64_t context_bytes(void **state, const struct kind *kind, int64_t length)
{
    struct bench bench;
    struct step_result result;
    struct kind_options options = {.mesh = {1, 1, 0, 1, 1}, .length = length, .micro_batch = 3};
    assert_true(bench_create(&bench, state, kind, &options));
    bench.trainer.batch.state = NULL; /* what is left goes to all ranks */
    batch_ready(&bench.trainer.batch, KIND_ROWS * length, KIND_ROWS * length);
    int64_t before = mesh_traffic(bench.mesh, MESH_CONTEXT).bytes;
    assert_ok(bench.context, trainer_gradients(&bench.trainer, &result));
    int64_t bytes = mesh_traffic(bench.mesh, MESH_CONTEXT).bytes - before;
    bench_destroy(&bench);
    return bytes;
}

/* Forward and backward, each layer sends the states of all rows once, whatever their length. With the delta rule their
 * maps go along, at most 1 + log2(ranks) times. */
static void context_ranks_exchange_states_alone(void **state)
{
    enum { LAYERS = 3, KV_HEADS = 3, WIDTH = 4 };
    static const struct kind linear = {"linear", "layers: 3, attention: {kind: infini, segment: 5}"};
    static const struct kind delta = {"delta",
                                      "layers: 3, attention: {kind: infini, segment: 5, memory_update: delta}"};
    static const int64_t lengths[] = {1, 13, 40, 160};
    int ranks = mpi_fixture_of(state)->ranks;
    const int64_t vectors = (int64_t)LAYERS * KIND_ROWS * KV_HEADS * WIDTH * (int64_t)sizeof(float);
    if (ranks == 1)
        skip();
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        assert_int_equal(context_bytes(state, &linear, lengths[i]), 2 * vectors * (WIDTH + 1));
        int64_t bytes = context_bytes(state, &delta, lengths[i]);
        assert_int_equal(bytes, context_bytes(state, &delta, 2 * lengths[i]));
        assert_true(bytes <= 2 * vectors * (2 * WIDTH * (int64_t)ceil(1.0 + log2(ranks)) + 1));
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(every_mesh_trains_alike),
    cmocka_unit_test(ranks_may_have_nothing_to_do),
    cmocka_unit_test(recomputation_changes_nothing),
    cmocka_unit_test(bf16_learns_the_same),
    cmocka_unit_test(context_ranks_exchange_states_alone),
};

MPI_MAIN(tests)
