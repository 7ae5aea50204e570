/* A trained model of fixed depth as the beginning of another one: a recursive model (src/model/README.md section 5), or
 * the same model with memory, learned residuals, routed layers or low-rank maps besides. */
#ifndef CAIRN_TRAIN_CONVERT_H
#define CAIRN_TRAIN_CONVERT_H

#include "src/train/trainer.h"

/* What a shared layer begins as, of the layers that all shared layers take the place of (Relaxed Recursive
 * Transformers, section 3.1): evenly spaced ones, the first and the last included; the mean of those whose places it
 * takes; the first ones; the last ones. */
enum convert_initialization { CONVERT_STEPWISE, CONVERT_AVERAGE, CONVERT_LOWER, CONVERT_UPPER };

struct convert_way {
    enum convert_initialization initialization;
    double energy; /* share of the squares of what the mean leaves of a matrix that its rank must keep; 0: all that
                      model.depth.lora_rank has room for */
    bool merges; /* the model is the source's own without model.lora: its LoRA maps go into the matrices beside them */
};

/* The ranks that what is left of the matrices of all recursions has, and the share of its squares that they keep: 1 if
 * nothing is left. */
struct convert_ranks {
    int64_t count;
    int64_t least, most;
    double mean;
    double kept;
};

/* Parameters that have values from the source, and those that begin as in any new model. */
struct conversion_counts {
    int taken;
    int fresh;
    struct convert_ranks ranks; /* count 0: nothing was decomposed */
};

/* Gives a trainer that was just created the parameters of the checkpoint; moments, step and data position stay those of
 * a new run. With CONVERT_AVERAGE and model.depth.lora_rank, what the mean leaves of each layer becomes the low-rank
 * maps of its recursion (src/model/README.md section 10). Collective, agreed status. USAGE error that names what does
 * not fit: the source's depth is not fixed, a parameter has another shape, its place is missing, or the models compute
 * otherwise; NUMERIC for a matrix that is not finite. */
enum status convert_load(struct trainer *trainer, const char *path, const struct convert_way *way,
                         struct conversion_counts *counts) MUST_USE;

/* The ranks that way->energy would have for a model of this configuration, whose model.depth.lora_rank is not 0 but
 * else has no meaning. Collective, agreed status; the same errors. */
enum status convert_find_ranks(struct context *context, struct mesh *mesh, const struct config *config,
                               const char *path, const struct convert_way *way, struct convert_ranks *ranks) MUST_USE;

#endif
