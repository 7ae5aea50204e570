#include <math.h>
#include <string.h>

#include "dist/parallel/pipeline.h"
#include "dist/parallel/split.h"
#include "src/ops/engine.h"
#include "tests/support/mpi_main.h"

/* -- Schedules -------------------------------------------------------------------------------------------------------
 */

struct replay {
    struct schedule *schedules; /* of each stage */
    int64_t *next;
    bool *done; /* [pass][model chunk][micro-batch] */
    struct schedule_shape shape;
};

static bool *done_at(const struct replay *replay, int pass, int64_t model_chunk, int64_t micro_batch)
{
    int64_t chunks = (int64_t)replay->shape.stages * replay->shape.chunks;
    return &replay->done[((int64_t)pass * chunks + model_chunk) * replay->shape.micro_batches + micro_batch];
}

static bool may_run(const struct replay *replay, int stage, const struct pipeline_action *action)
{
    int64_t chunk = (int64_t)action->chunk * replay->shape.stages + stage;
    int64_t last = (int64_t)replay->shape.stages * replay->shape.chunks - 1;
    if (action->pass == PIPELINE_FORWARD)
        return chunk == 0 || *done_at(replay, PIPELINE_FORWARD, chunk - 1, action->micro_batch);
    return chunk == last ? *done_at(replay, PIPELINE_FORWARD, last, action->micro_batch)
                         : *done_at(replay, PIPELINE_BACKWARD, chunk + 1, action->micro_batch);
}

/* Runs the stages' orders against each other, waiting as messages make them wait: all must come to their end. */
static void replay_schedule(struct context *context, const struct schedule_shape *shape)
{
    struct replay replay = {.shape = *shape};
    int64_t chunks = (int64_t)shape->stages * shape->chunks;
    replay.schedules = memory_allocate(context, (size_t)shape->stages * sizeof *replay.schedules, MEMORY_OTHER);
    replay.next = memory_allocate(context, (size_t)shape->stages * sizeof *replay.next, MEMORY_OTHER);
    replay.done = memory_allocate(context, 2 * (size_t)(chunks * shape->micro_batches), MEMORY_OTHER);
    for (int stage = 0; stage < shape->stages; stage++) {
        assert_ok(context, schedule_create(context, shape, stage, &replay.schedules[stage]));
        assert_int_equal(replay.schedules[stage].count,
                         (shape->forward_only ? 1 : 2) * shape->chunks * shape->micro_batches);
    }
    bool moved = true;
    while (moved) {
        moved = false;
        for (int stage = 0; stage < shape->stages; stage++) {
            struct schedule *schedule = &replay.schedules[stage];
            while (replay.next[stage] < schedule->count) {
                const struct pipeline_action *action = &schedule->actions[replay.next[stage]];
                if (!may_run(&replay, stage, action))
                    break;
                bool *done = done_at(&replay, (int)action->pass, (int64_t)action->chunk * shape->stages + stage,
                                     action->micro_batch);
                assert_false(*done);
                /* Slots are given out round robin, so micro-batches come in order. */
                assert_true(action->micro_batch == 0 || done[-1]);
                *done = true;
                replay.next[stage]++;
                moved = true;
            }
        }
    }
    for (int stage = 0; stage < shape->stages; stage++) {
        assert_int_equal(replay.next[stage], replay.schedules[stage].count);
        schedule_destroy(context, &replay.schedules[stage]);
    }
    memory_free(context, replay.schedules);
    memory_free(context, replay.next);
    memory_free(context, replay.done);
}

static void schedules_never_deadlock(void **state)
{
    struct context *context = &mpi_fixture_of(state)->context;
    for (int stages = 1; stages <= 6; stages++)
        for (int chunks = 1; chunks <= (stages > 1 ? 4 : 1); chunks++)
            for (int64_t micro_batches = 1; micro_batches <= 13; micro_batches++)
                for (int forward_only = 0; forward_only < 2; forward_only++)
                    replay_schedule(context,
                                    &(struct schedule_shape){stages, chunks, micro_batches, forward_only == 1});
}

static void one_forward_one_backward_holds_few_micro_batches(void **state)
{
    struct context *context = &mpi_fixture_of(state)->context;
    for (int stage = 0; stage < 4; stage++) {
        struct schedule schedule;
        assert_ok(context, schedule_create(context, &(struct schedule_shape){4, 1, 16, false}, stage, &schedule));
        assert_int_equal(schedule.in_flight[0], 4 - stage);
        /* The classic bubble, (P - 1) / (M + P - 1). */
        assert_close(schedule.bubble, 3.0 / 19.0, 1e-9, 0.0);
        schedule_destroy(context, &schedule);
    }
    struct schedule interleaved;
    assert_ok(context, schedule_create(context, &(struct schedule_shape){4, 2, 16, false}, 0, &interleaved));
    assert_true(interleaved.bubble < 2.0 / 19.0);
    schedule_destroy(context, &interleaved);
}

/* -- Running one -----------------------------------------------------------------------------------------------------
 */

enum { MICRO_BATCHES = 5, COLUMNS = 3, TOKENS = 4 };

/* A model whose every chunk multiplies by its factor; the first makes the activations, the last sums them up. */
struct toy {
    struct mpi_fixture *fixture;
    struct mesh *mesh;
    int chunks;
    const int64_t *tokens;
    float factor_gradient[4];
};

struct toy_saved {
    struct toy *toy;
    int chunk;
    float factor;
};

static void scale_backward(struct tape *tape, const struct tape_record *record)
{
    const struct toy_saved *saved = record->saved;
    const float *upstream = tape_gradient(record->output);
    const float *x = record->input[0]->data;
    struct gradient_target target = tape_target(tape, record->input[0]);
    for (int64_t i = 0; i < tensor_count(record->output); i++) {
        saved->toy->factor_gradient[saved->chunk] += upstream[i] * x[i];
        ((float *)target.data)[i] = upstream[i] * saved->factor;
    }
}

static void total_backward(struct tape *tape, const struct tape_record *record)
{
    const float *upstream = tape_gradient(record->output);
    struct gradient_target target = tape_target(tape, record->input[0]);
    for (int64_t i = 0; i < tensor_count(record->input[0]); i++)
        ((float *)target.data)[i] = upstream[0];
}

static float factor_of(int64_t model_chunk)
{
    return 1.0f + 0.25f * (float)(model_chunk + 1);
}

static float input_of(int64_t micro_batch, int64_t element)
{
    return (float)(micro_batch + 1) + 0.5f * (float)element;
}

static struct tensor *toy_forward(void *self, struct tape *tape, int chunk, int64_t micro_batch, struct tensor *input)
{
    struct toy *toy = self;
    int stage = mesh_rank(toy->mesh, MESH_PIPELINE);
    int stages = mesh_size(toy->mesh, MESH_PIPELINE);
    int64_t model_chunk = (int64_t)chunk * stages + stage;
    struct range part = sequence_part(toy->mesh, toy->tokens[micro_batch]);
    if (model_chunk == 0) {
        int64_t shape[2] = {part.count, COLUMNS};
        float *values = tape_save(tape, (size_t)(part.count * COLUMNS) * sizeof *values);
        for (int64_t i = 0; i < part.count * COLUMNS; i++)
            values[i] = input_of(micro_batch, part.begin * COLUMNS + i);
        input = tape_leaf(tape, DTYPE_F32, 2, shape, values, tape->recording);
    }
    assert_int_equal(tensor_count(input), part.count * COLUMNS);
    struct toy_saved *saved = tape_save(tape, sizeof *saved);
    *saved = (struct toy_saved){.toy = toy, .chunk = chunk, .factor = factor_of(model_chunk)};
    struct tensor *out = tape_tensor_like(tape, input);
    for (int64_t i = 0; i < tensor_count(out); i++)
        ((float *)out->data)[i] = saved->factor * ((const float *)input->data)[i];
    out = tape_push(tape,
                    (struct tape_record){.backward = scale_backward, .input = {input}, .output = out, .saved = saved});
    if (model_chunk != (int64_t)stages * toy->chunks - 1)
        return out;
    struct tensor *total = tape_tensor(tape, DTYPE_F32, 1, (int64_t[]){1});
    float sum = 0.0f;
    for (int64_t i = 0; i < tensor_count(out); i++)
        sum += ((const float *)out->data)[i];
    *(float *)total->data = sum;
    return tape_push(tape, (struct tape_record){.backward = total_backward, .input = {out}, .output = total});
}

static void run_toy(struct mpi_fixture *fixture, int chunks, int tensor, bool forward_only)
{
    /* Uneven micro-batches, one of them empty. */
    static const int64_t tokens[MICRO_BATCHES] = {4, 3, 0, 1, 4};
    struct context *context = &fixture->context;
    struct mesh *mesh = mpi_mesh(fixture, (struct mesh_config){1, 0, 1, tensor, chunks});
    struct engine engine = {.context = context};
    struct arena work;
    struct pool pool;
    struct pipeline *pipeline;
    arena_create(&work, context, MEMORY_ACTIVATIONS);
    pool_create(&pool, context, MEMORY_ACTIVATIONS);
    struct toy toy = {.fixture = fixture, .mesh = mesh, .chunks = chunks, .tokens = tokens};
    struct pipeline_shape shape = {MICRO_BATCHES, TOKENS, COLUMNS, DTYPE_F32, forward_only};
    struct pipeline_stage stage = {.self = &toy, .forward = toy_forward};
    assert_ok(context, pipeline_create(context, mesh, &engine, &work, &pool, &shape, &pipeline));
    int64_t model_chunks = (int64_t)mesh_size(mesh, MESH_PIPELINE) * chunks;
    float product = 1.0f;
    for (int64_t i = 0; i < model_chunks; i++)
        product *= factor_of(i);
    double inputs = 0.0;
    for (int64_t m = 0; m < MICRO_BATCHES; m++)
        for (int64_t i = 0; i < tokens[m] * COLUMNS; i++)
            inputs += (double)input_of(m, i);
    int64_t allocations = 0;
    for (int round = 0; round < 3; round++) {
        double loss = 0.0;
        memset(toy.factor_gradient, 0, sizeof toy.factor_gradient);
        assert_ok(context, pipeline_run(pipeline, &stage, tokens, NULL, &loss));
        mesh_all_reduce(mesh, MESH_WORLD, &loss, 1, DTYPE_F64, MESH_SUM);
        assert_close(loss, inputs * (double)product, 1e-6, 0.0);
        mesh_all_reduce(mesh, MESH_TENSOR, toy.factor_gradient, 4, DTYPE_F32, MESH_SUM);
        for (int c = 0; c < chunks && !forward_only; c++) {
            int64_t model_chunk = (int64_t)c * mesh_size(mesh, MESH_PIPELINE) + mesh_rank(mesh, MESH_PIPELINE);
            assert_close((double)toy.factor_gradient[c], inputs * (double)(product / factor_of(model_chunk)), 1e-5,
                         0.0);
        }
        if (round == 1)
            allocations = context->memory.allocations;
    }
    assert_int_equal(context->memory.allocations, allocations);
    pipeline_destroy(&pipeline);
    arena_destroy(&work);
    pool_destroy(&pool);
    mesh_destroy(&mesh);
    assert_int_equal(context->memory.bytes_total, 0);
}

static void stages_compute_the_product(void **state)
{
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    run_toy(fixture, 1, 1, false);
    run_toy(fixture, 1, 1, true);
    if (fixture->ranks % 2 == 0)
        run_toy(fixture, 1, 2, false);
}

static void virtual_stages_compute_the_product(void **state)
{
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    if (fixture->ranks == 1)
        skip();
    for (int chunks = 2; chunks <= 4; chunks++) {
        run_toy(fixture, chunks, 1, false);
        run_toy(fixture, chunks, 1, true);
    }
    if (fixture->ranks == 4)
        run_toy(fixture, 3, 2, false);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(schedules_never_deadlock),
    cmocka_unit_test(one_forward_one_backward_holds_few_micro_batches),
    cmocka_unit_test(stages_compute_the_product),
    cmocka_unit_test(virtual_stages_compute_the_product),
};

MPI_MAIN(tests)
