/* The operations. Each computes on this rank alone, has its backward in its own file, and takes NULL for "an earlier
 * operation failed". N is a number of tokens (rows x length where a sequence matters). Activations have the compute
 * type (F32 or BF16); sums, softmax, norms and losses are fp32 inside. Any N may be 0. */
#ifndef CAIRN_OPS_OPS_H
#define CAIRN_OPS_OPS_H

#include "src/core/config.h"
#include "src/tensor/tape.h"

/* y = x W^T + b: x [N, I], weight [O, I], bias [O] or NULL; y [N, O] of type `out` (x's type or F32). */
struct tensor *linear(struct tape *tape, struct tensor *x, struct tensor *weight, struct tensor *bias, enum dtype out);

/* x + bias over rows: x [N, D], bias [D]. A NULL bias gives x itself only through the caller. */
struct tensor *bias_add(struct tape *tape, struct tensor *x, struct tensor *bias);

/* x + y, elementwise, same shape and type. */
struct tensor *add(struct tape *tape, struct tensor *x, struct tensor *y);

/* factor x, elementwise. */
struct tensor *scaled(struct tape *tape, struct tensor *x, float factor);

/* Norm over the last dimension (src/model/README.md section 2): x [N, D], weight [D], bias [D] or NULL. */
struct tensor *norm(struct tape *tape, struct tensor *x, struct tensor *weight, struct tensor *bias,
                    enum norm_kind kind, double epsilon);

/* silu(gate) * up, [N, F] each. */
struct tensor *swiglu(struct tape *tape, struct tensor *gate, struct tensor *up);

/* x / (1 + exp(-x)), elementwise. */
struct tensor *silu(struct tape *tape, struct tensor *x);

/* GELU, tanh form: 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))). */
struct tensor *gelu(struct tape *tape, struct tensor *x);

/* GELU as it is defined: 0.5 x (1 + erf(x / sqrt(2))). */
struct tensor *gelu_erf(struct tape *tape, struct tensor *x);

/* Patches of images (src/model/README.md section 8) as rows [N, channels * patch * patch] of type `out`: images
 * [*, channels, size, size], index [N] which patch, counted over all images row-major. */
struct patches {
    const float *images;
    int64_t channels, size, patch;
    const int32_t *index;
};

struct tensor *patch_rows(struct tape *tape, const struct patches *patches, int64_t count, enum dtype out);

/* The mean of each `length` rows that follow one another: x [N * length, D] -> [N, D]; with `valid` [N], which lives as
 * long as the tape's records, of the first so many of them, at least 1. */
struct tensor *row_mean(struct tape *tape, struct tensor *x, int64_t length, const int64_t *valid);

/* Rows of a table: y[n] = weight[tokens[n] - first] where that row exists in weight [R, D], else 0. */
struct tensor *embedding(struct tape *tape, struct tensor *weight, const int32_t *tokens, int64_t count, int64_t first);

/* Rotary positions (src/model/README.md section 2): x [N, heads * width]; token n has position positions[n], a row of
 * the tables cosine and sine [*, width / 2]. positions must live until tape_reset. */
struct tensor *rope(struct tape *tape, struct tensor *x, int64_t width, const int32_t *positions, const float *cosine,
                    const float *sine);

/* Queries, and the keys of which each of them sees a beginning: first token and number of tokens. */
struct attention_span {
    int64_t query, queries;
    int64_t key, keys;
};

/* Every query is in one span; spans may share keys. A query that sees no key gives 0 and gets no gradient. Backward
 * goes over the keys from the beginning of one span to that of the next: spans that overlap should begin far apart. */
struct attention_shape {
    int64_t spans;
    const struct attention_span *span; /* [spans] */
    const int32_t *seen;               /* [queries], how many of its span's keys each query sees, never fewer than one
                                          before it in the span; NULL: the i-th of n queries sees all keys but the last
                                          n - 1 - i */
    int64_t heads;
    int64_t kv_heads;
    int64_t width;
    const int32_t *kv_of_head; /* [heads], which kv head each query head uses, local indices */
    bool single_apart;         /* Without a backward pass, queries that are alone in their span may take a faster way
                                  of their own, which rounds differently. For generation: elsewhere a query's result
                                  must not depend on whether others are chosen with it. */
};

/* `rows` spans one behind the other, each of `length` queries and `keys_length` keys; from tape_save. NULL with the
 * context's error when memory is out. */
const struct attention_span *attention_rows(struct tape *tape, int64_t rows, int64_t length, int64_t keys_length);

/* Queries [N, heads * width], keys and values [M, kv_heads * width], output as queries. The scores are scaled by
 * 1 / sqrt(width). What the shape points to lives as long as the tape's records; spans NULL is an earlier failure. The
 * matrix of scores never exists as a whole: memory grows linearly with N and M. */
struct tensor *attention(struct tape *tape, struct tensor *query, struct tensor *key, struct tensor *value,
                         const struct attention_shape *shape);

/* The connections of learned residuals (LAuReL, src/model/README.md section 6), elementwise, f, g, x and y of one shape
 * and type: a f + b g with (a, b) = 2 softmax(weights), weights [2]; f + g if weights is NULL. */
struct tensor *residual_sum(struct tape *tape, struct tensor *f, struct tensor *g, struct tensor *weights);

/* x + gamma[index] y, gamma [p]. */
struct tensor *residual_term(struct tape *tape, struct tensor *x, struct tensor *y, struct tensor *gamma, int index);

/* The parts of a cross entropy over a vocabulary that ranks divide (dist/parallel joins them). logits [N, V] F32,
 * the columns first .. first + V - 1 of the vocabulary. Everything [N] F32. */
void cross_entropy_max(struct engine *engine, const struct tensor *logits, float *largest);
/* sum[n] = sum of exp(logit - largest[n]); target[n] = the target's logit if its column is here, else 0. */
void cross_entropy_sums(struct engine *engine, const struct tensor *logits, const float *largest,
                        const int32_t *targets, int64_t first, float *sum, float *target);
/* d logits = scale * (exp(logit - log_sum) - [column is target]); 0 for rows whose target is negative. In place is
 * allowed. */
void cross_entropy_gradient(struct engine *engine, const struct tensor *logits, const float *log_sum,
                            const int32_t *targets, int64_t first, float scale, float *gradient);

/* One AdamW step (src/model/README.md section 7) over elements that share their settings; `values` is the compute copy:
 * BF16, or NULL when master is itself the value. gradient is scaled by gradient_scale first. */
struct adamw_step {
    int64_t count;
    float *master, *m, *v;
    const float *gradient;
    bf16 *values;
    float gradient_scale, rate, beta1, beta2, epsilon, decay;
    float correction1, correction2; /* 1 - beta^t */
};

void adamw_step(struct engine *engine, const struct adamw_step *step);

/* Sum of squares, in double, in a fixed order for a given number of threads. */
double sum_of_squares(struct engine *engine, const float *values, int64_t count);

/* to += from, elementwise, F32 or BF16. */
void accumulate(struct engine *engine, void *to, const void *from, enum dtype dtype, int64_t count);

/* Elements from one floating type to another (F32 and BF16). */
void convert(struct engine *engine, void *to, enum dtype to_type, const void *from, enum dtype from_type,
             int64_t count);

#endif
