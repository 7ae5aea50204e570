#include "src/train/evaluate.h"

#include "src/core/clock.h"

/* Puts windows first.. (each `stride` apart in the list of `windows`) into this rank's rows; returns the targets of the
 * whole batch, which every rank counts. Rows beyond the last window are padding. */
static int64_t fill_batch(struct trainer *trainer, const struct corpus *corpus, int64_t first, int64_t shown,
                          int64_t windows)
{
    struct batch *batch = &trainer->batch;
    int64_t targets = 0;
    for (int64_t row = 0; row < batch->rows; row++) {
        int64_t local = row - batch->mine.begin;
        bool mine = local >= 0 && local < batch->mine.count;
        int32_t *inputs = mine ? batch->inputs + local * batch->length : NULL;
        int32_t *labels = mine ? batch->targets + local * batch->length : NULL;
        int64_t index = first + row;
        int64_t count = 0;
        if (index < shown)
            corpus_window(corpus, batch->length, index * windows / shown, inputs, labels, &count);
        for (int64_t i = 0; mine && index >= shown && i < batch->length; i++) {
            inputs[i] = 0;
            labels[i] = -1;
        }
        targets += count;
    }
    return targets;
}

enum status evaluate(struct trainer *trainer, const struct corpus *corpus, int64_t batches,
                     struct evaluation *evaluation)
{
    int64_t windows = corpus_windows(corpus, trainer->batch.length);
    int64_t shown = batches ? integer_min(windows, batches * trainer->batch.rows) : windows;
    double start = clock_seconds();
    double sum = 0.0;
    *evaluation = (struct evaluation){0};
    for (int64_t first = 0; first < shown; first += trainer->batch.rows) {
        int64_t targets = fill_batch(trainer, corpus, first, shown, windows);
        double loss = 0.0;
        trainer_scale_batch(trainer, targets);
        CHECK(trainer_loss(trainer, &loss));
        sum += loss * (double)targets;
        evaluation->targets += targets;
    }
    evaluation->loss = evaluation->targets ? sum / (double)evaluation->targets : 0.0;
    evaluation->seconds = clock_seconds() - start;
    return STATUS_OK;
}
