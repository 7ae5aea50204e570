/* What segments add to the memory of the gated delta rule (src/model/README.md section 12): each is a map M + L M + B.
 * A chunk of tokens with keys K, values V and strengths b takes X = [L | B] to X + K^T D, where D solves A D = diag(b)
 * ([-K | V] - K X)  with A = I + diag(b) strict_lower(K K^T) and A is what each token's read owes to the writes of
 * those before it (Bischof and Van Loan's WY form). So a segment takes products of tiles, and a loop over chunks, not
 * over tokens. A task is one segment of one kv head. */
#include "src/ops/infini_gated.h"

#include <math.h>
#include <string.h>

int64_t infini_gated_tokens(const struct infini_keys *keys)
{
    int64_t tokens = 0;
    for (int64_t i = 0; i < keys->rows * keys->segments; i++)
        tokens += keys->written[i].keys;
    return tokens;
}

int64_t infini_chunk_floats(const struct gated_pass *pass)
{
    return CHUNK * (pass->ld + CHUNK + DIAGONAL + 1) + pass->keys->width * CHUNK;
}

struct chunk_tiles infini_chunk_carve(float **scratch, const struct gated_pass *pass)
{
    struct chunk_tiles tiles;
    tiles.k = floats_take(scratch, CHUNK * pass->ld);
    tiles.transposed = floats_take(scratch, pass->keys->width * CHUNK);
    tiles.below = floats_take(scratch, CHUNK * CHUNK);
    tiles.inverse = floats_take(scratch, CHUNK * DIAGONAL);
    tiles.strength = floats_take(scratch, CHUNK);
    return tiles;
}

static float sigmoid(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

static void strengths_load(const struct gated_pass *pass, float *strength, const struct chunk *chunk)
{
    const struct infini_keys *keys = pass->keys;
    int64_t at = infini_chunk_scalar(pass, chunk);
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

void infini_chunk_prepare(const struct gated_pass *pass, const struct chunk_tiles *tiles, const struct chunk *chunk)
{
    int64_t width = pass->keys->width;
    infini_chunk_gather(pass, tiles->k, pass->ld, pass->keys->k, chunk, 1.0f);
    pass->kernels->tile_gather_transposed(tiles->transposed, CHUNK, tiles->k, pass->ld, chunk->count, width, 1.0f,
                                          DTYPE_F32);
    strengths_load(pass, tiles->strength, chunk);
    for (int64_t at = 0; at < chunk->count; at += DIAGONAL) {
        int64_t rows = integer_min(DIAGONAL, chunk->count - at);
        float *below = tiles->below + at * CHUNK;
        infini_chunk_product(pass, below, CHUNK, tiles->k + at * pass->ld, pass->ld, tiles->transposed, CHUNK, rows,
                             at + rows, width, 0.0f);
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

void infini_chunk_solve(const struct gated_pass *pass, const struct chunk_tiles *tiles, int64_t count, float *d,
                        float *y, int64_t ld, int64_t n)
{
    for (int64_t at = 0; at < count; at += DIAGONAL) {
        int64_t rows = integer_min(DIAGONAL, count - at);
        infini_chunk_product(pass, y + at * ld, ld, tiles->below + at * CHUNK, CHUNK, d, ld, rows, n, at, 1.0f);
        infini_chunk_product(pass, d + at * ld, ld, tiles->inverse + at * DIAGONAL, DIAGONAL, y + at * ld, ld, rows, n,
                             rows, 0.0f);
    }
}

void infini_gated_count(struct engine *engine, const struct infini_keys *keys, double squares, double chunks)
{
    double width = (double)keys->width;
    double vectors = (double)(infini_gated_tokens(keys) * keys->kv_heads);
    engine->context->time.flops[TIME_ATTENTION] += 2.0 * vectors * width * (squares * width + chunks * CHUNK);
}

int infini_gated_threads(const struct engine *engine, const struct infini_keys *keys)
{
    return operation_threads(engine, (infini_gated_tokens(keys) + keys->rows * keys->segments) * keys->kv_heads *
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
    tiles.chunk = infini_chunk_carve(&scratch, pass);
    tiles.x = floats_take(&scratch, pass->keys->width * 2 * pass->ld);
    tiles.y = floats_take(&scratch, CHUNK * 2 * pass->ld);
    tiles.d = floats_take(&scratch, CHUNK * 2 * pass->ld);
    return tiles;
}

static void maps_chunk(const struct gated_pass *pass, const struct maps_tiles *tiles, const struct chunk *chunk)
{
    int64_t width = pass->keys->width;
    int64_t ld = 2 * pass->ld;
    const float *k = tiles->chunk.k;
    infini_chunk_prepare(pass, &tiles->chunk, chunk);
    /* diag(b) ([K | -V] + K X), and so for D with the other sign. */
    pass->kernels->tile_gather(tiles->y, ld, k, pass->ld, chunk->count, pass->ld, 1.0f, DTYPE_F32);
    infini_chunk_gather(pass, tiles->d, pass->ld, pass->keys->v, chunk, -1.0f);
    pass->kernels->tile_scatter(tiles->y + pass->ld, ld, tiles->d, pass->ld, chunk->count, pass->ld, NULL, 0.0f,
                                DTYPE_F32);
    infini_chunk_product(pass, tiles->y, ld, k, pass->ld, tiles->x, ld, chunk->count, ld, width, 1.0f);
    for (int64_t r = 0; r < chunk->count; r++)
        tiles->chunk.strength[r] = -tiles->chunk.strength[r];
    pass->kernels->tile_scale(tiles->y, ld, chunk->count, ld, tiles->chunk.strength);
    infini_chunk_solve(pass, &tiles->chunk, chunk->count, tiles->d, tiles->y, ld, ld);
    infini_chunk_product_transposed(pass, tiles->x, ld, k, pass->ld, tiles->d, ld, width, ld, chunk->count, 1.0f);
}

bool infini_gated_maps(struct engine *engine, const struct infini_keys *keys, float *states, float *maps)
{
    struct gated_pass pass = infini_gated_pass(engine, keys);
    int64_t width = keys->width;
    int64_t ld = 2 * pass.ld;
    size_t stride;
    char *scratch = infini_scratch(engine, infini_chunk_floats(&pass) + (width + 2 * CHUNK) * ld, 8, &stride);
    if (!scratch)
        return false;
    infini_gated_count(engine, keys, 4.0, 1.5);
#pragma omp parallel for schedule(dynamic) num_threads(infini_gated_threads(engine, keys))
    for (int64_t block = 0; block < keys->rows * keys->segments * keys->kv_heads; block++) {
        struct maps_tiles tiles = maps_carve((float *)(scratch + (size_t)omp_get_thread_num() * stride), &pass);
        memset(tiles.x, 0, (size_t)(width * ld) * sizeof(float));
        for (int64_t i = 0; i < infini_gated_chunks(infini_gated_span(&pass, block)->keys); i++) {
            struct chunk chunk = infini_chunk_at(&pass, block, i);
            maps_chunk(&pass, &tiles, &chunk);
        }
        engine->kernels->tile_scatter(maps + block * pass.map, width, tiles.x, ld, width, width, NULL, 0.0f, DTYPE_F32);
        engine->kernels->tile_scatter(states + block * pass.map, width, tiles.x + pass.ld, ld, width, width, NULL, 0.0f,
                                      DTYPE_F32);
    }
    return true;
}

void infini_maps_transpose(const struct infini_keys *keys, float *maps)
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
