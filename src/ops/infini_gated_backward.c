/* The gradients of what segments add to the memory by the gated delta rule. M before each chunk and its
 * D = A^-1 diag(b) (V - K M), forward along the segment; then, with P = d loss / d M behind it, from the last chunk to
 * the first: Z = A^-T K P,  Y = - diag(b) Z dV = - Y,  dK = D P^T + Y M^T + S K + S^T K  with S = strict_lower(Y D^T)
 *      d logit_t = (1 - b_t) Z_t D_t,  as D_t is b_t times what it writes
 *      P += K^T Y
 */
#include "src/ops/infini_gated.h"

#include <string.h>

static int64_t longest_segment(const struct infini_keys *keys)
{
    int64_t longest = 0;
    for (int64_t i = 0; i < keys->rows * keys->segments; i++)
        longest = integer_max(longest, keys->written[i].keys);
    return longest;
}

static void vectors_scatter(const struct gated_pass *pass, struct gradient_target target, const float *tile,
                            const struct chunk *chunk, const float *factor)
{
    const struct infini_keys *keys = pass->keys;
    if (target.data)
        pass->kernels->tile_scatter(operation_at_mutable(target.data, infini_chunk_vector(pass, chunk), target.dtype),
                                    keys->kv_heads * keys->width, tile, pass->ld, chunk->count, keys->width, factor,
                                    target.beta, target.dtype);
}

/* d = A^-T y, the same from the last block to the first. */
static void chunk_solve_transposed(const struct gated_pass *pass, const struct chunk_tiles *tiles, int64_t count,
                                   float *d, float *y, int64_t ld, int64_t n)
{
    for (int64_t at = (count - 1) / DIAGONAL * DIAGONAL; at >= 0; at -= DIAGONAL) {
        int64_t rows = integer_min(DIAGONAL, count - at);
        int64_t behind = at + rows;
        infini_chunk_product_transposed(pass, y + at * ld, ld, tiles->below + behind * CHUNK + at, CHUNK,
                                        d + behind * ld, ld, rows, n, count - behind, 1.0f);
        infini_chunk_product_transposed(pass, d + at * ld, ld, tiles->inverse + at * DIAGONAL, DIAGONAL, y + at * ld,
                                        ld, rows, n, rows, 0.0f);
    }
}

static void state_gather(const struct gated_pass *pass, float *tile, const float *from)
{
    pass->kernels->tile_gather(tile, pass->ld, from, pass->keys->width, pass->keys->width, pass->keys->width, 1.0f,
                               DTYPE_F32);
}

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
    return infini_chunk_floats(pass) + (2 * width + 3 * CHUNK) * pass->ld + CHUNK * (width + CHUNK + 1) +
           chunks * (width + CHUNK) * pass->ld;
}

static struct backward_tiles backward_carve(float *scratch, const struct gated_pass *pass, int64_t chunks)
{
    int64_t width = pass->keys->width;
    struct backward_tiles tiles;
    tiles.chunk = infini_chunk_carve(&scratch, pass);
    tiles.p = floats_take(&scratch, width * pass->ld);
    tiles.square = floats_take(&scratch, width * pass->ld);
    tiles.y = floats_take(&scratch, CHUNK * pass->ld);
    tiles.z = floats_take(&scratch, CHUNK * pass->ld);
    tiles.other = floats_take(&scratch, CHUNK * pass->ld);
    tiles.d_transposed = floats_take(&scratch, width * CHUNK);
    tiles.across = floats_take(&scratch, CHUNK * CHUNK);
    tiles.along = floats_take(&scratch, CHUNK);
    tiles.states = floats_take(&scratch, chunks * width * pass->ld);
    tiles.written = floats_take(&scratch, chunks * CHUNK * pass->ld);
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
    infini_chunk_prepare(pass, &tiles->chunk, chunk);
    infini_chunk_gather(pass, tiles->y, ld, pass->keys->v, chunk, -1.0f);
    infini_chunk_product(pass, tiles->y, ld, tiles->chunk.k, ld, state, ld, chunk->count, ld, width, 1.0f);
    for (int64_t r = 0; r < chunk->count; r++)
        tiles->along[r] = -tiles->chunk.strength[r];
    pass->kernels->tile_scale(tiles->y, ld, chunk->count, ld, tiles->along);
    infini_chunk_solve(pass, &tiles->chunk, chunk->count, written, tiles->y, ld, ld);
    if (last)
        return;
    float *next = tiles->states + (number + 1) * width * ld;
    memcpy(next, state, (size_t)(width * ld) * sizeof *next);
    infini_chunk_product_transposed(pass, next, ld, tiles->chunk.k, ld, written, ld, width, ld, chunk->count, 1.0f);
}

/* dK, from Y in `z` and what the chunk wrote, in `other`. */
static void keys_derive(const struct gated_pass *pass, const struct backward_tiles *tiles, int64_t count,
                        const float *state, const float *written)
{
    const struct kernels *kernels = pass->kernels;
    int64_t width = pass->keys->width;
    int64_t ld = pass->ld;
    kernels->tile_gather_transposed(tiles->square, ld, tiles->p, ld, width, width, 1.0f, DTYPE_F32);
    infini_chunk_product(pass, tiles->other, ld, written, ld, tiles->square, ld, count, ld, width, 0.0f);
    kernels->tile_gather_transposed(tiles->square, ld, state, ld, width, width, 1.0f, DTYPE_F32);
    infini_chunk_product(pass, tiles->other, ld, tiles->z, ld, tiles->square, ld, count, ld, width, 1.0f);
    kernels->tile_gather_transposed(tiles->d_transposed, CHUNK, written, ld, count, width, 1.0f, DTYPE_F32);
    for (int64_t at = 0; at < count; at += DIAGONAL) {
        int64_t rows = integer_min(DIAGONAL, count - at);
        float *across = tiles->across + at * CHUNK;
        infini_chunk_product(pass, across, CHUNK, tiles->z + at * ld, ld, tiles->d_transposed, CHUNK, rows, at + rows,
                             width, 0.0f);
        for (int64_t r = 0; r < rows; r++)
            memset(across + r * CHUNK + at + r, 0, (size_t)(CHUNK - at - r) * sizeof *across);
    }
    infini_chunk_product(pass, tiles->other, ld, tiles->across, CHUNK, tiles->chunk.k, ld, count, ld, count, 1.0f);
    infini_chunk_product_transposed(pass, tiles->other, ld, tiles->across, CHUNK, tiles->chunk.k, ld, count, ld, count,
                                    1.0f);
}

static void strengths_derive(const struct gated_pass *pass, const struct backward_tiles *tiles,
                             const struct chunk *chunk, const float *written)
{
    struct gradient_target target = pass->dstrength;
    pass->kernels->tile_dots(tiles->along, tiles->z, pass->ld, written, pass->ld, chunk->count, pass->keys->width);
    for (int64_t r = 0; r < chunk->count && target.data; r++) {
        int64_t at = infini_chunk_scalar(pass, chunk) + r * pass->keys->kv_heads;
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
    infini_chunk_prepare(pass, &tiles->chunk, chunk);
    infini_chunk_product(pass, tiles->y, ld, tiles->chunk.k, ld, tiles->p, ld, chunk->count, ld, width, 0.0f);
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
    infini_chunk_product_transposed(pass, tiles->p, ld, tiles->chunk.k, ld, tiles->z, ld, width, ld, chunk->count,
                                    1.0f);
}

static void block_backward(const struct gated_pass *pass, const struct backward_tiles *tiles, int64_t block)
{
    int64_t chunks = infini_gated_chunks(infini_gated_span(pass, block)->keys);
    if (chunks == 0)
        return;
    state_gather(pass, tiles->states, pass->derivatives->states + block * pass->map);
    state_gather(pass, tiles->p, pass->derivatives->behind + block * pass->map);
    for (int64_t i = 0; i < chunks; i++) {
        struct chunk chunk = infini_chunk_at(pass, block, i);
        written_make(pass, tiles, &chunk, i, i == chunks - 1);
    }
    for (int64_t i = chunks - 1; i >= 0; i--) {
        struct chunk chunk = infini_chunk_at(pass, block, i);
        chunk_backward(pass, tiles, &chunk, i);
    }
}

/* A gradient that starts here is 0 at the tokens that no segment writes. */
static void unwritten_clear(const struct infini_keys *keys, struct gradient_target target, int64_t columns)
{
    if (target.data && target.beta == 0.0f && infini_gated_tokens(keys) < keys->tokens)
        memset(target.data, 0, (size_t)(keys->tokens * columns) * dtype_size(target.dtype));
}

bool infini_gated_backward(struct engine *engine, const struct infini_keys *keys,
                           const struct infini_derivatives *derivatives, struct gradient_target dk,
                           struct gradient_target dv, struct gradient_target dstrength)
{
    struct gated_pass pass = infini_gated_pass(engine, keys);
    pass.derivatives = derivatives;
    pass.dk = dk;
    pass.dv = dv;
    pass.dstrength = dstrength;
    int64_t chunks = infini_gated_chunks(longest_segment(keys));
    size_t stride;
    char *scratch = infini_scratch(engine, backward_floats(&pass, chunks), 15, &stride);
    if (!scratch)
        return false;
    unwritten_clear(keys, dk, keys->kv_heads * keys->width);
    unwritten_clear(keys, dv, keys->kv_heads * keys->width);
    unwritten_clear(keys, dstrength, keys->kv_heads);
    infini_gated_count(engine, keys, 6.0, 5.0);
#pragma omp parallel for schedule(dynamic) num_threads(infini_gated_threads(engine, keys))
    for (int64_t block = 0; block < keys->rows * keys->segments * keys->kv_heads; block++) {
        struct backward_tiles tiles =
            backward_carve((float *)(scratch + (size_t)omp_get_thread_num() * stride), &pass, chunks);
        block_backward(&pass, &tiles, block);
    }
    return true;
}
