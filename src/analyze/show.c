#include "src/analyze/show.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "io/json/json.h"
#include "src/core/integer.h"

/* -- The table -- */

struct column {
    const char *head;
    enum measure measure;
};

static const struct column columns[] = {
    {"norm", MEASURE_NORM},           {"largest", MEASURE_LARGEST},
    {"smallest", MEASURE_SMALLEST},   {"condition", MEASURE_CONDITION},
    {"rank", MEASURE_RANK},           {"stable", MEASURE_STABLE},
    {"effective", MEASURE_EFFECTIVE}, {"90 %", MEASURE_ENERGY},
    {"moved", MEASURE_MOVED},         {"its rank", MEASURE_MOVED_EFFECTIVE},
    {"left angle", MEASURE_LEFT},     {"right angle", MEASURE_RIGHT},
};

enum { OWN_COLUMNS = 2, ALONE_COLUMNS = 8, COLUMNS = sizeof columns / sizeof *columns };

_Static_assert(OWN_COLUMNS + COLUMNS == SHOW_COLUMNS, "the table has another number of columns");

static const char *short_name(const struct analyzed *matrix)
{
    static const char prefix[] = "/parameters/";
    return strncmp(matrix->name, prefix, sizeof prefix - 1) == 0 ? matrix->name + sizeof prefix - 1 : matrix->name + 1;
}

static void put_shape(struct report_table *table, const struct analyzed *matrix)
{
    if (matrix->stack == 1)
        report_cell(table, "%" PRId64 " x %" PRId64, matrix->rows, matrix->columns);
    else
        report_cell(table, "%" PRId64 " of %" PRId64 " x %" PRId64, matrix->stack, matrix->rows, matrix->columns);
}

/* Nothing where there is nothing to say. */
static void put_measure(struct report_table *table, double value)
{
    if (isnan(value))
        report_cell(table, "%s", "");
    else
        report_cell(table, "%.4g", value);
}

enum status show_table(const struct analysis *analysis, const char *heads[SHOW_COLUMNS], struct report_table *table)
{
    int count = analysis->other[0] ? COLUMNS : ALONE_COLUMNS;
    heads[0] = "matrix";
    heads[1] = "shape";
    for (int i = 0; i < count; i++)
        heads[OWN_COLUMNS + i] = columns[i].head;
    CHECK(report_table_create(analysis->context, heads, OWN_COLUMNS + count, analysis->count, table));
    for (int i = 0; i < analysis->count; i++) {
        const struct analyzed *matrix = &analysis->matrices[i];
        report_cell(table, "%s", short_name(matrix));
        put_shape(table, matrix);
        for (int j = 0; j < count; j++)
            put_measure(table, matrix->measure[columns[j].measure]);
    }
    return STATUS_OK;
}

/* -- JSON -- */

static int measures_of(const struct analysis *analysis)
{
    return analysis->other[0] ? MEASURES : MEASURES_ALONE;
}

static json_t *matrix_json(const struct analysis *analysis, const struct analyzed *matrix)
{
    json_t *object = json_form("{s:s, s:s, s:I, s:I, s:I, s:I}", "name", short_name(matrix), "kind", matrix->kind,
                               "layer", (json_int_t)matrix->layer, "stack", (json_int_t)matrix->stack, "rows",
                               (json_int_t)matrix->rows, "columns", (json_int_t)matrix->columns);
    json_t *values = json_array();
    for (int m = 0; m < measures_of(analysis); m++)
        json_set_number(object, measure_name((enum measure)m), matrix->measure[m]);
    for (int64_t i = 0; i < integer_min(matrix->rows, matrix->columns); i++)
        json_array_append_new(values, json_real(analysis_values(analysis, matrix)[i]));
    json_object_set_new(object, "singular_values", values);
    return object;
}

json_t *show_json(const struct analysis *analysis)
{
    json_t *object = json_form("{s:s, s:I}", "checkpoint", analysis->path, "step", (json_int_t)analysis->step);
    json_t *matrices = json_array();
    if (analysis->other[0]) {
        json_object_set_new(object, "beside", json_text(analysis->other));
        json_object_set_new(object, "directions", json_integer((json_int_t)analysis->directions));
        json_object_set_new(object, "left_out", json_integer(analysis->left_out));
    }
    for (int i = 0; i < analysis->count; i++)
        json_array_append_new(matrices, matrix_json(analysis, &analysis->matrices[i]));
    json_object_set_new(object, "matrices", matrices);
    return object;
}

/* -- CSV -- */

static void write_number(FILE *out, double value, bool last)
{
    char text[40] = "";
    if (!isnan(value))
        snprintf(text, sizeof text, "%.9g", value);
    csv_write(out, text, last);
}

static void write_integer(FILE *out, int64_t value, bool last)
{
    char text[40];
    snprintf(text, sizeof text, "%" PRId64, value);
    csv_write(out, text, last);
}

static void write_matrices(FILE *out, const struct analysis *analysis)
{
    int measures = measures_of(analysis);
    for (int i = 0; i < analysis->count; i++) {
        const struct analyzed *matrix = &analysis->matrices[i];
        write_integer(out, analysis->step, false);
        csv_write(out, short_name(matrix), false);
        csv_write(out, matrix->kind, false);
        write_integer(out, matrix->layer, false);
        write_integer(out, matrix->stack, false);
        write_integer(out, matrix->rows, false);
        write_integer(out, matrix->columns, false);
        for (int m = 0; m < measures; m++)
            write_number(out, matrix->measure[m], m == measures - 1);
    }
}

static void write_values(FILE *out, const struct analysis *analysis)
{
    for (int i = 0; i < analysis->count; i++) {
        const struct analyzed *matrix = &analysis->matrices[i];
        for (int64_t j = 0; j < integer_min(matrix->rows, matrix->columns); j++) {
            write_integer(out, analysis->step, false);
            csv_write(out, short_name(matrix), false);
            write_integer(out, j + 1, false);
            write_number(out, analysis_values(analysis, matrix)[j], true);
        }
    }
}

static void write_heads(FILE *out, int measures)
{
    fputs("step,matrix,kind,layer,stack,rows,columns", out);
    for (int m = 0; m < measures; m++)
        fprintf(out, ",%s", measure_name((enum measure)m));
    fputc('\n', out);
}

enum status show_csv(struct context *context, const char *folder, const struct analysis *analyses, int count)
{
    for (int values = 0; values < 2; values++) {
        struct report_file file;
        char path[REPORT_PATH + 32];
        snprintf(path, sizeof path, "%s/%s.csv", folder, values ? "singular_values" : "matrices");
        CHECK(report_file_open(context, path, &file));
        if (values)
            fputs("step,matrix,number,singular_value\n", file.out);
        else
            write_heads(file.out, measures_of(&analyses[0]));
        for (int i = 0; i < count; i++)
            (values ? write_values : write_matrices)(file.out, &analyses[i]);
        CHECK(report_file_close(context, &file));
    }
    return STATUS_OK;
}
