/* Operations of routed depth (src/model/README.md sections 4 and 5): a router's scores, gates and losses, the choice of
 * tokens, and their way out of the residual stream and back. N is a number of tokens, R of a router's outputs; any may
 * be 0. Scores, gates and probabilities are always fp32, the residual stream is F32 or BF16.
 *
 * Arrays of indices, targets and coefficients are not copied: they live as long as the tape's records. */
#ifndef CAIRN_OPS_ROUTE_H
#define CAIRN_OPS_ROUTE_H

#include "src/core/config.h"
#include "src/tensor/tape.h"

/* scores [N, R] F32 = x weight^T in fp32: x [N, D], weight [R, D] or [D] (then R is 1). */
struct tensor *router_scores(struct tape *tape, struct tensor *x, struct tensor *weight);

/* GATE_LINEAR: the scores themselves; GATE_SIGMOID: alpha / (1 + exp(-score)); elementwise. */
struct tensor *router_gate(struct tape *tape, struct tensor *scores, enum gate_kind kind, float alpha);

/* Softmax over the columns of scores [N, R]. */
struct tensor *router_softmax(struct tape *tape, struct tensor *scores);

/* [N, 1]: probabilities[n, column[n]], or 0 where column[n] < 0. */
struct tensor *router_pick(struct tape *tape, struct tensor *probabilities, const int32_t *column);

/* The router's own losses are ends of the tape: each adds its value to *value and, where the tape records, starts
 * backward with a gradient of 1, whatever else is seeded. The second run of a recomputed function adds no value.
 * False, with the context's error set, on failure.
 *
 * scale * sum over n with target[n] >= 0 of -log(target[n] ? p : 1 - p), p = sigmoid(scores[n]): scores [N, 1]. */
bool router_cross_entropy(struct tape *tape, struct tensor *scores, const int8_t *target, float scale, double *value);

/* scale * sum of coefficient * probabilities, [N, R] both. */
bool router_balance(struct tape *tape, struct tensor *probabilities, const float *coefficient, float scale,
                    double *value);

/* The positions of the k largest of `count` scores, in ascending order, among those with candidate[i] != 0 (NULL: all).
 * Of equal scores the lower position wins; a not-a-number is lower than all else. Returns how many there are: k, or all
 * candidates if they are fewer; 0 with the context's error set when memory is out. */
int64_t token_select(struct arena *work, const float *scores, const uint8_t *candidate, int64_t count, int64_t k,
                     int32_t *positions);

/* y [count, D]: y[i] = x[index[i]], or 0 where index[i] < 0. No row twice. */
struct tensor *token_take(struct tape *tape, struct tensor *x, const int32_t *index, int64_t count);

/* The residual stream h [N, D] with the tokens of y [K, D], where source[n] >= 0; elsewhere h[n], bit for bit:
 *     h[n] + gate[n] * (y[source[n]] - h[n])     if difference
 *     h[n] + gate[n] * y[source[n]]              otherwise
 * gate [N, 1], or NULL for 1. No row of y twice; rows that no source names get the gradient 0. */
struct tensor *token_update(struct tape *tape, struct tensor *h, struct tensor *y, struct tensor *gate,
                            const int32_t *source, bool difference);

/* y[source[n]] where source[n] >= 0, else h[n]. */
struct tensor *token_place(struct tape *tape, struct tensor *h, struct tensor *y, const int32_t *source);

#endif
