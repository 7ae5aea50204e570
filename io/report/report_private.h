/* What the files of io/report share; for this folder only. */
#ifndef CAIRN_IO_REPORT_PRIVATE_H
#define CAIRN_IO_REPORT_PRIVATE_H

#include "io/report/report.h"

/* Whether a column holds numbers only. */
bool table_is_numeric(const struct report_table *table, int column);

/* Runs gnuplot on FOLDER/NAME.gnuplot. */
enum status gnuplot_run(struct context *context, const char *folder, const char *name, bool *drawn) MUST_USE;

#endif
