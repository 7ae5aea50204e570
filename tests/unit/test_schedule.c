#include "dist/parallel/schedule.h"
#include "tests/support/support.h"

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

/* A micro-batch may enter a chunk when the one that had its place before has left. */
static void check_place(const struct replay *replay, int stage, const struct pipeline_action *action)
{
    const struct schedule *schedule = &replay->schedules[stage];
    int64_t before = action->micro_batch - schedule->in_flight[action->chunk];
    assert_in_range(schedule->in_flight[action->chunk], 1, schedule->in_flight[0]);
    if (action->pass != PIPELINE_FORWARD || before < 0)
        return;
    int64_t chunk = (int64_t)action->chunk * replay->shape.stages + stage;
    int64_t last = (int64_t)(replay->shape.chunks - 1) * replay->shape.stages + stage;
    assert_true(replay->shape.forward_only ? *done_at(replay, PIPELINE_FORWARD, last, before)
                                           : *done_at(replay, PIPELINE_BACKWARD, chunk, before));
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
                check_place(&replay, stage, action);
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
    struct context *context = *state;
    for (int stages = 1; stages <= 6; stages++)
        for (int chunks = 1; chunks <= 4; chunks++)
            for (int64_t micro_batches = 1; micro_batches <= 13; micro_batches++)
                for (int forward_only = 0; forward_only < 2; forward_only++)
                    replay_schedule(context,
                                    &(struct schedule_shape){stages, chunks, micro_batches, forward_only == 1});
}

static void one_forward_one_backward_holds_few_micro_batches(void **state)
{
    struct context *context = *state;
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

int main(void)
{
    static struct context context;
    context_create(&context);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(schedules_never_deadlock, &context),
        cmocka_unit_test_prestate(one_forward_one_backward_holds_few_micro_batches, &context),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
