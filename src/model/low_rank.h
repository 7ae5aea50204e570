/* What each recursion adds to the linear layers that it shares, or LoRA to a layer that is frozen, U D x times its
 * factor (src/model/README.md section 10). For this folder only. Where tokens of several recursions pass together
 * (call->use_begin), each takes its own; that is for inference alone, and nothing is recorded. */
#ifndef CAIRN_MODEL_LOW_RANK_H
#define CAIRN_MODEL_LOW_RANK_H

#include "src/model/block.h"

/* W x + b, and what the recursion adds: x of all tokens of the set, or of the first of them. */
struct tensor *low_rank_apply(struct tape *tape, const struct block_call *call,
                              const struct linear_parameters *parameters, struct tensor *x);

/* D x and U x of the tokens `first`.. of the set, in the type of x; for parameters that have them. */
struct tensor *low_rank_down(struct tape *tape, const struct block_call *call,
                             const struct linear_parameters *parameters, struct tensor *x, int64_t first);
struct tensor *low_rank_up(struct tape *tape, const struct block_call *call, const struct linear_parameters *parameters,
                           struct tensor *x, int64_t first);

/* D, where all tokens of the call are in one recursion. */
struct tensor *low_rank_down_weight(const struct block_call *call, const struct linear_parameters *parameters);

#endif
