#include "src/study/summary.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const share_names[4] = {"compute", "communication", "bubble", "io"};

/* -- Points -- */

static bool is_good(const struct scale_row *row)
{
    return strcmp(row->status, "ok") == 0 && row->p50 > 0.0 && row->ranks > 0 && row->threads > 0;
}

static int compare_counts(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}

static int compare_sections(const struct scale_row *a, const struct scale_row *b)
{
    int order = strcmp(a->study, b->study);
    return order ? order : strcmp(a->variant, b->variant);
}

/* Rows that are equal by this are repeats of one run. */
static int compare_runs(const struct scale_row *a, const struct scale_row *b)
{
    const int64_t keys[][2] = {{a->ranks, b->ranks},       {a->threads, b->threads}, {a->data, b->data},
                               {a->pipeline, b->pipeline}, {a->context, b->context}, {a->tensor, b->tensor},
                               {a->batch, b->batch},       {a->length, b->length},   {a->micro_batch, b->micro_batch},
                               {a->nodes, b->nodes}};
    int order = compare_sections(a, b);
    for (size_t i = 0; order == 0 && i < sizeof keys / sizeof *keys; i++)
        order = compare_counts(keys[i][0], keys[i][1]);
    order = order ? order : strcmp(a->type, b->type);
    return order ? order : strcmp(a->layout, b->layout);
}

static int compare_rows(const void *first, const void *second)
{
    const struct scale_row *a = first;
    const struct scale_row *b = second;
    int order = is_good(b) - is_good(a);
    order = order ? order : compare_runs(a, b);
    return order ? order : compare_counts(a->repeat, b->repeat);
}

static int compare_points(const void *first, const void *second)
{
    const struct scale_point *a = first;
    const struct scale_point *b = second;
    int order = compare_counts(a->section, b->section);
    order = order ? order : compare_counts(a->cores, b->cores);
    return order ? order : (a->seconds.median > b->seconds.median) - (a->seconds.median < b->seconds.median);
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Of one number of each repeat, which lies `offset` bytes into its row. */
static struct spread spread_of(const struct scale_row *rows, int count, size_t offset)
{
    enum { MOST = 1024 };
    double values[MOST];
    int used = count < MOST ? count : MOST;
    for (int i = 0; i < used; i++)
        values[i] = *(const double *)((const char *)&rows[i] + offset);
    qsort(values, (size_t)used, sizeof *values, compare_doubles);
    return (struct spread){
        .median = 0.5 * (values[(used - 1) / 2] + values[used / 2]), .low = values[0], .high = values[used - 1]};
}

static double median_of(const struct scale_row *rows, int count, size_t offset)
{
    return spread_of(rows, count, offset).median;
}

static void fill_point(const struct scale_row *rows, int count, int section, struct scale_point *point)
{
    *point = (struct scale_point){.row = rows, .section = section, .repeats = count};
    point->cores = rows->ranks * rows->threads;
    point->seconds = spread_of(rows, count, offsetof(struct scale_row, p50));
    point->p95 = median_of(rows, count, offsetof(struct scale_row, p95));
    point->tokens_per_second = median_of(rows, count, offsetof(struct scale_row, tokens_per_second));
    point->mfu = median_of(rows, count, offsetof(struct scale_row, mfu));
    point->mfu_datasheet = median_of(rows, count, offsetof(struct scale_row, mfu_datasheet));
    point->tokens_per_core_hour = 3600.0 * point->tokens_per_second / (double)point->cores;
    const size_t parts[4] = {offsetof(struct scale_row, compute), offsetof(struct scale_row, communication),
                             offsetof(struct scale_row, bubble), offsetof(struct scale_row, input)};
    double sum = 0.0;
    for (int i = 0; i < 4; i++)
        sum += point->share[i] = median_of(rows, count, parts[i]);
    for (int i = 0; i < 4; i++)
        point->share[i] /= sum;
}

static void make_points(struct summary *summary)
{
    for (int i = 0; i < summary->good;) {
        const struct scale_row *row = &summary->rows[i];
        if (i == 0 || compare_sections(row, row - 1) != 0)
            summary->sections[summary->section_count++] =
                (struct scale_section){.study = row->study, .variant = row->variant};
        int count = 1;
        while (i + count < summary->good && compare_runs(row, row + count) == 0)
            count++;
        fill_point(row, count, summary->section_count - 1, &summary->points[summary->point_count++]);
        i += count;
    }
    qsort(summary->points, (size_t)summary->point_count, sizeof *summary->points, compare_points);
}

/* -- Beside the base -- */

static void compare_with(const struct scale_point *base, bool weak, struct scale_point *point)
{
    double cores = (double)point->cores / (double)base->cores;
    double tokens =
        (double)point->row->batch * (double)point->row->length / ((double)base->row->batch * (double)base->row->length);
    const double seconds[3] = {point->seconds.median, point->seconds.high, point->seconds.low};
    double speed_up[3];
    double efficiency[3];
    for (int i = 0; i < 3; i++) {
        speed_up[i] = tokens * base->seconds.median / seconds[i];
        efficiency[i] = base->seconds.median / seconds[i] / (weak ? 1.0 : cores);
    }
    point->speed_up = (struct spread){speed_up[0], speed_up[1], speed_up[2]};
    point->efficiency = (struct spread){efficiency[0], efficiency[1], efficiency[2]};
}

static void compare_sections_points(struct summary *summary)
{
    for (int i = 0; i < summary->point_count; i++) {
        struct scale_point *point = &summary->points[i];
        struct scale_section *section = &summary->sections[point->section];
        if (section->count++ == 0)
            section->first = section->base = i;
        compare_with(&summary->points[section->base], strcmp(section->study, "weak") == 0, point);
    }
}

enum status summary_create(struct context *context, struct scale_row *rows, int count, struct summary *summary)
{
    *summary = (struct summary){.context = context, .rows = rows, .row_count = count};
    qsort(rows, (size_t)count, sizeof *rows, compare_rows);
    while (summary->good < count && is_good(&rows[summary->good]))
        summary->good++;
    size_t room = (size_t)summary->good;
    summary->points = memory_allocate(context, room * sizeof *summary->points, MEMORY_OTHER);
    summary->sections = memory_allocate(context, room * sizeof *summary->sections, MEMORY_OTHER);
    if (!summary->points || !summary->sections)
        return STATUS_MEMORY;
    make_points(summary);
    compare_sections_points(summary);
    return STATUS_OK;
}

void summary_destroy(struct summary *summary)
{
    if (!summary->context)
        return;
    memory_free(summary->context, summary->points);
    memory_free(summary->context, summary->sections);
    *summary = (struct summary){0};
}

/* -- Tables -- */

static void put_share(struct report_table *table, double share)
{
    report_cell(table, isfinite(share) ? "%.1f %%" : "", 100.0 * share);
}

static void put_point(const struct scale_point *point, bool datasheet, struct report_table *table)
{
    const struct scale_row *row = point->row;
    report_cell(table, "%lld", (long long)row->ranks);
    report_cell(table, "%lld", (long long)row->threads);
    report_cell(table, "%s", row->layout);
    report_cell(table, "%d", point->repeats);
    report_cell(table, "%.4g", point->seconds.median);
    report_cell(table, "%.4g to %.4g", point->seconds.low, point->seconds.high);
    report_cell(table, "%.4g", point->p95);
    report_cell(table, "%.0f", point->tokens_per_second);
    report_cell(table, "%.2f", point->speed_up.median);
    report_cell(table, "%.1f %%", 100.0 * point->efficiency.median);
    report_cell(table, "%.1f to %.1f", 100.0 * point->efficiency.low, 100.0 * point->efficiency.high);
    put_share(table, point->mfu);
    if (datasheet)
        put_share(table, point->mfu_datasheet);
    for (int i = 0; i < 4; i++)
        put_share(table, point->share[i]);
    report_cell(table, "%.4g", 1e-6 * point->tokens_per_core_hour);
}

enum status summary_table(const struct summary *summary, int section, struct report_table *table)
{
    static const char *const heads[] = {"ranks",   "threads",  "mesh",     "runs",       "step s",        "min to max",
                                        "p95 s",   "tokens/s", "speed-up", "efficiency", "min to max",    "MFU",
                                        "compute", "comm.",    "bubble",   "io",         "Mtokens/core-h"};
    static const char *const heads_both[] = {"ranks",      "threads", "mesh",          "runs",     "step s",
                                             "min to max", "p95 s",   "tokens/s",      "speed-up", "efficiency",
                                             "min to max", "MFU",     "MFU datasheet", "compute",  "comm.",
                                             "bubble",     "io",      "Mtokens/core-h"};
    const struct scale_section *part = &summary->sections[section];
    bool datasheet = false;
    for (int i = part->first; i < part->first + part->count; i++)
        datasheet = datasheet || isfinite(summary->points[i].mfu_datasheet);
    int columns = (int)(datasheet ? sizeof heads_both / sizeof *heads_both : sizeof heads / sizeof *heads);
    CHECK(report_table_create(summary->context, datasheet ? heads_both : heads, columns, part->count, table));
    for (int i = part->first; i < part->first + part->count; i++)
        put_point(&summary->points[i], datasheet, table);
    return STATUS_OK;
}

static void write_number(FILE *out, double value, bool last)
{
    char text[32] = "";
    if (isfinite(value))
        snprintf(text, sizeof text, "%.9g", value);
    csv_write(out, text, last);
}

static void write_spread(FILE *out, const struct spread *spread)
{
    write_number(out, spread->median, false);
    write_number(out, spread->low, false);
    write_number(out, spread->high, false);
}

static void write_point(FILE *out, const struct scale_section *section, const struct scale_point *point)
{
    csv_write(out, section->study, false);
    csv_write(out, section->variant, false);
    csv_write(out, point->row->layout, false);
    write_number(out, (double)point->row->ranks, false);
    write_number(out, (double)point->row->threads, false);
    write_number(out, (double)point->row->nodes, false);
    write_number(out, point->repeats, false);
    write_spread(out, &point->seconds);
    write_number(out, point->p95, false);
    write_number(out, point->tokens_per_second, false);
    write_spread(out, &point->speed_up);
    write_spread(out, &point->efficiency);
    write_number(out, point->mfu, false);
    write_number(out, point->mfu_datasheet, false);
    for (int i = 0; i < 4; i++)
        write_number(out, point->share[i], false);
    write_number(out, point->tokens_per_core_hour, true);
}

enum status summary_write(const struct summary *summary, const char *path)
{
    struct report_file file;
    CHECK(report_file_open(summary->context, path, &file));
    fputs("study,variant,layout,ranks,threads,nodes,repeats,step_median_s,step_min_s,step_max_s,step_p95_s,"
          "tokens_per_second,speed_up,speed_up_min,speed_up_max,efficiency,efficiency_min,efficiency_max,mfu,"
          "mfu_datasheet,compute_share,communication_share,bubble_share,io_share,tokens_per_core_hour\n",
          file.out);
    for (int i = 0; i < summary->point_count; i++)
        write_point(file.out, &summary->sections[summary->points[i].section], &summary->points[i]);
    return report_file_close(summary->context, &file);
}
