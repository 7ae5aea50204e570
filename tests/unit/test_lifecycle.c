/* What makes a run stop or save: signals, files, the time limit of its job. */
#include "tests/support/support.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "src/train/lifecycle.h"

struct fixture {
    struct context context;
    char stop[128], save[128], starts[128];
    struct config *config;
    struct trainer trainer;
    struct lifecycle lifecycle;
};

/* A run that is at step 5 of 1000, on its first rank; `begun`: with a history. */
static void begin(struct fixture *fixture, bool begun)
{
    assert_ok(&fixture->context,
              lifecycle_create(&fixture->context, &fixture->trainer, fixture->config, true, &fixture->lifecycle));
    if (!begun)
        return;
    struct history_summary past;
    assert_ok(&fixture->context,
              history_open(&fixture->context, fixture->config->run.folder, 5, &past, &fixture->lifecycle.history));
    fixture->lifecycle.last_step = 1000;
    const struct timekeeper_history none = {0};
    timekeeper_create(&fixture->lifecycle.timekeeper, clock_seconds(), INFINITY, 24.0, 0, &none);
}

static int set_up(void **state)
{
    static struct fixture fixture;
    memset(&fixture, 0, sizeof fixture);
    context_create(&fixture.context);
    fixture.context.quiet = true;
    fixture.config = calloc(1, sizeof *fixture.config);
    char *folder = fixture.config->run.folder;
    strcpy(folder, "/tmp/cairn-lifecycle-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(fixture.stop, sizeof fixture.stop, "%s/stop", folder);
    snprintf(fixture.save, sizeof fixture.save, "%s/save", folder);
    snprintf(fixture.starts, sizeof fixture.starts, "%s/starts.jsonl", folder);
    fixture.trainer.step = 5;
    *state = &fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    lifecycle_destroy(&fixture->lifecycle, 0);
    unlink(fixture->stop);
    unlink(fixture->save);
    unlink(fixture->starts);
    if (rmdir(fixture->config->run.folder) != 0)
        return -1;
    free(fixture->config);
    unsetenv("SLURM_JOB_END_TIME");
    return fixture->context.memory.bytes_total == 0 ? 0 : -1;
}

static void touch(const char *path)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fclose(file);
}

/* Whether a vote is cast within ten seconds; files are looked for once a second. */
static bool votes_for(struct fixture *fixture, enum vote vote)
{
    for (double end = clock_seconds() + 10.0; clock_seconds() < end; usleep(5000)) {
        double votes[VOTES] = {0};
        lifecycle_cast(&fixture->lifecycle, false, votes);
        if (votes[vote] > 0.0)
            return true;
    }
    return false;
}

static bool votes_now(struct fixture *fixture, enum vote vote, bool writing)
{
    double votes[VOTES] = {0};
    lifecycle_cast(&fixture->lifecycle, writing, votes);
    return votes[vote] > 0.0;
}

static void a_file_asks_until_it_is_obeyed(void **state)
{
    struct fixture *fixture = *state;
    begin(fixture, true);
    assert_false(votes_now(fixture, VOTE_STOP, false) || votes_now(fixture, VOTE_SAVE, false));
    touch(fixture->save);
    assert_true(votes_for(fixture, VOTE_SAVE));
    assert_false(votes_now(fixture, VOTE_STOP, false));
    lifecycle_obeyed(&fixture->lifecycle, VOTE_SAVE);
    assert_int_not_equal(access(fixture->save, F_OK), 0);
    assert_false(votes_now(fixture, VOTE_SAVE, false));
    touch(fixture->stop);
    assert_true(votes_for(fixture, VOTE_STOP));
    assert_string_equal(requests_reason(fixture->lifecycle.requests) + strlen("the file "), fixture->stop);
}

/* Nor does it stand in the way of one that comes later. */
static void a_file_from_before_the_start_is_not_obeyed(void **state)
{
    struct fixture *fixture = *state;
    touch(fixture->stop);
    touch(fixture->save);
    begin(fixture, true);
    requests_drop_old(fixture->lifecycle.requests);
    assert_int_not_equal(access(fixture->stop, F_OK), 0);
    assert_int_not_equal(access(fixture->save, F_OK), 0);
    assert_false(votes_now(fixture, VOTE_STOP, false) || votes_now(fixture, VOTE_SAVE, false));
    touch(fixture->stop);
    requests_drop_old(fixture->lifecycle.requests); /* it is of the same start */
    assert_true(votes_for(fixture, VOTE_STOP));
}

/* One that came while the run was set up counts. */
static void a_file_of_this_start_is_obeyed(void **state)
{
    struct fixture *fixture = *state;
    begin(fixture, true);
    touch(fixture->stop);
    requests_drop_old(fixture->lifecycle.requests);
    assert_int_equal(access(fixture->stop, F_OK), 0);
    assert_true(votes_for(fixture, VOTE_STOP));
}

static void a_sign_of_the_launcher_saves_once(void **state)
{
    struct fixture *fixture = *state;
    begin(fixture, true);
    kill(getpid(), SIGCONT);
    assert_true(votes_for(fixture, VOTE_SAVE));
    assert_false(votes_now(fixture, VOTE_SAVE, false));
    assert_false(votes_now(fixture, VOTE_STOP, false));
    kill(getpid(), SIGTERM);
    assert_true(votes_for(fixture, VOTE_STOP));
    assert_string_equal(requests_reason(fixture->lifecycle.requests), "TERM");
}

/* A write of 100 s, and 250 s are left: for one write behind the step, and not for one on its way and another. */
static void a_write_on_its_way_is_waited_for(void **state)
{
    struct fixture *fixture = *state;
    const struct timekeeper_history none = {0};
    begin(fixture, true);
    double now = clock_seconds();
    timekeeper_create(&fixture->lifecycle.timekeeper, now, now + 250.0, 24.0, 0, &none);
    timekeeper_learn(&fixture->lifecycle.timekeeper, TIMEKEEPER_STEP, 0.01);
    lifecycle_saved(&fixture->lifecycle, 0.1, 100.0);
    assert_false(votes_now(fixture, VOTE_STOP, false));
    assert_false(fixture->lifecycle.limited);
    assert_true(votes_now(fixture, VOTE_STOP, true));
    assert_true(fixture->lifecycle.limited);
    /* The last step is the end in any case. */
    fixture->trainer.step = 999;
    assert_false(votes_now(fixture, VOTE_STOP, true));
}

static void a_save_that_is_due_is_counted_with(void **state)
{
    struct fixture *fixture = *state;
    const struct timekeeper_history none = {0};
    begin(fixture, true);
    double now = clock_seconds();
    timekeeper_create(&fixture->lifecycle.timekeeper, now, now + 200.0, 24.0, 0, &none);
    timekeeper_learn(&fixture->lifecycle.timekeeper, TIMEKEEPER_STEP, 0.01);
    lifecycle_saved(&fixture->lifecycle, 100.0, 100.0);
    fixture->config->checkpoint.every = 7;
    assert_false(votes_now(fixture, VOTE_STOP, false));
    fixture->config->checkpoint.every = 6;
    assert_true(votes_now(fixture, VOTE_STOP, false));
}

static void the_timekeeper_saves_where_it_chooses(void **state)
{
    struct fixture *fixture = *state;
    const struct timekeeper_history none = {0};
    begin(fixture, true);
    timekeeper_create(&fixture->lifecycle.timekeeper, clock_seconds() - 3600.0, INFINITY, 24.0, 0, &none);
    assert_false(votes_now(fixture, VOTE_SAVE, false));
    fixture->lifecycle.timekeeper.chooses = true;
    assert_true(votes_now(fixture, VOTE_SAVE, false));
    lifecycle_save_begun(&fixture->lifecycle);
    assert_false(votes_now(fixture, VOTE_SAVE, false));
}

/* Only `checkpoint.every: auto` leaves the choice to the timekeeper; what a write took is known to the next start, also
 * to one behind a start that wrote nothing. */
static void a_start_takes_over_settings_and_history(void **state)
{
    struct fixture *fixture = *state;
    static const int64_t every[] = {-1, 0, 7};
    for (int i = 0; i < 3; i++) {
        struct lifecycle *lifecycle = &fixture->lifecycle;
        begin(fixture, false);
        fixture->config->checkpoint.every = every[i];
        fixture->config->evaluation.every = i == 1 ? 3 : 0;
        assert_ok(&fixture->context, lifecycle_begin(lifecycle, 1000, i < 2));
        assert_int_equal(lifecycle->timekeeper.chooses, every[i] < 0);
        assert_int_equal(lifecycle->evaluates, i == 1);
        assert_true(lifecycle->timekeeper.history.write_seconds == (i == 0 ? 0.0 : 3.25));
        if (i == 0)
            lifecycle_saved(lifecycle, 0.125, 3.25);
        lifecycle_destroy(lifecycle, 0);
        *lifecycle = (struct lifecycle){0};
    }
}

static double seconds_to_end(struct fixture *fixture, const char *end)
{
    setenv("SLURM_JOB_END_TIME", end, 1);
    return lifecycle_job_seconds(&fixture->context);
}

static void an_end_of_another_job_is_none(void **state)
{
    struct fixture *fixture = *state;
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)time(NULL) + 100);
    assert_close(seconds_to_end(fixture, text), 100.0, 0.0, 2.5);
    snprintf(text, sizeof text, "%lld", (long long)time(NULL) - 5);
    assert_true(isinf(seconds_to_end(fixture, text)));
    assert_true(isinf(seconds_to_end(fixture, "1000")));
    assert_true(isinf(seconds_to_end(fixture, "0")));
    assert_true(isinf(seconds_to_end(fixture, "99999999999999")));
    assert_true(isinf(seconds_to_end(fixture, "soon")));
    assert_true(isinf(seconds_to_end(fixture, "")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_file_asks_until_it_is_obeyed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_file_from_before_the_start_is_not_obeyed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_file_of_this_start_is_obeyed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_sign_of_the_launcher_saves_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_write_on_its_way_is_waited_for, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_save_that_is_due_is_counted_with, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_timekeeper_saves_where_it_chooses, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_start_takes_over_settings_and_history, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_end_of_another_job_is_none, set_up, tear_down),
    };
    requests_hold_signals();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
