/* What is known of one training run. */
#ifndef CAIRN_STUDY_RUN_H
#define CAIRN_STUDY_RUN_H

#include "src/core/config.h"
#include "src/study/series.h"

enum { RUN_SERIES = 96 };

struct run {
    struct context *context;
    char name[REPORT_PATH];   /* as given, without slashes behind it */
    char folder[REPORT_PATH]; /* where its files are */
    struct series *series[RUN_SERIES];
    int series_count;
    struct metrics_seen seen;
    int64_t steps;        /* the last one */
    int64_t starts;       /* 0: nobody wrote them down */
    double seconds;       /* of all steps */
    int64_t timed;        /* the step up to which they are counted */
    struct config config; /* of config.yaml; has_config when it could be read */
    bool has_config;
    char obstacle[512]; /* why it could not, or empty */
};

/* Reads metrics.jsonl, starts.jsonl and config.yaml. */
enum status run_read(struct context *context, const char *name, struct run *run) MUST_USE;
void run_destroy(struct run *run);

/* NULL when the run has no such field. */
const struct series *run_series(const struct run *run, const char *name);

#endif
