/* A trained model of fixed depth as the beginning of another one: a recursive model (src/model/README.md section 5), or
 * the same model with memory, learned residuals or routed layers besides. */
#ifndef CAIRN_TRAIN_CONVERT_H
#define CAIRN_TRAIN_CONVERT_H

#include "src/train/trainer.h"

/* What a shared layer begins as, of the layers that all shared layers take the place of (Relaxed Recursive
 * Transformers, section 3.1): evenly spaced ones, the first and the last included; the mean of those whose places it
 * takes; the first ones; the last ones. */
enum convert_initialization { CONVERT_STEPWISE, CONVERT_AVERAGE, CONVERT_LOWER, CONVERT_UPPER };

/* Parameters that have values from the source, and those that begin as in any new model. */
struct conversion_counts {
    int taken;
    int fresh;
};

/* Gives a trainer that was just created the parameters of the checkpoint; moments, step and data position stay those of
 * a new run. Collective, agreed status. USAGE error that names what does not fit: the source's depth is not fixed, a
 * parameter has another shape, its place is missing, or the models compute otherwise. */
enum status convert_load(struct trainer *trainer, const char *path, enum convert_initialization initialization,
                         struct conversion_counts *counts) MUST_USE;

#endif
