/* The states of Infini-attention's memory along sequences whose segments ranks of the context axis divide
 * (src/model/README.md sections 3 and 12). A rank sends the same number of bytes for any number of tokens. */
#ifndef CAIRN_DIST_PARALLEL_INFINI_H
#define CAIRN_DIST_PARALLEL_INFINI_H

#include "dist/mesh/mesh.h"
#include "src/core/config.h"
#include "src/ops/ops.h"

/* E is the width of a head; a state (src/ops/infini.h) is M [E, E] (key by value), then z [E], or M alone with the
 * gated delta rule. The ranks of the context axis hold consecutive stretches of each sequence's segments, in rank
 * order; a rank may have none. */
struct infini_shape {
    int64_t rows, segments;               /* of this rank */
    const struct attention_span *written; /* [rows * segments]: the keys that each segment writes, in order; no token
                                            twice, padding left out; none change nothing */
    int64_t kv_heads, width;
    enum memory_update update;
    const float
        *before;  /* [rows, kv_heads, elements of a state]: where the sequences start; NULL is empty. A constant. */
    float *after; /* like before, and not the same memory: the state behind the last segment of the last rank, on every
                     rank; NULL if not wanted. Not differentiable. */
};

/* The state before each segment, [rows * segments * kv_heads, elements of a state] F32, of k (before RoPE) and v
 * [tokens, kv_heads * E]; with the gated delta rule those of infini_features, and strength [tokens, kv_heads], which is
 * NULL with the others. written lives as long as the tape's records, before until this returns (and, in a function
 * that is recomputed, until that has run again).
 *
 * With more than one context rank it is collective over that axis, forward and backward; backward takes part if the
 * output got a gradient, so all ranks have to read their states, also those without segments. mesh NULL is one rank. */
struct tensor *infini_states(struct tape *tape, struct mesh *mesh, struct tensor *k, struct tensor *v,
                             struct tensor *strength, const struct infini_shape *shape);

#endif
