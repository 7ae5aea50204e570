#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "src/core/folder.h"
#include "src/core/text.h"
#include "src/study/scale.h"
#include "src/study/summary.h"

enum { LINES = 64, NAME = 96 };

/* What the output of one study is made with. */
struct output {
    struct context *context;
    const struct summary *summary;
    const char *folder;
    char plots[REPORT_PATH];
    bool without_gnuplot;
};

static const struct scale_point *point_of(const struct output *output, const struct scale_section *section, int index)
{
    return &output->summary->points[section->first + index];
}

static const struct scale_point *base_of(const struct output *output, const struct scale_section *section)
{
    return &output->summary->points[section->base];
}

/* -- Figures -- */

/* A file's name of a section: "strong-efficiency", with the number of the section where there are variants. */
static void name_figure(const struct output *output, int section, const char *what, char *name)
{
    const struct scale_section *part = &output->summary->sections[section];
    if (part->variant[0])
        snprintf(name, NAME, "%s-%d-%s", part->study, section + 1, what);
    else
        snprintf(name, NAME, "%s-%s", part->study, what);
}

static void title_figure(const struct scale_section *section, const char *what, char *title, size_t size)
{
    snprintf(title, size, "%s scaling: %s%s%s", strcmp(section->study, "weak") == 0 ? "Weak" : "Strong", what,
             section->variant[0] ? ", " : "", section->variant);
}

/* Lines of a section, one for each layout; a layout of several ranks starts from the base on one rank. */
struct lines {
    struct report_line line[LINES];
    int count;
    struct report_point *points;
    int used;
};

typedef struct spread (*spread_getter)(const struct scale_point *point);

static struct spread get_seconds(const struct scale_point *point)
{
    return point->seconds;
}

static struct spread get_efficiency(const struct scale_point *point)
{
    return (struct spread){100.0 * point->efficiency.median, 100.0 * point->efficiency.low,
                           100.0 * point->efficiency.high};
}

static void add_point(struct lines *lines, const struct scale_point *point, spread_getter get)
{
    struct spread spread = get(point);
    lines->points[lines->used++] =
        (struct report_point){.x = (double)point->cores, .y = spread.median, .low = spread.low, .high = spread.high};
}

static void add_line(const struct output *output, const struct scale_section *section, const char *layout,
                     spread_getter get, struct lines *lines)
{
    const struct scale_point *base = base_of(output, section);
    struct report_line *line = &lines->line[lines->count];
    *line = (struct report_line){
        .name = layout, .style = REPORT_POINTS, .color = lines->count++, .points = lines->points + lines->used};
    int first = lines->used;
    if (base->row->ranks == 1 && strcmp(layout, base->row->layout) != 0)
        add_point(lines, base, get);
    for (int i = 0; i < section->count; i++)
        if (strcmp(point_of(output, section, i)->row->layout, layout) == 0)
            add_point(lines, point_of(output, section, i), get);
    line->count = lines->used - first;
}

/* A base on one rank has a line of its own only where nothing starts from it. */
static void add_lines(const struct output *output, const struct scale_section *section, spread_getter get,
                      struct lines *lines)
{
    for (int i = 0; i < section->count && lines->count < LINES - 1; i++) {
        const struct scale_row *row = point_of(output, section, i)->row;
        bool known = row->ranks == 1 && section->count > 1;
        for (int j = 0; j < lines->count; j++)
            known = known || strcmp(lines->line[j].name, row->layout) == 0;
        if (!known)
            add_line(output, section, row->layout, get, lines);
    }
}

static void add_ideal(const struct output *output, const struct scale_section *section, bool efficiency,
                      struct lines *lines)
{
    const struct scale_point *base = base_of(output, section);
    bool weak = strcmp(section->study, "weak") == 0;
    struct report_line *line = &lines->line[lines->count++];
    *line = (struct report_line){
        .name = "ideal", .style = REPORT_IDEAL, .points = lines->points + lines->used, .count = section->count};
    for (int i = 0; i < section->count; i++) {
        double cores = (double)point_of(output, section, i)->cores;
        double y = efficiency ? 100.0 : base->seconds.median * (weak ? 1.0 : (double)base->cores / cores);
        lines->points[lines->used++] = (struct report_point){.x = cores, .y = y, .low = y, .high = y};
    }
}

static enum status draw_lines(struct output *output, int section, bool efficiency)
{
    const struct scale_section *part = &output->summary->sections[section];
    struct lines lines = {0};
    char name[NAME];
    char title[ROW_TEXT + NAME];
    bool drawn;
    size_t room = (size_t)part->count * 3;
    lines.points = memory_allocate(output->context, room * sizeof *lines.points, MEMORY_OTHER);
    if (!lines.points)
        return STATUS_MEMORY;
    name_figure(output, section, efficiency ? "efficiency" : "time", name);
    title_figure(part, efficiency ? "efficiency" : "time of a step", title, sizeof title);
    add_lines(output, part, efficiency ? get_efficiency : get_seconds, &lines);
    add_ideal(output, part, efficiency, &lines);
    struct report_figure figure = {.name = name,
                                   .title = title,
                                   .x_label = "cores (ranks x threads)",
                                   .y_label = efficiency ? "efficiency in %, median and range of the repeats"
                                                         : "seconds a step, median and range of the repeats",
                                   .log_x = true,
                                   .log_y = !efficiency,
                                   .from_zero = efficiency,
                                   .whole_x = true,
                                   .lines = lines.line,
                                   .line_count = lines.count};
    enum status status = report_figure_draw(output->context, output->plots, &figure, &drawn);
    output->without_gnuplot = output->without_gnuplot || (status == STATUS_OK && !drawn);
    memory_free(output->context, lines.points);
    return status;
}

static enum status draw_shares(struct output *output, int section)
{
    enum { STACKS = 32 };
    const struct scale_section *part = &output->summary->sections[section];
    char name[NAME];
    char title[ROW_TEXT + NAME];
    char text[STACKS][NAME];
    const char *labels[STACKS];
    double values[STACKS * 4];
    int count = part->count < STACKS ? part->count : STACKS;
    bool drawn;
    for (int i = 0; i < count; i++) {
        const struct scale_point *point = point_of(output, part, i);
        snprintf(text[i], sizeof text[i], "%lld: %.80s", (long long)point->cores, point->row->layout);
        labels[i] = text[i];
        for (int j = 0; j < 4; j++)
            values[i * 4 + j] = 100.0 * point->share[j];
    }
    name_figure(output, section, "split", name);
    title_figure(part, "where the time goes, by cores and mesh", title, sizeof title);
    struct report_stack stack = {.name = name,
                                 .title = title,
                                 .y_label = "% of a step, mean of the ranks",
                                 .percent = true,
                                 .parts = share_names,
                                 .part_count = 4,
                                 .labels = labels,
                                 .label_count = count,
                                 .values = values};
    CHECK(report_stack_draw(output->context, output->plots, &stack, &drawn));
    output->without_gnuplot = output->without_gnuplot || !drawn;
    return STATUS_OK;
}

/* -- The page -- */

static const char formulas[] =
    "Efficiency is t0 N0 / (N t) for strong scaling (the same batch on more cores) and t0 / t for weak scaling (a "
    "batch "
    "that grows with the cores), where t is the median time of a step, N the cores (ranks x threads), and t0 and N0 "
    "those of the fastest run on the fewest cores. The ranges are those of the repeats. Speed-up is in tokens a second "
    "beside that run. MFU counts useful operations only, as a share of what all ranks reached register to register in "
    "the same run. Compute, communication, bubble and io are the mean of all ranks in the step of median time: bubble "
    "is the wait for another pipeline stage, communication what is left of the time in MPI, io the drawing of the "
    "batch (generated tokens: no file is read).";

static bool is_one_version(const struct summary *summary)
{
    for (int i = 1; i < summary->row_count; i++)
        if (strcmp(summary->rows[0].version, summary->rows[i].version) != 0)
            return false;
    return true;
}

static void put_heading(struct report_page *page, const struct summary *summary)
{
    const struct scale_row *row = &summary->rows[0];
    const struct scale_row *largest = row;
    const char *first = row->started;
    const char *last = row->started;
    for (int i = 1; i < summary->row_count; i++) {
        first = strcmp(summary->rows[i].started, first) < 0 ? summary->rows[i].started : first;
        last = strcmp(summary->rows[i].started, last) > 0 ? summary->rows[i].started : last;
        largest = i < summary->good && summary->rows[i].ranks > largest->ranks ? &summary->rows[i] : largest;
    }
    if (summary->good > 0)
        report_page_text(page, "p", "%.4g million parameters in %s, sequences of %lld tokens, %s kernels; Cairn %s%s",
                         1e-6 * (double)row->parameters, row->type, (long long)row->length, row->isa, row->version,
                         is_one_version(summary) ? "." : " and other versions.");
    report_page_text(page, "p", "%d runs from %s to %s, %d of them failed. Hosts of the largest, with their ranks: %s.",
                     summary->row_count, first, last, summary->row_count - summary->good, largest->hosts);
}

static enum status put_section(const struct output *output, struct report_page *page, int section)
{
    static const char *const figures[] = {"time", "efficiency", "split"};
    const struct scale_section *part = &output->summary->sections[section];
    struct report_table table;
    char title[ROW_TEXT + NAME];
    title_figure(part, "mesh by mesh", title, sizeof title);
    report_page_text(page, "h2", "%s", title);
    enum status status = summary_table(output->summary, section, &table);
    if (status == STATUS_OK)
        report_page_table(page, &table);
    report_table_destroy(&table);
    for (int i = 0; i < 3; i++) {
        char name[NAME];
        name_figure(output, section, figures[i], name);
        report_page_figure(page, output->plots, name);
    }
    return status;
}

static enum status put_failures(const struct output *output, struct report_page *page)
{
    static const char *const heads[] = {"study", "variant", "ranks", "mesh", "repeat", "what happened"};
    const struct summary *summary = output->summary;
    struct report_table table;
    if (summary->good == summary->row_count)
        return STATUS_OK;
    report_page_text(page, "h2", "Runs that failed");
    CHECK(report_table_create(output->context, heads, 6, summary->row_count - summary->good, &table));
    for (int i = summary->good; i < summary->row_count; i++) {
        const struct scale_row *row = &summary->rows[i];
        report_cell(&table, "%s", row->study);
        report_cell(&table, "%s", row->variant);
        report_cell(&table, "%lld", (long long)row->ranks);
        report_cell(&table, "%s", row->layout);
        report_cell(&table, "%lld", (long long)row->repeat);
        report_cell(&table, "%s", row->note);
    }
    report_page_table(page, &table);
    report_table_destroy(&table);
    return STATUS_OK;
}

static enum status put_rows(const struct output *output, struct report_page *page)
{
    static const char *const heads[] = {"study",      "variant",  "mesh",         "ranks", "repeat", "step p50 s",
                                        "step p95 s", "tokens/s", "peak GFLOP/s", "job",   "hosts",  "note"};
    enum { COLUMNS = sizeof heads / sizeof *heads };
    const struct summary *summary = output->summary;
    struct report_table table;
    CHECK(report_table_create(output->context, heads, COLUMNS, summary->good, &table));
    for (int i = 0; i < summary->good; i++) {
        const struct scale_row *row = &summary->rows[i];
        report_cell(&table, "%s", row->study);
        report_cell(&table, "%s", row->variant);
        report_cell(&table, "%s", row->layout);
        report_cell(&table, "%lld", (long long)row->ranks);
        report_cell(&table, "%lld", (long long)row->repeat);
        report_cell(&table, "%.5g", row->p50);
        report_cell(&table, "%.5g", row->p95);
        report_cell(&table, "%.0f", row->tokens_per_second);
        report_cell(&table, "%.1f", row->peak);
        report_cell(&table, "%s", row->job);
        report_cell(&table, "%s", row->hosts);
        report_cell(&table, "%s", row->note);
    }
    report_page_fold(page, "Every run (all columns are in scaling.csv)");
    report_page_table(page, &table);
    report_page_fold_end(page);
    report_table_destroy(&table);
    return STATUS_OK;
}

static enum status write_page(const struct output *output)
{
    struct report_page page;
    char path[REPORT_PATH];
    snprintf(path, sizeof path, "%s/index.html", output->folder);
    CHECK(report_page_open(output->context, path, "Scaling study", &page));
    put_heading(&page, output->summary);
    enum status status = STATUS_OK;
    for (int i = 0; i < output->summary->section_count && status == STATUS_OK; i++)
        status = put_section(output, &page, i);
    if (status == STATUS_OK)
        status = put_failures(output, &page);
    if (output->without_gnuplot)
        report_page_text(&page, "p", "%s.", report_without_gnuplot);
    report_page_text(&page, "p", "%s", formulas);
    if (status == STATUS_OK)
        status = put_rows(output, &page);
    enum status closed = report_page_close(output->context, &page);
    return status == STATUS_OK ? closed : status;
}

/* -- Everything -- */

static enum status print_tables(const struct output *output, FILE *out)
{
    const struct summary *summary = output->summary;
    for (int i = 0; i < summary->section_count; i++) {
        const struct scale_section *section = &summary->sections[i];
        struct report_table table;
        enum status status = summary_table(summary, i, &table);
        if (status == STATUS_OK) {
            fprintf(out, "%s%s scaling%s%s\n", i ? "\n" : "", section->study, section->variant[0] ? ", " : "",
                    section->variant);
            report_table_print(&table, out);
        }
        report_table_destroy(&table);
        CHECK(status);
    }
    for (int i = summary->good; i < summary->row_count; i++)
        fprintf(out, "failed: %s, %lld ranks, %s, repeat %lld: %s\n", summary->rows[i].study,
                (long long)summary->rows[i].ranks, summary->rows[i].layout, (long long)summary->rows[i].repeat,
                summary->rows[i].note);
    return STATUS_OK;
}

static enum status report_rows(struct output *output, struct scale_row *rows, int count, FILE *out)
{
    struct context *context = output->context;
    struct summary summary;
    char path[REPORT_PATH];
    enum status status;
    TRY(summary_create(context, rows, count, &summary));
    output->summary = &summary;
    snprintf(path, sizeof path, "%s/scaling.csv", output->folder);
    TRY(rows_write(context, path, rows, count));
    snprintf(path, sizeof path, "%s/efficiency.csv", output->folder);
    TRY(summary_write(&summary, path));
    TRY(print_tables(output, out));
    for (int i = 0; i < summary.section_count; i++) {
        TRY(draw_lines(output, i, false));
        TRY(draw_lines(output, i, true));
        TRY(draw_shares(output, i));
    }
    if (output->without_gnuplot)
        context_log(context, "%s", report_without_gnuplot);
    TRY(write_page(output));
done:
    summary_destroy(&summary);
    return status;
}

static int choose_rows(const struct dirent *entry)
{
    size_t length = strlen(entry->d_name);
    return length > 4 && strcmp(entry->d_name + length - 4, ".csv") == 0;
}

/* A file that is broken is left out and named: one node's bad disk must not spoil the study. */
static int read_files(struct context *context, const char *folder, struct dirent **files, int count,
                      struct scale_row *rows)
{
    int good = 0;
    for (int i = 0; i < count; i++) {
        char path[2 * REPORT_PATH];
        int found = 0;
        snprintf(path, sizeof path, "%s/%s", folder, files[i]->d_name);
        if (rows_read(context, path, rows + good, 1, &found) != STATUS_OK) {
            context_log(context, "left out: %s", context->text);
            context_clear(context);
            continue;
        }
        good += found;
    }
    return good;
}

enum status scale_report(struct context *context, const char *folder, FILE *out)
{
    struct output output = {.context = context, .folder = folder};
    struct dirent **files = NULL;
    char path[REPORT_PATH];
    snprintf(path, sizeof path, "%s/runs", folder);
    int count = scandir(path, &files, choose_rows, alphasort);
    if (count < 0)
        return context_fail(context, STATUS_FILE, "%s: cannot be read: %s; --output names the folder of a study", path,
                            strerror(errno));
    snprintf(output.plots, sizeof output.plots, "%s/plots", folder);
    struct scale_row *rows = memory_allocate(context, (size_t)count * sizeof *rows, MEMORY_OTHER);
    enum status status = rows ? STATUS_OK : STATUS_MEMORY;
    int good = rows ? read_files(context, path, files, count, rows) : 0;
    if (status == STATUS_OK && good == 0)
        status = context_fail(context, STATUS_FILE, "%s: holds no rows of runs", path);
    if (status == STATUS_OK)
        status = folder_make(context, "", output.plots);
    if (status == STATUS_OK)
        status = report_rows(&output, rows, good, out);
    memory_free(context, rows);
    for (int i = 0; i < count; i++)
        free(files[i]);
    free(files);
    return status;
}
