#include "tests/support/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "src/study/runs.h"
#include "src/study/series.h"

struct fixture {
    struct context context;
    char folder[64];
    char text[1 << 18]; /* of the file that was read last */
    struct series series;
    struct report_point points[SERIES_BINS];
};

static int set_up(void **state)
{
    static struct fixture fixture;
    context_create(&fixture.context);
    fixture.context.quiet = true;
    strcpy(fixture.folder, "/tmp/cairn-runs-XXXXXX");
    *state = &fixture;
    return mkdtemp(fixture.folder) ? 0 : -1;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", fixture->folder);
    return system(command) == 0 && fixture->context.memory.bytes_total == 0 ? 0 : -1;
}

/* -- Series -- */

static void add(struct series *series, int64_t step, double value)
{
    series_add(series, step, &(struct metrics_value){value, value, value});
}

static void short_runs_are_shown_as_they_are(void **state)
{
    struct fixture *fixture = *state;
    struct series *series = &fixture->series;
    series_create(series, "loss");
    for (int64_t step = 1000; step < 1000 + SERIES_BINS; step++)
        add(series, step, 0.5 * (double)step);
    assert_int_equal(series_points(series, 2.0, fixture->points), SERIES_BINS);
    for (int i = 0; i < SERIES_BINS; i++) {
        assert_true(fixture->points[i].x == 1000.0 + i);
        assert_true(fixture->points[i].y == 1000.0 + i && fixture->points[i].low == fixture->points[i].high);
    }
}

static void long_runs_keep_their_means_and_spikes(void **state)
{
    enum { STEPS = 1000000, SPIKE = 777777 };
    struct fixture *fixture = *state;
    struct series *series = &fixture->series;
    double sum = 0.0;
    series_create(series, "loss");
    for (int64_t step = 1; step <= STEPS; step++)
        add(series, step, step == SPIKE ? 50.0 : (double)(step % 2));
    int count = series_points(series, 1.0, fixture->points);
    assert_in_range(count, SERIES_BINS / 2, SERIES_BINS);
    int spikes = 0;
    for (int i = 0; i < count; i++) {
        const struct report_point *point = &fixture->points[i];
        int64_t steps = i + 1 < count ? series->width : STEPS - (count - 1) * series->width;
        sum += point->y * (double)steps;
        bool spike = point->high == 50.0;
        spikes += spike;
        if (spike)
            assert_true(point->x > SPIKE - 1000 && point->x < SPIKE + 1000);
        assert_true(point->low == 0.0 && (spike || point->high == 1.0));
        assert_true(i == 0 || point->x > point[-1].x);
    }
    assert_int_equal(spikes, 1);
    assert_close(sum, STEPS / 2 + 49.0, 1e-12, 0.0);
    assert_true(fixture->points[count - 1].x <= STEPS);
    assert_true(series->last == 0.0 && series->most == 50.0 && series->count == STEPS);
}

static void a_file_that_goes_back_is_no_disaster(void **state)
{
    struct fixture *fixture = *state;
    struct series *series = &fixture->series;
    series_create(series, "loss");
    add(series, 500, 1.0);
    add(series, 3, 2.0);
    add(series, INT64_MAX / 2, 3.0);
    assert_int_equal(series_points(series, 1.0, fixture->points), 2);
    assert_true(fixture->points[0].low == 1.0 && fixture->points[0].high == 2.0 && fixture->points[0].y == 1.5);
}

/* -- The page -- */

static void write_file(const struct fixture *fixture, const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", fixture->folder, name);
    FILE *file = fopen(path, "w");
    fputs(text, file);
    fclose(file);
}

static void assert_has(struct fixture *fixture, const char *name, const char *words)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", fixture->folder, name);
    FILE *file = fopen(path, "r");
    size_t length = file ? fread(fixture->text, 1, sizeof fixture->text - 1, file) : 0;
    fixture->text[length] = '\0';
    if (file)
        fclose(file);
    if (!strstr(fixture->text, words))
        fail_msg("%s lacks \"%s\"", name, words);
}

static enum status report(struct fixture *fixture, int count, char *printed, size_t size)
{
    static const char *const ends[] = {"a", "b/metrics.jsonl"};
    char names[2][128];
    const char *pointers[2];
    char output[128];
    for (int i = 0; i < count; i++) {
        snprintf(names[i], sizeof names[i], "%s/%s", fixture->folder, ends[i]);
        pointers[i] = names[i];
    }
    snprintf(output, sizeof output, "%s/out", fixture->folder);
    FILE *out = fmemopen(printed, size, "w");
    enum status status = runs_report(&fixture->context, pointers, count, output, out);
    fclose(out);
    return status;
}

static void make_folders(const struct fixture *fixture)
{
    char path[128];
    for (const char *name = "ab"; *name; name++) {
        snprintf(path, sizeof path, "%s/%c", fixture->folder, *name);
        mkdir(path, 0777);
    }
}

static void two_runs_are_compared(void **state)
{
    struct fixture *fixture = *state;
    char printed[4096] = "";
    make_folders(fixture);
    write_file(
        fixture, "a/metrics.jsonl",
        "{\"step\":10,\"tokens\":1000,\"loss\":4,\"seconds\":2,\"skipped\":0,\"loss_router\":0,\"new\":[1,3]}\n"
        "{\"step\":10,\"validation_loss\":2.5,\"time\":\"2026-02-28T23:59:58.750Z\"}\n"
        "{\"step\":20,\"tokens\":2000,\"loss\":3,\"seconds\":6.2,\"skipped\":1,\"loss_router\":0,\"new\":[2,4]}\n"
        "{\"step\":20,\"validation_loss\":2.75,\"time\":\"2026-03-01T01:30:00.250Z\"}\n{\"step\":30,\"lo");
    write_file(fixture, "a/starts.jsonl",
               "{\"start\":1,\"step\":0}\n{\"end\":2,\"step\":10}\n{\"start\":3,\"step\":10}\n");
    write_file(fixture, "a/config.yaml", "model: {vocabulary: 64, width: 32, layers: 2, heads: 2, hidden: 48}\n");
    write_file(fixture, "b/metrics.jsonl", "{\"step\":5,\"loss\":1}\n<broken & torn>\n");
    write_file(fixture, "b/config.yaml", "model: {vocabulary: 64, width: 32, layers: 3, heads: 2, hidden: 48}\n");
    assert_ok(&fixture->context, report(fixture, 2, printed, sizeof printed));
    /* 2 s for the first line, then 6.2 s for each of ten steps. */
    assert_has(fixture, "out/index.html",
               "/a</td>"
               "<td class=\"n\" data-head=\"steps\">20</td>"
               "<td class=\"n\" data-head=\"tokens\">2000</td>"
               "<td class=\"n\" data-head=\"loss\">3.0000</td>"
               "<td class=\"n\" data-head=\"held-out loss\">2.7500</td>"
               "<td class=\"n\" data-head=\"its best\">2.5000</td>"
               "<td class=\"n\" data-head=\"time in steps\">0h 01m 04s</td>"
               "<td class=\"n\" data-head=\"wall time\">1h 30m 02s</td>"
               "<td class=\"n\" data-head=\"tokens/s\"></td>"
               "<td class=\"n\" data-head=\"MFU %\"></td>"
               "<td class=\"n\" data-head=\"restarts\">1</td>"
               "<td class=\"n\" data-head=\"skipped steps\">1</td>");
    assert_has(fixture, "out/index.html", "<td>model.layers</td><td class=\"n\">2</td><td class=\"n\">3</td>");
    assert_has(fixture, "out/index.html", "1 lines are broken and left out");
    assert_has(fixture, "out/plots/loss.gnuplot", "$line0 << END\n10 4 4 4\n20 3 3 3\nEND\n");
    assert_has(fixture, "out/plots/loss.gnuplot", "$line1 << END\n10 2.5 2.5 2.5\n20 2.75 2.75 2.75\nEND\n");
    assert_has(fixture, "out/plots/loss.gnuplot", "$line2 << END\n5 1 1 1\nEND\n");
    assert_has(fixture, "out/plots/new.gnuplot", "$line0 << END\n10 2 1 3\n20 3 2 4\nEND\n");
    /* A loss of routers that are not there is no figure, nor is the time of day. */
    snprintf(printed, sizeof printed, "%s/out/plots/loss-router.gnuplot", fixture->folder);
    assert_int_not_equal(access(printed, F_OK), 0);
    snprintf(printed, sizeof printed, "%s/out/plots/time.gnuplot", fixture->folder);
    assert_int_not_equal(access(printed, F_OK), 0);
}

/* Leaves the names of the elements. */
static void drop_attributes(char *text)
{
    char *to = text;
    bool inside = false;
    for (const char *from = text; *from; from++) {
        inside = *from != '>' && (inside || (*from == ' ' && to > text + 2 && strncmp(to - 3, "<td", 3) == 0));
        if (!inside)
            *to++ = *from;
    }
    *to = '\0';
}

/* Of ten cats eight are taken for cats; mistakes stand by how often they are made, equal ones by their labels. */
static void mistakes_are_shown(void **state)
{
    struct fixture *fixture = *state;
    char printed[4096];
    make_folders(fixture);
    write_file(fixture, "a/metrics.jsonl", "{\"step\":1,\"loss\":2}\n");
    write_file(fixture, "a/confusion.csv",
               "label,cat,dog,\"owl, old\"\r\ncat,8,2,0\r\ndog,1,3,0\r\n\"owl, old\",2,5,3\r\n");
    assert_ok(&fixture->context, report(fixture, 1, printed, sizeof printed));
    assert_has(fixture, "out/index.html", "<h2>What ");
    drop_attributes(fixture->text);
    static const char *const rows[] = {"<td>cat</td><td>80.0</td><td>20.0</td><td></td><td>10</td>",
                                       "<td>dog</td><td>25.0</td><td>75.0</td><td></td><td>4</td>",
                                       "<td>owl, old</td><td>20.0</td><td>50.0</td><td>30.0</td><td>10</td>",
                                       "<tr><td>owl, old</td><td>dog</td><td>5</td><td>50.0</td></tr>\n"
                                       "<tr><td>cat</td><td>dog</td><td>2</td><td>20.0</td></tr>\n"
                                       "<tr><td>owl, old</td><td>cat</td><td>2</td><td>20.0</td></tr>\n"
                                       "<tr><td>dog</td><td>cat</td><td>1</td><td>25.0</td></tr>\n"};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (!strstr(fixture->text, rows[i]))
            fail_msg("the page lacks %s", rows[i]);
}

static void what_is_no_run_is_named(void **state)
{
    struct fixture *fixture = *state;
    char printed[4096];
    assert_fails(&fixture->context, report(fixture, 1, printed, sizeof printed), STATUS_FILE,
                 "/a/metrics.jsonl: cannot be read: No such file");
    make_folders(fixture);
    write_file(fixture, "a/metrics.jsonl", "");
    assert_fails(&fixture->context, report(fixture, 1, printed, sizeof printed), STATUS_FILE,
                 "/a/metrics.jsonl: has no line with a step yet");
    write_file(fixture, "a/metrics.jsonl", "some text\n");
    assert_fails(&fixture->context, report(fixture, 1, printed, sizeof printed), STATUS_FILE,
                 "/a/metrics.jsonl: has no line with a step; is it the metrics of a run?");
    write_file(fixture, "a/metrics.jsonl", "{\"step\":1,\"loss\":2}\n");
    write_file(fixture, "a/config.yaml", "model: {depths: 3}\n");
    assert_ok(&fixture->context, report(fixture, 1, printed, sizeof printed));
    assert_has(fixture, "out/index.html", "a/config.yaml:1: model.depths");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(short_runs_are_shown_as_they_are, set_up, tear_down),
        cmocka_unit_test_setup_teardown(long_runs_keep_their_means_and_spikes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_file_that_goes_back_is_no_disaster, set_up, tear_down),
        cmocka_unit_test_setup_teardown(two_runs_are_compared, set_up, tear_down),
        cmocka_unit_test_setup_teardown(mistakes_are_shown, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_no_run_is_named, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
