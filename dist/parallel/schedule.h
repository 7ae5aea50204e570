/* Pipeline schedules: who computes what in which order. They come from simulating the stages with unit costs, so any
 * number of stages, chunks (virtual stages) and micro-batches gives an order that cannot deadlock. */
#ifndef CAIRN_DIST_PARALLEL_SCHEDULE_H
#define CAIRN_DIST_PARALLEL_SCHEDULE_H

#include "src/core/context.h"

enum pipeline_pass { PIPELINE_FORWARD, PIPELINE_BACKWARD };

struct pipeline_action {
    enum pipeline_pass pass;
    int chunk;           /* on this stage; the model's chunk is chunk * stages + stage */
    int64_t micro_batch; /* per chunk and pass they come in ascending order */
};

struct schedule_shape {
    int stages;
    int chunks; /* per stage; 1 is 1F1B, more is interleaved */
    int64_t micro_batches;
    bool forward_only;
};

struct schedule {
    struct schedule_shape shape;
    int64_t count;                   /* actions of this stage */
    struct pipeline_action *actions; /* in order */
    int64_t *in_flight; /* [chunks]: most micro-batches from the chunk's forward to its backward, or if only forward
                           runs to the forward of the last chunk, and then (of several) at least 2, so that one can
                           arrive while another is computed. No chunk has more than the first. */
    double bubble;      /* share of the simulated time in which this stage waits, backward costing twice forward */
};

enum status schedule_create(struct context *context, const struct schedule_shape *shape, int stage,
                            struct schedule *schedule) MUST_USE;
void schedule_destroy(struct context *context, struct schedule *schedule);

#endif
