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
    int64_t ld;     /* of tiles whose columns are the width of a head */
    int64_t offset; /* query i sees keys 0 .. i + offset */
    float scale;
    const void *query, *key, *value;
    float *log_sum; /* one for each row, head and query: log of the sum of exp(score); the way decides order and base */
    /* forward */
    void *output;
    /* backward */
    const void *dy;
    const float *mean; /* as log_sum: sum of dy * y */
    float *dquery;     /* of each split */
    int64_t splits;    /* of the key blocks of one kv head among tasks */
    struct gradient_target dkey, dvalue;
};

/* Where a head's vector of a token lies in a tensor with `heads` heads a token. */
static inline int64_t attention_vector(const struct attention_shape *shape, int64_t token, int64_t heads, int64_t head)
{
    return (token * heads + head) * shape->width;
}

/* The next `bytes` of a thread's scratch. */
static inline void *attention_take(char **scratch, int64_t bytes)
{
    char *taken = *scratch;
    *scratch += integer_round_up(bytes, 4 * LINE_ELEMENTS);
    return taken;
}

/* With few rows and heads the blocks of keys are divided among the threads as well. */
int64_t attention_splits(const struct engine *engine, const struct attention_shape *shape, int64_t key_block);

/* False with the context's error when memory is out. */
bool attention_floats_forward(struct tape *tape, const struct attention_pass *pass);
void attention_floats_backward(struct tape *tape, const struct tape_record *record, struct attention_pass *pass);

/* For passes of BF16 on an engine whose kernels have `half`. */
bool attention_half_forward(struct tape *tape, const struct attention_pass *pass);
void attention_half_backward(struct tape *tape, const struct tape_record *record, struct attention_pass *pass);

#endif
