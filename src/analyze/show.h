/* What was found, for people and programs. Serial. */
#ifndef CAIRN_ANALYZE_SHOW_H
#define CAIRN_ANALYZE_SHOW_H

#include <jansson.h>
#include <stdio.h>

#include "io/report/report.h"
#include "src/analyze/analysis.h"

/* A row for each matrix; `heads` are filled in. To be destroyed whatever comes back. */
enum { SHOW_COLUMNS = 14 };
enum status show_table(const struct analysis *analysis, const char *heads[SHOW_COLUMNS],
                       struct report_table *table) MUST_USE;

/* An object with all measures and singular values; NULL when memory is out. */
json_t *show_json(const struct analysis *analysis);

/* FOLDER/matrices.csv, and FOLDER/singular_values.csv with a row for each value; of several checkpoints one behind the
 * other. */
enum status show_csv(struct context *context, const char *folder, const struct analysis *analyses, int count) MUST_USE;

/* FOLDER/index.html and its plots: spectra and measures by layer, of the last of several checkpoints; of several also
 * their course. *drawn is false without gnuplot. */
enum status show_page(struct context *context, const char *folder, const struct analysis *analyses, int count,
                      bool *drawn) MUST_USE;

#endif
