/* What people look at: tables as text, CSV and HTML, figures through gnuplot as SVG and PNG, and pages that are whole
 * in one file, without scripts or anything from elsewhere. */
#ifndef CAIRN_IO_REPORT_H
#define CAIRN_IO_REPORT_H

#include <stdio.h>

#include "src/core/context.h"

enum { REPORT_CELL = 256, REPORT_PATH = 1024 };

/* -- Files -- */

/* A file that appears complete or not at all: it is written beside its place, flushed and renamed. */
struct report_file {
    FILE *out;
    char path[REPORT_PATH];
    char partial[REPORT_PATH + 32];
};
enum status report_file_open(struct context *context, const char *path, struct report_file *file) MUST_USE;
enum status report_file_close(struct context *context, struct report_file *file) MUST_USE;

/* -- CSV, as RFC 4180 has it -- */

/* One cell, in quotes where it needs them. */
void csv_write(FILE *out, const char *text, bool last);

/* Reads one row into `text`, of which cells[i] are parts; quoted cells may hold line ends. Returns the number of cells,
 * 0 at the end of the file, and -1 for a row that is longer than `size` or `most`, or whose quotes do not close. */
int csv_read(FILE *in, char *text, size_t size, char **cells, int most);

/* -- Tables -- */

struct report_table {
    struct context *context;
    const char *const *heads;
    int columns;
    int64_t cells_used;
    int64_t cells_most;
    char (*cells)[REPORT_CELL];
};

enum status report_table_create(struct context *context, const char *const *heads, int columns, int64_t rows,
                                struct report_table *table) MUST_USE;
void report_table_destroy(struct report_table *table);

/* The next cell of the row; what is too long is cut. */
void report_cell(struct report_table *table, const char *format, ...) PRINTF_LIKE(2, 3);

/* In columns; those of numbers are aligned to the right. */
void report_table_print(const struct report_table *table, FILE *out);

/* -- Figures -- */

enum report_style {
    REPORT_CURVE,  /* a line, and the range from low to high as a band behind it */
    REPORT_POINTS, /* marks joined by a line, and the range as error bars */
    REPORT_MARKS,  /* marks joined by a thin line, without a range */
    REPORT_IDEAL,  /* dashed */
};

struct report_point {
    double x, y;
    double low, high; /* equal to y without a range */
};

struct report_line {
    const char *name;
    enum report_style style;
    int color; /* lines of one thing have one color */
    const struct report_point *points;
    int64_t count;
};

struct report_figure {
    const char *name; /* of its files */
    const char *title;
    const char *x_label, *y_label;
    bool log_x, log_y;
    bool from_zero; /* the y axis begins there */
    bool whole_x;   /* marks on the x axis at the points only */
    const struct report_line *lines;
    int line_count;
};

/* A stack of parts for each name. */
struct report_stack {
    const char *name;
    const char *title;
    const char *y_label;
    bool percent; /* the parts add up to 100 */
    const char *const *parts;
    int part_count;
    const char *const *labels;
    int label_count;
    const double *values; /* [label_count][part_count] */
};

/* Writes FOLDER/NAME.gnuplot, which may be changed and run again, and draws NAME.svg, NAME-narrow.svg (for phones) and
 * NAME.png from it. Without
 * gnuplot on PATH *drawn is false and nothing else is amiss; FILE error with gnuplot's words when it refuses. */
enum status report_figure_draw(struct context *context, const char *folder, const struct report_figure *figure,
                               bool *drawn) MUST_USE;
enum status report_stack_draw(struct context *context, const char *folder, const struct report_stack *stack,
                              bool *drawn) MUST_USE;

/* What to do about a gnuplot that is not there. */
extern const char report_without_gnuplot[];

/* -- Pages -- */

/* HTML in one file, light or dark as the reader's system is. */
struct report_page {
    struct report_file file;
};

enum status report_page_open(struct context *context, const char *path, const char *title,
                             struct report_page *page) MUST_USE;
/* An element that holds a text, as "h2" or "p". */
void report_page_text(struct report_page *page, const char *element, const char *format, ...) PRINTF_LIKE(3, 4);
void report_page_table(struct report_page *page, const struct report_table *table);
/* What comes until the end is shown when the reader opens it. */
void report_page_fold(struct report_page *page, const char *summary);
void report_page_fold_end(struct report_page *page);
/* FOLDER/NAME.svg, as a part of the page; nothing when it is not there. */
void report_page_figure(struct report_page *page, const char *folder, const char *name);
enum status report_page_close(struct context *context, struct report_page *page) MUST_USE;

#endif
