/* Going back before a spike of the loss. */
#ifndef CAIRN_TRAIN_REWIND_H
#define CAIRN_TRAIN_REWIND_H

#include "io/metrics/metrics.h"
#include "src/train/trainer.h"

struct rewind {
    bool done;       /* false: there is no checkpoint to go back to, and the run goes on */
    bool saved;      /* the state that the run has gone back to, with the data left out */
    int64_t first;   /* step of the spike */
    int64_t from;    /* the step that it was left behind */
    int64_t to;      /* the step that the run goes on from */
    int64_t skipped; /* steps whose data is left out */
};

/* After trainer->spikes found that a spike has lasted long enough: loads the newest good checkpoint before it, moves on
 * past the data that came since then (and watch.spike_skip steps more), sets later checkpoints aside and saves the step
 * anew, so that a start that follows goes on the same way. NUMERIC error when the run has gone back watch.spike_limit
 * times before. Collective; agreed status. */
enum status rewind_run(struct trainer *trainer, struct model_state *state, const char *folder,
                       struct rewind *rewind) MUST_USE;

/* Says what happened, in the log and in RUN/metrics.jsonl, which is cut off after the step that the run goes on from.
 * metrics: NULL on ranks that write none. Local. */
enum status rewind_tell(struct context *context, const struct rewind *rewind, const char *run,
                        struct metrics **metrics) MUST_USE;

#endif
