/* Batch normalisation of images (src/model/README.md section 9), with statistics of this rank's rows or of those of all
 * data ranks. */
#ifndef CAIRN_DIST_PARALLEL_BATCH_NORM_H
#define CAIRN_DIST_PARALLEL_BATCH_NORM_H

#include "dist/mesh/mesh.h"
#include "src/tensor/tape.h"

struct batch_norm {
    struct tensor *weight, *bias; /* [channels] */
    struct parameter *mean;       /* running, [channels], as the next */
    struct parameter *variance;   /* unbiased */
    struct parameter *tracked;    /* micro-batches that both come from */
    double epsilon, momentum;     /* the share of a micro-batch in what is running */
};

struct batch_norm_use {
    bool trains;  /* takes the statistics of the rows, and remembers them; else the running ones, without a backward */
    bool group;   /* of the rows of all data ranks; some of which may have none */
    bool rectify; /* the positive part of the result */
};

/* y = (x - mean) / sqrt(variance + epsilon) weight + bias, plus the shortcut unless that is NULL, in x's layout. What
 * is running changes in the first run of a recomputed function only. mesh NULL: one rank. Collective over the data
 * axis, forward and backward, if it trains with the group's statistics. */
struct tensor *batch_norm(struct tape *tape, struct mesh *mesh, struct tensor *x, struct tensor *shortcut,
                          const struct batch_norm *norm, const struct batch_norm_use *use);

#endif
