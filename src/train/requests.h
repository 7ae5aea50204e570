/* What the outside asks of a run: by a signal (USR1, USR2, TERM) to any of its processes, or by the files RUN/stop and
 * RUN/save. The first signal is a wish to stop after the step under way; a second one ends the process at once. Open
 * MPI's mpirun answers TERM by CONT to its ranks, TERM a while later and KILL after as long again: CONT to the first
 * rank is a wish to save.
 *
 * A launcher may deliver one signal by two ways, so what arrives within a second of the first belongs to it. */
#ifndef CAIRN_TRAIN_REQUESTS_H
#define CAIRN_TRAIN_REQUESTS_H

#include "src/core/context.h"
#include "src/train/trainer.h"

/* Holds the signals back, in the calling thread and in those that it starts: to be called before there are others. */
void requests_hold_signals(void);

struct requests;

/* Begins to listen, in a thread of its own, to signals that were held; those that came before now count. Looks for the
 * files only if `folder` is not NULL. Local. */
enum status requests_create(struct context *context, const char *folder, struct requests **requests) MUST_USE;

/* Files that were there before are told of and removed: what they asked for was meant for an earlier start. For the one
 * that owns the folder. */
void requests_drop_old(struct requests *requests);

/* Signals are held from then on. */
void requests_destroy(struct context *context, struct requests **requests);

/* Adds what was asked for to the votes. Does not wait; looks at the folder once a second at most. */
void requests_cast(struct requests *requests, double votes[VOTES]);

/* Why this rank voted to stop, for the log: "USR1", "the file RUN/stop"; NULL if it did not. */
const char *requests_reason(const struct requests *requests);

/* What was voted for has been done: removes the file that asked for it. */
void requests_obeyed(struct requests *requests, enum vote vote);

#endif
