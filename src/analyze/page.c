/* Plots and the page. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "src/analyze/show.h"
#include "src/core/folder.h"
#include "src/core/integer.h"
#include "src/core/text.h"

enum { KINDS = 48, LAYERS_SHOWN = 8, PLACES = 5, POINTS = 400, LINES = KINDS, NAME = 160 };

/* Where in a spectrum its course is drawn, as a share of the way from the largest to the smallest. */
static const double places[PLACES] = {0.0, 0.25, 0.5, 0.75, 1.0};
static const char *const place_names[PLACES] = {"largest", "at a quarter", "in the middle", "at three quarters",
                                                "smallest"};

struct pages {
    struct context *context;
    const char *folder;
    const struct analysis *analyses, *last;
    int count;
    char plots[REPORT_PATH];
    const char *kinds[KINDS]; /* in the order of the file */
    int kind_count;
    bool without_gnuplot;
    char drawn[4 * KINDS][NAME]; /* figures, in the order of the page */
    int drawn_count;
    struct report_line lines[LINES];
    char names[LINES][NAME];
    struct report_point points[LINES][POINTS];
    int line_count;
};

static void list_kinds(struct pages *pages)
{
    for (int i = 0; i < pages->last->count; i++) {
        const char *kind = pages->last->matrices[i].kind;
        bool known = false;
        for (int k = 0; k < pages->kind_count; k++)
            known = known || strcmp(pages->kinds[k], kind) == 0;
        if (!known && pages->kind_count < KINDS)
            pages->kinds[pages->kind_count++] = kind;
    }
}

static struct report_line *begin_line(struct pages *pages, enum report_style style)
{
    int index = pages->line_count++;
    pages->lines[index] = (struct report_line){
        .name = pages->names[index], .style = style, .color = index, .points = pages->points[index]};
    return &pages->lines[index];
}

static void add_point(struct pages *pages, struct report_line *line, struct report_point point)
{
    int index = (int)(line - pages->lines);
    if (line->count < POINTS)
        pages->points[index][line->count++] = point;
}

static enum status draw(struct pages *pages, struct report_figure figure)
{
    bool drawn;
    bool any = false;
    for (int i = 0; i < pages->line_count; i++)
        any = any || pages->lines[i].count > 0;
    figure.lines = pages->lines;
    figure.line_count = pages->line_count;
    pages->line_count = 0;
    if (!any || pages->drawn_count == 4 * KINDS)
        return STATUS_OK;
    CHECK(report_figure_draw(pages->context, pages->plots, &figure, &drawn));
    pages->without_gnuplot = pages->without_gnuplot || !drawn;
    text_copy(pages->drawn[pages->drawn_count++], NAME, figure.name);
    return STATUS_OK;
}

/* -- Spectra of the layers -- */

static int count_layers(const struct analysis *analysis, const char *kind)
{
    int count = 0;
    for (int i = 0; i < analysis->count; i++)
        count += strcmp(analysis->matrices[i].kind, kind) == 0;
    return count;
}

static void add_spectrum(struct pages *pages, const struct analyzed *matrix)
{
    const double *values = analysis_values(pages->last, matrix);
    int64_t count = integer_min(matrix->rows, matrix->columns);
    int64_t shown = integer_min(count, POINTS);
    struct report_line *line = begin_line(pages, REPORT_CURVE);
    if (matrix->layer >= 0)
        snprintf(pages->names[line - pages->lines], NAME, "layer %" PRId64, matrix->layer);
    else
        text_copy(pages->names[line - pages->lines], NAME, matrix->kind);
    for (int64_t i = 0; i < shown; i++) {
        int64_t place = shown > 1 ? i * (count - 1) / (shown - 1) : 0;
        double value = values[place];
        add_point(pages, line,
                  (struct report_point){.x = (double)(place + 1), .y = value, .low = value, .high = value});
    }
}

/* Of many layers some, the first and the last among them. */
static enum status draw_spectra(struct pages *pages, const char *kind)
{
    char name[NAME];
    char title[NAME + 64];
    int layers = count_layers(pages->last, kind);
    int shown = layers < LAYERS_SHOWN ? layers : LAYERS_SHOWN;
    int seen = 0;
    int next = 0;
    for (int i = 0; i < pages->last->count; i++) {
        if (strcmp(pages->last->matrices[i].kind, kind) != 0)
            continue;
        if (next < shown && seen++ == (shown > 1 ? next * (layers - 1) / (shown - 1) : 0)) {
            add_spectrum(pages, &pages->last->matrices[i]);
            next++;
        }
    }
    snprintf(name, sizeof name, "spectrum-%.100s", kind);
    snprintf(title, sizeof title, "Singular values of %s", kind);
    return draw(pages,
                (struct report_figure){
                    .name = name, .title = title, .x_label = "number", .y_label = "singular value", .log_y = true});
}

/* -- A measure by layer -- */

struct measure_figure {
    const char *name, *title, *y_label;
    enum measure measure;
    bool share; /* of the shorter side */
    bool log_y;
};

static const struct measure_figure measure_figures[] = {
    {"effective-rank", "Effective rank by layer", "% of the shorter side", MEASURE_EFFECTIVE, true, false},
    {"stable-rank", "Stable rank by layer", "% of the shorter side", MEASURE_STABLE, true, false},
    {"norm", "Frobenius norm by layer", "norm", MEASURE_NORM, false, true},
    {"moved", "How far each matrix moved, as a share of its norm", "%", MEASURE_MOVED, false, false},
    {"left-angle", "Largest angle between the first left singular directions", "degrees", MEASURE_LEFT, false, false},
    {"right-angle", "The same of the right ones", "degrees", MEASURE_RIGHT, false, false},
};

enum { MEASURE_FIGURES = sizeof measure_figures / sizeof *measure_figures };

static double shown_measure(const struct measure_figure *figure, const struct analyzed *matrix)
{
    double value = matrix->measure[figure->measure];
    if (figure->share)
        return 100.0 * value / (double)integer_min(matrix->rows, matrix->columns);
    return figure->measure == MEASURE_MOVED ? 100.0 * value : value;
}

static enum status draw_measure(struct pages *pages, const struct measure_figure *figure)
{
    const struct analysis *analysis = pages->last;
    for (int k = 0; k < pages->kind_count; k++) {
        if (count_layers(analysis, pages->kinds[k]) < 2)
            continue;
        struct report_line *line = begin_line(pages, REPORT_POINTS);
        text_copy(pages->names[line - pages->lines], NAME, pages->kinds[k]);
        for (int i = 0; i < analysis->count; i++) {
            const struct analyzed *matrix = &analysis->matrices[i];
            double value = shown_measure(figure, matrix);
            if (strcmp(matrix->kind, pages->kinds[k]) == 0 && isfinite(value))
                add_point(pages, line,
                          (struct report_point){.x = (double)matrix->layer, .y = value, .low = value, .high = value});
        }
    }
    return draw(pages, (struct report_figure){.name = figure->name,
                                              .title = figure->title,
                                              .x_label = "layer",
                                              .y_label = figure->y_label,
                                              .log_y = figure->log_y});
}

/* -- Through time -- */

/* The mean over a kind's layers, and their range. */
static bool mean_of_kind(const struct analysis *analysis, const char *kind,
                         double (*value)(const void *self, const struct analysis *, const struct analyzed *),
                         const void *self, struct report_point *point)
{
    int count = 0;
    *point = (struct report_point){.x = (double)analysis->step, .low = INFINITY, .high = -INFINITY};
    for (int i = 0; i < analysis->count; i++) {
        if (strcmp(analysis->matrices[i].kind, kind) != 0)
            continue;
        double one = value(self, analysis, &analysis->matrices[i]);
        point->y += one;
        point->low = fmin(point->low, one);
        point->high = fmax(point->high, one);
        count++;
    }
    point->y /= count > 0 ? (double)count : 1.0;
    return count > 0;
}

static double value_at(const void *self, const struct analysis *analysis, const struct analyzed *matrix)
{
    int64_t last = integer_min(matrix->rows, matrix->columns) - 1;
    return analysis_values(analysis, matrix)[(int64_t)(*(const double *)self * (double)last)];
}

static double effective_share(const void *self, const struct analysis *analysis, const struct analyzed *matrix)
{
    (void)analysis;
    return shown_measure(self, matrix);
}

static enum status draw_course(struct pages *pages, const char *kind)
{
    char name[NAME];
    char title[NAME + 64];
    for (int p = 0; p < PLACES; p++) {
        struct report_line *line = begin_line(pages, REPORT_CURVE);
        struct report_point point;
        text_copy(pages->names[line - pages->lines], NAME, place_names[p]);
        for (int i = 0; i < pages->count; i++)
            if (mean_of_kind(&pages->analyses[i], kind, value_at, &places[p], &point))
                add_point(pages, line, point);
    }
    snprintf(name, sizeof name, "course-%.100s", kind);
    snprintf(title, sizeof title, "Singular values of %s through time", kind);
    return draw(pages,
                (struct report_figure){
                    .name = name, .title = title, .x_label = "step", .y_label = "singular value", .log_y = true});
}

static enum status draw_ranks(struct pages *pages)
{
    for (int k = 0; k < pages->kind_count; k++) {
        struct report_line *line = begin_line(pages, REPORT_CURVE);
        struct report_point point;
        text_copy(pages->names[line - pages->lines], NAME, pages->kinds[k]);
        for (int i = 0; i < pages->count; i++)
            if (mean_of_kind(&pages->analyses[i], pages->kinds[k], effective_share, &measure_figures[0], &point))
                add_point(pages, line, point);
    }
    return draw(pages, (struct report_figure){.name = "course",
                                              .title = "Effective rank through time",
                                              .x_label = "step",
                                              .y_label = "% of the shorter side"});
}

/* -- The page -- */

static enum status draw_all(struct pages *pages)
{
    if (pages->count > 1)
        CHECK(draw_ranks(pages));
    for (int k = 0; k < pages->kind_count && pages->count > 1; k++)
        CHECK(draw_course(pages, pages->kinds[k]));
    for (int i = 0; i < MEASURE_FIGURES; i++)
        if (pages->last->other[0] || measure_figures[i].measure < MEASURES_ALONE)
            CHECK(draw_measure(pages, &measure_figures[i]));
    for (int k = 0; k < pages->kind_count; k++)
        CHECK(draw_spectra(pages, pages->kinds[k]));
    return STATUS_OK;
}

static void describe(const struct pages *pages, struct report_page *page)
{
    const struct analysis *last = pages->last;
    report_page_text(page, "p", "%s, step %lld.", last->path, (long long)last->step);
    if (last->other[0])
        report_page_text(
            page, "p",
            "Beside %s: how far each matrix moved from the first to the second as a share of its norm, the "
            "effective rank of that, and the largest angle, in degrees, between the %lld first singular "
            "directions of both (fewer where the rank is less).",
            last->other, (long long)last->directions);
    if (pages->count > 1)
        report_page_text(page, "p",
                         "Lines through time are means over the layers of %d checkpoints, the bands behind them the "
                         "range of the layers. The table is that of the last.",
                         pages->count);
    report_page_text(page, "p",
                     "Stable rank: squares of all singular values by that of the largest. Effective rank: exp of the "
                     "entropy of their shares. 90 %%: as many as have nine tenths of the squares. Of stacks, as "
                     "memories of several streams and heads are, the table has means.");
}

static enum status write_page(struct pages *pages, const struct report_table *table)
{
    struct report_page page;
    char path[REPORT_PATH + 16];
    snprintf(path, sizeof path, "%s/index.html", pages->folder);
    CHECK(report_page_open(pages->context, path, "Spectra", &page));
    describe(pages, &page);
    if (pages->without_gnuplot)
        report_page_text(&page, "p", "%s.", report_without_gnuplot);
    for (int i = 0; i < pages->drawn_count; i++)
        report_page_figure(&page, pages->plots, pages->drawn[i]);
    report_page_text(&page, "h2", "Matrices");
    report_page_table(&page, table);
    return report_page_close(pages->context, &page);
}

enum status show_page(struct context *context, const char *folder, const struct analysis *analyses, int count,
                      bool *drawn)
{
    const char *heads[SHOW_COLUMNS];
    struct report_table table = {0};
    enum status status = STATUS_MEMORY;
    struct pages *pages = memory_allocate(context, sizeof *pages, MEMORY_OTHER);
    if (!pages)
        return status;
    pages->context = context;
    pages->folder = folder;
    pages->analyses = analyses;
    pages->last = &analyses[count - 1];
    pages->count = count;
    snprintf(pages->plots, sizeof pages->plots, "%.1000s/plots", folder);
    list_kinds(pages);
    TRY(folder_make(context, "", pages->plots));
    TRY(draw_all(pages));
    TRY(show_table(pages->last, heads, &table));
    TRY(write_page(pages, &table));
    *drawn = !pages->without_gnuplot;
done:
    report_table_destroy(&table);
    memory_free(context, pages);
    return status;
}
