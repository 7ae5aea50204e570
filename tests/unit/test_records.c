/* Files of lines that wait for a disk which takes no more. */
#include "tests/support/support.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "io/json/json.h"
#include "io/records/records.h"

static bool cuts_nothing; /* a file system that cannot shorten files */

int ftruncate(int file, off_t length)
{
    if (!cuts_nothing)
        return (int)syscall(SYS_ftruncate, file, length);
    errno = EPERM;
    return -1;
}

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
    cuts_nothing = false;
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

/* Adds so many lines that have to wait until there is room, and takes what is said meanwhile. */
static void wait_and_write(struct fixture *fixture, int count, char *text, size_t size)
{
    int log[2]; /* a pipe, which the limit of files is not for */
    int before = dup(STDERR_FILENO);
    size_t length = 0;
    assert_int_equal(pipe(log), 0);
    assert_int_equal(fcntl(log[0], F_SETFL, O_NONBLOCK), 0);
    fixture->context.quiet = false;
    limit_files(10);
    assert_true(dup2(log[1], STDERR_FILENO) >= 0);
    add(fixture, 1, count);
    limit_files(RLIM_INFINITY);
    text[0] = '\0';
    for (double end = clock_seconds() + 20.0; clock_seconds() < end && !strstr(text, "again"); usleep(10000)) {
        record_retry(fixture->record);
        ssize_t more = read(log[0], text + length, size - 1 - length);
        length += more > 0 ? (size_t)more : 0;
        text[length] = '\0';
    }
    assert_true(dup2(before, STDERR_FILENO) >= 0);
    fixture->context.quiet = true;
    close(log[0]);
    close(log[1]);
    close(before);
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
    struct stat entry = {0};
    const off_t bytes = 63 * (LONG + (off_t)strlen("{\"text\":\"\"}\n"));
    for (double end = clock_seconds() + 20.0; clock_seconds() < end && entry.st_size < bytes; usleep(10000)) {
        record_retry(fixture->record);
        assert_int_equal(stat(fixture->path, &entry), 0);
    }
    assert_int_equal(entry.st_size, bytes);
    /* What was lost then is not told again. */
    char said[1024];
    wait_and_write(fixture, 1, said, sizeof said);
    assert_non_null(strstr(said, "lines: written again, with 1 lines that waited\n"));
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

/* The line that was ended belongs to what is not taken away again. */
static void half_a_line_is_counted(void **state)
{
    struct fixture *fixture = *state;
    FILE *file = fopen(fixture->path, "w");
    fputs("{\"hal", file);
    fclose(file);
    begin(fixture);
    add(fixture, 1, 1);
    limit_files(17);
    add(fixture, 2, 2);
    limit_files(RLIM_INFINITY);
    record_close(&fixture->record);
    assert_int_equal(lines_in(fixture->path, "{\"hal\n"), 2);
}

static void half_a_line_that_cannot_be_cut_is_ended(void **state)
{
    struct fixture *fixture = *state;
    begin(fixture);
    cuts_nothing = true;
    limit_files(5);
    add(fixture, 1, 1);
    limit_files(RLIM_INFINITY);
    record_close(&fixture->record);
    assert_int_equal(lines_in(fixture->path, "{\"n\":\n"), 1);
}

static void how_many_lines_waited_is_told(void **state)
{
    struct fixture *fixture = *state;
    char said[1024];
    begin(fixture);
    add(fixture, 1, 2);
    for (int round = 0; round < 2; round++) {
        wait_and_write(fixture, 3, said, sizeof said);
        assert_non_null(strstr(said, "lines: cannot be written: File too large; its lines wait in memory"));
        assert_non_null(strstr(said, "lines: written again, with 3 lines that waited\n"));
    }
}

/* -- Reading -- */

struct expected_piece {
    const char *text;
    int64_t begin, end;
    bool object, line, torn;
};

struct seen_pieces {
    const struct expected_piece *expected;
    int count, most; /* to be seen */
    int64_t longest;
};

static bool see(void *self, const struct record_piece *piece)
{
    struct seen_pieces *seen = self;
    const struct expected_piece *expected = &seen->expected[seen->count++];
    assert_int_equal(piece->length, strlen(expected->text));
    assert_memory_equal(piece->text, expected->text, piece->length);
    assert_int_equal(piece->begin, expected->begin);
    assert_int_equal(piece->end, expected->end);
    assert_int_equal(piece->object != NULL, expected->object);
    assert_int_equal(piece->line, expected->line);
    assert_int_equal(piece->torn, expected->torn);
    return seen->count < seen->most;
}

static void pieces_are_lines_and_what_is_whole_in_damaged_ones(void **state)
{
    static const struct expected_piece expected[] = {
        {"{\"a\":1}", 0, 8, true, true, false},     {"x", 8, 9, false, false, false},
        {"{\"a\":2}", 9, 16, true, false, false},   {"{\"a\":3}", 16, 24, true, false, false},
        {"[1]", 24, 28, false, true, false},        {"", 28, 29, false, true, false},
        {"yy", 29, 31, false, false, false},        {"{\"a\":4}", 31, 39, true, false, false},
        {"{\"a\":5}z", 39, 48, false, true, false}, {"{\"a\":{\"b\":6}}", 48, 62, true, true, false},
        {"{\"a\":", 62, 67, false, false, true}};
    struct fixture *fixture = *state;
    FILE *file = fopen(fixture->path, "w");
    fputs("{\"a\":1}\nx{\"a\":2}{\"a\":3}\n[1]\n\nyy{\"a\":4}\n{\"a\":5}z\n{\"a\":{\"b\":6}}\n{\"a\":", file);
    fclose(file);
    for (int most = 1; most <= 11; most++) {
        struct seen_pieces seen = {expected, 0, most, 0};
        assert_ok(&fixture->context, records_read(&fixture->context, fixture->path, see, &seen));
        assert_int_equal(seen.count, most);
    }
    assert_fails(&fixture->context, records_read(&fixture->context, fixture->folder, see, NULL), STATUS_FILE,
                 "cannot be read: Is a directory");
    assert_fails(&fixture->context, records_read(&fixture->context, fixture->other, see, NULL), STATUS_FILE,
                 "other: cannot be read: No such file");
}

static bool measure(void *self, const struct record_piece *piece)
{
    struct seen_pieces *seen = self;
    if ((int64_t)piece->length > seen->longest)
        seen->longest = (int64_t)piece->length;
    assert_null(piece->object);
    assert_int_equal(piece->torn, seen->count == 2);
    seen->count++;
    return true;
}

/* 40 MiB without an end: two pieces that are cut, and a rest. */
static void lines_have_a_limit(void **state)
{
    enum { MIB = 1 << 20 };
    struct fixture *fixture = *state;
    struct seen_pieces seen = {0};
#ifdef M_MMAP_THRESHOLD /* so that what was freed is not there to be taken again */
    (void)mallopt(M_MMAP_THRESHOLD, MIB / 2);
#endif
    char *block = malloc(MIB);
    memset(block, 'x', MIB);
    FILE *file = fopen(fixture->path, "w");
    for (int i = 0; i < 40; i++)
        assert_int_equal(fwrite(block, MIB, 1, file), 1);
    fclose(file);
    free(block);
    assert_ok(&fixture->context, records_read(&fixture->context, fixture->path, measure, &seen));
    assert_int_equal(seen.count, 3);
    assert_int_equal(seen.longest, 16 * MIB);
#ifndef __SANITIZE_ADDRESS__ /* which maps far more */
    struct rlimit before;
    struct rlimit limit = {0};
    long long pages = 0;
    file = fopen("/proc/self/statm", "r");
    assert_true(file && fscanf(file, "%lld", &pages) == 1);
    fclose(file);
    assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
    limit = before;
    limit.rlim_cur = (rlim_t)(pages * sysconf(_SC_PAGESIZE) + 8 * MIB);
    assert_int_equal(setrlimit(RLIMIT_AS, &limit), 0);
    enum status status = records_read(&fixture->context, fixture->path, measure, &seen);
    assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
    assert_fails(&fixture->context, status, STATUS_FILE, "cannot be read: Cannot allocate memory");
#endif
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
        cmocka_unit_test_setup_teardown(half_a_line_is_counted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(half_a_line_that_cannot_be_cut_is_ended, set_up, tear_down),
        cmocka_unit_test_setup_teardown(how_many_lines_waited_is_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(pieces_are_lines_and_what_is_whole_in_damaged_ones, set_up, tear_down),
        cmocka_unit_test_setup_teardown(lines_have_a_limit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_can_never_be_written_is_refused, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
