/* Schedules, clipping, averages, and optimisers that step element by element. */
#include "tests/support/support.h"

#include <math.h>
#include <string.h>

#include "src/optim/average.h"
#include "src/optim/optimizer.h"

static void warm_up_is_linear_and_cosine_ends_at_the_minimum(void **state)
{
    (void)state;
    struct optimizer_config config = {
        .learning_rate = 2.0, .schedule = SCHEDULE_COSINE, .warmup_steps = 10, .minimum_ratio = 0.1};
    assert_close(schedule_rate(&config, 110, 1), 0.2, 1e-12, 0.0);
    assert_close(schedule_rate(&config, 110, 10), 2.0, 1e-12, 0.0);
    assert_close(schedule_rate(&config, 110, 60), 2.0 * (0.1 + 0.9 * 0.5), 1e-12, 0.0);
    assert_close(schedule_rate(&config, 110, 35), 2.0 * (0.1 + 0.9 * 0.5 * (1.0 + sqrt(0.5))), 1e-12, 0.0);
    assert_close(schedule_rate(&config, 110, 110), 0.2, 1e-12, 0.0);
    assert_close(schedule_rate(&config, 110, 500), 0.2, 1e-12, 0.0);
    config.warmup_start = 0.5;
    assert_close(schedule_rate(&config, 110, 1), 1.1, 1e-12, 0.0);
    assert_close(schedule_rate(&config, 110, 10), 2.0, 1e-12, 0.0);
    assert_close(schedule_rate(&config, 110, 110), 0.2, 1e-12, 0.0);
}

static void linear_and_constant(void **state)
{
    (void)state;
    struct optimizer_config config = {.learning_rate = 1.0, .schedule = SCHEDULE_LINEAR, .minimum_ratio = 0.5};
    assert_close(schedule_rate(&config, 100, 50), 0.75, 1e-12, 0.0);
    assert_close(schedule_rate(&config, 100, 100), 0.5, 1e-12, 0.0);
    config.schedule = SCHEDULE_CONSTANT;
    assert_close(schedule_rate(&config, 100, 100), 1.0, 1e-12, 0.0);
}

static void warm_up_stable_decay(void **state)
{
    (void)state;
    struct optimizer_config config = {
        .learning_rate = 1.0, .schedule = SCHEDULE_WSD, .warmup_steps = 10, .decay_steps = 20, .minimum_ratio = 0.0};
    assert_close(schedule_rate(&config, 100, 5), 0.5, 1e-12, 0.0);
    assert_close(schedule_rate(&config, 100, 11), 1.0, 1e-12, 0.0);
    assert_close(schedule_rate(&config, 100, 80), 1.0, 1e-12, 0.0);
    assert_close(schedule_rate(&config, 100, 90), 0.5, 1e-12, 0.0);
    assert_close(schedule_rate(&config, 100, 100), 0.0, 0.0, 1e-12);
}

static void degenerate_schedules_stay_finite(void **state)
{
    (void)state;
    for (int kind = SCHEDULE_CONSTANT; kind <= SCHEDULE_WSD; kind++)
        for (int64_t warm_up = 0; warm_up <= 3; warm_up++) {
            struct optimizer_config config = {
                .learning_rate = 1.0, .schedule = (enum schedule_kind)kind, .warmup_steps = warm_up};
            for (int64_t step = 1; step <= 4; step++) {
                double rate = schedule_rate(&config, 3, step);
                assert_true(isfinite(rate) && rate >= 0.0 && rate <= 1.0);
            }
        }
}

static void clipping_scales_to_the_limit(void **state)
{
    (void)state;
    struct optimizer_config config = {.clip = 2.0};
    assert_true(optimizer_clip_scale(&config, 1.0) == 1.0);
    assert_close(optimizer_clip_scale(&config, 8.0), 2.0 / (8.0 + 1e-6), 1e-12, 0.0);
    config.clip = 0.0;
    assert_true(optimizer_clip_scale(&config, 8.0) == 1.0);
}

/* Two parameters, one a gate without decay and with its own rate, against the formula in double. */
static void updates_follow_the_formula(void **state)
{
    (void)state;
    enum { COUNT = 37, STEPS = 4 };
    struct context context;
    struct engine engine;
    struct optimizer optimizer;
    struct optimizer_config config = {
        .learning_rate = 0.1, .beta1 = 0.9, .beta2 = 0.97, .epsilon = 1e-6, .weight_decay = 0.2, .gate_lr_factor = 3.0};
    context_create(&context);
    assert_ok(&context, engine_create(&context, 2, &engine));
    struct parameter parameters[2] = {
        {.spec = {.rank = 1, .shape = {COUNT}, .decay = true}, .division.slice = {0, COUNT}},
        {.spec = {.rank = 1, .shape = {COUNT}, .is_gate = true}, .division.slice = {0, COUNT}},
    };
    parameters[0].division.owned = parameters[0].division.slice;
    float values[2][COUNT];
    float gradients[2][COUNT];
    double p[2][COUNT];
    double m[2][COUNT] = {{0}};
    double v[2][COUNT] = {{0}};
    struct shard shards[2];
    for (int i = 0; i < 2; i++) {
        fill_random(values[i], COUNT, "values");
        fill_random(gradients[i], COUNT, i ? "one" : "two");
        for (int e = 0; e < COUNT; e++)
            p[i][e] = (double)values[i][e];
        shards[i] = (struct shard){.parameter = &parameters[i],
                                   .flat = {0, COUNT},
                                   .begin = i * COUNT,
                                   .master = values[i],
                                   .gradient = gradients[i]};
    }
    assert_ok(&context, optimizer_create(&context, NULL, &config, NULL, shards, 2, &optimizer));
    double squares = 0.0;
    for (int e = 0; e < COUNT; e++)
        squares += (double)gradients[0][e] * (double)gradients[0][e];
    /* The second parameter belongs to another rank. */
    assert_close(optimizer_norm_squares(&engine, shards, 2), squares, 1e-12, 0.0);
    for (int t = 1; t <= STEPS; t++) {
        assert_ok(&context, optimizer_update(&optimizer, &engine, NULL, t, 0.05, 0.5));
        for (int i = 0; i < 2; i++)
            for (int e = 0; e < COUNT; e++) {
                double g = 0.5 * (double)gradients[i][e];
                m[i][e] = 0.9 * m[i][e] + 0.1 * g;
                v[i][e] = 0.97 * v[i][e] + 0.03 * g * g;
                double step = m[i][e] / (1.0 - pow(0.9, t)) / (sqrt(v[i][e] / (1.0 - pow(0.97, t))) + 1e-6);
                p[i][e] -= 0.05 * (i ? 3.0 : 1.0) * (step + (i ? 0.0 : 0.2) * p[i][e]);
            }
    }
    for (int i = 0; i < 2; i++)
        for (int e = 0; e < COUNT; e++) {
            assert_close((double)values[i][e], p[i][e], 2e-5, 1e-6);
            assert_close((double)((float *)optimizer.state[i * OPTIMIZER_ARRAYS])[e], m[i][e], 1e-5, 1e-8);
        }
    optimizer_destroy(&optimizer);
    engine_destroy(&engine);
    assert_int_equal(context.memory.bytes_total, 0);
}

/* The average after each update, against the formula in double; what a file lacks begins with the parameter; swapping
 * twice changes nothing. */
static void averages_follow_the_formula(void **state)
{
    (void)state;
    enum { COUNT = 5, OFFSET = 3 };
    struct context context;
    struct average *average;
    struct parameter parameter = {.spec = {.rank = 1, .shape = {COUNT}}, .division.slice = {0, COUNT}};
    float master[COUNT] = {1.0f, -2.0f, 0.0f, 4.0f, 1e3f};
    double expected[COUNT];
    struct shard shard = {.parameter = &parameter, .flat = {0, COUNT}, .begin = OFFSET, .master = master};
    context_create(&context);
    assert_ok(&context, average_create(&context, &shard, 1, OFFSET + COUNT, 0.6, &average));
    for (int i = 0; i < COUNT; i++)
        expected[i] = (double)master[i];
    for (int t = 1; t <= 8; t++) {
        double decay = t == 1 ? 2.0 / 11.0 : t == 2 ? 0.25 : fmin(0.6, (1.0 + t) / (10.0 + t));
        for (int i = 0; i < COUNT; i++) {
            master[i] += (float)(i + 1) * 0.5f;
            expected[i] = decay * expected[i] + (1.0 - decay) * (double)master[i];
        }
        average_update(average, t);
    }
    for (int i = 0; i < COUNT; i++)
        assert_close((double)average->values[OFFSET + i], expected[i], 1e-6, 0.0);
    float before[COUNT];
    memcpy(before, master, sizeof before);
    average_swap(average);
    assert_close((double)master[2], expected[2], 1e-6, 0.0);
    average_swap(average);
    assert_memory_equal(before, master, sizeof before);
    average_forget(average);
    average->values[OFFSET + 1] = 7.0f; /* as a file that had this one */
    average_settle(average);
    assert_true(average->values[OFFSET + 1] == 7.0f && average->values[OFFSET + 4] == master[4]);
    average_destroy(&average);
    assert_int_equal(context.memory.bytes_total, 0);
}

/* Stochastic gradient descent, plain and looking ahead, against the formula in double; bf16 copies are its rounding. */
static void descent_follows_the_formula(void **state)
{
    (void)state;
    enum { COUNT = 131, STEPS = 4 };
    for (int nesterov = 0; nesterov <= 1; nesterov++) {
        struct context context;
        struct engine engine;
        struct optimizer optimizer;
        struct optimizer_config config = {
            .kind = OPTIMIZER_SGD, .momentum = 0.8, .nesterov = nesterov, .weight_decay = 0.3};
        context_create(&context);
        assert_ok(&context, engine_create(&context, 2, &engine));
        struct parameter parameter = {.spec = {.rank = 1, .shape = {COUNT}, .decay = true},
                                      .division.slice = {0, COUNT}};
        float values[COUNT];
        float gradient[COUNT];
        bf16 copy[COUNT];
        double p[COUNT];
        double v[COUNT] = {0};
        fill_random(values, COUNT, "values");
        fill_random(gradient, COUNT, "gradient");
        for (int e = 0; e < COUNT; e++)
            p[e] = (double)values[e];
        struct shard shard = {
            .parameter = &parameter, .flat = {0, COUNT}, .master = values, .gradient = gradient, .values = copy};
        assert_ok(&context, optimizer_create(&context, NULL, &config, NULL, &shard, 1, &optimizer));
        assert_ptr_equal(optimizer.ops, &sgd_ops);
        for (int t = 1; t <= STEPS; t++) {
            assert_ok(&context, optimizer_update(&optimizer, &engine, NULL, t, 0.1, 0.25));
            for (int e = 0; e < COUNT; e++) {
                double g = 0.25 * (double)gradient[e] + 0.3 * p[e];
                v[e] = 0.8 * v[e] + g;
                p[e] -= 0.1 * (nesterov ? g + 0.8 * v[e] : v[e]);
            }
        }
        for (int e = 0; e < COUNT; e++) {
            assert_close((double)values[e], p[e], 1e-5, 1e-6);
            assert_close((double)((float *)optimizer.state[0])[e], v[e], 1e-5, 1e-6);
            assert_int_equal(copy[e], bf16_from_float(values[e]));
        }
        optimizer_destroy(&optimizer);
        engine_destroy(&engine);
        assert_int_equal(context.memory.bytes_total, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(warm_up_is_linear_and_cosine_ends_at_the_minimum),
        cmocka_unit_test(linear_and_constant),
        cmocka_unit_test(warm_up_stable_decay),
        cmocka_unit_test(degenerate_schedules_stay_finite),
        cmocka_unit_test(clipping_scales_to_the_limit),
        cmocka_unit_test(updates_follow_the_formula),
        cmocka_unit_test(averages_follow_the_formula),
        cmocka_unit_test(descent_follows_the_formula),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
