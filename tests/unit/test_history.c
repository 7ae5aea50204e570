/* RUN/starts.jsonl, read and written. */
#include "tests/support/support.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/history/history.h"

struct fixture {
    struct context context;
    char folder[64];
    char starts[96], metrics[96];
};

static int set_up(void **state)
{
    static struct fixture fixture;
    context_create(&fixture.context);
    strcpy(fixture.folder, "/tmp/cairn-history-XXXXXX");
    if (!mkdtemp(fixture.folder))
        return -1;
    snprintf(fixture.starts, sizeof fixture.starts, "%s/starts.jsonl", fixture.folder);
    snprintf(fixture.metrics, sizeof fixture.metrics, "%s/metrics.jsonl", fixture.folder);
    *state = &fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    unlink(fixture->starts);
    unlink(fixture->metrics);
    rmdir(fixture->folder);
    return fixture->context.memory.bytes_total == 0 ? 0 : -1;
}

static void write_file(const char *path, const char *text, double modified)
{
    FILE *file = fopen(path, "w");
    fputs(text, file);
    fclose(file);
    struct timespec times[2] = {{.tv_sec = (time_t)modified}, {.tv_sec = (time_t)modified}};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static struct history_summary read_summary(struct fixture *fixture)
{
    struct history_summary summary;
    struct history *history;
    assert_ok(&fixture->context, history_open(&fixture->context, fixture->folder, 7, &summary, &history));
    history_close(&history, 9, 0, 0.0);
    assert_null(history);
    return summary;
}

static void ends_of_every_kind_are_summed_up(void **state)
{
    struct fixture *fixture = *state;
    struct history_summary summary = read_summary(fixture);
    assert_int_equal(summary.starts, 0);
    assert_int_equal(summary.failures, 0);
    assert_true(summary.seconds == 0.0 && summary.checkpoint_seconds == 0.0);

    write_file(fixture->starts,
               "{\"start\":1000,\"step\":0}\n"
               "{\"end\":1100,\"step\":50,\"exit\":85,\"checkpoint_seconds\":2.5}\n"
               "{\"start\":2000,\"step\":50}\n"
               "{\"end\":2010.5,\"step\":52,\"exit\":1,\"checkpoint_seconds\":0}\n"
               "{\"start\":3000,\"step\":50}\n"
               "{\"lost\":3200}\n"
               "{\"start\":4000,\"step\":50}\n"
               "{\"end\":3990,\"step\":60,\"exit\":0,\"checkpoint_seconds\":0}\n",
               5000.0);
    summary = read_summary(fixture);
    assert_int_equal(summary.starts, 4);
    assert_int_equal(summary.failures, 2);
    assert_true(summary.seconds == 100.0 + 10.5 + 200.0);
    assert_true(summary.checkpoint_seconds == 2.5);
    assert_int_equal(read_summary(fixture).starts, 5); /* with the one above */
}

static void a_start_without_an_end_lasted_as_long_as_its_metrics(void **state)
{
    struct fixture *fixture = *state;
    write_file(fixture->starts, "{\"start\":1000,\"step\":0}\n", 1000.0);
    write_file(fixture->metrics, "{\"step\":1}\n", 1700.0);
    struct history_summary summary = read_summary(fixture);
    assert_int_equal(summary.failures, 1);
    assert_true(summary.seconds == 700.0);
    write_file(fixture->metrics, "{\"step\":1}\n", 900.0); /* it is noted, so it does not change any more */
    summary = read_summary(fixture);
    assert_int_equal(summary.starts, 2);
    assert_int_equal(summary.failures, 1);
    assert_true(summary.seconds >= 700.0 && summary.seconds < 800.0);
    /* Metrics from before it say nothing. */
    char text[256] = "";
    write_file(fixture->starts, "{\"start\":1000,\"step\":0}\n", 1000.0);
    write_file(fixture->metrics, "{\"step\":1}\n", 900.0);
    assert_true(read_summary(fixture).seconds == 0.0);
    FILE *file = fopen(fixture->starts, "r");
    assert_true(file && fread(text, 1, sizeof text - 1, file) > 0);
    fclose(file);
    assert_non_null(strstr(text, "\n{\"lost\":1000.0}\n"));
}

static void torn_and_foreign_lines_are_passed_over(void **state)
{
    struct fixture *fixture = *state;
    write_file(
        fixture->starts,
        "{\"start\":1000,\"step\":0}\nnonsense\n[1,2]\n{\"start\":\"x\"}\n{\"end\":1010}\n{\"end\":1100,\"exit\":0}\n"
        "{\"start\":20",
        2000.0);
    char said[256] = "";
    FILE *log = tmpfile();
    int before = dup(STDERR_FILENO);
    assert_true(log && before >= 0 && dup2(fileno(log), STDERR_FILENO) >= 0);
    struct history_summary summary = read_summary(fixture);
    assert_true(dup2(before, STDERR_FILENO) >= 0);
    close(before);
    rewind(log);
    assert_true(fread(said, 1, sizeof said - 1, log) > 0);
    fclose(log);
    assert_non_null(strstr(said, "/starts.jsonl: 3 damaged lines are passed over\n"));
    assert_int_equal(summary.starts, 1);
    assert_int_equal(summary.failures, 0);
    assert_true(summary.seconds == 100.0);
    assert_int_equal(read_summary(fixture).starts, 2); /* the torn line did not swallow the next */

    /* Two starts and no end, as if both had been killed before a line was written. */
    write_file(fixture->starts, "{\"start\":1000,\"step\":0}\n{\"start\":2000,\"step\":0}\n{\"end\":2001,\"exit\":0}\n",
               1.0);
    summary = read_summary(fixture);
    assert_int_equal(summary.failures, 1);
    assert_true(summary.seconds == 1.0);
}

static void a_folder_that_cannot_be_written_is_named(void **state)
{
    struct fixture *fixture = *state;
    struct history_summary summary;
    struct history *history;
    assert_fails(&fixture->context, history_open(&fixture->context, "/nowhere/at/all", 0, &summary, &history),
                 STATUS_FILE, "/nowhere/at/all/starts.jsonl");
    history_close(&history, 0, 1, 0.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(ends_of_every_kind_are_summed_up, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_start_without_an_end_lasted_as_long_as_its_metrics, set_up, tear_down),
        cmocka_unit_test_setup_teardown(torn_and_foreign_lines_are_passed_over, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_folder_that_cannot_be_written_is_named, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
