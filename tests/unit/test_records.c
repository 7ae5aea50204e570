/* Files of lines that wait for a disk which takes no more. */
#include "tests/support/support.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/json/json.h"
#include "io/records/records.h"

struct fixture {
    struct context context;
    char folder[64];
    char path[96], other[96];
    struct record *record;
};

static int set_up(void **state)
{
    static struct fixture fixture;
    fixture.record = NULL;
    context_create(&fixture.context);
    fixture.context.quiet = true;
    strcpy(fixture.folder, "/tmp/cairn-records-XXXXXX");
    if (!mkdtemp(fixture.folder))
        return -1;
    snprintf(fixture.path, sizeof fixture.path, "%s/lines", fixture.folder);
    snprintf(fixture.other, sizeof fixture.other, "%s/other", fixture.folder);
    signal(SIGXFSZ, SIG_IGN); /* a file may not grow beyond a limit: then it is an error, as a full disk is one */
    *state = &fixture;
    return 0;
}

static void limit_files(rlim_t bytes)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    limit_files(RLIM_INFINITY);
    record_close(&fixture->record);
    unlink(fixture->path);
    unlink(fixture->other);
    if (rmdir(fixture->folder) != 0)
        return -1;
    return fixture->context.memory.bytes_total == 0 ? 0 : -1;
}

static void begin(struct fixture *fixture)
{
    assert_ok(&fixture->context, record_open(&fixture->context, fixture->path, 9, &fixture->record));
}

static void add(struct fixture *fixture, int from, int to)
{
    for (int i = from; i <= to; i++)
        assert_ok(&fixture->context, record_add(fixture->record, json_form("{s:i}", "n", i)));
}

/* How many lines the file has, which are those of the numbers from 1 on, whole and in order, behind `head`. */
static int lines_in(const char *path, const char *head)
{
    char line[256];
    char expected[256];
    int count = 0;
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    for (size_t i = 0; i < strlen(head); i++)
        assert_int_equal(fgetc(file), head[i]);
    while (fgets(line, sizeof line, file)) {
        snprintf(expected, sizeof expected, "{\"n\":%d}\n", ++count);
        assert_string_equal(line, expected);
    }
    fclose(file);
    return count;
}

static int lines(const struct fixture *fixture)
{
    return lines_in(fixture->path, "");
}

static bool all_are_in(struct fixture *fixture, int count)
{
    for (double end = clock_seconds() + 20.0; clock_seconds() < end; usleep(10000)) {
        record_retry(fixture->record);
        if (access(fixture->path, F_OK) == 0 && lines(fixture) == count)
            return true;
    }
    return false;
}

static void each_line_is_written_at_once(void **state)
{
    struct fixture *fixture = *state;
    begin(fixture);
    for (int i = 1; i <= 20; i++) {
        add(fixture, i, i);
        assert_int_equal(lines(fixture), i);
    }
}

static void what_does_not_fit_waits(void **state)
{
    struct fixture *fixture = *state;
    begin(fixture);
    for (int from = 1; from < 2000; from += 500) {
        struct stat before;
        limit_files((rlim_t)(from * 9 + 100));
        add(fixture, from, from + 499);
        int written = lines(fixture); /* and no half line */
        assert_true(written >= from - 1 && written < from + 499);
        assert_int_equal(stat(fixture->path, &before), 0);
        limit_files(RLIM_INFINITY);
        assert_true(all_are_in(fixture, from + 499));
    }
    /* Told by the line that comes next, too. */
    limit_files(100);
    add(fixture, 2001, 2002);
    limit_files(RLIM_INFINITY);
    usleep(50000);
    add(fixture, 2003, 2003);
    assert_int_equal(lines(fixture), 2003); /* a try that fails at once is soon made again */
    /* And at the end, without waiting. */
    limit_files(100);
    add(fixture, 2004, 2005);
    limit_files(RLIM_INFINITY);
    record_close(&fixture->record);
    assert_int_equal(lines(fixture), 2005);
}

static void a_disk_that_stays_full_is_no_error(void **state)
{
    struct fixture *fixture = *state;
    assert_ok(&fixture->context, record_open(&fixture->context, "/dev/full", 9, &fixture->record));
    add(fixture, 1, 1000);
    record_close(&fixture->record);
    assert_int_equal(fixture->context.status, STATUS_OK);
}

/* More than may wait: the first of them are there in the end, and memory is not filled with the rest. */
static void waiting_has_a_limit(void **state)
{
    enum { LONG = 1 << 20, COUNT = 70 };
    struct fixture *fixture = *state;
    char *text = malloc(LONG + 1);
    memset(text, 'x', LONG);
    text[LONG] = '\0';
    begin(fixture);
    limit_files(10);
    for (int i = 0; i < COUNT; i++)
        assert_ok(&fixture->context, record_add(fixture->record, json_form("{s:s}", "text", text)));
    free(text);
    assert_true(fixture->context.memory.bytes_total <= 65 << 20);
    limit_files(RLIM_INFINITY);
    record_close(&fixture->record);
    struct stat entry;
    assert_int_equal(stat(fixture->path, &entry), 0);
    assert_int_equal(entry.st_size, 63 * (LONG + strlen("{\"text\":\"\"}\n")));
}

static void a_file_that_was_removed_is_made_again(void **state)
{
    struct fixture *fixture = *state;
    char gone[80];
    begin(fixture);
    add(fixture, 1, 3000);
    unlink(fixture->path);
    add(fixture, 3001, 3001);
    assert_int_equal(lines(fixture), 3001);
    /* With its folder, which comes back empty. */
    unlink(fixture->path);
    snprintf(gone, sizeof gone, "%s.gone", fixture->folder);
    assert_int_equal(rename(fixture->folder, gone), 0);
    add(fixture, 3002, 3003);
    assert_int_equal(rmdir(gone), 0);
    assert_int_equal(mkdir(fixture->folder, 0777), 0);
    assert_true(all_are_in(fixture, 3003));
    /* On a disk that has no room for all of it, no part of it comes. */
    unlink(fixture->path);
    limit_files(200);
    add(fixture, 3004, 3004);
    assert_int_not_equal(access(fixture->path, F_OK), 0);
    limit_files(RLIM_INFINITY);
    assert_true(all_are_in(fixture, 3004));
}

static void a_file_that_took_its_place_is_gone_on_with(void **state)
{
    struct fixture *fixture = *state;
    begin(fixture);
    add(fixture, 1, 5);
    FILE *file = fopen(fixture->other, "w");
    fputs("edited\n", file);
    fclose(file);
    assert_int_equal(rename(fixture->other, fixture->path), 0);
    add(fixture, 1, 1);
    assert_int_equal(lines_in(fixture->path, "edited\n"), 1);
}

static void half_a_line_is_ended_first(void **state)
{
    struct fixture *fixture = *state;
    FILE *file = fopen(fixture->path, "w");
    fputs("{\"hal", file);
    fclose(file);
    begin(fixture);
    limit_files(5);
    add(fixture, 1, 1);
    limit_files(RLIM_INFINITY);
    usleep(1100000);
    add(fixture, 2, 2);
    assert_int_equal(lines_in(fixture->path, "{\"hal\n"), 2);
    record_close(&fixture->record);
    begin(fixture);
    add(fixture, 3, 3);
    assert_int_equal(lines_in(fixture->path, "{\"hal\n"), 3);
}

static void what_can_never_be_written_is_refused(void **state)
{
    struct fixture *fixture = *state;
    assert_fails(&fixture->context, record_open(&fixture->context, "/nowhere/lines", 9, &fixture->record), STATUS_FILE,
                 "/nowhere/lines: cannot open it: No such file");
    record_close(&fixture->record);
    assert_fails(&fixture->context, record_open(&fixture->context, fixture->folder, 9, &fixture->record), STATUS_FILE,
                 "cannot open it: Is a directory");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_line_is_written_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_does_not_fit_waits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_disk_that_stays_full_is_no_error, set_up, tear_down),
        cmocka_unit_test_setup_teardown(waiting_has_a_limit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_file_that_was_removed_is_made_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_file_that_took_its_place_is_gone_on_with, set_up, tear_down),
        cmocka_unit_test_setup_teardown(half_a_line_is_ended_first, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_can_never_be_written_is_refused, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
