#include "tests/support/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/report/report.h"
#include "src/core/folder.h"

struct fixture {
    struct context context;
    char folder[64];
    char text[65536]; /* of the file that was read last */
};

static int set_up(void **state)
{
    static struct fixture fixture;
    context_create(&fixture.context);
    strcpy(fixture.folder, "/tmp/cairn-report-XXXXXX");
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

static const char *read_file(struct fixture *fixture, const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", fixture->folder, name);
    FILE *file = fopen(path, "r");
    if (!file)
        return NULL;
    size_t length = fread(fixture->text, 1, sizeof fixture->text - 1, file);
    fixture->text[length] = '\0';
    fclose(file);
    return fixture->text;
}

static bool has(struct fixture *fixture, const char *name, const char *words)
{
    const char *text = read_file(fixture, name);
    return text && strstr(text, words);
}

/* -- CSV -- */

static int read_text(const char *written, char *text, size_t size, char **cells, int most)
{
    FILE *file = fmemopen((void *)(uintptr_t)written, strlen(written), "r");
    int count = csv_read(file, text, size, cells, most);
    fclose(file);
    return count;
}

static void cells_survive_any_text(void **state)
{
    (void)state;
    static const char *const cells[] = {"plain", "", "a,b", "say \"yes\"", "two\nlines", "\"", "re\rturn", " spaces "};
    enum { COUNT = sizeof cells / sizeof *cells };
    char written[256] = "";
    char text[256];
    char *read[COUNT];
    FILE *out = fmemopen(written, sizeof written, "w");
    for (int i = 0; i < COUNT; i++)
        csv_write(out, cells[i], i == COUNT - 1);
    fclose(out);
    assert_string_equal(written, "plain,,\"a,b\",\"say \"\"yes\"\"\",\"two\nlines\",\"\"\"\",\"re\rturn\", spaces \n");
    assert_int_equal(read_text(written, text, sizeof text, read, COUNT), COUNT);
    for (int i = 0; i < COUNT; i++)
        assert_string_equal(read[i], cells[i]);
}

static void rows_of_other_programs_are_read(void **state)
{
    (void)state;
    char text[64];
    char *cells[8];
    assert_int_equal(read_text("a,b\r\n", text, sizeof text, cells, 8), 2);
    assert_string_equal(cells[1], "b");
    assert_int_equal(read_text("no end", text, sizeof text, cells, 8), 1);
    assert_int_equal(read_text("", text, sizeof text, cells, 8), 0);
}

static void broken_rows_are_refused(void **state)
{
    (void)state;
    char text[16];
    char *cells[2];
    assert_int_equal(read_text("\"never closed, 1\n", text, sizeof text, cells, 2), -1);
    assert_int_equal(read_text("a,b,c\n", text, sizeof text, cells, 2), -1);
    assert_int_equal(read_text("longer than sixteen\n", text, sizeof text, cells, 2), -1);
}

/* -- Tables -- */

static void columns_are_aligned(void **state)
{
    struct fixture *fixture = *state;
    static const char *const heads[] = {"mesh", "step s"};
    struct report_table table;
    char printed[256] = "";
    assert_ok(&fixture->context, report_table_create(&fixture->context, heads, 2, 2, &table));
    report_cell(&table, "data");
    report_cell(&table, "%.1f", 10.5);
    report_cell(&table, "tensor=2");
    report_cell(&table, "%d", 7);
    report_cell(&table, "there is no room for this");
    FILE *out = fmemopen(printed, sizeof printed, "w");
    report_table_print(&table, out);
    fclose(out);
    report_table_destroy(&table);
    assert_string_equal(printed, "mesh      step s\ndata        10.5\ntensor=2       7\n");
}

static void columns_of_words_begin_on_the_left(void **state)
{
    struct fixture *fixture = *state;
    static const char *const heads[] = {"sign", "number"};
    static const char *const cells[] = {"-", "-1.5", "+", "", ".", ".5"};
    struct report_table table;
    char printed[256] = "";
    assert_ok(&fixture->context, report_table_create(&fixture->context, heads, 2, 3, &table));
    for (int i = 0; i < 6; i++)
        report_cell(&table, "%s", cells[i]);
    FILE *out = fmemopen(printed, sizeof printed, "w");
    report_table_print(&table, out);
    fclose(out);
    report_table_destroy(&table);
    assert_string_equal(printed, "sign  number\n-       -1.5\n+           \n.         .5\n");
}

/* -- Figures -- */

static enum status draw(struct fixture *fixture, const char *title, bool *drawn)
{
    const struct report_point points[] = {{1, 8, 7.5, 9}, {2, 4.25, 4, 5}, {4, 2.5, 2.25, 2.75}};
    const struct report_line lines[] = {{"data", REPORT_POINTS, 0, points, 3},
                                        {"it's ideal", REPORT_IDEAL, 0, points, 3}};
    const struct report_figure figure = {.name = "time",
                                         .title = title,
                                         .x_label = "cores",
                                         .y_label = "seconds",
                                         .log_x = true,
                                         .log_y = true,
                                         .whole_x = true,
                                         .lines = lines,
                                         .line_count = 2};
    return report_figure_draw(&fixture->context, fixture->folder, &figure, drawn);
}

static void a_figure_holds_its_numbers(void **state)
{
    struct fixture *fixture = *state;
    bool drawn;
    assert_ok(&fixture->context, draw(fixture, "Time", &drawn));
    assert_true(has(fixture, "time.gnuplot", "$line0 << END\n1 8 7.5 9\n2 4.25 4 5\n4 2.5 2.25 2.75\nEND\n"));
    assert_true(has(fixture, "time.gnuplot", "set xtics (1, 2, 4)\n"));
    assert_true(has(fixture, "time.gnuplot", "title 'it''s ideal'"));
    if (!drawn)
        skip();
    assert_true(has(fixture, "time.svg", "it's ideal") || has(fixture, "time.svg", "it&apos;s ideal"));
    /* Beside it the one for phones, its words above the plot, in lines that fit. */
    assert_true(has(fixture, "time-narrow.svg", "viewBox=\"0 0 360 340\""));
    assert_true(has(fixture, "time-narrow.svg", ">seconds<"));
    assert_true(has(fixture, "time.gnuplot", "unset ylabel\nset title 'Time'.\"\\n\".'seconds'\n"));
    assert_true(has(fixture, "time.svg", ">cores<"));
    assert_true(has(fixture, "time.svg", ">seconds<"));
    assert_memory_equal(read_file(fixture, "time.png"), "\x89PNG", 4);
    /* Words that say the same stand there once. */
    assert_ok(&fixture->context, draw(fixture, "Seconds", &drawn));
    assert_true(has(fixture, "time.gnuplot", "unset ylabel\nset title 'Seconds'\nplot "));
}

/* What a logarithm does not take is left out, and the axis spans all that is left, with its ranges. */
static void logarithms_are_of_positive_numbers(void **state)
{
    struct fixture *fixture = *state;
    bool drawn;
    const struct report_point points[] = {{1, 8, 7.5, 9}, {2, 4.25, 0, 5}, {4, 2.5, 2.25, 2.75}, {0, 3, 3, 3}};
    const struct report_line lines[] = {{"data", REPORT_POINTS, 0, points, 4}};
    const struct report_figure figure = {.name = "logarithms",
                                         .title = "a title of more than one line, which is broken between words",
                                         .x_label = "x",
                                         .y_label = "y",
                                         .log_x = true,
                                         .log_y = true,
                                         .lines = lines,
                                         .line_count = 1};
    assert_ok(&fixture->context, report_figure_draw(&fixture->context, fixture->folder, &figure, &drawn));
    assert_true(has(fixture, "logarithms.gnuplot", "$line0 << END\n1 8 7.5 9\n4 2.5 2.25 2.75\nEND\n"));
    assert_true(has(fixture, "logarithms.gnuplot", "set yrange [1.875:10.8]\n"));
    assert_true(
        has(fixture, "logarithms.gnuplot",
            "set title 'a title of more than one line, which is broken'.\"\\n\".'between words'.\"\\n\".'y'\n"));
}

static void words_do_not_become_commands(void **state)
{
    struct fixture *fixture = *state;
    bool drawn;
    assert_ok(&fixture->context,
              draw(fixture, "x'; system 'touch /tmp/cairn-planted' #\n!touch /tmp/cairn-planted", &drawn));
    assert_int_not_equal(access("/tmp/cairn-planted", F_OK), 0);
    if (!drawn)
        skip();
}

static void without_gnuplot_there_are_scripts(void **state)
{
    struct fixture *fixture = *state;
    char *path = strdup(getenv("PATH"));
    bool drawn = true;
    setenv("PATH", fixture->folder, 1);
    enum status status = draw(fixture, "Time", &drawn);
    setenv("PATH", path, 1);
    free(path);
    assert_ok(&fixture->context, status);
    assert_false(drawn);
    assert_true(has(fixture, "time.gnuplot", "set output 'time.svg'"));
    assert_null(read_file(fixture, "time.svg"));
    assert_null(read_file(fixture, "time.errors"));
}

static void a_gnuplot_that_refuses_is_quoted(void **state)
{
    struct fixture *fixture = *state;
    char program[128];
    char *path = strdup(getenv("PATH"));
    bool drawn = true;
    snprintf(program, sizeof program, "%s/gnuplot", fixture->folder);
    FILE *file = fopen(program, "w");
    fputs("#!/bin/sh\necho >&2\necho 'line 3: no such terminal' >&2\nexit 1\n", file);
    fclose(file);
    chmod(program, 0755);
    setenv("PATH", fixture->folder, 1);
    enum status status = draw(fixture, "Time", &drawn);
    setenv("PATH", path, 1);
    free(path);
    assert_fails(&fixture->context, status, STATUS_FILE, "time.gnuplot: gnuplot refuses it: line 3: no such terminal");
    assert_false(drawn);
}

/* -- Pages and files -- */

static void a_page_is_whole_in_itself(void **state)
{
    struct fixture *fixture = *state;
    static const char *const heads[] = {"mesh", "s"};
    struct report_page page;
    struct report_table table;
    char path[128];
    snprintf(path, sizeof path, "%s/index.html", fixture->folder);
    snprintf(fixture->text, sizeof fixture->text, "%s/plot.svg", fixture->folder);
    FILE *file = fopen(fixture->text, "w");
    fputs("<?xml version=\"1.0\"?>\n<svg>\n<g/></svg>\n", file);
    fclose(file);
    assert_ok(&fixture->context, report_table_create(&fixture->context, heads, 2, 1, &table));
    report_cell(&table, "<b> & \"c\"");
    report_cell(&table, "1.5");
    assert_ok(&fixture->context, report_page_open(&fixture->context, path, "A < B", &page));
    report_page_text(&page, "p", "%d > %d", 2, 1);
    report_page_table(&page, &table);
    report_page_figure(&page, fixture->folder, "plot");
    report_page_figure(&page, fixture->folder, "missing");
    assert_null(read_file(fixture, "index.html")); /* not before it is complete */
    assert_ok(&fixture->context, report_page_close(&fixture->context, &page));
    report_table_destroy(&table);
    assert_true(has(fixture, "index.html", "<title>A &lt; B</title>"));
    assert_true(has(fixture, "index.html", "<p>2 &gt; 1</p>"));
    assert_true(has(fixture, "index.html", "<td>&lt;b&gt; &amp; &quot;c&quot;</td><td class=\"n\">1.5</td>"));
    assert_true(has(fixture, "index.html", "<figure>\n<div class=\"\">\n<svg>\n<g/></svg>\n</div>\n</figure>"));
    assert_true(has(fixture, "index.html", "prefers-color-scheme:dark"));
    assert_false(has(fixture, "index.html", "<script") || has(fixture, "index.html", "http") ||
                 has(fixture, "index.html", "<?xml"));
    assert_true(has(fixture, "index.html", "</html>\n"));
}

static void failures_name_the_file(void **state)
{
    struct fixture *fixture = *state;
    struct report_file file;
    char path[128];
    assert_fails(&fixture->context, report_file_open(&fixture->context, "/nowhere/a", &file), STATUS_FILE,
                 "/nowhere/a");
    snprintf(path, sizeof path, "%s/file/below", fixture->folder);
    snprintf(fixture->text, sizeof fixture->text, "%s/file", fixture->folder);
    fclose(fopen(fixture->text, "w"));
    assert_fails(&fixture->context, folder_make(&fixture->context, "", path), STATUS_FILE, "/file");
    assert_ok(&fixture->context, report_file_open(&fixture->context, "/dev/shm/cairn-report", &file));
    fputs("text", file.out);
    strcpy(file.path, "/nowhere/a");
    assert_fails(&fixture->context, report_file_close(&fixture->context, &file), STATUS_FILE, "/nowhere/a");
    assert_int_not_equal(access(file.partial, F_OK), 0);
}

/* Where the window is narrow, cells say what they are and figures are those for phones; the ink is the reader's. */
static void a_page_fits_its_window(void **state)
{
    struct fixture *fixture = *state;
    static const char *const heads[] = {"run", "a", "b & c", "d"};
    struct report_page page;
    struct report_table table;
    char path[128];
    static const char *const names[] = {"plot.svg", "plot-narrow.svg"};
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", fixture->folder, names[i]);
        FILE *file = fopen(path, "w");
        fprintf(file, "<svg>\n<g id='%d'/></svg>\n", i);
        fclose(file);
    }
    snprintf(path, sizeof path, "%s/index.html", fixture->folder);
    assert_ok(&fixture->context, report_page_open(&fixture->context, path, "T", &page));
    for (int columns = 3; columns <= 4; columns++) {
        assert_ok(&fixture->context, report_table_create(&fixture->context, heads, columns, 1, &table));
        for (int i = 0; i < columns; i++)
            report_cell(&table, i ? "%d" : "first", i);
        report_page_table(&page, &table);
        report_table_destroy(&table);
    }
    report_page_figure(&page, fixture->folder, "plot");
    assert_ok(&fixture->context, report_page_close(&fixture->context, &page));
    assert_true(has(fixture, "index.html", "<div class=\"wide\"><table>\n<tr><th>run</th><th class=\"n\">a</th>"));
    assert_true(has(fixture, "index.html", "<tr><td>first</td><td class=\"n\">1</td><td class=\"n\">2</td></tr>"));
    assert_true(has(fixture, "index.html", "<div class=\"wide f\"><table>\n<tr><th>run</th>"));
    assert_true(has(fixture, "index.html",
                    "<td data-head=\"run\">first</td><td class=\"n\" data-head=\"a\">1</td>"
                    "<td class=\"n\" data-head=\"b &amp; c\">2</td>"));
    assert_true(has(fixture, "index.html", "@media(max-width:30rem){.f table,"));
    assert_true(has(fixture, "index.html", ".f td::before{content:attr(data-head);"));
    assert_true(
        has(fixture, "index.html",
            "<div class=\"broad\">\n<svg>\n<g id='0'/></svg>\n</div>\n<div class=\"narrow\">\n<svg>\n<g id='1'/>"));
    assert_true(has(fixture, "index.html", ".narrow{display:none}@media(max-width:40rem){.narrow{display:block}"));
    /* Any element, not only groups: axes are paths. */
    assert_true(has(fixture, "index.html", "figure svg [stroke=black]{stroke:var(--ink)}"));
    assert_true(has(fixture, "index.html", "figure svg [fill=black]{fill:var(--ink)}"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cells_survive_any_text),
        cmocka_unit_test(rows_of_other_programs_are_read),
        cmocka_unit_test(broken_rows_are_refused),
        cmocka_unit_test_setup_teardown(columns_are_aligned, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_figure_holds_its_numbers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(columns_of_words_begin_on_the_left, set_up, tear_down),
        cmocka_unit_test_setup_teardown(logarithms_are_of_positive_numbers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(words_do_not_become_commands, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_gnuplot_there_are_scripts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_gnuplot_that_refuses_is_quoted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_page_is_whole_in_itself, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_page_fits_its_window, set_up, tear_down),
        cmocka_unit_test_setup_teardown(failures_name_the_file, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
