/* The timekeeper with a clock of the test's own. */
#include "tests/support/support.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "src/core/random.h"
#include "src/train/timekeeper.h"

/* A job whose parts take times of the test's choice, with a timekeeper on board; a part's time varies by +-`jitter`. */
struct job {
    struct timekeeper timekeeper;
    double now;
    double part[TIMEKEEPER_PARTS]; /* TIMEKEEPER_HOLD is also how long a stop waits for its checkpoint */
    double jitter;
    int64_t draws;
    int64_t evaluate_every; /* 0: never */
    int64_t save_every;     /* 0: when the timekeeper wants it */
    int64_t saves, steps;
    double saved[1000]; /* when */
};

static void job_begin(struct job *job, double limit, const struct timekeeper_history *history)
{
    static const struct timekeeper_history none = {0};
    job->now = 1000.0;
    timekeeper_create(&job->timekeeper, job->now, job->now + limit, 24.0, 1000000, history ? history : &none);
    job->timekeeper.chooses = true;
}

static double job_take(struct job *job, enum timekeeper_part part)
{
    double noise = 2.0 * random_uniform(3, (uint64_t)job->draws++) - 1.0;
    double seconds = job->part[part] * (1.0 + job->jitter * noise);
    job->now += seconds;
    timekeeper_learn(&job->timekeeper, part, seconds);
    return seconds;
}

static void job_save(struct job *job)
{
    double held = job_take(job, TIMEKEEPER_HOLD);
    timekeeper_learn(&job->timekeeper, TIMEKEEPER_WRITE, fmax(held, job->part[TIMEKEEPER_WRITE]));
    timekeeper_saved(&job->timekeeper, job->now);
    job->saved[job->saves++ % 1000] = job->now;
}

/* Until the timekeeper or `steps` end it; true if it was the timekeeper. Ends with a checkpoint. */
static bool job_run(struct job *job, int64_t steps)
{
    bool stops = false;
    while (!stops && job->steps < steps) {
        double begin = job->now;
        job->now +=
            job->part[TIMEKEEPER_STEP] * (1.0 + job->jitter * (2.0 * random_uniform(4, (uint64_t)job->draws++) - 1.0));
        int64_t step = job->steps + 1;
        bool evaluates = job->evaluate_every && step % job->evaluate_every == 0;
        bool saves =
            timekeeper_must_save(&job->timekeeper, job->now) || (job->save_every && step % job->save_every == 0);
        stops = step < steps &&
                timekeeper_must_stop(&job->timekeeper, job->now, &(struct timekeeper_outlook){evaluates, saves, false});
        timekeeper_learn(&job->timekeeper, TIMEKEEPER_STEP, job->now - begin);
        job->steps = step;
        if (!stops && evaluates)
            job_take(job, TIMEKEEPER_EVALUATION);
        if (stops || saves || step == steps)
            job_save(job);
    }
    return stops;
}

static void without_a_limit_nothing_stops(void **state)
{
    (void)state;
    struct job job = {.part = {0.5, 0.0, 2.0, 2.0}};
    job_begin(&job, INFINITY, NULL);
    assert_false(job_run(&job, 100000));
    assert_int_equal(job.steps, 100000);
    assert_true(isinf(job.timekeeper.end));
}

static void a_job_ends_saved_before_its_limit(void **state)
{
    (void)state;
    static const double limits[] = {30.0, 100.0, 1000.0, 43200.0};
    for (int i = 0; i < 4; i++) {
        struct job job = {.part = {0.8, 0.0, 1.5, 1.5}, .jitter = 0.2};
        job_begin(&job, limits[i], NULL);
        assert_true(job_run(&job, 1000000));
        double left = 1000.0 + limits[i] - job.now;
        assert_true(left >= 0.0);
        /* and without wasting time: less than the margin, three slow steps and a write */
        assert_true(left <= job.timekeeper.margin + 3.0 * 0.96 + 1.8);
        assert_true(job.saved[(job.saves - 1) % 1000] == job.now);
    }
}

static void slow_storage_is_learned(void **state)
{
    (void)state;
    struct job job = {.part = {1.0, 0.0, 100.0, 100.0}, .jitter = 0.3, .save_every = 50};
    job_begin(&job, 3600.0, NULL);
    assert_true(job_run(&job, 1000000));
    assert_true(job.now <= 1000.0 + 3600.0);
    assert_true(job.now >= 1000.0 + 3600.0 - 36.0 - 2.0 * 200.0);

    /* What the last start has seen counts before the first write of this one. */
    const struct timekeeper_history history = {.seconds = 3600.0, .write_seconds = 100.0};
    struct job second = {.part = {1.0, 0.0, 100.0, 100.0}};
    job_begin(&second, 300.0, &history);
    second.timekeeper.chooses = false;
    assert_true(job_run(&second, 1000000));
    assert_int_equal(second.saves, 1);
    assert_true(second.now <= 1000.0 + 300.0);
}

static void storage_that_becomes_slow_is_noticed(void **state)
{
    (void)state;
    struct job job = {.part = {1.0, 0.0, 5.0, 5.0}, .save_every = 20};
    job_begin(&job, 4000.0, NULL);
    assert_false(job_run(&job, 1000));
    assert_true(timekeeper_expect(&job.timekeeper, TIMEKEEPER_WRITE) == 5.0);
    job.part[TIMEKEEPER_HOLD] = job.part[TIMEKEEPER_WRITE] = 60.0;
    assert_true(job_run(&job, 1000000));
    assert_true(job.now <= 1000.0 + 4000.0);
}

static void a_long_evaluation_is_not_begun_in_vain(void **state)
{
    (void)state;
    struct job job = {.part = {1.0, 200.0, 2.0, 2.0}, .evaluate_every = 100};
    job_begin(&job, 1100.0, NULL);
    assert_true(job_run(&job, 1000000));
    assert_true(job.now <= 1000.0 + 1100.0);
    assert_int_equal(job.steps, 400); /* three evaluations; a fourth would not end in time */
    assert_int_equal(job.timekeeper.parts[TIMEKEEPER_EVALUATION].count, 3);
}

static void a_limit_that_is_too_near_stops_at_once(void **state)
{
    (void)state;
    static const double limits[] = {-100.0, 0.0, 0.5, 1.5};
    for (int i = 0; i < 4; i++) {
        struct job job = {.part = {1.0, 0.0, 0.1, 0.1}};
        job_begin(&job, limits[i], NULL);
        assert_true(job_run(&job, 100));
        assert_int_equal(job.steps, 1); /* the one that was under way is kept */
        assert_int_equal(job.saves, 1);
    }
}

static void a_stop_waits_for_the_write_behind_the_training(void **state)
{
    (void)state;
    struct timekeeper timekeeper;
    const struct timekeeper_history none = {0};
    timekeeper_create(&timekeeper, 0.0, 1000.0, 24.0, 0, &none);
    timekeeper_learn(&timekeeper, TIMEKEEPER_STEP, 1.0);
    timekeeper_learn(&timekeeper, TIMEKEEPER_WRITE, 100.0);
    assert_false(timekeeper_must_stop(&timekeeper, 838.0, &(struct timekeeper_outlook){false, false, false}));
    assert_true(timekeeper_must_stop(&timekeeper, 840.0, &(struct timekeeper_outlook){false, false, false}));
    assert_false(timekeeper_must_stop(&timekeeper, 688.0, &(struct timekeeper_outlook){false, false, true}));
    assert_true(timekeeper_must_stop(&timekeeper, 690.0, &(struct timekeeper_outlook){false, false, true}));
}

static void one_slow_step_is_not_expected_again(void **state)
{
    (void)state;
    struct timekeeper timekeeper;
    const struct timekeeper_history none = {0};
    timekeeper_create(&timekeeper, 0.0, 100.0, 24.0, 0, &none);
    assert_true(timekeeper_expect(&timekeeper, TIMEKEEPER_STEP) == 0.0 &&
                timekeeper_expect(&timekeeper, TIMEKEEPER_WRITE) > 0.0);
    timekeeper_learn(&timekeeper, TIMEKEEPER_STEP, 9.0);
    assert_true(timekeeper_expect(&timekeeper, TIMEKEEPER_STEP) == 9.0); /* few are all taken seriously */
    for (int i = 0; i < 30; i++)
        timekeeper_learn(&timekeeper, TIMEKEEPER_STEP, i % 7 == 0 ? 1.4 : 1.0);
    assert_true(timekeeper_expect(&timekeeper, TIMEKEEPER_STEP) == 1.4);
    for (int i = 0; i < TIMEKEEPER_SAMPLES; i++)
        timekeeper_learn(&timekeeper, TIMEKEEPER_STEP, 0.5);
    assert_true(timekeeper_expect(&timekeeper, TIMEKEEPER_STEP) == 0.5); /* of late */
}

/* Values worked out by hand from the formulas. */
static void intervals_are_those_of_young_and_daly(void **state)
{
    (void)state;
    /* hold 300 s, a failure a day: sqrt(2 300 86400) = 7200; ratio 300 / 172800, its root 1 / 24. */
    assert_close(timekeeper_daly(300.0, 86400.0), 7200.0 * (1.0 + 1.0 / 72.0 + 300.0 / 172800.0 / 9.0) - 300.0, 1e-12,
                 0.0);
    assert_close(timekeeper_daly(300.0, 86400.0), 7001.389, 1e-6, 0.0);
    /* Young's first order for a hold that is small. */
    assert_close(timekeeper_daly(1e-6, 86400.0), sqrt(2e-6 * 86400.0), 1e-5, 0.0);
    /* Beyond 2 mean a checkpoint costs more than it saves. */
    assert_true(timekeeper_daly(200.0, 100.0) == 100.0 && timekeeper_daly(1e6, 100.0) == 100.0);

    /* It is the best: time lost by interval t, with the write at its end, Daly's equation 20 without constants. */
    static const double holds[] = {1.0, 60.0, 600.0};
    for (int i = 0; i < 3; i++) {
        double mean = 20000.0;
        double best = INFINITY;
        double at = 0.0;
        for (double t = 10.0; t < 20000.0; t *= 1.001) {
            double lost = expm1((t + holds[i]) / mean) / t;
            if (lost < best) {
                best = lost;
                at = t;
            }
        }
        assert_close(timekeeper_daly(holds[i], mean), at, 0.01, 0.0);
    }
}

static void failures_shorten_the_interval(void **state)
{
    (void)state;
    struct timekeeper timekeeper;
    const struct timekeeper_history calm = {.seconds = 10.0 * 86400.0};
    const struct timekeeper_history rough = {.seconds = 10.0 * 86400.0, .failures = 99};
    timekeeper_create(&timekeeper, 0.0, INFINITY, 24.0, 0, &calm);
    timekeeper_learn(&timekeeper, TIMEKEEPER_HOLD, 20.0);
    timekeeper_learn(&timekeeper, TIMEKEEPER_WRITE, 20.0);
    assert_true(timekeeper_mean_between_failures(&timekeeper, 0.0) == 11.0 * 86400.0);
    assert_true(timekeeper_interval(&timekeeper, 0.0) == timekeeper_daly(20.0, 11.0 * 86400.0));
    timekeeper_create(&timekeeper, 0.0, INFINITY, 24.0, 0, &rough);
    timekeeper_learn(&timekeeper, TIMEKEEPER_HOLD, 20.0);
    timekeeper_learn(&timekeeper, TIMEKEEPER_WRITE, 20.0);
    assert_true(timekeeper_mean_between_failures(&timekeeper, 0.0) == 0.11 * 86400.0);
    assert_true(timekeeper_interval(&timekeeper, 0.0) == timekeeper_daly(20.0, 0.11 * 86400.0));
    /* One write at a time, when they go on behind the training. */
    timekeeper_create(&timekeeper, 0.0, INFINITY, 24.0, 0, &rough);
    timekeeper_learn(&timekeeper, TIMEKEEPER_HOLD, 0.01);
    timekeeper_learn(&timekeeper, TIMEKEEPER_WRITE, 500.0);
    assert_true(timekeeper_interval(&timekeeper, 0.0) == 500.0);
}

static void checkpoints_come_at_the_interval(void **state)
{
    (void)state;
    struct job job = {.part = {2.0, 0.0, 3.0, 3.0}, .jitter = 0.1};
    job_begin(&job, INFINITY, NULL);
    assert_false(job_run(&job, 20000));
    assert_true(job.saves > 30 && job.saves < 70);
    for (int64_t i = job.saves - 10; i < job.saves - 1; i++)
        assert_close(job.saved[i] - job.saved[i - 1] - 3.0, timekeeper_interval(&job.timekeeper, job.saved[i]), 0.01,
                     1.5);

    /* With a limit the first comes early. */
    struct job limited = {.part = {2.0, 0.0, 3.0, 3.0}};
    job_begin(&limited, 400.0, NULL);
    assert_true(job_run(&limited, 1000000));
    assert_close(limited.saved[0], 1000.0 + 40.0, 0.0, 6.0);

    /* A run of a minute is only saved at its end, and so is one that does not choose. */
    struct job brief = {.part = {0.1, 0.0, 0.05, 0.05}};
    job_begin(&brief, INFINITY, NULL);
    assert_false(job_run(&brief, 600));
    assert_int_equal(brief.saves, 1);
    struct job fixed = {.part = {2.0, 0.0, 3.0, 3.0}, .save_every = 1000};
    job_begin(&fixed, INFINITY, NULL);
    fixed.timekeeper.chooses = false;
    assert_false(job_run(&fixed, 20000));
    assert_int_equal(fixed.saves, 20);
}

/* Whatever is known of writes and failures, and however long a step is; after that the interval holds. */
static void the_first_checkpoint_comes_within_a_minute(void **state)
{
    (void)state;
    static const struct timekeeper_history histories[] = {{0}, {.seconds = 1e6, .write_seconds = 20.0}};
    static const struct {
        double step, first;
    } cases[] = {{0.25, 60.0}, {2.0, 60.0}, {25.0, 50.0}, {100.0, 100.0}};
    for (int h = 0; h < 2; h++)
        for (int i = 0; i < 4; i++) {
            struct job job = {.part = {cases[i].step, 0.0, 0.01, 0.01}};
            job_begin(&job, INFINITY, &histories[h]);
            job.part[TIMEKEEPER_HOLD] = job.part[TIMEKEEPER_WRITE] = 3.0;
            job_run(&job, (int64_t)(150.0 / cases[i].step) + 2);
            assert_close(job.saved[0] - 3.0, 1000.0 + cases[i].first, 0.0, 0.26 + (cases[i].step == 2.0));
            assert_int_equal(job.saves, 2); /* the other at the end */
        }
    struct job fixed = {.part = {2.0, 0.0, 3.0, 3.0}};
    job_begin(&fixed, INFINITY, NULL);
    fixed.timekeeper.chooses = false;
    job_run(&fixed, 100);
    assert_int_equal(fixed.saves, 1);
}

static void only_news_is_told(void **state)
{
    (void)state;
    char text[400];
    struct timekeeper timekeeper;
    const struct timekeeper_history none = {0};
    timekeeper_create(&timekeeper, 0.0, 1000.0, 24.0, 0, &none);
    timekeeper.chooses = true;
    int lines = 0;
    for (int i = 1; i <= 100; i++) {
        timekeeper_learn(&timekeeper, TIMEKEEPER_STEP, 2.0);
        if (timekeeper_describe(&timekeeper, 2.0 * i, 5000 - i, text, sizeof text)) {
            lines++;
            assert_true(i == 5);
            assert_non_null(strstr(text, "a step takes 2 s"));
            assert_non_null(strstr(text, "the job has 16m 30s left, for about 489 of the 4995 steps to go"));
            assert_non_null(strstr(text, "a failure every 1d 00h"));
        }
    }
    assert_int_equal(lines, 1);
    for (int i = 0; i < TIMEKEEPER_SAMPLES; i++)
        timekeeper_learn(&timekeeper, TIMEKEEPER_STEP, 4.0);
    assert_true(timekeeper_describe(&timekeeper, 300.0, 4900, text, sizeof text));
    assert_false(timekeeper_describe(&timekeeper, 300.0, 4900, text, sizeof text));

    /* Nothing of what does not matter: the run is over before the next checkpoint and long before the limit. */
    timekeeper_create(&timekeeper, 0.0, 1000.0, 24.0, 0, &none);
    timekeeper.chooses = true;
    for (int i = 0; i < 50; i++)
        timekeeper_learn(&timekeeper, TIMEKEEPER_STEP, 0.1);
    assert_false(timekeeper_describe(&timekeeper, 5.0, 100, text, sizeof text));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_limit_nothing_stops),
        cmocka_unit_test(a_job_ends_saved_before_its_limit),
        cmocka_unit_test(slow_storage_is_learned),
        cmocka_unit_test(storage_that_becomes_slow_is_noticed),
        cmocka_unit_test(a_long_evaluation_is_not_begun_in_vain),
        cmocka_unit_test(a_limit_that_is_too_near_stops_at_once),
        cmocka_unit_test(a_stop_waits_for_the_write_behind_the_training),
        cmocka_unit_test(one_slow_step_is_not_expected_again),
        cmocka_unit_test(intervals_are_those_of_young_and_daly),
        cmocka_unit_test(failures_shorten_the_interval),
        cmocka_unit_test(checkpoints_come_at_the_interval),
        cmocka_unit_test(the_first_checkpoint_comes_within_a_minute),
        cmocka_unit_test(only_news_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
