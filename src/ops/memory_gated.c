/* What segments add to the memory of the gated delta rule, forward and backward. A chunk of tokens with keys K, values
 * V and strengths b takes X = [L | B] to X + K^T D, where D solves A D = diag(b) ([-K | V] - K X) and A = I + diag(b)
 * strict_lower(K K^T)                                          (Bischof and Van Loan's WY form) is what each token's
 * read owes to the writes of those before it. So a segment takes products of tiles, and a loop over chunks, not over
 * tokens. A task is one segment of one kv head. */
#include "src/ops/memory_tiles.h"

#include <math.h>
#include <string.h>

/* Tokens of a chunk, and of the blocks along the diagonal of A, which are inverted one element after the other. */
enum { CHUNK = 64, DIAGONAL = TILE_MULTIPLE };

struct gated_pass {
    const struct kernels *kernels;
    const struct memory_keys *keys;
    int64_t ld; /* of tiles whose columns are the width of a head */
    int64_t map;
    float *states, *maps;                         /* forward */
    const struct memory_derivatives *derivatives; /* backward */
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

static struct gated_pass pass_create(const struct engine *engine, const struct memory_keys *keys)
{
    return (struct gated_pass){.kernels = engine->kernels,
                               .keys = keys,
                               .ld = integer_round_up(keys->width, TILE_MULTIPLE),
                               .map = keys->width * keys->width};
}

static const struct attention_span *block_span(const struct gated_pass *pass, int64_t block)
{
    return &pass->keys->written[block / pass->keys->kv_heads];
}

static int64_t written_tokens(const struct memory_keys *keys)
{
    int64_t tokens = 0;
    for (int64_t i = 0; i < keys->rows * keys->segments; i++)
        tokens += keys->written[i].keys;
    return tokens;
}

static int64_t longest_segment(const struct memory_keys *keys)
{
    int64_t longest = 0;
    for (int64_t i = 0; i < keys->rows * keys->segments; i++)
        longest = integer_max(longest, keys->written[i].keys);
    return longest;
}

static int64_t chunks_of(int64_t tokens)
{
    return integer_divide_up(tokens, CHUNK);
}

static struct chunk chunk_at(const struct gated_pass *pass, int64_t block, int64_t number)
{
    const struct attention_span *span = block_span(pass, block);
    return (struct chunk){
        .block = block, .token = span->key + number * CHUNK, .count = integer_min(CHUNK, span->keys - number * CHUNK)};
}

/* Where a chunk's first vector lies, and its first strength. */
static int64_t chunk_scalar(const struct gated_pass *pass, const struct chunk *chunk)
{
    return chunk->token * pass->keys->kv_heads + chunk->block % pass->keys->kv_heads;
}

static int64_t chunk_vector(const struct gated_pass *pass, const struct chunk *chunk)
{
    return chunk_scalar(pass, chunk) * pass->keys->width;
}

static int64_t chunk_floats(const struct gated_pass *pass)
{
    return CHUNK * (pass->ld + CHUNK + DIAGONAL + 1) + pass->keys->width * CHUNK;
}

static struct chunk_tiles chunk_carve(float **scratch, const struct gated_pass *pass)
{
    struct chunk_tiles tiles;
    tiles.k = memory_take(scratch, CHUNK * pass->ld);
    tiles.transposed = memory_take(scratch, pass->keys->width * CHUNK);
    tiles.below = memory_take(scratch, CHUNK * CHUNK);
    tiles.inverse = memory_take(scratch, CHUNK * DIAGONAL);
    tiles.strength = memory_take(scratch, CHUNK);
    return tiles;
}

/* c [m, n] = a b + beta c. */
static void multiply(const struct gated_pass *pass, float *c, int64_t ldc, const float *a, int64_t lda, const float *b,
                     int64_t ldb, int64_t m, int64_t n, int64_t k, float beta)
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
static void multiply_transposed(const struct gated_pass *pass, float *c, int64_t ldc, const float *a, int64_t lda,
                                const float *b, int64_t ldb, int64_t m, int64_t n, int64_t k, float beta)
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

static void vectors_gather(const struct gated_pass *pass, float *tile, int64_t ld, const void *from,
                           const struct chunk *chunk, float factor)
{
    const struct memory_keys *keys = pass->keys;
    pass->kernels->tile_gather(tile, ld, operation_at(from, chunk_vector(pass, chunk), keys->dtype),
                               keys->kv_heads * keys->width, chunk->count, keys->width, factor, keys->dtype);
}

static void vectors_scatter(const struct gated_pass *pass, struct gradient_target target, const float *tile,
                            const struct chunk *chunk, const float *factor)
{
    const struct memory_keys *keys = pass->keys;
    if (target.data)
        pass->kernels->tile_scatter(operation_at_mutable(target.data, chunk_vector(pass, chunk), target.dtype),
                                    keys->kv_heads * keys->width, tile, pass->ld, chunk->count, keys->width, factor,
                                    target.beta, target.dtype);
}

static float sigmoid(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

static void strengths_load(const struct gated_pass *pass, float *strength, const struct chunk *chunk)
{
    const struct memory_keys *keys = pass->keys;
    int64_t at = chunk_scalar(pass, chunk);
    for (int64_t r = 0; r < chunk->count; r++) {
        int64_t i = at + r * keys->kv_heads;
        strength[r] = sigmoid(keys->strength_type == DTYPE_BF16 ? bf16_to_float(((const bf16 *)keys->strength)[i])
                                                                : ((const float *)keys->strength)[i]);
    }
}

/* The inverse of I - n for a strictly lower block n of so many rows: row by row, of which zeros lie behind. */
static void block_invert(float *inverse, const float *n, int64_t rows)
{
    for (int64_t i = 0; i < rows; i++) {
        float *row = inverse + i * DIAGONAL;
        memset(row, 0, DIAGONAL * sizeof *row);
        row[i] = 1.0f;
        for (int64_t j = 0; j < i; j++)
            for (int64_t c = 0; c < DIAGONAL; c++)
                row[c] += n[i * CHUNK + j] * inverse[j * DIAGONAL + c];
    }
}

/* Keys, strengths and A of a chunk. */
static void chunk_prepare(const struct gated_pass *pass, const struct chunk_tiles *tiles, const struct chunk *chunk)
{
    int64_t width = pass->keys->width;
    vectors_gather(pass, tiles->k, pass->ld, pass->keys->k, chunk, 1.0f);
    pass->kernels->tile_gather_transposed(tiles->transposed, CHUNK, tiles->k, pass->ld, chunk->count, width, 1.0f,
                                          DTYPE_F32);
    strengths_load(pass, tiles->strength, chunk);
    for (int64_t at = 0; at < chunk->count; at += DIAGONAL) {
        int64_t rows = integer_min(DIAGONAL, chunk->count - at);
        float *below = tiles->below + at * CHUNK;
        multiply(pass, below, CHUNK, tiles->k + at * pass->ld, pass->ld, tiles->transposed, CHUNK, rows, at + rows,
                 width, 0.0f);
        for (int64_t r = 0; r < rows; r++) {
            float *row = below + r * CHUNK;
            for (int64_t c = 0; c < at + r; c++)
                row[c] *= -tiles->strength[at + r];
            for (int64_t c = at + r; c < at + DIAGONAL; c++)
                row[c] = 0.0f;
        }
        block_invert(tiles->inverse + at * DIAGONAL, below + at, rows);
    }
}

/* d = A^-1 y, n columns; y is overwritten. */
static void chunk_solve(const struct gated_pass *pass, const struct chunk_tiles *tiles, int64_t count, float *d,
                        float *y, int64_t ld, int64_t n)
{
    for (int64_t at = 0; at < count; at += DIAGONAL) {
        int64_t rows = integer_min(DIAGONAL, count - at);
        multiply(pass, y + at * ld, ld, tiles->below + at * CHUNK, CHUNK, d, ld, rows, n, at, 1.0f);
        multiply(pass, d + at * ld, ld, tiles->inverse + at * DIAGONAL, DIAGONAL, y + at * ld, ld, rows, n, rows, 0.0f);
    }
}

/* d = A^-T y, the same from the last block to the first. */
static void chunk_solve_transposed(const struct gated_pass *pass, const struct chunk_tiles *tiles, int64_t count,
                                   float *d, float *y, int64_t ld, int64_t n)
{
    for (int64_t at = (count - 1) / DIAGONAL * DIAGONAL; at >= 0; at -= DIAGONAL) {
        int64_t rows = integer_min(DIAGONAL, count - at);
        int64_t behind = at + rows;
        multiply_transposed(pass, y + at * ld, ld, tiles->below + behind * CHUNK + at, CHUNK, d + behind * ld, ld, rows,
                            n, count - behind, 1.0f);
        multiply_transposed(pass, d + at * ld, ld, tiles->inverse + at * DIAGONAL, DIAGONAL, y + at * ld, ld, rows, n,
                            rows, 0.0f);
    }
}

static void state_gather(const struct gated_pass *pass, float *tile, const float *from)
{
    pass->kernels->tile_gather(tile, pass->ld, from, pass->keys->width, pass->keys->width, pass->keys->width, 1.0f,
                               DTYPE_F32);
}

static void blocks_count(struct engine *engine, const struct memory_keys *keys, double squares, double chunks)
{
    double width = (double)keys->width;
    double vectors = (double)(written_tokens(keys) * keys->kv_heads);
    engine->context->time.flops[TIME_ATTENTION] += 2.0 * vectors * width * (squares * width + chunks * CHUNK);
}

static int blocks_threads(const struct engine *engine, const struct memory_keys *keys)
{
    return operation_threads(engine, (written_tokens(keys) + keys->rows * keys->segments) * keys->kv_heads *
                                         keys->width * keys->width);
}

/* -- Forward -- */

struct maps_tiles {
    struct chunk_tiles chunk;
    float *x;     /* [E, 2 ld]: L, then B */
    float *y, *d; /* [CHUNK, 2 ld] */
};

static struct maps_tiles maps_carve(float *scratch, const struct gated_pass *pass)
{
    struct maps_tiles tiles;
    tiles.chunk = chunk_carve(&scratch, pass);
    tiles.x = memory_take(&scratch, pass->keys->width * 2 * pass->ld);
    tiles.y = memory_take(&scratch, CHUNK * 2 * pass->ld);
    tiles.d = memory_take(&scratch, CHUNK * 2 * pass->ld);
    return tiles;
}

static void maps_chunk(const struct gated_pass *pass, const struct maps_tiles *tiles, const struct chunk *chunk)
{
    int64_t width = pass->keys->width;
    int64_t ld = 2 * pass->ld;
    const float *k = tiles->chunk.k;
    chunk_prepare(pass, &tiles->chunk, chunk);
    /* diag(b) ([K | -V] + K X), and so for D with the other sign. */
    pass->kernels->tile_gather(tiles->y, ld, k, pass->ld, chunk->count, pass->ld, 1.0f, DTYPE_F32);
    vectors_gather(pass, tiles->d, pass->ld, pass->keys->v, chunk, -1.0f);
    pass->kernels->tile_scatter(tiles->y + pass->ld, ld, tiles->d, pass->ld, chunk->count, pass->ld, NULL, 0.0f,
                                DTYPE_F32);
    multiply(pass, tiles->y, ld, k, pass->ld, tiles->x, ld, chunk->count, ld, width, 1.0f);
    for (int64_t r = 0; r < chunk->count; r++)
        tiles->chunk.strength[r] = -tiles->chunk.strength[r];
    pass->kernels->tile_scale(tiles->y, ld, chunk->count, ld, tiles->chunk.strength);
    chunk_solve(pass, &tiles->chunk, chunk->count, tiles->d, tiles->y, ld, ld);
    multiply_transposed(pass, tiles->x, ld, k, pass->ld, tiles->d, ld, width, ld, chunk->count, 1.0f);
}

bool memory_gated_maps(struct engine *engine, const struct memory_keys *keys, float *states, float *maps)
{
    struct gated_pass pass = pass_create(engine, keys);
    int64_t width = keys->width;
    int64_t ld = 2 * pass.ld;
    size_t stride;
    char *scratch = memory_scratch(engine, chunk_floats(&pass) + (width + 2 * CHUNK) * ld, 8, &stride);
    if (!scratch)
        return false;
    blocks_count(engine, keys, 4.0, 1.5);
#pragma omp parallel for schedule(dynamic) num_threads(blocks_threads(engine, keys))
    for (int64_t block = 0; block < keys->rows * keys->segments * keys->kv_heads; block++) {
        struct maps_tiles tiles = maps_carve((float *)(scratch + (size_t)omp_get_thread_num() * stride), &pass);
        memset(tiles.x, 0, (size_t)(width * ld) * sizeof(float));
        for (int64_t i = 0; i < chunks_of(block_span(&pass, block)->keys); i++) {
            struct chunk chunk = chunk_at(&pass, block, i);
            maps_chunk(&pass, &tiles, &chunk);
        }
        engine->kernels->tile_scatter(maps + block * pass.map, width, tiles.x, ld, width, width, NULL, 0.0f, DTYPE_F32);
        engine->kernels->tile_scatter(states + block * pass.map, width, tiles.x + pass.ld, ld, width, width, NULL, 0.0f,
                                      DTYPE_F32);
    }
    return true;
}

void memory_maps_transpose(const struct memory_keys *keys, float *maps)
{
    int64_t width = keys->width;
    for (int64_t block = 0; block < keys->rows * keys->segments * keys->kv_heads; block++)
        for (int64_t i = 0; i < width; i++)
            for (int64_t j = 0; j < i; j++) {
                float *map = maps + block * width * width;
                float value = map[i * width + j];
                map[i * width + j] = map[j * width + i];
                map[j * width + i] = value;
            }
}

/* -- Backward: M before each chunk and its D = A^-1 diag(b) (V - K M), forward along the segment. Then, with
 * P = d loss / d M behind it, from the last chunk to the first:
 *      Z = A^-T K P,  Y = - diag(b) Z
 *      dV = - Y,  dK = D P^T + Y M^T + S K + S^T K  with S = strict_lower(Y D^T)
 *      d logit_t = (1 - b_t) Z_t D_t,  as D_t is b_t times what it writes
 *      P += K^T Y
 * -- */

struct backward_tiles {
    struct chunk_tiles chunk;
    float *p, *square;            /* [E, ld] */
    float *y, *z, *other;         /* [CHUNK, ld] */
    float *d_transposed, *across; /* [E, CHUNK], [CHUNK, CHUNK] */
    float *along;                 /* [CHUNK] */
    float *states, *written;      /* of each chunk: [E, ld], [CHUNK, ld] */
};

static int64_t backward_floats(const struct gated_pass *pass, int64_t chunks)
{
    int64_t width = pass->keys->width;
    return chunk_floats(pass) + (2 * width + 3 * CHUNK) * pass->ld + CHUNK * (width + CHUNK + 1) +
           chunks * (width + CHUNK) * pass->ld;
}

static struct backward_tiles backward_carve(float *scratch, const struct gated_pass *pass, int64_t chunks)
{
    int64_t width = pass->keys->width;
    struct backward_tiles tiles;
    tiles.chunk = chunk_carve(&scratch, pass);
    tiles.p = memory_take(&scratch, width * pass->ld);
    tiles.square = memory_take(&scratch, width * pass->ld);
    tiles.y = memory_take(&scratch, CHUNK * pass->ld);
    tiles.z = memory_take(&scratch, CHUNK * pass->ld);
    tiles.other = memory_take(&scratch, CHUNK * pass->ld);
    tiles.d_transposed = memory_take(&scratch, width * CHUNK);
    tiles.across = memory_take(&scratch, CHUNK * CHUNK);
    tiles.along = memory_take(&scratch, CHUNK);
    tiles.states = memory_take(&scratch, chunks * width * pass->ld);
    tiles.written = memory_take(&scratch, chunks * CHUNK * pass->ld);
    return tiles;
}

/* What the chunk writes, into `written`, and the state behind it, into the next place of `states` unless it is the
 * last.
 */
static void written_make(const struct gated_pass *pass, const struct backward_tiles *tiles, const struct chunk *chunk,
                         int64_t number, bool last)
{
    int64_t width = pass->keys->width;
    int64_t ld = pass->ld;
    const float *state = tiles->states + number * width * ld;
    float *written = tiles->written + number * CHUNK * ld;
    chunk_prepare(pass, &tiles->chunk, chunk);
    vectors_gather(pass, tiles->y, ld, pass->keys->v, chunk, -1.0f);
    multiply(pass, tiles->y, ld, tiles->chunk.k, ld, state, ld, chunk->count, ld, width, 1.0f);
    for (int64_t r = 0; r < chunk->count; r++)
        tiles->along[r] = -tiles->chunk.strength[r];
    pass->kernels->tile_scale(tiles->y, ld, chunk->count, ld, tiles->along);
    chunk_solve(pass, &tiles->chunk, chunk->count, written, tiles->y, ld, ld);
    if (last)
        return;
    float *next = tiles->states + (number + 1) * width * ld;
    memcpy(next, state, (size_t)(width * ld) * sizeof *next);
    multiply_transposed(pass, next, ld, tiles->chunk.k, ld, written, ld, width, ld, chunk->count, 1.0f);
}

/* dK, from Y in `z` and what the chunk wrote, in `other`. */
static void keys_derive(const struct gated_pass *pass, const struct backward_tiles *tiles, int64_t count,
                        const float *state, const float *written)
{
    const struct kernels *kernels = pass->kernels;
    int64_t width = pass->keys->width;
    int64_t ld = pass->ld;
    kernels->tile_gather_transposed(tiles->square, ld, tiles->p, ld, width, width, 1.0f, DTYPE_F32);
    multiply(pass, tiles->other, ld, written, ld, tiles->square, ld, count, ld, width, 0.0f);
    kernels->tile_gather_transposed(tiles->square, ld, state, ld, width, width, 1.0f, DTYPE_F32);
    multiply(pass, tiles->other, ld, tiles->z, ld, tiles->square, ld, count, ld, width, 1.0f);
    kernels->tile_gather_transposed(tiles->d_transposed, CHUNK, written, ld, count, width, 1.0f, DTYPE_F32);
    for (int64_t at = 0; at < count; at += DIAGONAL) {
        int64_t rows = integer_min(DIAGONAL, count - at);
        float *across = tiles->across + at * CHUNK;
        multiply(pass, across, CHUNK, tiles->z + at * ld, ld, tiles->d_transposed, CHUNK, rows, at + rows, width, 0.0f);
        for (int64_t r = 0; r < rows; r++)
            memset(across + r * CHUNK + at + r, 0, (size_t)(CHUNK - at - r) * sizeof *across);
    }
    multiply(pass, tiles->other, ld, tiles->across, CHUNK, tiles->chunk.k, ld, count, ld, count, 1.0f);
    multiply_transposed(pass, tiles->other, ld, tiles->across, CHUNK, tiles->chunk.k, ld, count, ld, count, 1.0f);
}

static void strengths_derive(const struct gated_pass *pass, const struct backward_tiles *tiles,
                             const struct chunk *chunk, const float *written)
{
    struct gradient_target target = pass->dstrength;
    pass->kernels->tile_dots(tiles->along, tiles->z, pass->ld, written, pass->ld, chunk->count, pass->keys->width);
    for (int64_t r = 0; r < chunk->count && target.data; r++) {
        int64_t at = chunk_scalar(pass, chunk) + r * pass->keys->kv_heads;
        float value = tiles->along[r] * (1.0f - tiles->chunk.strength[r]);
        pass->kernels->accumulate(operation_at_mutable(target.data, at, target.dtype), target.dtype, &value, DTYPE_F32,
                                  target.beta, 1);
    }
}

static void chunk_backward(const struct gated_pass *pass, const struct backward_tiles *tiles, const struct chunk *chunk,
                           int64_t number)
{
    int64_t width = pass->keys->width;
    int64_t ld = pass->ld;
    const float *state = tiles->states + number * width * ld;
    const float *written = tiles->written + number * CHUNK * ld;
    chunk_prepare(pass, &tiles->chunk, chunk);
    multiply(pass, tiles->y, ld, tiles->chunk.k, ld, tiles->p, ld, chunk->count, ld, width, 0.0f);
    chunk_solve_transposed(pass, &tiles->chunk, chunk->count, tiles->z, tiles->y, ld, ld);
    strengths_derive(pass, tiles, chunk, written);
    for (int64_t r = 0; r < chunk->count; r++) {
        tiles->chunk.strength[r] = -tiles->chunk.strength[r];
        tiles->along[r] = -1.0f;
    }
    pass->kernels->tile_scale(tiles->z, ld, chunk->count, ld, tiles->chunk.strength); /* Y */
    if (pass->dk.data)
        keys_derive(pass, tiles, chunk->count, state, written);
    vectors_scatter(pass, pass->dk, tiles->other, chunk, NULL);
    vectors_scatter(pass, pass->dv, tiles->z, chunk, tiles->along);
    multiply_transposed(pass, tiles->p, ld, tiles->chunk.k, ld, tiles->z, ld, width, ld, chunk->count, 1.0f);
}

static void block_backward(const struct gated_pass *pass, const struct backward_tiles *tiles, int64_t block)
{
    int64_t chunks = chunks_of(block_span(pass, block)->keys);
    if (chunks == 0)
        return;
    state_gather(pass, tiles->states, pass->derivatives->states + block * pass->map);
    state_gather(pass, tiles->p, pass->derivatives->behind + block * pass->map);
    for (int64_t i = 0; i < chunks; i++) {
        struct chunk chunk = chunk_at(pass, block, i);
        written_make(pass, tiles, &chunk, i, i == chunks - 1);
    }
    for (int64_t i = chunks - 1; i >= 0; i--) {
        struct chunk chunk = chunk_at(pass, block, i);
        chunk_backward(pass, tiles, &chunk, i);
    }
}

/* A gradient that starts here is 0 at the tokens that no segment writes. */
static void unwritten_clear(const struct memory_keys *keys, struct gradient_target target, int64_t columns)
{
    if (target.data && target.beta == 0.0f && written_tokens(keys) < keys->tokens)
        memset(target.data, 0, (size_t)(keys->tokens * columns) * dtype_size(target.dtype));
}

bool memory_gated_backward(struct engine *engine, const struct memory_keys *keys,
                           const struct memory_derivatives *derivatives, struct gradient_target dk,
                           struct gradient_target dv, struct gradient_target dstrength)
{
    struct gated_pass pass = pass_create(engine, keys);
    pass.derivatives = derivatives;
    pass.dk = dk;
    pass.dv = dv;
    pass.dstrength = dstrength;
    int64_t chunks = chunks_of(longest_segment(keys));
    size_t stride;
    char *scratch = memory_scratch(engine, backward_floats(&pass, chunks), 15, &stride);
    if (!scratch)
        return false;
    unwritten_clear(keys, dk, keys->kv_heads * keys->width);
    unwritten_clear(keys, dv, keys->kv_heads * keys->width);
    unwritten_clear(keys, dstrength, keys->kv_heads);
    blocks_count(engine, keys, 6.0, 5.0);
#pragma omp parallel for schedule(dynamic) num_threads(blocks_threads(engine, keys))
    for (int64_t block = 0; block < keys->rows * keys->segments * keys->kv_heads; block++) {
        struct backward_tiles tiles =
            backward_carve((float *)(scratch + (size_t)omp_get_thread_num() * stride), &pass, chunks);
        block_backward(&pass, &tiles, block);
    }
    return true;
}
