/* The checkpoints that a run saves: at once, or behind the next steps (checkpoint.background). Functions are collective
 * with agreed status unless said otherwise; a save that fails in the middle of a run is reported, and tried again with
 * the next. */
#ifndef CAIRN_TRAIN_CHECKPOINTER_H
#define CAIRN_TRAIN_CHECKPOINTER_H

#include "src/train/progress.h"
#include "src/train/state.h"

struct checkpointer {
    struct trainer *trainer;
    const struct model_state *state;
    struct state_image image;
    struct checkpoint_background *background; /* NULL: training stands still meanwhile */
    struct checkpoint_target target;
    int64_t saved_step; /* of the checkpoint that this run wrote or read last; -1: none */
    int64_t begun_step; /* of the one on its way */
    bool unproven;      /* no sound step has come after the newest yet, so that the ones before it stay */
};

/* What a save has cost, when one has come to its end. */
struct saving {
    bool done;
    int64_t step;
    int64_t bytes;  /* of weights, moments and memories; 0 is not known */
    double seconds; /* until it was on disk */
    double held;    /* of these, for which training stood still */
};

/* Takes all memory. state: what rows carry, or NULL; `folder` must outlive the checkpointer. */
enum status checkpointer_create(struct trainer *trainer, const struct model_state *state, const char *folder,
                                struct checkpointer *checkpointer) MUST_USE;

/* Gives up what is on its way. Local. */
void checkpointer_destroy(struct checkpointer *checkpointer);

/* Whether a checkpoint is on its way. Local. */
bool checkpointer_active(const struct checkpointer *checkpointer);

/* For the evaluator's voter. Local. */
void checkpointer_cast(struct checkpointer *checkpointer, double votes[VOTES]);

/* After each step, with its votes: goes on with what is on its way. */
enum status checkpointer_follow(struct checkpointer *checkpointer, const double votes[VOTES], struct progress *progress,
                                struct saving *saving) MUST_USE;

/* Saves the present step unless that is done. The last save of a run is there when this returns, or has failed (it
 * comes after checkpointer_settle); others may be written behind the next steps, or left out while one is on its way.
 */
enum status checkpointer_save(struct checkpointer *checkpointer, bool last, struct progress *progress,
                              struct saving *saving) MUST_USE;

/* A step behind the newest checkpoint was sound: the newest is good, and old ones may go (checkpoint.keep_last). */
void checkpointer_prove(struct checkpointer *checkpointer);

/* Waits for what is on its way. */
enum status checkpointer_settle(struct checkpointer *checkpointer, struct progress *progress,
                                struct saving *saving) MUST_USE;

#endif
