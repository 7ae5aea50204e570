/* The course of a number over the steps of a run, however long, in as many bins as a plot can show. */
#ifndef CAIRN_STUDY_SERIES_H
#define CAIRN_STUDY_SERIES_H

#include "io/metrics/metrics.h"
#include "io/report/report.h"

enum { SERIES_BINS = 1000, SERIES_NAME = 48 };

struct series_bin {
    double sum, low, high;
    int64_t count;
};

/* Bins are of equal width, which doubles when the steps reach their end. */
struct series {
    char name[SERIES_NAME];
    int64_t first; /* step of the first bin */
    int64_t width; /* steps of a bin */
    int used;
    int64_t count; /* values, and what they were at last, in sum, and at the extremes */
    int64_t last_step;
    double last, sum, least, most;
    struct series_bin bin[SERIES_BINS];
};

void series_create(struct series *series, const char *name);
void series_add(struct series *series, int64_t step, const struct metrics_value *value);

/* A point for each bin that has values, at the middle of its steps: their mean and range, times `scale`. Returns how
 * many. */
int series_points(const struct series *series, double scale, struct report_point points[SERIES_BINS]);

#endif
