/* Ranks that work longer than their peers, which then wait for them: in a host that is too hot, shared with others, or
 * broken. Work is the time of a step that is not spent in MPI.
 *
 * Peers are the ranks of the same pipeline stage. Their work need not be equal, since not everything divides, so the
 * time is taken relative to the share of the work that each has. */
#ifndef CAIRN_WATCH_STRAGGLER_H
#define CAIRN_WATCH_STRAGGLER_H

#include "dist/mesh/mesh.h"

enum { STRAGGLER_LOOKS = 3 }; /* in a row that a rank must be slow in to be named, and named again */

struct straggler {
    int rank;
    double seconds; /* of work a step, for a share like that of its median peer */
    double peers;   /* the median of theirs */
};

struct straggler_watch {
    struct context *context;
    struct mesh *mesh;
    double factor;
    int64_t steps; /* of a look */
    double share;  /* of this rank, in any unit that all have; 0: it has no work */
    double seconds;
    int64_t seen;            /* steps since the last look */
    double *work;            /* [ranks] */
    double *sorted;          /* [ranks] */
    int *slow;               /* [ranks] looks in a row */
    struct straggler *found; /* [ranks] */
};

/* Local. To be destroyed whatever comes back. */
enum status straggler_create(struct context *context, struct mesh *mesh, double factor, int64_t steps, double share,
                             struct straggler_watch *watch) MUST_USE;
void straggler_destroy(struct straggler_watch *watch);

/* After a step that took this rank so many seconds of work. Returns how many ranks are to be named now, which stand in
 * `found`, the same on all ranks. Collective over the team after every `steps` steps. */
int straggler_step(struct straggler_watch *watch, double seconds);

/* One look at the work of all ranks; negative: a rank without work. Local. */
int straggler_look(struct straggler_watch *watch, const double *work);

#endif
