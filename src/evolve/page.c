/* The page of a system: tasks, who shares how much with whom, accuracy and size from visit to visit. */
#include <stdio.h>
#include <string.h>

#include "io/json/json.h"
#include "io/report/report.h"
#include "src/core/folder.h"
#include "src/evolve/evolve.h"

enum { CELL = 44, LEFT = 190, TOP = 110 };

struct page_of {
    struct context *context;
    const struct system *system;
    const json_t *history;
    char folder[REPORT_PATH];
    char plots[REPORT_PATH + 16];
    struct report_point *points; /* [tasks + 2][rows of history] */
    int64_t each;
    struct report_line *lines; /* [tasks + 2] */
    bool drawn;
};

static const struct path *kept(const struct system *system, int task)
{
    return system->tasks[task].removed ? NULL : system_path(system, system->tasks[task].kept);
}

/* -- Sharing -- */

/* Parameters of a that b has, too. */
static int64_t common(const struct system *system, const struct path *a, const struct path *b)
{
    int64_t sum = 0;
    for (int i = 0; i < a->count; i++)
        for (int k = 0; k < b->count; k++)
            if (a->component[i] == b->component[k])
                sum += system_component(system, a->component[i])->elements;
    return sum;
}

/* Shows share of the parameters of `row`, a path, that the one in `column` has. */
static void draw_cell(const struct page_of *page, FILE *out, int row, int column, const struct path *const *path)
{
    double share = (double)common(page->system, path[0], path[1]) / (double)path_elements(page->system, path[0]);
    int x = LEFT + CELL * column;
    int y = TOP + CELL * row;
    fprintf(out,
            "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" fill=\"#2a78b8\" fill-opacity=\"%.3f\" "
            "stroke=\"currentColor\" stroke-opacity=\"0.2\"/>\n",
            x, y, CELL, CELL, share);
    fprintf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\" fill=\"currentColor\">%.0f</text>\n", x + CELL / 2,
            y + CELL / 2 + 4, 100.0 * share);
}

static void draw_name(FILE *out, const char *name, int place)
{
    int middle = CELL * place + CELL / 2;
    fprintf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\" fill=\"currentColor\">%.24s</text>\n", LEFT - 8,
            TOP + middle + 4, name);
    fprintf(out, "<text transform=\"translate(%d,%d) rotate(-45)\" fill=\"currentColor\">%.24s</text>\n", LEFT + middle,
            TOP - 8, name);
}

/* The root, which no task is, is the last row and column. */
static void draw_sharing(const struct page_of *page, FILE *out)
{
    const struct system *system = page->system;
    int places = 1;
    for (int t = 0; t < system->task_count; t++)
        places += kept(system, t) != NULL;
    fprintf(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" font-family=\"sans-serif\" "
            "font-size=\"12\">\n",
            LEFT + CELL * places + 80, TOP + CELL * places + 10, LEFT + CELL * places + 80);
    int row = 0;
    for (int t = 0; t <= system->task_count; t++) {
        const struct path *path[2] = {t < system->task_count ? kept(system, t) : &system->paths[0]};
        int column = 0;
        if (!path[0])
            continue;
        draw_name(out, t < system->task_count ? system->tasks[t].name : "root", row);
        for (int o = 0; o <= system->task_count; o++) {
            path[1] = o < system->task_count ? kept(system, o) : &system->paths[0];
            if (path[1])
                draw_cell(page, out, row, column++, path);
        }
        row++;
    }
    fprintf(out, "</svg>\n");
}

static enum status write_sharing(const struct page_of *page)
{
    struct report_file file;
    char path[REPORT_PATH + 32];
    snprintf(path, sizeof path, "%.1000s/sharing.svg", page->plots);
    CHECK(report_file_open(page->context, path, &file));
    draw_sharing(page, file.out);
    return report_file_close(page->context, &file);
}

/* -- From visit to visit -- */

/* Appends (visit, value) of a row that ends a visit, and is of the task if one is named. */
static void add_points(struct page_of *page, int line, const char *task, const char *key, double scale)
{
    struct report_line *of = &page->lines[line];
    struct report_point *points = page->points + (int64_t)line * page->each;
    of->points = points;
    of->count = 0;
    for (size_t i = 0; i < json_array_size(page->history); i++) {
        const json_t *row = json_array_get(page->history, i);
        const json_t *value = json_object_get(row, key);
        const char *name = json_string_value(json_object_get(row, "task"));
        if (!json_object_get(row, "kept") || !json_is_number(value) || !name || (task && strcmp(name, task) != 0))
            continue;
        double y = scale * json_number_value(value);
        points[of->count++] =
            (struct report_point){json_number_value(json_object_get(row, "visit")), y, .low = y, .high = y};
    }
}

static enum status draw(struct page_of *page, const struct report_figure *figure)
{
    for (int i = 0; i < figure->line_count; i++)
        if (figure->lines[i].count > 0)
            return report_figure_draw(page->context, page->plots, figure, &page->drawn);
    return STATUS_OK;
}

static enum status draw_figures(struct page_of *page)
{
    const struct system *system = page->system;
    int lines = 0;
    for (int t = 0; t < system->task_count; t++) {
        page->lines[lines] =
            (struct report_line){.name = system->tasks[t].name, .style = REPORT_POINTS, .color = lines};
        add_points(page, lines++, system->tasks[t].name, "accuracy", 100.0);
    }
    CHECK(draw(page, &(struct report_figure){.name = "accuracy",
                                             .title = "Accuracy on the test sets",
                                             .x_label = "visit",
                                             .y_label = "%",
                                             .lines = page->lines,
                                             .line_count = lines}));
    page->lines[0] = (struct report_line){.name = "the system", .style = REPORT_POINTS};
    page->lines[1] = (struct report_line){.name = "the task of the visit", .style = REPORT_POINTS, .color = 1};
    page->lines[2] = (struct report_line){.name = "what only it has", .style = REPORT_POINTS, .color = 2};
    add_points(page, 0, NULL, "system_parameters", 1e-6);
    add_points(page, 1, NULL, "parameters", 1e-6);
    add_points(page, 2, NULL, "own", 1e-6);
    return draw(page, &(struct report_figure){.name = "size",
                                              .title = "Parameters",
                                              .x_label = "visit",
                                              .y_label = "millions",
                                              .from_zero = true,
                                              .lines = page->lines,
                                              .line_count = 3});
}

/* -- The page -- */

static enum status put_tasks(const struct page_of *page, struct report_page *out)
{
    static const char *const heads[] = {"task",       "visits",    "test %", "validation %",
                                        "parameters", "accounted", "own",    "layers"};
    const struct system *system = page->system;
    struct report_table table;
    CHECK(report_table_create(page->context, heads, sizeof heads / sizeof *heads, system->task_count, &table));
    for (int t = 0; t < system->task_count; t++) {
        const struct path *path = kept(system, t);
        if (!path)
            continue;
        report_cell(&table, "%s", system->tasks[t].name);
        report_cell(&table, "%lld", (long long)system->tasks[t].visits);
        report_cell(&table, "%.2f", 100.0 * system->tasks[t].accuracy);
        report_cell(&table, "%.2f", 100.0 * path->quality);
        report_cell(&table, "%lld", (long long)path_elements(system, path));
        report_cell(&table, "%.0f", path_accounted(system, path));
        report_cell(&table, "%lld", (long long)path_own(system, path));
        report_cell(&table, "%d", path_layers(system, path));
    }
    report_page_table(out, &table);
    report_table_destroy(&table);
    return STATUS_OK;
}

static enum status write_page(struct page_of *page)
{
    struct report_page out;
    char path[REPORT_PATH + 16];
    snprintf(path, sizeof path, "%.1000s/index.html", page->folder);
    CHECK(report_page_open(page->context, path, "A system of tasks", &out));
    enum status status = put_tasks(page, &out);
    report_page_text(&out, "p",
                     "%lld visits; %lld parameters are in use. Accounted: each component's divided by the tasks that "
                     "hold it. Own: held by nobody else.",
                     (long long)page->system->visits, (long long)system_elements(page->system));
    report_page_text(&out, "h2", "Who shares with whom");
    report_page_text(&out, "p", "Percent of the parameters of a row's path that the column's path has, too.");
    report_page_figure(&out, page->plots, "sharing");
    report_page_text(&out, "h2", "From visit to visit");
    report_page_figure(&out, page->plots, "accuracy");
    report_page_figure(&out, page->plots, "size");
    if (!page->drawn)
        report_page_text(&out, "p", "%s.", report_without_gnuplot);
    enum status closed = report_page_close(page->context, &out);
    return status == STATUS_OK ? closed : status;
}

enum status evolve_show_page(const struct evolve *evolve)
{
    const struct system *system = &evolve->system;
    struct context *context = evolve->context;
    int64_t lines = integer_max(3, system->task_count);
    struct page_of page = {.context = context,
                           .system = system,
                           .history = evolve->history,
                           .each = integer_max(1, (int64_t)json_array_size(evolve->history)),
                           .drawn = true};
    enum status status;
    page.points = memory_allocate(context, (size_t)(lines * page.each) * sizeof *page.points, MEMORY_OTHER);
    page.lines = memory_allocate(context, (size_t)lines * sizeof *page.lines, MEMORY_OTHER);
    snprintf(page.folder, sizeof page.folder, "%.900s/report", evolve->config->run.folder);
    snprintf(page.plots, sizeof page.plots, "%s/plots", page.folder);
    status = page.points && page.lines ? STATUS_OK : STATUS_MEMORY;
    TRY(status);
    TRY(folder_make(context, "", page.plots));
    TRY(write_sharing(&page));
    TRY(draw_figures(&page));
    TRY(write_page(&page));
    printf("%s/index.html\n", page.folder);
done:
    memory_free(context, page.points);
    memory_free(context, page.lines);
    return status;
}
