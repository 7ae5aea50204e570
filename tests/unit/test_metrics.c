#include "tests/support/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/metrics/metrics.h"

struct fixture {
    struct context context;
    char path[64];
};

static int set_up(void **state)
{
    static struct fixture fixture;
    context_create(&fixture.context);
    strcpy(fixture.path, "/tmp/cairn-metrics-XXXXXX");
    int file = mkstemp(fixture.path);
    close(file);
    *state = &fixture;
    return file < 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    unlink(fixture->path);
    return fixture->context.memory.bytes_total == 0 ? 0 : -1;
}

static void write_steps(struct fixture *fixture, int64_t after, int from, int to)
{
    struct metrics *metrics;
    assert_ok(&fixture->context, metrics_open(&fixture->context, fixture->path, after, &metrics));
    for (int step = from; step <= to; step++) {
        const struct metrics_field fields[] = {{"step", step, true}, {"loss", 0.1 * step, false}};
        assert_ok(&fixture->context, metrics_write(metrics, fields, 2));
    }
    metrics_close(&metrics);
}

static void expect_file(struct fixture *fixture, const char *expected)
{
    char text[1024] = {0};
    FILE *file = fopen(fixture->path, "r");
    size_t length = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    assert_true(length < sizeof text - 1);
    assert_string_equal(text, expected);
}

static void lines_are_objects(void **state)
{
    struct fixture *fixture = *state;
    struct metrics *metrics;
    assert_ok(&fixture->context, metrics_open(&fixture->context, fixture->path, 0, &metrics));
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
    assert_ok(&fixture->context, metrics_open(&fixture->context, fixture->path, 0, &metrics));
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
        assert_ok(&fixture->context, metrics_open(&fixture->context, fixture->path, step - 1, &metrics));
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

static void a_half_written_line_is_cut_off(void **state)
{
    struct fixture *fixture = *state;
    write_steps(fixture, 0, 1, 2);
    FILE *file = fopen(fixture->path, "a");
    fputs("{\"step\":2,\"lo", file);
    fclose(file);
    write_steps(fixture, 2, 3, 3);
    expect_file(fixture, "{\"step\":1,\"loss\":0.1}\n{\"step\":2,\"loss\":0.2}\n{\"step\":3,\"loss\":0.3}\n");
}

static void an_evaluation_of_the_last_step_is_known(void **state)
{
    struct fixture *fixture = *state;
    struct metrics *metrics;
    write_steps(fixture, 0, 1, 3);
    assert_ok(&fixture->context, metrics_open(&fixture->context, fixture->path, 3, &metrics));
    assert_true(metrics_seen(metrics, "loss"));
    assert_false(metrics_seen(metrics, "validation_loss"));
    const struct metrics_field fields[] = {{"step", 3, true}, {"validation_loss", 1.5, false}};
    assert_ok(&fixture->context, metrics_write(metrics, fields, 2));
    metrics_close(&metrics);
    assert_ok(&fixture->context, metrics_open(&fixture->context, fixture->path, 3, &metrics));
    assert_true(metrics_seen(metrics, "validation_loss"));
    metrics_close(&metrics);
    assert_ok(&fixture->context, metrics_open(&fixture->context, fixture->path, 2, &metrics));
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
          "{\"step\":7,\"validation_loss\":3}\n{\"step\":8,\"loss\":1}",
          file);
    fclose(file);
    assert_ok(&fixture->context, metrics_read(&fixture->context, fixture->path, note, &text, &seen));
    assert_string_equal(text.text, "1 loss 2.5 2.5 2.5\n1 gates 0.5 0.25 0.75\n7 validation_loss 3 3 3\n");
    assert_int_equal(seen.lines, 2);
    assert_int_equal(seen.broken, 5);
    assert_fails(&fixture->context, metrics_read(&fixture->context, "/nowhere", note, &text, &seen), STATUS_FILE,
                 "/nowhere: cannot be read: No such file");
    assert_fails(&fixture->context, metrics_read(&fixture->context, "/tmp", note, &text, &seen), STATUS_FILE,
                 "/tmp: cannot be read: Is a directory");
}

static void failures_name_the_file(void **state)
{
    struct fixture *fixture = *state;
    struct metrics *metrics = NULL;
    assert_fails(&fixture->context, metrics_open(&fixture->context, "/nowhere/metrics.jsonl", 0, &metrics), STATUS_FILE,
                 "/nowhere/metrics.jsonl: cannot open it: No such file");
    metrics_close(&metrics);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(lines_are_objects, set_up, tear_down),
        cmocka_unit_test_setup_teardown(lists_have_five_digits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(lines_of_any_length_are_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_resumed_run_neither_repeats_nor_loses_a_step, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_half_written_line_is_cut_off, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_evaluation_of_the_last_step_is_known, set_up, tear_down),
        cmocka_unit_test_setup_teardown(starting_anew_empties_the_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(readers_see_every_number, set_up, tear_down),
        cmocka_unit_test_setup_teardown(failures_name_the_file, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
