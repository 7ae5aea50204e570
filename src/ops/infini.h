/* Infini-attention's compressive memory on one rank (src/model/README.md sections 3 and 12). dist/parallel/infini.h
 * makes the states of a whole sequence from these parts; infini_read is how queries use them.
 *
 * E is the width of a head. A state is M [E, E] (key by value), then z [E] unless the update is the gated delta rule,
 * in one block of floats for each row, segment and kv head, in this order. sigma(x) = elu(x) + 1. Everything inside is
 * fp32. */
#ifndef CAIRN_OPS_INFINI_H
#define CAIRN_OPS_INFINI_H

#include "src/ops/ops.h"

/* Elements of a state: of M, and of z. */
static inline int64_t infini_sums_elements(enum memory_update update, int64_t width)
{
    return update == MEMORY_UPDATE_GATED_DELTA ? 0 : width;
}

static inline int64_t infini_elements(enum memory_update update, int64_t width)
{
    return width * width + infini_sums_elements(update, width);
}

/* -- What the gated delta rule sees in place of queries, keys and values -- */

struct infini_features_shape {
    int64_t spans;
    const struct attention_span *span; /* keys: tokens that follow one another, apart from other spans'; no token twice.
                                          Lives as long as the tape's records */
    int64_t heads, width;
    bool unit; /* divide each head's vector s by sqrt(|s|^2 + 1e-6) */
};

/* silu of the causal convolution of x [N, heads * E] with filter [heads * E, 4] F32 (of a token and those before it)
 * within spans: [N, heads * E] F32, 0 for tokens of no span. */
struct tensor *infini_features(struct tape *tape, struct tensor *x, struct tensor *filter,
                               const struct infini_features_shape *shape);

/* -- Reading -- */

struct infini_read_shape {
    int64_t spans;
    const struct attention_span *span; /* the queries of span i read state i; keys have no meaning here */
    int64_t heads;
    int64_t kv_heads;
    int64_t width;
    const int32_t *kv_of_head; /* [heads]; this and span live as long as the tape's records */
    enum memory_update update;
};

/* a = g a_mem + (1 - g) a_dot with g = sigmoid(gate[head]) and a_mem = sigma(q) M / (sigma(q) z + 1e-6); a = a_dot
 * where z is all 0. With the gated delta rule q is that of infini_features, a_mem = q M, and a = a_dot where M is all
 * 0. With a norm [heads, E] F32 (else NULL) a_mem / sqrt(mean(a_mem^2) + 1e-6) * norm[head] stands for a_mem. q (before
 * RoPE) and a_dot [N, heads * E], states [spans * kv_heads, elements of a state] F32, gate [heads]. Every query is in
 * exactly one span. */
struct tensor *infini_read(struct tape *tape, struct tensor *q, struct tensor *states, struct tensor *a_dot,
                           struct tensor *gate, struct tensor *norm, const struct infini_read_shape *shape);

/* -- Writing: with sigma(K), V the keys and values of a segment and D = diag(sigma(K) z + 1e-6),
 *      linear: M += B                    B = sigma(K)^T V
 *      delta:  M += L M + B              L = - sigma(K)^T D^-1 sigma(K), which is symmetric
 *      both:   z += sum of sigma(K)
 * so a segment is an affine map of M once z is known, and segments are joined like numbers in a running sum. An empty
 * memory (z all 0) reads as 0. The gated delta rule, M += b_t k_t^T (v_t - k_t M) for one token after the other, is
 * such a map, too, and needs no z.
 * ------------------------------------------------------------------------------------- */

/* What the segments of a rank write. */
struct infini_keys {
    int64_t rows, segments, kv_heads, width;
    const struct attention_span *written; /* [rows * segments]: the keys of each; no token twice */
    enum dtype dtype;
    const void *k, *v; /* [tokens, kv_heads * E], k before RoPE; gated delta: those of infini_features */
    int64_t tokens;
    const void *strength; /* gated delta: [tokens, kv_heads], b before its sigmoid */
    enum dtype strength_type;
};

/* Of the delta rule: z of each block of states = the sum of sigma(k) over its segment. */
bool infini_sums(struct engine *engine, const struct infini_keys *keys, float *states);

/* M of each block of states = B; and maps [blocks, E, E] = L, made with the z that stands in the block (that before the
 * segment), or, for maps NULL (the linear update), z = the sum of sigma(k). */
bool infini_maps(struct engine *engine, const struct infini_keys *keys, float *states, float *maps);

/* Of the gated delta rule: M of each block of states = B, and maps [blocks, E, E] = L, which is not symmetric. */
bool infini_gated_maps(struct engine *engine, const struct infini_keys *keys, float *states, float *maps);

/* Each L becomes its transpose. */
void infini_maps_transpose(const struct infini_keys *keys, float *maps);

/* X becomes X + L X + T from segment to segment, for each row and kv head alone; X [height, columns], no maps: L = 0.
 */
struct infini_chain {
    int64_t rows, segments, kv_heads;
    int64_t height, columns;
    float *terms;      /* T of the blocks, `stride` floats apart */
    int64_t stride;    /* at least height * columns */
    const float *maps; /* L of the blocks [height, height], or NULL: height is then 1 */
    bool reverse;      /* from the last segment to the first */
};

/* Where chains begin and end: X of each row and kv head, so many floats apart. */
struct infini_ends {
    const float *start; /* NULL is 0 */
    int64_t start_stride;
    float *end; /* NULL: not wanted */
    int64_t end_stride;
};

/* Each term becomes the X before its segment (behind it if reverse), X = start before the first. */
bool infini_chain_run(struct engine *engine, const struct infini_chain *chain, const struct infini_ends *ends);

/* The joined segments as one map: for each row and kv head L [height, height] (if there are maps), then T, to which
 * start (its end has no meaning) is carried along, so that T is the last X. */
bool infini_chain_total(struct engine *engine, const struct infini_chain *chain, const struct infini_ends *ends,
                        float *total);

/* Floats of a total for each row and kv head. */
int64_t infini_chain_elements(const struct infini_chain *chain);

/* Joins two totals of chains with maps: later = `earlier`, then `later`. Scratch for it must be there:
 * infini_chain_total sees to that. */
void infini_chain_join(struct engine *engine, const struct infini_chain *chain, const float *earlier, float *later);

/* What backward needs beside the keys. Blocks are [rows * segments * kv_heads]. */
struct infini_derivatives {
    const float *states; /* before each segment */
    float *behind;       /* like states: d loss / d state behind each segment */
    float *joint;        /* delta: [blocks, E, E], d loss / d L plus its transpose; NULL for the linear update */
    float *divisors;     /* delta: [kv_heads, tokens], d loss / d (sigma(k) z) */
};

/* Delta: from M of `behind` makes joint and divisors, and adds to z of `behind`, in which there is d loss / d z of
 * before each segment by those who read it, what the segment's own divisors add. */
bool infini_divisors_backward(struct engine *engine, const struct infini_keys *keys,
                              const struct infini_derivatives *derivatives);

/* The gradients of k and v, where wanted; tokens that are not written get 0. */
bool infini_keys_backward(struct engine *engine, const struct infini_keys *keys,
                          const struct infini_derivatives *derivatives, struct gradient_target dk,
                          struct gradient_target dv);

/* The same of the gated delta rule, and the gradient of the strengths. Needs states and behind alone. */
bool infini_gated_backward(struct engine *engine, const struct infini_keys *keys,
                           const struct infini_derivatives *derivatives, struct gradient_target dk,
                           struct gradient_target dv, struct gradient_target dstrength);

#endif
