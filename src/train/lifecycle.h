/* What ends a run or makes it save, other than its number of steps: requests from outside, the time limit of its job,
 * and checkpoints as often as they pay. Ranks vote with each step and evaluated batch, so all decide the same. */
#ifndef CAIRN_TRAIN_LIFECYCLE_H
#define CAIRN_TRAIN_LIFECYCLE_H

#include "io/history/history.h"
#include "src/train/requests.h"
#include "src/train/timekeeper.h"
#include "src/train/trainer.h"

struct lifecycle {
    struct context *context;
    const struct config *config;
    const struct trainer *trainer;
    bool root;
    bool evaluates; /* there is something to evaluate */
    struct requests *requests;
    struct history *history; /* root only, as all below */
    struct timekeeper timekeeper;
    double began;
    int64_t first_step; /* that was done before this start */
    int64_t last_step;  /* that this start may do */
    bool evaluating;    /* now */
    bool limited;       /* the timekeeper voted to stop */
};

/* Begins to listen; the job's time counts from now. trainer and config must outlive it. Local. To be destroyed whatever
 * comes back. */
enum status lifecycle_create(struct context *context, const struct trainer *trainer, const struct config *config,
                             bool root, struct lifecycle *lifecycle) MUST_USE;

/* Root, when the trainer's state is what the run goes on from: reads the history and notes this start in it.
 * last_step: after which this start ends by itself. */
enum status lifecycle_begin(struct lifecycle *lifecycle, int64_t last_step, bool evaluates) MUST_USE;

/* Notes how it ended. */
void lifecycle_destroy(struct lifecycle *lifecycle, int code);

/* For the evaluator's voter. writing: a checkpoint is on its way, behind the training. Local. */
void lifecycle_cast(struct lifecycle *lifecycle, bool writing, double votes[VOTES]);

/* Measured by the caller: a step (or an evaluation) is over and took so long. */
void lifecycle_stepped(struct lifecycle *lifecycle, double seconds);
void lifecycle_evaluated(struct lifecycle *lifecycle, double seconds);

/* A checkpoint was begun, or tried in vain, and training goes on; one that failed is tried again an interval later. */
void lifecycle_save_begun(struct lifecycle *lifecycle);

/* One is there. held: seconds that the training stood still for it; written: until it was there. */
void lifecycle_saved(struct lifecycle *lifecycle, double held, double written);

/* What was voted for is done: removes the file that asked for it. */
void lifecycle_obeyed(struct lifecycle *lifecycle, enum vote vote);

/* Says why the run was stopped. USAGE error, known to the root only, when the job's time limit came before anything was
 * done in this start, so that no number of starts would finish the run. */
enum status lifecycle_stopped(struct lifecycle *lifecycle) MUST_USE;

/* Seconds from now to the end that the scheduler has set (SLURM_JOB_END_TIME); infinity without one, or when it is over
 * already, as in an environment of another job. */
double lifecycle_job_seconds(struct context *context);

#endif
