/* What the ways to compute an attention share: by tiles brought to fp32, and by tiles of bf16 for machines that
 * multiply those. */
#ifndef CAIRN_OPS_ATTENTION_PASS_H
#define CAIRN_OPS_ATTENTION_PASS_H

#include "src/ops/operation.h"

#include <math.h>

/* What the threads of a pass share. */
struct attention_pass {
    const struct kernels *kernels;
    const struct attention_shape *shape;
    enum dtype dtype;
    int64_t queries, keys; /* tokens */
    int64_t pairs;         /* of a query and a key that it sees, for each head */
    int64_t ld;            /* of tiles whose columns are the width of a head */
    float scale;
    const void *query, *key, *value;
    float *log_sum; /* one for each head and query: log of the sum of exp(score); the way decides order and base */
    /* forward */
    void *output;
    /* backward */
    const void *dy;
    const float *mean; /* as log_sum: sum of dy * y */
    const struct attention_plan *plan;
    float *dquery; /* [rows of the plan, ld] */
    struct gradient_target dkey, dvalue;
};

/* Where a head's vector of a token lies in a tensor with `heads` heads a token. */
static inline int64_t attention_vector(const struct attention_shape *shape, int64_t token, int64_t heads, int64_t head)
{
    return (token * heads + head) * shape->width;
}

/* The key behind the last one of a span. */
static inline int64_t attention_span_end(const struct attention_span *span)
{
    return span->key + span->keys;
}

/* How many of its keys the i-th query of a span sees. */
static inline int64_t attention_seen(const struct attention_shape *shape, const struct attention_span *span, int64_t i)
{
    return shape->seen ? shape->seen[span->query + i] : integer_max(0, i + 1 + span->keys - span->queries);
}

/* The first query of a span that sees more than `keys` of its keys; the number of its queries if none does. */
int64_t attention_seeing(const struct attention_shape *shape, const struct attention_span *span, int64_t keys);

/* seen[i]: how many keys the queries from `begin` on see of those from their span's key number `first` on; below 1 is
 * none. */
void attention_seen_copy(const struct attention_shape *shape, const struct attention_span *span, int64_t begin,
                         int64_t queries, int64_t first, int32_t *seen);

/* Pairs of a query and a key that it sees. */
int64_t attention_span_pairs(const struct attention_shape *shape, const struct attention_span *span);

/* The next `bytes` of a thread's scratch. */
static inline void *attention_take(char **scratch, int64_t bytes)
{
    char *taken = *scratch;
    *scratch += integer_round_up(bytes, 4 * LINE_ELEMENTS);
    return taken;
}

/* Whether a span is left to attention_queries_forward. */
static inline bool attention_is_single(const struct attention_pass *pass, const struct attention_span *span)
{
    return pass->shape->single_apart && !pass->log_sum && span->queries == 1;
}

/* These spans alone, which the ways below leave out. False with the context's error when memory is out. */
bool attention_queries_forward(struct tape *tape, const struct attention_pass *pass);

/* False with the context's error when memory is out. */
bool attention_floats_forward(struct tape *tape, const struct attention_pass *pass);
void attention_floats_backward(struct tape *tape, const struct tape_record *record, struct attention_pass *pass);

/* For passes of BF16 on an engine whose kernels have `half`. */
bool attention_bf16_forward(struct tape *tape, const struct attention_pass *pass);
void attention_bf16_backward(struct tape *tape, const struct tape_record *record, struct attention_pass *pass);

#endif
