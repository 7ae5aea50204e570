/* What segments add to Infini-attention's memory by the linear and the delta rule, forward and backward: the products
 * that grow with the tokens. A task is one segment of one kv head, or a part of it. */
#include "src/ops/infini_tiles.h"

#include <string.h>

struct write_pass {
    const struct kernels *kernels;
    const struct infini_keys *keys;
    int64_t ld;         /* of tiles whose columns are the width of a head */
    int64_t state, map; /* floats of a block's state and of its map */
    /* forward */
    float *states, *maps;
    /* backward */
    const struct infini_derivatives *derivatives;
    struct gradient_target dk, dv;
};

static struct write_pass pass_create(const struct engine *engine, const struct infini_keys *keys)
{
    return (struct write_pass){.kernels = engine->kernels,
                               .keys = keys,
                               .ld = integer_round_up(keys->width, TILE_MULTIPLE),
                               .state = infini_elements(MEMORY_UPDATE_DELTA, keys->width),
                               .map = keys->width * keys->width};
}

static int64_t keys_blocks(const struct infini_keys *keys)
{
    return keys->rows * keys->segments * keys->kv_heads;
}

/* How many elements of a head's vectors all segments write. */
static int64_t keys_elements(const struct infini_keys *keys)
{
    int64_t tokens = 0;
    for (int64_t i = 0; i < keys->rows * keys->segments; i++)
        tokens += keys->written[i].keys;
    return tokens * keys->kv_heads * keys->width;
}

static int keys_threads(const struct engine *engine, const struct infini_keys *keys)
{
    return operation_threads(engine, (keys_elements(keys) + keys_blocks(keys)) * keys->width);
}

/* The account of executed operations: so many products of E x E with each vector that is written. */
static void keys_count(struct engine *engine, const struct infini_keys *keys, int products)
{
    engine->context->time.flops[TIME_ATTENTION] += 2.0 * (double)(keys_elements(keys) * keys->width) * products;
}

static const struct attention_span *block_span(const struct write_pass *pass, int64_t block)
{
    return &pass->keys->written[block / pass->keys->kv_heads];
}

/* Where a token's vector of this block's head lies. */
static int64_t block_vector(const struct write_pass *pass, int64_t block, int64_t token)
{
    return (token * pass->keys->kv_heads + block % pass->keys->kv_heads) * pass->keys->width;
}

static void features_gather(const struct write_pass *pass, float *tile, int64_t block, int64_t token, int64_t count)
{
    const struct infini_keys *keys = pass->keys;
    pass->kernels->feature_gather(tile, pass->ld, operation_at(keys->k, block_vector(pass, block, token), keys->dtype),
                                  keys->kv_heads * keys->width, count, keys->width, keys->dtype);
}

static void values_gather(const struct write_pass *pass, float *tile, int64_t block, int64_t token, int64_t count)
{
    const struct infini_keys *keys = pass->keys;
    pass->kernels->tile_gather(tile, pass->ld, operation_at(keys->v, block_vector(pass, block, token), keys->dtype),
                               keys->kv_heads * keys->width, count, keys->width, 1.0f, keys->dtype);
}

/* tile = - D^-1 sigma(K), with z of before the segment. */
static void features_divide(const struct write_pass *pass, float *tile, const float *features, float *inverse,
                            int64_t rows, const float *z)
{
    infini_inverses(pass->kernels, inverse, features, pass->ld, rows, z, pass->keys->width);
    pass->kernels->tile_gather(tile, pass->ld, features, pass->ld, rows, pass->ld, -1.0f, DTYPE_F32);
    pass->kernels->tile_scale(tile, pass->ld, rows, pass->ld, inverse);
}

/* -- Forward -- */

/* z += the columns of the features. A block of tokens is summed first: rounding then grows with the blocks. */
static void columns_add(const struct write_pass *pass, float *z, float *part, const float *features, int64_t count,
                        int64_t columns)
{
    memset(part, 0, (size_t)columns * sizeof *part);
    pass->kernels->sum_columns(part, features, count, columns, pass->ld, DTYPE_F32);
    pass->kernels->accumulate(z, DTYPE_F32, part, DTYPE_F32, 1.0f, columns);
}

bool infini_sums(struct engine *engine, const struct infini_keys *keys, float *states)
{
    struct write_pass pass = pass_create(engine, keys);
    int64_t width = keys->width;
    size_t stride;
    char *scratch = infini_scratch(engine, (TOKEN_BLOCK + 1) * pass.ld, 2, &stride);
    if (!scratch)
        return false;
#pragma omp parallel for schedule(dynamic) num_threads(keys_threads(engine, keys))
    for (int64_t block = 0; block < keys_blocks(keys); block++) {
        float *own = (float *)(scratch + (size_t)omp_get_thread_num() * stride);
        float *features = floats_take(&own, TOKEN_BLOCK * pass.ld);
        float *part = floats_take(&own, pass.ld);
        float *z = states + block * pass.state + pass.map;
        const struct attention_span *span = block_span(&pass, block);
        memset(z, 0, (size_t)width * sizeof *z);
        for (int64_t at = 0; at < span->keys; at += TOKEN_BLOCK) {
            int64_t count = integer_min(TOKEN_BLOCK, span->keys - at);
            features_gather(&pass, features, block, span->key + at, count);
            columns_add(&pass, z, part, features, count, width);
        }
    }
    return true;
}

struct maps_tiles {
    float *features, *other; /* [TOKEN_BLOCK, ld] */
    float *sum, *map;        /* [E, ld] */
    float *inverse;          /* [TOKEN_BLOCK] */
    float *part;             /* [ld] */
};

static struct maps_tiles maps_carve(float *scratch, int64_t ld, int64_t width)
{
    struct maps_tiles tiles;
    tiles.features = floats_take(&scratch, TOKEN_BLOCK * ld);
    tiles.other = floats_take(&scratch, TOKEN_BLOCK * ld);
    tiles.sum = floats_take(&scratch, width * ld);
    tiles.map = floats_take(&scratch, width * ld);
    tiles.inverse = floats_take(&scratch, TOKEN_BLOCK);
    tiles.part = floats_take(&scratch, ld);
    return tiles;
}

/* Rows of B = sigma(K)^T V, and of L = - sigma(K)^T D^-1 sigma(K) or else of the sum of sigma(K). */
static void maps_task(const struct write_pass *pass, const struct maps_tiles *tiles, int64_t block, struct range rows)
{
    const struct kernels *kernels = pass->kernels;
    const struct attention_span *span = block_span(pass, block);
    int64_t width = pass->keys->width;
    int64_t ld = pass->ld;
    float *state = pass->states + block * pass->state;
    float *z = state + pass->map;
    memset(tiles->sum, 0, (size_t)(rows.count * ld) * sizeof(float));
    memset(tiles->map, 0, (size_t)(rows.count * ld) * sizeof(float));
    if (!pass->maps)
        memset(z + rows.begin, 0, (size_t)rows.count * sizeof *z);
    for (int64_t at = 0; at < span->keys; at += TOKEN_BLOCK) {
        int64_t count = integer_min(TOKEN_BLOCK, span->keys - at);
        features_gather(pass, tiles->features, block, span->key + at, count);
        values_gather(pass, tiles->other, block, span->key + at, count);
        infini_multiply_transposed(kernels, tiles->sum, tiles->features + rows.begin, tiles->other, rows.count, width,
                                   count, ld);
        if (!pass->maps) {
            columns_add(pass, z + rows.begin, tiles->part, tiles->features + rows.begin, count, rows.count);
            continue;
        }
        features_divide(pass, tiles->other, tiles->features, tiles->inverse, count, z);
        infini_multiply_transposed(kernels, tiles->map, tiles->features + rows.begin, tiles->other, rows.count, width,
                                   count, ld);
    }
    int64_t to = rows.begin * width;
    kernels->tile_scatter(state + to, width, tiles->sum, ld, rows.count, width, NULL, 0.0f, DTYPE_F32);
    if (pass->maps)
        kernels->tile_scatter(pass->maps + block * pass->map + to, width, tiles->map, ld, rows.count, width, NULL, 0.0f,
                              DTYPE_F32);
}

bool infini_maps(struct engine *engine, const struct infini_keys *keys, float *states, float *maps)
{
    struct write_pass pass = pass_create(engine, keys);
    pass.states = states;
    pass.maps = maps;
    int64_t blocks = keys_blocks(keys);
    int64_t parts = infini_parts(engine, blocks, integer_divide_up(keys->width, TILE_MULTIPLE));
    size_t stride;
    char *scratch = infini_scratch(engine, (2 * (TOKEN_BLOCK + keys->width) + 1) * pass.ld + TOKEN_BLOCK, 6, &stride);
    if (!scratch)
        return false;
    keys_count(engine, keys, maps ? 2 : 1);
#pragma omp parallel for collapse(2) schedule(dynamic) num_threads(keys_threads(engine, keys))
    for (int64_t block = 0; block < blocks; block++)
        for (int64_t part = 0; part < parts; part++) {
            struct maps_tiles tiles =
                maps_carve((float *)(scratch + (size_t)omp_get_thread_num() * stride), pass.ld, keys->width);
            maps_task(&pass, &tiles, block, range_partition(keys->width, parts, part));
        }
    return true;
}

/* -- Backward -- */

/* P and q are d loss / d M and d loss / d z behind the segment; M and z are those before it. */

/* S = P M^T + M P^T: d loss / d L, and that transposed, for L is made of sigma(K) on both sides. */
static void joint_make(const struct write_pass *pass, int64_t block, float *scratch)
{
    const struct kernels *kernels = pass->kernels;
    int64_t width = pass->keys->width;
    int64_t ld = pass->ld;
    float *transposed = floats_take(&scratch, width * ld);
    float *product = floats_take(&scratch, width * ld);
    float *joint = pass->derivatives->joint + block * pass->map;
    kernels->tile_gather_transposed(transposed, ld, pass->derivatives->states + block * pass->state, width, width,
                                    width, 1.0f, DTYPE_F32);
    kernels->tile_multiply(&(struct tile_product){.m = width,
                                                  .n = width,
                                                  .k = width,
                                                  .a = pass->derivatives->behind + block * pass->state,
                                                  .a_row = width,
                                                  .a_step = 1,
                                                  .b = transposed,
                                                  .ldb = ld,
                                                  .c = product,
                                                  .ldc = ld});
    kernels->tile_gather_transposed(transposed, ld, product, ld, width, width, 1.0f, DTYPE_F32);
    kernels->accumulate(product, DTYPE_F32, transposed, DTYPE_F32, 1.0f, width * ld);
    kernels->tile_scatter(joint, width, product, ld, width, width, NULL, 0.0f, DTYPE_F32);
}

struct keys_tiles {
    float *features, *other, *derivatives; /* [TOKEN_BLOCK, ld] */
    float *behind, *transposed, *joint;    /* P, P^T, S [E, ld] */
    float *z;                              /* [ld] */
    float *inverse;                        /* [TOKEN_BLOCK] */
};

static struct keys_tiles keys_carve(float *scratch, int64_t ld, int64_t width)
{
    struct keys_tiles tiles;
    tiles.features = floats_take(&scratch, TOKEN_BLOCK * ld);
    tiles.other = floats_take(&scratch, TOKEN_BLOCK * ld);
    tiles.derivatives = floats_take(&scratch, TOKEN_BLOCK * ld);
    tiles.behind = floats_take(&scratch, width * ld);
    tiles.transposed = floats_take(&scratch, width * ld);
    tiles.joint = floats_take(&scratch, width * ld);
    tiles.z = floats_take(&scratch, ld);
    tiles.inverse = floats_take(&scratch, TOKEN_BLOCK);
    return tiles;
}

static char *keys_scratch(struct engine *engine, const struct write_pass *pass, size_t *stride)
{
    int64_t rows = 3 * (TOKEN_BLOCK + pass->keys->width) + 1;
    return infini_scratch(engine, rows * pass->ld + TOKEN_BLOCK, 8, stride);
}

static void square_gather(const struct write_pass *pass, float *tile, const float *from)
{
    pass->kernels->tile_gather(tile, pass->ld, from, pass->keys->width, pass->keys->width, pass->keys->width, 1.0f,
                               DTYPE_F32);
}

/* d loss / d d_t = sigma(k) S sigma(k)^T / (2 d_t^2) with d_t = sigma(k) z + epsilon, from L's D^-1. */
static void divisors_block(const struct write_pass *pass, const struct keys_tiles *tiles, int64_t block, int64_t token,
                           int64_t count)
{
    const struct kernels *kernels = pass->kernels;
    int64_t width = pass->keys->width;
    int64_t ld = pass->ld;
    float *divisors = pass->derivatives->divisors + block % pass->keys->kv_heads * pass->keys->tokens + token;
    features_gather(pass, tiles->features, block, token, count);
    memset(tiles->other, 0, (size_t)(count * ld) * sizeof(float));
    infini_multiply(kernels, tiles->other, tiles->features, tiles->joint, count, width, width, ld);
    kernels->tile_dots(divisors, tiles->features, ld, tiles->other, ld, count, width);
    infini_inverses(kernels, tiles->inverse, tiles->features, ld, count,
                    pass->derivatives->states + block * pass->state + pass->map, width);
    for (int64_t r = 0; r < count; r++)
        divisors[r] *= 0.5f * tiles->inverse[r] * tiles->inverse[r];
}

/* d loss / d z += the sum over the segment of (d loss / d d_t) sigma(k). */
static void divisors_sum(const struct write_pass *pass, const struct keys_tiles *tiles, int64_t block)
{
    const struct attention_span *span = block_span(pass, block);
    const float *divisors = pass->derivatives->divisors + block % pass->keys->kv_heads * pass->keys->tokens;
    int64_t width = pass->keys->width;
    memset(tiles->z, 0, (size_t)pass->ld * sizeof(float));
    for (int64_t at = 0; at < span->keys; at += TOKEN_BLOCK) {
        int64_t count = integer_min(TOKEN_BLOCK, span->keys - at);
        features_gather(pass, tiles->features, block, span->key + at, count);
        infini_multiply(pass->kernels, tiles->z, divisors + span->key + at, tiles->features, 1, width, count, pass->ld);
    }
    pass->kernels->accumulate(pass->derivatives->behind + block * pass->state + pass->map, DTYPE_F32, tiles->z,
                              DTYPE_F32, 1.0f, width);
}

bool infini_divisors_backward(struct engine *engine, const struct infini_keys *keys,
                              const struct infini_derivatives *derivatives)
{
    struct write_pass pass = pass_create(engine, keys);
    pass.derivatives = derivatives;
    int64_t blocks = keys_blocks(keys);
    int64_t parts = infini_parts(engine, blocks, infini_token_blocks(keys->written, keys->rows * keys->segments, true));
    size_t stride;
    char *scratch = keys_scratch(engine, &pass, &stride);
    if (!scratch)
        return false;
    keys_count(engine, keys, 1);
#pragma omp parallel num_threads(keys_threads(engine, keys))
    {
        float *own = (float *)(scratch + (size_t)omp_get_thread_num() * stride);
        struct keys_tiles tiles = keys_carve(own, pass.ld, keys->width);
#pragma omp for schedule(dynamic)
        for (int64_t block = 0; block < blocks; block++)
            joint_make(&pass, block, own);
#pragma omp for collapse(2) schedule(dynamic)
        for (int64_t block = 0; block < blocks; block++)
            for (int64_t part = 0; part < parts; part++) {
                const struct attention_span *span = block_span(&pass, block);
                square_gather(&pass, tiles.joint, derivatives->joint + block * pass.map);
                for (int64_t at = part * TOKEN_BLOCK; at < span->keys; at += parts * TOKEN_BLOCK)
                    divisors_block(&pass, &tiles, block, span->key + at, integer_min(TOKEN_BLOCK, span->keys - at));
            }
#pragma omp for schedule(dynamic)
        for (int64_t block = 0; block < blocks; block++)
            divisors_sum(&pass, &tiles, block);
    }
    return true;
}

/* d loss / d sigma(K) = V P^T + q, and for the delta rule - D^-1 sigma(K) S + (d loss / d d) z. */
static void derivatives_make(const struct write_pass *pass, const struct keys_tiles *tiles, int64_t block,
                             int64_t token, int64_t count)
{
    const struct kernels *kernels = pass->kernels;
    const struct infini_derivatives *derivatives = pass->derivatives;
    int64_t width = pass->keys->width;
    int64_t ld = pass->ld;
    int64_t at_z = block * pass->state + pass->map;
    kernels->tile_gather(tiles->derivatives, ld, derivatives->behind + at_z, 0, count, width, 1.0f, DTYPE_F32);
    values_gather(pass, tiles->other, block, token, count);
    infini_multiply(kernels, tiles->derivatives, tiles->other, tiles->transposed, count, width, width, ld);
    if (!derivatives->joint)
        return;
    features_divide(pass, tiles->other, tiles->features, tiles->inverse, count, derivatives->states + at_z);
    infini_multiply(kernels, tiles->derivatives, tiles->other, tiles->joint, count, width, width, ld);
    const float *divisors = derivatives->divisors + block % pass->keys->kv_heads * pass->keys->tokens + token;
    kernels->tile_multiply(&(struct tile_product){.m = count,
                                                  .n = width,
                                                  .k = 1,
                                                  .a = divisors,
                                                  .a_row = 1,
                                                  .b = tiles->z,
                                                  .ldb = ld,
                                                  .c = tiles->derivatives,
                                                  .ldc = ld,
                                                  .beta = 1.0f});
}

static void keys_block(const struct write_pass *pass, const struct keys_tiles *tiles, int64_t block, int64_t token,
                       int64_t count)
{
    const struct kernels *kernels = pass->kernels;
    const struct infini_keys *keys = pass->keys;
    int64_t at = block_vector(pass, block, token);
    int64_t stride = keys->kv_heads * keys->width;
    features_gather(pass, tiles->features, block, token, count);
    if (pass->dk.data) {
        derivatives_make(pass, tiles, block, token, count);
        kernels->feature_scatter(operation_at_mutable(pass->dk.data, at, pass->dk.dtype), stride, tiles->derivatives,
                                 tiles->features, pass->ld, count, keys->width, pass->dk.beta, pass->dk.dtype);
    }
    if (pass->dv.data) { /* sigma(K) P */
        memset(tiles->other, 0, (size_t)(count * pass->ld) * sizeof(float));
        infini_multiply(kernels, tiles->other, tiles->features, tiles->behind, count, keys->width, keys->width,
                        pass->ld);
        kernels->tile_scatter(operation_at_mutable(pass->dv.data, at, pass->dv.dtype), stride, tiles->other, pass->ld,
                              count, keys->width, NULL, pass->dv.beta, pass->dv.dtype);
    }
}

static void keys_task(const struct write_pass *pass, const struct keys_tiles *tiles, int64_t block, int64_t part,
                      int64_t parts)
{
    const struct attention_span *span = block_span(pass, block);
    const struct infini_derivatives *derivatives = pass->derivatives;
    int64_t width = pass->keys->width;
    const float *behind = derivatives->behind + block * pass->state;
    const float *z = derivatives->states + block * pass->state + pass->map;
    if (part * TOKEN_BLOCK >= span->keys)
        return;
    square_gather(pass, tiles->behind, behind);
    pass->kernels->tile_gather_transposed(tiles->transposed, pass->ld, behind, width, width, width, 1.0f, DTYPE_F32);
    pass->kernels->tile_gather(tiles->z, pass->ld, z, width, 1, width, 1.0f, DTYPE_F32);
    if (derivatives->joint)
        square_gather(pass, tiles->joint, derivatives->joint + block * pass->map);
    for (int64_t at = part * TOKEN_BLOCK; at < span->keys; at += parts * TOKEN_BLOCK)
        keys_block(pass, tiles, block, span->key + at, integer_min(TOKEN_BLOCK, span->keys - at));
}

/* A gradient that starts here is 0 at the tokens that no segment writes. */
static void unwritten_clear(const struct infini_keys *keys, struct gradient_target target)
{
    int64_t elements = keys->tokens * keys->kv_heads * keys->width;
    if (target.data && target.beta == 0.0f && keys_elements(keys) < elements)
        memset(target.data, 0, (size_t)elements * dtype_size(target.dtype));
}

bool infini_keys_backward(struct engine *engine, const struct infini_keys *keys,
                          const struct infini_derivatives *derivatives, struct gradient_target dk,
                          struct gradient_target dv)
{
    struct write_pass pass = pass_create(engine, keys);
    pass.derivatives = derivatives;
    pass.dk = dk;
    pass.dv = dv;
    int64_t blocks = keys_blocks(keys);
    int64_t parts = infini_parts(engine, blocks, infini_token_blocks(keys->written, keys->rows * keys->segments, true));
    int products = (dk.data ? (derivatives->joint ? 2 : 1) : 0) + (dv.data ? 1 : 0);
    size_t stride;
    char *scratch = keys_scratch(engine, &pass, &stride);
    if (!scratch)
        return false;
    unwritten_clear(keys, dk);
    unwritten_clear(keys, dv);
    keys_count(engine, keys, products);
#pragma omp parallel for collapse(2) schedule(dynamic) num_threads(keys_threads(engine, keys))
    for (int64_t block = 0; block < blocks; block++)
        for (int64_t part = 0; part < parts; part++) {
            struct keys_tiles tiles =
                keys_carve((float *)(scratch + (size_t)omp_get_thread_num() * stride), pass.ld, keys->width);
            keys_task(&pass, &tiles, block, part, parts);
        }
    return true;
}
