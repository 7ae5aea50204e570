/* What the rows of a scaling study say together. */
#ifndef CAIRN_STUDY_SUMMARY_H
#define CAIRN_STUDY_SUMMARY_H

#include "src/study/row.h"

/* A median with the least and the most of the repeats. */
struct spread {
    double median, low, high;
};

/* The repeats of one run. */
struct scale_point {
    const struct scale_row *row; /* the first of them */
    int section;
    int repeats;
    int64_t cores; /* ranks x threads */
    struct spread seconds;
    struct spread speed_up;   /* in tokens a second, beside the section's base */
    struct spread efficiency; /* strong: t0 N0 / (N t), weak: t0 / t, with t0 the median of the base on N0 cores */
    double p95, tokens_per_second, mfu, mfu_datasheet;
    double share[4]; /* of the time: compute, communication, bubble, input */
    double tokens_per_core_hour;
};

/* Points that can be compared: of one kind of study and one variant. */
struct scale_section {
    const char *study;
    const char *variant;
    int first, count; /* points, by cores and then by time */
    int base;         /* the fastest on the fewest cores */
};

struct summary {
    struct context *context;
    struct scale_row *rows; /* sorted */
    int row_count;
    int good; /* the first so many are of runs that succeeded */
    struct scale_point *points;
    int point_count;
    struct scale_section *sections;
    int section_count;
};

extern const char *const share_names[4];

/* Takes the rows, sorts them, and computes the rest. */
enum status summary_create(struct context *context, struct scale_row *rows, int count,
                           struct summary *summary) MUST_USE;
void summary_destroy(struct summary *summary);

/* Points of a section as a table for people, and all points as CSV with all digits. */
enum status summary_table(const struct summary *summary, int section, struct report_table *table) MUST_USE;
enum status summary_write(const struct summary *summary, const char *path) MUST_USE;

#endif
