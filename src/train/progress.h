/* What a run shows of itself: the measured peak of matrix products, and the live line. */
#ifndef CAIRN_TRAIN_PROGRESS_H
#define CAIRN_TRAIN_PROGRESS_H

#include "dist/mesh/mesh.h"
#include "src/ops/engine.h"

/* FLOP/s of matrix products of this type on all ranks, the best of a few: the denominator of MFU. Collective. */
double progress_peak(struct context *context, struct mesh *mesh, struct engine *engine, enum dtype dtype);

struct progress {
    bool shown;              /* this rank speaks */
    bool terminal;           /* the line may be overwritten */
    double seconds_per_step; /* smoothed */
    double last_line;
    double evaluation_began, evaluation_told;
};

struct progress_line {
    int64_t step;
    int64_t steps; /* of the run */
    int64_t end;   /* the step with which this start ends; time is left to that */
    double loss;
    double router_loss; /* 0: there is none to show */
    double rate;
    double seconds; /* of this step */
    double tokens_per_second;
    double images_per_second; /* 0: there are none */
    double mfu;
    bool skipped;
    bool no_target; /* there is no loss */
};

void progress_create(struct progress *progress, bool shown);

/* On a terminal the line replaces the one before; in a file there is one a second at most, and the last. */
void progress_show(struct progress *progress, const struct progress_line *line);

/* Evaluations of more than a second or two: how many of all their passes are done. */
void progress_evaluation(struct progress *progress, int64_t done, int64_t all);

/* Ends a line that stands open, before something else is printed. */
void progress_break(struct progress *progress);

#endif
