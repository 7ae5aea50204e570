/* What the files of Infini-attention's memory share: tiles in a thread's scratch. */
#ifndef CAIRN_OPS_INFINI_TILES_H
#define CAIRN_OPS_INFINI_TILES_H

#include "src/ops/infini.h"
#include "src/ops/operation.h"

enum { TOKEN_BLOCK = 128 };

#define INFINI_EPSILON 1e-6f /* beside sigma z */

/* Scratch for every thread with room for `tiles` of floats_take, `count` floats in all. */
static inline char *infini_scratch(struct engine *engine, int64_t count, int64_t tiles, size_t *stride)
{
    return engine_scratch(engine, (size_t)(count + tiles * LINE_ELEMENTS) * sizeof(float), stride);
}

/* Where there are few tasks, the parts of each, at most `most`. Results do not depend on it: a part does whole sums. */
static inline int64_t infini_parts(const struct engine *engine, int64_t tasks, int64_t most)
{
    int64_t wanted = engine->threads == 1 || tasks == 0 ? 1 : integer_divide_up(2 * engine->threads, tasks);
    return integer_max(1, integer_min(wanted, most));
}

/* The blocks of tokens of the longest of the stretches, at least 1. */
static inline int64_t infini_token_blocks(const struct attention_span *span, int64_t spans, bool of_keys)
{
    int64_t longest = 1;
    for (int64_t i = 0; i < spans; i++)
        longest = integer_max(longest, of_keys ? span[i].keys : span[i].queries);
    return integer_divide_up(longest, TOKEN_BLOCK);
}

static inline bool infini_is_empty(const float *z, int64_t width)
{
    for (int64_t e = 0; e < width; e++)
        if (z[e] != 0.0f)
            return false;
    return true;
}

/* inverse = 1 / (sigma z + epsilon) for rows of sigma. An empty memory reads as 0, so that is what its inverses are. */
static inline void infini_inverses(const struct kernels *kernels, float *inverse, const float *features, int64_t ld,
                                   int64_t rows, const float *z, int64_t width)
{
    bool empty = infini_is_empty(z, width);
    kernels->tile_dots(inverse, features, ld, z, 0, rows, width);
    for (int64_t r = 0; r < rows; r++)
        inverse[r] = empty ? 0.0f : 1.0f / (inverse[r] + INFINI_EPSILON);
}

/* c [m, n] += a b, tiles of one leading dimension. */
static inline void infini_multiply(const struct kernels *kernels, float *c, const float *a, const float *b, int64_t m,
                                   int64_t n, int64_t k, int64_t ld)
{
    kernels->tile_multiply(&(struct tile_product){
        .m = m, .n = n, .k = k, .a = a, .a_row = ld, .a_step = 1, .b = b, .ldb = ld, .c = c, .ldc = ld, .beta = 1.0f});
}

/* c [m, n] += a^T b: the columns of a from `a` on, over k rows. */
static inline void infini_multiply_transposed(const struct kernels *kernels, float *c, const float *a, const float *b,
                                              int64_t m, int64_t n, int64_t k, int64_t ld)
{
    kernels->tile_multiply(&(struct tile_product){
        .m = m, .n = n, .k = k, .a = a, .a_row = 1, .a_step = ld, .b = b, .ldb = ld, .c = c, .ldc = ld, .beta = 1.0f});
}

#endif
