/* What watches over a run beside its steps: the watchdog for hangs, and the look for ranks that are slow. */
#ifndef CAIRN_TRAIN_GUARD_H
#define CAIRN_TRAIN_GUARD_H

#include "io/metrics/metrics.h"
#include "src/guard/straggler.h"
#include "src/guard/watchdog.h"
#include "src/train/progress.h"
#include "src/train/trainer.h"

struct guard {
    struct context *context;
    struct hosts hosts;
    struct watchdog *watchdog;
    struct straggler_watch stragglers;
};

/* When the steps are about to begin; `folder` is the run's. trainer must outlive it. Collective; agreed status. To be
 * destroyed whatever comes back. */
enum status guard_create(struct trainer *trainer, const char *folder, struct guard *guard) MUST_USE;
void guard_destroy(struct guard *guard);

/* After a step that this rank worked on for so many seconds, outside of MPI. metrics: of the rank that writes, else
 * NULL. Local status; collective over the team after every watch.straggler_steps steps. */
enum status guard_step(struct guard *guard, const struct trainer *trainer, double seconds, struct progress *progress,
                       struct metrics *metrics) MUST_USE;

#endif
