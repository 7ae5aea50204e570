/* The mean loss over a corpus, in windows that each begin without context. */
#ifndef CAIRN_TRAIN_EVALUATE_H
#define CAIRN_TRAIN_EVALUATE_H

#include "io/data/data.h"
#include "src/train/trainer.h"

struct evaluation {
    double loss;     /* nats per token */
    int64_t targets; /* tokens that were predicted */
    double seconds;
};

/* At most `batches` batches of windows, spread evenly over the corpus; 0 is all of it. Uses the trainer's batch.
 * Collective. */
enum status evaluate(struct trainer *trainer, const struct corpus *corpus, int64_t batches,
                     struct evaluation *evaluation) MUST_USE;

#endif
