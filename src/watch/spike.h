/* Spikes of the loss: values far above what was usual lately, by median and median absolute deviation, which a few
 * outliers do not move. Plain arithmetic on numbers that all ranks have alike; they are kept as float, so that what a
 * checkpoint holds of them goes on exactly. */
#ifndef CAIRN_WATCH_SPIKE_H
#define CAIRN_WATCH_SPIKE_H

#include "src/core/config.h"
#include "src/core/context.h"

enum { SPIKE_IMAGE_HEAD = 3 }; /* rewinds, in_row, count; then the losses */

struct spike_watch {
    struct context *context;
    double factor; /* 0: off */
    int64_t window;
    int64_t steps;   /* in a row that make a spike */
    int64_t rewinds; /* how often the run has gone back */
    int64_t in_row;  /* steps above what is usual, until now */
    int64_t count;   /* losses held, at most window */
    float *losses;   /* [window] oldest first */
    float *sorted;   /* [window] */
    float *image;    /* [SPIKE_IMAGE_HEAD + window] as a checkpoint holds it */
};

/* Local. To be destroyed whatever comes back. */
enum status spike_create(struct context *context, const struct watch_config *config,
                         struct spike_watch *watch) MUST_USE;
void spike_destroy(struct spike_watch *watch);

/* After a step with this loss; `finite`: it and the gradients are. True if the spike has lasted long enough to go
 * back, to before its in_row steps. */
bool spike_step(struct spike_watch *watch, double loss, bool finite);

/* The largest loss that is no spike; infinity while too few are known. */
double spike_threshold(const struct spike_watch *watch);

/* Brings the image up to date, and takes all from it. Local. */
void spike_save(const struct spike_watch *watch);
void spike_restore(struct spike_watch *watch);

#endif
