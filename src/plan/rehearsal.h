/* Steps of one rank of any mesh, run in this process by the code that trains: dry, which counts what a real run would
 * hold, send and compute, or for real, which times it. */
#ifndef CAIRN_PLAN_REHEARSAL_H
#define CAIRN_PLAN_REHEARSAL_H

#include "dist/mesh/mesh.h"
#include "src/core/clock.h"
#include "src/core/config.h"
#include "src/core/context.h"

enum { REHEARSAL_CHUNKS = 64 };

/* Counted and timed; seconds have no meaning in a dry run. */
struct rehearsal_work {
    double seconds[TIME_KINDS];
    double flops[TIME_KINDS];
    double elements[TIME_KINDS];
    double calls[MESH_AXES]; /* of collectives, and messages sent */
    double bytes[MESH_AXES]; /* that this rank hands to MPI */
};

struct rehearsal {
    struct memory_account memory;           /* once all is allocated: what a real run's account says then */
    struct mesh_traffic traffic[MESH_AXES]; /* of a step */
    int64_t parameters;                     /* elements that the rank holds, copies included */
    int64_t shard;                          /* of them, elements whose optimiser state it has */
    int chunks;                             /* of the model on this rank, at most REHEARSAL_CHUNKS */
    int64_t micro_batches;
    double spread; /* of timed steps: the distance of their quartiles by their median */
    struct rehearsal_work pass[2][REHEARSAL_CHUNKS]; /* by enum pipeline_pass: the mean over the micro-batches */
    struct rehearsal_work rest;                      /* of a step, beside the passes */
};

/* Counts a step of `rank`. Needs no MPI, hardly any memory, and leaves the context's account as it was. `mesh` is
 * resolved; threads: of the rank. USAGE error with the reason if the mesh cannot split the model. */
enum status rehearse(struct context *context, const struct config *config, const struct mesh_config *mesh, int rank,
                     int threads, struct rehearsal *rehearsal) MUST_USE;

/* Runs steps of a rank that is alone, on random tokens, for about so many seconds (three steps at least if they are not
 * long, beside a first that does not count), and keeps the one of median time. Several may run at once, each with a
 * context of its own. */
enum status rehearse_alone(struct context *context, const struct config *config, int threads, double seconds,
                           struct rehearsal *rehearsal) MUST_USE;

#endif
