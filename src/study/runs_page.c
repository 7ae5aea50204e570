#include <math.h>
#include <string.h>

#include "io/config/config.h"
#include "src/core/folder.h"
#include "src/core/text.h"
#include "src/study/confusion.h"
#include "src/study/run.h"
#include "src/study/runs.h"

enum {
    FIGURE_LINES = 3 * RUNS_MOST,
    NAME = 64,
    COLUMNS_MOST = RUNS_MOST + 1,
    CHANGES_MOST = 200,
    SUMMARY_COLUMNS = 13
};

/* What a figure shows of each run. The second field is drawn as marks in the same figure. */
struct figure_row {
    const char *name;
    const char *field;
    const char *marks;
    const char *title;
    const char *y_label;
    double scale;
    bool log_y;
};

static const struct figure_row figure_rows[] = {
    {"loss", "loss", "validation_loss", "Loss", "nats a token or image", 1.0, false},
    {"loss-router", "loss_router", NULL, "Loss of the routers", "nats", 1.0, false},
    {"learning-rate", "learning_rate", NULL, "Learning rate", "learning rate", 1.0, false},
    {"gradient-norm", "grad_norm", NULL, "Norm of the gradient, before clipping", "norm", 1.0, true},
    {"accuracy", "validation_accuracy", NULL, "Held-out images that are taken for what they are", "%", 100.0, false},
    {"accuracy-five", "validation_accuracy5", NULL, "The same, among the first five", "%", 100.0, false},
    {"tokens-per-second", "tokens_per_second", NULL, "Speed", "tokens/s", 1.0, false},
    {"images-per-second", "images_per_second", NULL, "Images", "images/s", 1.0, false},
    {"data-wait", "data_wait_seconds", NULL, "Time that steps waited for images", "seconds", 1.0, false},
    {"mfu", "mfu", NULL, "Model FLOPs utilisation", "% of the measured peak", 100.0, false},
    {"memory", "memory_bytes", NULL, "Memory held by rank 0", "MiB", 1.0 / (1 << 20), false},
    {"memory-resident", "memory_resident_bytes", NULL, "Resident memory of rank 0", "MiB", 1.0 / (1 << 20), false},
    {"gates", "gate_mean", NULL, "Memory gates: mean of a layer's heads, range over the layers", "gate", 1.0, false},
    {"memory-norm", "memory_norm", NULL, "Norm of the memories, mean and range over the layers", "norm", 1.0, false},
    {"router-load", "router_load", NULL, "Share of tokens that routers let in, mean and range over the routers",
     "share", 1.0, false},
    {"router-agreement", "router_agreement", NULL,
     "Causal decisions that agree with the choice over the whole sequence", "share", 1.0, false},
};
enum { FIGURE_ROWS = sizeof figure_rows / sizeof *figure_rows };

/* Fields that no figure of their own is drawn of: the rows of the summary say them, or nobody asks for their course. */
static const char *const not_drawn[] = {"tokens",
                                        "skipped",
                                        "seconds",
                                        "step_allocations",
                                        "time",
                                        "started",
                                        "gate_histogram",
                                        "validation_tokens",
                                        "validation_seconds",
                                        "ranks",
                                        "validation_causal",
                                        "validation_images"};

struct output {
    struct context *context;
    const struct run *runs;
    int count;
    char folder[REPORT_PATH];
    char plots[REPORT_PATH + 16];
    char drawn[RUN_SERIES][NAME]; /* figures, in the order of the page */
    int drawn_count;
    bool without_gnuplot;
};

/* -- Figures -- */

struct lines {
    struct report_line line[FIGURE_LINES];
    int count;
    char names[FIGURE_LINES][REPORT_PATH];
    struct report_point points[FIGURE_LINES][SERIES_BINS];
};

static bool is_flat_zero(const struct series *series)
{
    return series->least == 0.0 && series->most == 0.0;
}

static void add_line(struct lines *lines, const struct run *run, int color, const char *field, bool marks, double scale)
{
    const struct series *series = field ? run_series(run, field) : NULL;
    if (!series || is_flat_zero(series) || lines->count == FIGURE_LINES)
        return;
    int index = lines->count++;
    snprintf(lines->names[index], sizeof lines->names[index], "%.900s%s", run->name, marks ? ", held out" : "");
    lines->line[index] = (struct report_line){.name = lines->names[index],
                                              .style = marks ? REPORT_MARKS : REPORT_CURVE,
                                              .color = color,
                                              .points = lines->points[index],
                                              .count = series_points(series, scale, lines->points[index])};
}

static enum status draw(struct output *output, struct lines *lines, const struct figure_row *row)
{
    bool drawn;
    lines->count = 0;
    for (int i = 0; i < output->count; i++) {
        add_line(lines, &output->runs[i], i, row->field, false, row->scale);
        add_line(lines, &output->runs[i], i, row->marks, true, row->scale);
    }
    if (lines->count == 0 || output->drawn_count == RUN_SERIES)
        return STATUS_OK;
    struct report_figure figure = {.name = row->name,
                                   .title = row->title,
                                   .x_label = "step",
                                   .y_label = row->y_label,
                                   .log_y = row->log_y,
                                   .lines = lines->line,
                                   .line_count = lines->count};
    CHECK(report_figure_draw(output->context, output->plots, &figure, &drawn));
    output->without_gnuplot = output->without_gnuplot || !drawn;
    text_copy(output->drawn[output->drawn_count++], NAME, row->name);
    return STATUS_OK;
}

/* A field of any other name has a figure with that. */
static bool needs_figure(const char *field)
{
    for (int i = 0; i < FIGURE_ROWS; i++)
        if (strcmp(field, figure_rows[i].field) == 0 ||
            (figure_rows[i].marks && strcmp(field, figure_rows[i].marks) == 0))
            return false;
    for (size_t i = 0; i < sizeof not_drawn / sizeof *not_drawn; i++)
        if (strcmp(field, not_drawn[i]) == 0)
            return false;
    return field[strspn(field, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")] == '\0';
}

static bool is_new(const struct output *output, int run, const char *field)
{
    for (int i = 0; i < run; i++)
        if (run_series(&output->runs[i], field))
            return false;
    return true;
}

static enum status draw_figures(struct output *output, struct lines *lines)
{
    for (int i = 0; i < FIGURE_ROWS; i++)
        CHECK(draw(output, lines, &figure_rows[i]));
    for (int i = 0; i < output->count; i++)
        for (int j = 0; j < output->runs[i].series_count; j++) {
            const char *field = output->runs[i].series[j]->name;
            const struct figure_row row = {field, field, NULL, field, field, 1.0, false};
            if (needs_figure(field) && is_new(output, i, field))
                CHECK(draw(output, lines, &row));
        }
    return STATUS_OK;
}

/* -- The summary -- */

static void put_last(struct report_table *table, const struct run *run, const char *field, const char *format)
{
    const struct series *series = run_series(run, field);
    char text[64] = "";
    if (series)
        snprintf(text, sizeof text, strcmp(format, "%.0f") == 0 ? "%.0f" : "%.4f", series->last);
    report_cell(table, "%s", text);
}

static void put_mean(struct report_table *table, const struct run *run, const char *field, double scale, int digits)
{
    const struct series *series = run_series(run, field);
    char text[64] = "";
    if (series)
        snprintf(text, sizeof text, "%.*f", digits, scale * series->sum / (double)series->count);
    report_cell(table, "%s", text);
}

static void put_duration(struct report_table *table, double seconds)
{
    long total = (long)(seconds + 0.5);
    if (seconds < 60.0)
        report_cell(table, "%.1fs", seconds);
    else if (total >= 86400)
        report_cell(table, "%ldd %02ldh %02ldm", total / 86400, total / 3600 % 24, total / 60 % 60);
    else
        report_cell(table, "%ldh %02ldm %02lds", total / 3600, total / 60 % 60, total % 60);
}

/* From the first line to the last, by the clock on the wall. */
static void put_wall_time(struct report_table *table, const struct run *run)
{
    const struct series *time = run_series(run, "time");
    if (time)
        put_duration(table, time->most - time->least);
    else
        report_cell(table, "%s", "");
}

static void put_run(struct report_table *table, const struct run *run, bool of_images)
{
    const struct series *right = run_series(run, "validation_accuracy");
    const struct series *held_out = run_series(run, "validation_loss");
    report_cell(table, "%s", run->name);
    report_cell(table, "%lld", (long long)run->steps);
    put_last(table, run, "tokens", "%.0f");
    put_last(table, run, "loss", "%.4f");
    put_last(table, run, "validation_loss", "%.4f");
    report_cell(table, held_out ? "%.4f" : "", held_out ? held_out->least : 0.0);
    if (of_images)
        report_cell(table, right ? "%.2f" : "", right ? 100.0 * right->last : 0.0);
    put_duration(table, run->seconds);
    put_wall_time(table, run);
    put_mean(table, run, "tokens_per_second", 1.0, 0);
    put_mean(table, run, "mfu", 100.0, 1);
    report_cell(table, run->starts ? "%lld" : "", (long long)run->starts - 1);
    put_last(table, run, "skipped", "%.0f");
}

static enum status make_summary(const struct output *output, const char *shown[SUMMARY_COLUMNS],
                                struct report_table *table)
{
    enum { ACCURACY = 6, COLUMNS = SUMMARY_COLUMNS };
    static const char *const heads[COLUMNS] = {"run",      "steps",    "tokens",        "loss",      "held-out loss",
                                               "its best", "right %",  "time in steps", "wall time", "tokens/s",
                                               "MFU %",    "restarts", "skipped steps"};
    bool of_images = false;
    for (int i = 0; i < output->count; i++)
        of_images = of_images || run_series(&output->runs[i], "validation_accuracy");
    for (int i = 0; i < COLUMNS; i++)
        shown[i - (i > ACCURACY && !of_images)] = heads[i];
    CHECK(report_table_create(output->context, shown, COLUMNS - !of_images, output->count, table));
    for (int i = 0; i < output->count; i++)
        put_run(table, &output->runs[i], of_images);
    return STATUS_OK;
}

static void see_difference(void *self, const char *key, const char (*values)[CONFIG_VALUE], int count)
{
    struct report_table *table = self;
    report_cell(table, "%s", key);
    for (int i = 0; i < count; i++)
        report_cell(table, "%s", values[i]);
}

/* Settings in which the runs differ; without rows when there are none or fewer than two configurations. */
static enum status make_changes(const struct output *output, const char *heads[COLUMNS_MOST],
                                struct report_table *table)
{
    const struct config *configs[RUNS_MOST];
    int count = 0;
    heads[0] = "setting";
    for (int i = 0; i < output->count; i++)
        if (output->runs[i].has_config) {
            configs[count++] = &output->runs[i].config;
            heads[count] = output->runs[i].name;
        }
    CHECK(report_table_create(output->context, heads, count + 1, CHANGES_MOST, table));
    if (count > 1)
        config_differences(configs, count, see_difference, table);
    return STATUS_OK;
}

/* -- The page -- */

static void put_notes(const struct output *output, struct report_page *page)
{
    for (int i = 0; i < output->count; i++) {
        const struct run *run = &output->runs[i];
        if (run->seen.broken > 0)
            report_page_text(page, "p", "%s: %lld lines are broken and left out.", run->name,
                             (long long)run->seen.broken);
        if (run->obstacle[0])
            report_page_text(page, "p", "%s is not among the settings: %s.", run->name, run->obstacle);
    }
    if (output->without_gnuplot)
        report_page_text(page, "p", "%s.", report_without_gnuplot);
}

static enum status write_page(const struct output *output, const struct report_table *summary,
                              const struct report_table *changes)
{
    struct report_page page;
    char path[REPORT_PATH + 16];
    snprintf(path, sizeof path, "%s/index.html", output->folder);
    CHECK(report_page_open(output->context, path, output->count == 1 ? output->runs[0].name : "Training runs", &page));
    report_page_table(&page, summary);
    report_page_text(&page, "p",
                     "Losses are those of the last step that is there, speed and MFU the mean of all steps. Time in "
                     "steps is the sum of all steps; wall time goes from the first line of metrics.jsonl to the last, "
                     "with evaluations, checkpoints, starts and what lay between them.");
    if (changes->cells_used > 0) {
        report_page_text(&page, "h2", "Settings that differ");
        report_page_table(&page, changes);
    }
    enum status status = STATUS_OK;
    for (int i = 0; i < output->count && status == STATUS_OK; i++)
        status = confusion_show(output->context, output->runs[i].folder, output->runs[i].name, &page);
    put_notes(output, &page);
    report_page_text(&page, "h2", "Course");
    report_page_text(&page, "p",
                     "A line is the mean of the steps that share a place of the plot, the band behind it their range.");
    for (int i = 0; i < output->drawn_count; i++)
        report_page_figure(&page, output->plots, output->drawn[i]);
    enum status closed = report_page_close(output->context, &page);
    return status == STATUS_OK ? closed : status;
}

static enum status show(struct output *output, FILE *out)
{
    struct report_table summary = {0};
    struct report_table changes = {0};
    const char *heads[COLUMNS_MOST];
    const char *shown[SUMMARY_COLUMNS];
    enum status status;
    TRY(make_summary(output, shown, &summary));
    TRY(make_changes(output, heads, &changes));
    report_table_print(&summary, out);
    if (changes.cells_used > 0) {
        fputc('\n', out);
        report_table_print(&changes, out);
    }
    TRY(write_page(output, &summary, &changes));
    if (output->without_gnuplot)
        context_log(output->context, "%s", report_without_gnuplot);
    fprintf(out, "\n%s/index.html\n", output->folder);
done:
    report_table_destroy(&summary);
    report_table_destroy(&changes);
    return status;
}

static enum status report_runs(struct output *output, struct run *runs, const char *const *names, FILE *out)
{
    struct context *context = output->context;
    for (int i = 0; i < output->count; i++)
        CHECK(run_read(context, names[i], &runs[i]));
    if (!output->folder[0])
        snprintf(output->folder, sizeof output->folder, "%.1000s/report", runs[0].folder);
    snprintf(output->plots, sizeof output->plots, "%s/plots", output->folder);
    CHECK(folder_make(context, "", output->plots));
    struct lines *lines = memory_allocate(context, sizeof *lines, MEMORY_OTHER);
    enum status status = lines ? draw_figures(output, lines) : STATUS_MEMORY;
    memory_free(context, lines);
    CHECK(status);
    return show(output, out);
}

enum status runs_report(struct context *context, const char *const *names, int count, const char *folder, FILE *out)
{
    struct output *output = memory_allocate(context, sizeof *output, MEMORY_OTHER);
    struct run *runs = memory_allocate(context, (size_t)count * sizeof *runs, MEMORY_OTHER);
    enum status status = STATUS_MEMORY;
    if (output && runs) {
        output->context = context;
        output->runs = runs;
        output->count = count;
        text_copy(output->folder, sizeof output->folder, folder ? folder : "");
        status = report_runs(output, runs, names, out);
    }
    for (int i = 0; runs && i < count; i++)
        run_destroy(&runs[i]);
    memory_free(context, runs);
    memory_free(context, output);
    return status;
}
