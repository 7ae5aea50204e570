#include "tests/support/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "io/metrics/metrics.h"

struct fixture {
    struct context context;
    char path[64];
    char damaged[80], aside[80];
};

static int set_up(void **state)
{
    static struct fixture fixture;
    context_create(&fixture.context);
    strcpy(fixture.path, "/tmp/cairn-metrics-XXXXXX");
    int file = mkstemp(fixture.path);
    close(file);
    snprintf(fixture.damaged, sizeof fixture.damaged, "%s.damaged", fixture.path);
    snprintf(fixture.aside, sizeof fixture.aside, "%s.1", fixture.path);
    fixture.context.quiet = true;
    *state = &fixture;
    return file < 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    unlink(fixture->path);
    unlink(fixture->damaged);
    unlink(fixture->aside);
    return fixture->context.memory.bytes_total == 0 ? 0 : -1;
}

static void write_steps(struct fixture *fixture, int64_t after, int from, int to)
{
    struct metrics *metrics;
    assert_ok(&fixture->context, metrics_open(&fixture->context, fixture->path, after, NULL, &metrics));
    for (int step = from; step <= to; step++) {
        const struct metrics_field fields[] = {{"step", step, true}, {"loss", 0.1 * step, false}};
        assert_ok(&fixture->context, metrics_write(metrics, fields, 2));
    }
    metrics_close(&metrics);
}

/* Without the times of day. */
static void expect_text(const char *path, const char *expected)
{
    char text[4096] = {0};
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    size_t length = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    assert_true(length < sizeof text - 1);
    for (char *time = strstr(text, ",\"time\":\""); time; time = strstr(text, ",\"time\":\"")) {
        char *end = strchr(time + 9, '"');
        assert_non_null(end);
        memmove(time, end + 1, strlen(end + 1) + 1);
    }
    assert_string_equal(text, expected);
}

static void expect_file(struct fixture *fixture, const char *expected)
{
    expect_text(fixture->path, expected);
}

static void write_text(const char *path, const char *text, size_t length)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, length, file), length);
    fclose(file);
}

static void expect_no_file(const char *path)
{
    if (access(path, F_OK) == 0)
        fail_msg("%s is there", path);
}

static void pass_over(void *self, int64_t step, const char *name, const struct metrics_value *value)
{
    (void)self;
    (void)step;
    (void)name;
    (void)value;
}

static void lines_are_objects(void **state)
{
    struct fixture *fixture = *state;
    struct metrics *metrics;
    assert_ok(&fixture->context, metrics_open(&fixture->context, fixture->path, 0, NULL, &metrics));
    const struct metrics_field fields[] = {
        {"step", 3, true}, {"loss", 2.5, false}, {"bad", NAN, false}, {"tokens", 1e12, true}};
    assert_ok(&fixture->context, metrics_write(metrics, fields, 4));
    /* Flushed with each line: whoever looks sees it before the file is closed. */
    expect_file(fixture,
                "{\"step\":3,\"loss\":2.5,\"bad\":null,\"bad_reason\":\"not a number\",\"tokens\":1000000000000}\n");
    metrics_close(&metrics);
}

static void lists_have_five_digits(void **state)
{
    struct fixture *fixture = *state;
    struct metrics *metrics;
    const double whole[] = {0, 123456789};
    const double other[] = {1.0 / 3.0, -123.456789, NAN, 1e300};
    const struct metrics_field fields[] = {{"step", 1, true}};
    const struct metrics_list lists[] = {{"whole", whole, 2}, {"other", other, 4}, {"none", NULL, 0}};
    assert_ok(&fixture->context, metrics_open(&fixture->context, fixture->path, 0, NULL, &metrics));
    assert_ok(&fixture->context, metrics_write_lists(metrics, fields, 1, lists, 3));
    metrics_close(&metrics);
    expect_file(fixture, "{\"step\":1,\"whole\":[0,123456789],\"other\":[0.33333,-123.46,null,1e300],\"none\":[]}\n");
}

static void lines_of_any_length_are_kept(void **state)
{
    enum { COUNT = 3000 };
    static double values[COUNT];
    struct fixture *fixture = *state;
    struct metrics *metrics;
    const struct metrics_list list = {"values", values, COUNT};
    for (int64_t step = 1; step <= 3; step++) {
        /* Opened again for each: what was there stays. */
        const struct metrics_field fields[] = {{"step", (double)step, true}};
        assert_ok(&fixture->context, metrics_open(&fixture->context, fixture->path, step - 1, NULL, &metrics));
        assert_ok(&fixture->context, metrics_write_lists(metrics, fields, 1, &list, 1));
        metrics_close(&metrics);
    }
    FILE *file = fopen(fixture->path, "r");
    int lines = 0;
    for (int c = fgetc(file); c != EOF; c = fgetc(file))
        lines += c == '\n';
    fclose(file);
    assert_int_equal(lines, 3);
}

static void a_resumed_run_neither_repeats_nor_loses_a_step(void **state)
{
    struct fixture *fixture = *state;
    write_steps(fixture, 0, 1, 5);
    write_steps(fixture, 3, 4, 6);
    expect_file(fixture, "{\"step\":1,\"loss\":0.1}\n{\"step\":2,\"loss\":0.2}\n{\"step\":3,\"loss\":0.3}\n"
                         "{\"step\":4,\"loss\":0.4}\n{\"step\":5,\"loss\":0.5}\n{\"step\":6,\"loss\":0.6}\n");
}

#define LINE(step) "{\"step\":" #step ",\"loss\":0." #step "}\n"

/* What is damaged does not take with it what is not, and is kept. */
static void damage_is_kept_aside(void **state)
{
    struct fixture *fixture = *state;
    static const struct {
        const char *text;
        size_t length;
        const char *kept, *damaged; /* NULL: nothing is */
    } cases[] = {
#define CASE(text, kept, damaged) {text, sizeof text - 1, kept, damaged}
        CASE(LINE(1) " \n" LINE(2) LINE(3), LINE(1) LINE(2) LINE(3), " \n"),
        CASE(LINE(1) "\n" LINE(3), LINE(1) LINE(3), "\n"),
        CASE("junk\n" LINE(1) "{\"step\":2,\"lo\n" LINE(3), LINE(1) LINE(3), "junk\n{\"step\":2,\"lo\n"),
        CASE(LINE(1) "{\"loss\":1}\n" LINE(3), LINE(1) LINE(3), "{\"loss\":1}\n"),
        CASE(LINE(1) "[1,2]\n{\"step\":-2}\n{\"step\":1.5}\n" LINE(3), LINE(1) LINE(3),
             "[1,2]\n{\"step\":-2}\n{\"step\":1.5}\n"),
        /* Half a line that another was written behind, and two without an end between them. */
        CASE(LINE(1) "{\"step\":2,\"lo" LINE(3), LINE(1) LINE(3), "{\"step\":2,\"lo\n"),
        CASE(LINE(1) "{\"step\":2,\"loss\":0.2}" LINE(3), LINE(1) LINE(2) LINE(3), NULL),
        /* Blocks that a disk lost. */
        CASE(LINE(1) "\0\0\0" LINE(3), LINE(1) LINE(3), ""),
        CASE(LINE(1) "{\"step\":2,\"lo\0\0ss\":0.2}\n" LINE(3), LINE(1) LINE(3), "{\"step\":2,\"lo"),
        /* What is no damage: the ends of lines of other systems, one that is missing, later steps in any state. */
        CASE("{\"step\":1,\"loss\":0.1}\r\n" LINE(3), "{\"step\":1,\"loss\":0.1}\r\n" LINE(3), NULL),
        CASE(LINE(1) "{\"step\":3,\"loss\":0.3}", LINE(1) LINE(3), NULL),
        CASE(LINE(1) LINE(3) "{\"step\":4,\"lo", LINE(1) LINE(3), NULL),
        CASE(LINE(1) LINE(3) LINE(4) "{\"step\":5,\"lo", LINE(1) LINE(3), NULL),
        CASE(LINE(1) LINE(4) LINE(2) LINE(3), LINE(1) LINE(2) LINE(3), NULL),
        /* Half a line of a step that is not done anew is damage. */
        CASE(LINE(1) LINE(3) "{\"step\":3,\"validation_lo", LINE(1) LINE(3), "{\"step\":3,\"validation_lo\n"),
        CASE(LINE(1) LINE(3) "{\"step\":4", LINE(1) LINE(3), "{\"step\":4\n"),
        CASE(LINE(1) LINE(3) "{\"step\":4}, ", LINE(1) LINE(3), "{\"step\":4}, \n"),
        /* Later steps among damage. */
        CASE("junk\n" LINE(4) LINE(3), LINE(3), "junk\n"),
        CASE("", "", NULL),
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char all[1024];
        write_text(fixture->path, cases[i].text, cases[i].length);
        unlink(fixture->damaged);
        write_steps(fixture, 3, 9, 9);
        snprintf(all, sizeof all, "%s{\"step\":9,\"loss\":0.9}\n", cases[i].kept);
        expect_file(fixture, all);
        if (cases[i].damaged)
            expect_text(fixture->damaged, cases[i].damaged);
        else
            expect_no_file(fixture->damaged);
    }
    expect_no_file(fixture->aside);
}

/* Each byte of the file in turn. */
static void one_wrong_byte_costs_one_line(void **state)
{
    struct fixture *fixture = *state;
    static const char whole[] = LINE(1) LINE(2) LINE(3);
    for (size_t at = 0; at + 1 < sizeof whole; at++) {
        char text[sizeof whole];
        struct metrics_seen seen;
        memcpy(text, whole, sizeof whole);
        text[at] = '\0';
        write_text(fixture->path, text, sizeof text - 1);
        write_steps(fixture, 3, 4, 4);
        assert_ok(&fixture->context, metrics_read(&fixture->context, fixture->path, pass_over, NULL, &seen));
        assert_int_equal(seen.broken, 0);
        assert_in_range(seen.lines, 3, 4); /* the end of a line may be missing */
    }
}

static void damage_adds_up(void **state)
{
    struct fixture *fixture = *state;
    static const char one[] = LINE(1) "one\n";
    static const char two[] = LINE(1) "two\n";
    write_text(fixture->path, one, sizeof one - 1);
    write_steps(fixture, 1, 2, 2);
    write_text(fixture->path, two, sizeof two - 1);
    write_steps(fixture, 1, 2, 2);
    expect_text(fixture->damaged, "one\ntwo\n");
    expect_file(fixture, LINE(1) LINE(2));
}

/* A run that is told to go back keeps what it leaves. */
static void later_steps_are_set_aside_where_asked(void **state)
{
    struct fixture *fixture = *state;
    struct metrics *metrics;
    write_steps(fixture, 0, 1, 5);
    assert_ok(&fixture->context, metrics_open(&fixture->context, fixture->path, 3, fixture->aside, &metrics));
    metrics_close(&metrics);
    expect_file(fixture, LINE(1) LINE(2) LINE(3));
    expect_text(fixture->aside, LINE(4) LINE(5));
    unlink(fixture->aside);
    assert_ok(&fixture->context, metrics_open(&fixture->context, fixture->path, 3, fixture->aside, &metrics));
    metrics_close(&metrics);
    expect_no_file(fixture->aside);
}

/* Where no other file can be made, as on a full disk, only what will be done anew is cut off, and that only where it is
 * not to be kept. */
static void a_file_that_cannot_be_written_anew_stays(void **state)
{
    struct fixture *fixture = *state;
    struct metrics *metrics;
    static const char text[] = LINE(1) "junk\n" LINE(4) LINE(2) LINE(5);
    char partial[96];
    snprintf(partial, sizeof partial, "%s.partial", fixture->path);
    assert_int_equal(mkdir(partial, 0700), 0);
    for (int aside = 0; aside < 2; aside++) {
        write_text(fixture->path, text, sizeof text - 1);
        assert_ok(&fixture->context,
                  metrics_open(&fixture->context, fixture->path, 3, aside ? fixture->aside : NULL, &metrics));
        metrics_close(&metrics);
        expect_file(fixture, aside ? text : LINE(1) "junk\n" LINE(4) LINE(2));
    }
    assert_int_equal(rmdir(partial), 0);
}

static void a_line_of_megabytes_is_one_line(void **state)
{
    enum { LONG = 3 << 20, TOO_LONG = 17 << 20 };
    struct fixture *fixture = *state;
    struct metrics_seen seen;
    for (int good = 1; good >= 0; good--) {
        FILE *file = fopen(fixture->path, "w");
        fputs(LINE(1), file);
        fputs("{\"step\":2,\"text\":\"", file);
        for (int i = 0; i < (good ? LONG : TOO_LONG); i++)
            fputc('x', file);
        fputs("\"}\n" LINE(3), file);
        fclose(file);
        assert_ok(&fixture->context, metrics_read(&fixture->context, fixture->path, pass_over, NULL, &seen));
        assert_int_equal(seen.lines, good ? 3 : 2);
        write_steps(fixture, 3, 4, 4);
        assert_ok(&fixture->context, metrics_read(&fixture->context, fixture->path, pass_over, NULL, &seen));
        assert_int_equal(seen.lines, good ? 4 : 3);
        assert_int_equal(seen.broken, 0);
        assert_int_equal(access(fixture->damaged, F_OK) == 0, !good);
    }
}

/* To the thousandth of a second. */
static void time_now(char text[32])
{
    struct timeval now;
    struct tm utc;
    char second[24];
    gettimeofday(&now, NULL);
    strftime(second, sizeof second, "%Y-%m-%dT%H:%M:%S", gmtime_r(&now.tv_sec, &utc));
    snprintf(text, 32, "%s.%03dZ", second, (int)(now.tv_usec / 1000) % 1000);
}

static void lines_have_the_time_of_day(void **state)
{
    struct fixture *fixture = *state;
    char text[256] = "";
    char now[2][32];
    time_now(now[0]);
    write_steps(fixture, 0, 1, 1);
    time_now(now[1]);
    FILE *file = fopen(fixture->path, "r");
    assert_non_null(fgets(text, sizeof text, file));
    fclose(file);
    char *found = strstr(text, "\"time\":\"");
    assert_non_null(found);
    found += strlen("\"time\":\"");
    assert_string_equal(found + strlen(now[0]), "\"}\n");
    found[strlen(now[0])] = '\0';
    assert_true(strcmp(found, now[0]) >= 0 && strcmp(found, now[1]) <= 0);
}

static void an_evaluation_of_the_last_step_is_known(void **state)
{
    struct fixture *fixture = *state;
    struct metrics *metrics;
    write_steps(fixture, 0, 1, 3);
    assert_ok(&fixture->context, metrics_open(&fixture->context, fixture->path, 3, NULL, &metrics));
    assert_true(metrics_seen(metrics, "loss"));
    assert_false(metrics_seen(metrics, "validation_loss"));
    const struct metrics_field fields[] = {{"step", 3, true}, {"validation_loss", 1.5, false}};
    assert_ok(&fixture->context, metrics_write(metrics, fields, 2));
    metrics_close(&metrics);
    assert_ok(&fixture->context, metrics_open(&fixture->context, fixture->path, 3, NULL, &metrics));
    assert_true(metrics_seen(metrics, "validation_loss"));
    metrics_close(&metrics);
    assert_ok(&fixture->context, metrics_open(&fixture->context, fixture->path, 2, NULL, &metrics));
    assert_false(metrics_seen(metrics, "validation_loss"));
    metrics_close(&metrics);
}

static void starting_anew_empties_the_file(void **state)
{
    struct fixture *fixture = *state;
    write_steps(fixture, 0, 1, 4);
    write_steps(fixture, 0, 1, 1);
    expect_file(fixture, "{\"step\":1,\"loss\":0.1}\n");
}

/* What a reader saw, as text. */
struct seen_text {
    char text[1024];
    size_t used;
};

static void note(void *self, int64_t step, const char *name, const struct metrics_value *value)
{
    struct seen_text *seen = self;
    seen->used += (size_t)snprintf(seen->text + seen->used, sizeof seen->text - seen->used, "%lld %s %g %g %g\n",
                                   (long long)step, name, value->mean, value->low, value->high);
}

static void readers_see_every_number(void **state)
{
    struct fixture *fixture = *state;
    struct metrics_seen seen;
    struct seen_text text = {.used = 0};
    FILE *file = fopen(fixture->path, "w");
    fputs("{\"step\":1,\"loss\":2.5,\"bad\":null,\"gates\":[0.25,null,0.75],\"none\":[],\"word\":\"x\"}\n"
          "not JSON\n{\"loss\":1}\n{\"step\":-3,\"loss\":1}\n{\"step\":\"2\",\"loss\":1}\n\n"
          "{\"step\":7,\"validation_loss\":3}\n{\"step\":8,\"loss\":1}\n{\"step\":9,\"lo",
          file);
    fclose(file);
    assert_ok(&fixture->context, metrics_read(&fixture->context, fixture->path, note, &text, &seen));
    assert_string_equal(text.text,
                        "1 loss 2.5 2.5 2.5\n1 gates 0.5 0.25 0.75\n7 validation_loss 3 3 3\n8 loss 1 1 1\n");
    assert_int_equal(seen.lines, 3);
    assert_int_equal(seen.broken, 5);
    assert_fails(&fixture->context, metrics_read(&fixture->context, "/nowhere", note, &text, &seen), STATUS_FILE,
                 "/nowhere: cannot be read: No such file");
    assert_fails(&fixture->context, metrics_read(&fixture->context, "/tmp", note, &text, &seen), STATUS_FILE,
                 "/tmp: cannot be read: Is a directory");
}

/* The last of several lines of history is shown, each step once. */
static void readers_see_each_step_once(void **state)
{
    struct fixture *fixture = *state;
    static const struct {
        const char *text, *shown;
        int replaced;
    } cases[] = {
        {"{\"step\":1,\"loss\":1}\n{\"step\":2,\"loss\":2}\n{\"step\":3,\"loss\":3}\n{\"step\":2,\"loss\":5}\n",
         "1 loss 1 1 1\n2 loss 5 5 5\n", 2},
        {"{\"step\":1,\"loss\":1}\n{\"step\":1,\"loss\":1}\n{\"step\":2,\"loss\":2}\n", "1 loss 1 1 1\n2 loss 2 2 2\n",
         1},
        {"{\"step\":1,\"loss\":1}\n{\"step\":1,\"eval\":7}\n{\"step\":1,\"loss\":2}\n{\"step\":1,\"eval\":8}\n",
         "1 loss 2 2 2\n1 eval 8 8 8\n", 2},
        {"{\"step\":1,\"loss\":1}\n{\"step\":2,\"loss\":2}\n{\"step\":1,\"eval\":7}\n{\"step\":2,\"loss\":3}\n",
         "1 loss 1 1 1\n1 eval 7 7 7\n2 loss 3 3 3\n", 1},
        {"{\"step\":1,\"loss\":1}\n{\"step\":1,\"eval\":7}\n{\"step\":1,\"save\":8}\n",
         "1 loss 1 1 1\n1 eval 7 7 7\n1 save 8 8 8\n", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct metrics_seen seen;
        struct seen_text text = {.used = 0};
        write_text(fixture->path, cases[i].text, strlen(cases[i].text));
        assert_ok(&fixture->context, metrics_read(&fixture->context, fixture->path, note, &text, &seen));
        assert_string_equal(text.text, cases[i].shown);
        assert_int_equal(seen.replaced, cases[i].replaced);
    }
}

static void failures_name_the_file(void **state)
{
    struct fixture *fixture = *state;
    struct metrics *metrics = NULL;
    assert_fails(&fixture->context, metrics_open(&fixture->context, "/nowhere/metrics.jsonl", 0, NULL, &metrics),
                 STATUS_FILE, "/nowhere/metrics.jsonl: cannot open it: No such file");
    metrics_close(&metrics);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(lines_are_objects, set_up, tear_down),
        cmocka_unit_test_setup_teardown(lists_have_five_digits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(lines_of_any_length_are_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_resumed_run_neither_repeats_nor_loses_a_step, set_up, tear_down),
        cmocka_unit_test_setup_teardown(damage_is_kept_aside, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_wrong_byte_costs_one_line, set_up, tear_down),
        cmocka_unit_test_setup_teardown(damage_adds_up, set_up, tear_down),
        cmocka_unit_test_setup_teardown(later_steps_are_set_aside_where_asked, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_file_that_cannot_be_written_anew_stays, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_line_of_megabytes_is_one_line, set_up, tear_down),
        cmocka_unit_test_setup_teardown(lines_have_the_time_of_day, set_up, tear_down),
        cmocka_unit_test_setup_teardown(readers_see_each_step_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_evaluation_of_the_last_step_is_known, set_up, tear_down),
        cmocka_unit_test_setup_teardown(starting_anew_empties_the_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(readers_see_every_number, set_up, tear_down),
        cmocka_unit_test_setup_teardown(failures_name_the_file, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
