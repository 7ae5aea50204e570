/* What watches over a run beside its steps: the watchdog for hangs, and the look for ranks that are slow. */
#ifndef CAIRN_TRAIN_WATCHES_H
#define CAIRN_TRAIN_WATCHES_H

#include "io/metrics/metrics.h"
#include "src/train/progress.h"
#include "src/train/trainer.h"
#include "src/watch/straggler.h"
#include "src/watch/watchdog.h"

struct watches {
    struct context *context;
    struct hosts hosts;
    struct watchdog *watchdog;
    struct straggler_watch stragglers;
};

/* When the steps are about to begin; `folder` is the run's. trainer must outlive it. Collective; agreed status. To be
 * destroyed whatever comes back. */
enum status watches_create(struct trainer *trainer, const char *folder, struct watches *watches) MUST_USE;
void watches_destroy(struct watches *watches);

/* After a step that this rank worked on for so many seconds, outside of MPI. metrics: of the rank that writes, else
 * NULL. Local status; collective over the team after every watch.straggler_steps steps. */
enum status watches_step(struct watches *watches, const struct trainer *trainer, double seconds,
                         struct progress *progress, struct metrics *metrics) MUST_USE;

#endif
