/* The schedule of a pipeline with the times of its passes and messages. */
#ifndef CAIRN_PLAN_SIMULATE_H
#define CAIRN_PLAN_SIMULATE_H

#include "src/plan/rehearsal.h"

/* The stages of one pipeline. */
struct simulation {
    int stages;
    int chunks; /* per stage */
    int64_t micro_batches;
    const double *pass;    /* [stages, chunks, 2] seconds of a pass with the cores to itself */
    const double *message; /* [stages, chunks, 2] seconds from the end of a pass until its result is at the next */
    double speed_limit;    /* stages that can run at once at full speed; more share (INFINITY: all) */
};

struct simulated {
    double seconds;
    double bubble; /* share of the stages' time in which they wait for each other */
};

enum status simulate(struct context *context, const struct simulation *simulation, struct simulated *result) MUST_USE;

#endif
