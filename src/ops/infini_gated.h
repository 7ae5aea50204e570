/* Chunks of the tokens that a segment writes by the gated delta rule; for the files infini_gated*.c. */
#ifndef CAIRN_OPS_INFINI_GATED_H
#define CAIRN_OPS_INFINI_GATED_H

#include "src/ops/infini_tiles.h"

/* Tokens of a chunk, and of the blocks along the diagonal of A, which are inverted one element after the other. */
enum { CHUNK = 64, DIAGONAL = TILE_MULTIPLE };

struct gated_pass {
    const struct kernels *kernels;
    const struct infini_keys *keys;
    int64_t ld; /* of tiles whose columns are the width of a head */
    int64_t map;
    float *states, *maps;                         /* forward */
    const struct infini_derivatives *derivatives; /* backward */
    struct gradient_target dk, dv, dstrength;
};

/* Keys of a chunk and its A. */
struct chunk_tiles {
    float *k;          /* [CHUNK, ld] */
    float *transposed; /* [E, CHUNK] */
    float *below;      /* [CHUNK, CHUNK]: I - A */
    float *inverse;    /* [CHUNK, DIAGONAL]: of A's blocks along the diagonal */
    float *strength;   /* [CHUNK] */
};

/* The tokens of a chunk of the segment and kv head `block`. */
struct chunk {
    int64_t block, token, count;
};

static inline struct gated_pass infini_gated_pass(const struct engine *engine, const struct infini_keys *keys)
{
    return (struct gated_pass){.kernels = engine->kernels,
                               .keys = keys,
                               .ld = integer_round_up(keys->width, TILE_MULTIPLE),
                               .map = keys->width * keys->width};
}

static inline const struct attention_span *infini_gated_span(const struct gated_pass *pass, int64_t block)
{
    return &pass->keys->written[block / pass->keys->kv_heads];
}

static inline int64_t infini_gated_chunks(int64_t tokens)
{
    return integer_divide_up(tokens, CHUNK);
}

static inline struct chunk infini_chunk_at(const struct gated_pass *pass, int64_t block, int64_t number)
{
    const struct attention_span *span = infini_gated_span(pass, block);
    return (struct chunk){
        .block = block, .token = span->key + number * CHUNK, .count = integer_min(CHUNK, span->keys - number * CHUNK)};
}

/* Where a chunk's first vector lies, and its first strength. */
static inline int64_t infini_chunk_scalar(const struct gated_pass *pass, const struct chunk *chunk)
{
    return chunk->token * pass->keys->kv_heads + chunk->block % pass->keys->kv_heads;
}

static inline int64_t infini_chunk_vector(const struct gated_pass *pass, const struct chunk *chunk)
{
    return infini_chunk_scalar(pass, chunk) * pass->keys->width;
}

/* c [m, n] = a b + beta c. */
static inline void infini_chunk_product(const struct gated_pass *pass, float *c, int64_t ldc, const float *a,
                                        int64_t lda, const float *b, int64_t ldb, int64_t m, int64_t n, int64_t k,
                                        float beta)
{
    pass->kernels->tile_multiply(&(struct tile_product){.m = m,
                                                        .n = n,
                                                        .k = k,
                                                        .a = a,
                                                        .a_row = lda,
                                                        .a_step = 1,
                                                        .b = b,
                                                        .ldb = ldb,
                                                        .c = c,
                                                        .ldc = ldc,
                                                        .beta = beta});
}

/* c [m, n] = a^T b + beta c, over k rows of a and b. */
static inline void infini_chunk_product_transposed(const struct gated_pass *pass, float *c, int64_t ldc, const float *a,
                                                   int64_t lda, const float *b, int64_t ldb, int64_t m, int64_t n,
                                                   int64_t k, float beta)
{
    pass->kernels->tile_multiply(&(struct tile_product){.m = m,
                                                        .n = n,
                                                        .k = k,
                                                        .a = a,
                                                        .a_row = 1,
                                                        .a_step = lda,
                                                        .b = b,
                                                        .ldb = ldb,
                                                        .c = c,
                                                        .ldc = ldc,
                                                        .beta = beta});
}

static inline void infini_chunk_gather(const struct gated_pass *pass, float *tile, int64_t ld, const void *from,
                                       const struct chunk *chunk, float factor)
{
    const struct infini_keys *keys = pass->keys;
    pass->kernels->tile_gather(tile, ld, operation_at(from, infini_chunk_vector(pass, chunk), keys->dtype),
                               keys->kv_heads * keys->width, chunk->count, keys->width, factor, keys->dtype);
}

/* Tokens that all segments write. */
int64_t infini_gated_tokens(const struct infini_keys *keys);

/* The tiles of a chunk in a thread's scratch: their floats, and their places. */
int64_t infini_chunk_floats(const struct gated_pass *pass);
struct chunk_tiles infini_chunk_carve(float **scratch, const struct gated_pass *pass);

/* Keys, strengths and A of a chunk. */
void infini_chunk_prepare(const struct gated_pass *pass, const struct chunk_tiles *tiles, const struct chunk *chunk);

/* d = A^-1 y, n columns; y is overwritten. */
void infini_chunk_solve(const struct gated_pass *pass, const struct chunk_tiles *tiles, int64_t count, float *d,
                        float *y, int64_t ld, int64_t n);

/* The account of executed operations: so many products of E x E and of CHUNK x E with each vector that is written. */
void infini_gated_count(struct engine *engine, const struct infini_keys *keys, double squares, double chunks);

int infini_gated_threads(const struct engine *engine, const struct infini_keys *keys);

#endif
