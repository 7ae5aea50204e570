/* Collectives as operations of the tape, for a model split over the tensor axis.
 *
 * Between the linear layers the N tokens of a micro-batch are divided among the tensor ranks (range_partition over
 * the flattened tokens); inside them every rank sees all tokens and a part of the features. Any N, heads and
 * vocabulary will do; a rank may own nothing. All functions here are collective over the tensor axis, forward and
 * backward. With one tensor rank they cost nothing. */
#ifndef CAIRN_DIST_PARALLEL_SPLIT_H
#define CAIRN_DIST_PARALLEL_SPLIT_H

#include "dist/mesh/mesh.h"
#include "src/tensor/tape.h"

/* This rank's part of `tokens` tokens. */
struct range sequence_part(const struct mesh *mesh, int64_t tokens);

/* x (local) [part of tokens, D] -> [tokens, D]. Backward sums over ranks and scatters. */
struct tensor *sequence_gather(struct tape *tape, struct mesh *mesh, struct tensor *x, int64_t tokens);

/* Sums x [tokens, D] over ranks, each keeping its part. Backward gathers. */
struct tensor *sequence_scatter(struct tape *tape, struct mesh *mesh, struct tensor *x);

/* Linear layers whose communication runs under their products: ranks exchange parts directly, and each multiplies the
 * rows that are there while others travel. */

enum { COLUMN_LINEARS = 7 };

struct linear_weights {
    struct tensor *weight, *bias; /* [O local, I], [O local] or NULL */
};

/* Column-parallel: outputs[i] [tokens, O_i] = the gathered x times weight_i^T plus bias_i, of at most COLUMN_LINEARS
 * layers that share their input x [part of tokens, I]. Backward sums over ranks and scatters, and computes the weights'
 * gradients meanwhile. False with the context's error. */
bool column_linear(struct tape *tape, struct mesh *mesh, struct tensor *x, int64_t tokens,
                   const struct linear_weights *weights, int count, struct tensor **outputs);

/* Row-parallel: x [tokens, I local] times weight^T [D, I local], summed over ranks, each keeping its part of the
 * tokens. Backward gathers. */
struct tensor *row_linear(struct tape *tape, struct mesh *mesh, struct tensor *x, struct tensor *weight);

#endif
