/* RUN/confusion.csv: how often held-out images of a class were taken for which, as of the last evaluation. */
#ifndef CAIRN_TRAIN_CONFUSION_H
#define CAIRN_TRAIN_CONFUSION_H

#include "src/core/context.h"

/* counts [classes, classes], a row for each label; data_facts as in checkpoints, for the names. For the rank that
 * writes; local. FILE error. */
enum status confusion_write(struct context *context, const char *folder, const char *data_facts, const double *counts,
                            int64_t classes) MUST_USE;

#endif
