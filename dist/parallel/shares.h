/* How the context ranks share a list of tokens: the tokens of a micro-batch, or the slots of those that a router chose.
 * Any division will do, also one that gives a rank nothing.
 *
 * Where NULL stands for the shares, one rank has all of them. The functions are collective over the context axis,
 * forward and backward, and what they move depends on the shares' sizes alone. */
#ifndef CAIRN_DIST_PARALLEL_SHARES_H
#define CAIRN_DIST_PARALLEL_SHARES_H

#include "dist/mesh/mesh.h"
#include "src/tensor/tape.h"

struct shares {
    int64_t total;
    int64_t most;         /* tokens of the rank that has most */
    int64_t count;        /* of this rank */
    const int32_t *own;   /* [count] which of the list they are, ascending */
    const int32_t *place; /* [total] owner * most + number among the owner's tokens */
};

/* Shares of `total` tokens, each rank's as own[rank] [count[rank]] ascending; made with tape_save. NULL with the
 * context's error. Local. */
const struct shares *shares_create(struct tape *tape, const struct mesh *mesh, int64_t total, const int32_t *const *own,
                                   const int64_t *count);

/* The same where each rank has one stretch of the list (range_partition). */
const struct shares *shares_of_stretches(struct tape *tape, const struct mesh *mesh, int64_t total);

/* x [count, D] -> [total, D], in the order of the list. Backward sums over ranks. */
struct tensor *shares_gather(struct tape *tape, struct mesh *mesh, struct tensor *x, const struct shares *shares);

/* The sum over ranks of x [total, D], of which each takes its own tokens, [count, D]. Backward gathers. */
struct tensor *shares_scatter(struct tape *tape, struct mesh *mesh, struct tensor *x, const struct shares *shares);

/* Numbers of all tokens, [total], from those of each rank's own, [count]. No part of the tape. False with the context's
 * error. */
bool shares_collect(struct tape *tape, struct mesh *mesh, const float *own, const struct shares *shares, float *all);

#endif
