/* Attention by tiles that are brought to fp32 in a thread's scratch. */
#include "src/ops/attention_pass.h"

enum { QUERY_BLOCK = 64, KEY_BLOCK = 128 };

/* The next `count` floats of a thread's scratch. */
static float *floats_take(float **scratch, int64_t count)
{
    float *taken = *scratch;
    *scratch += integer_round_up(count, LINE_ELEMENTS);
    return taken;
}

/* -- Forward --------------------------------------------------------------------------------------------------- */

/* Scores are kept transposed, [keys, queries]: the softmax then runs down columns, many queries at a time. */
struct forward_tiles {
    float *query; /* [width, QUERY_BLOCK] */
    float *key;   /* [KEY_BLOCK, ld] */
    float *value;
    float *scores; /* [KEY_BLOCK, QUERY_BLOCK] */
    float *output; /* [QUERY_BLOCK, ld] */
    float *largest, *sum, *factor;
};

static size_t forward_bytes(int64_t ld)
{
    return (size_t)(2 * (QUERY_BLOCK + KEY_BLOCK) * ld + KEY_BLOCK * QUERY_BLOCK + 3 * QUERY_BLOCK) * sizeof(float);
}

static struct forward_tiles forward_carve(float *scratch, int64_t ld)
{
    struct forward_tiles tiles;
    tiles.query = floats_take(&scratch, QUERY_BLOCK * ld);
    tiles.key = floats_take(&scratch, KEY_BLOCK * ld);
    tiles.value = floats_take(&scratch, KEY_BLOCK * ld);
    tiles.scores = floats_take(&scratch, KEY_BLOCK * QUERY_BLOCK);
    tiles.output = floats_take(&scratch, QUERY_BLOCK * ld);
    tiles.largest = floats_take(&scratch, QUERY_BLOCK);
    tiles.sum = floats_take(&scratch, QUERY_BLOCK);
    tiles.factor = floats_take(&scratch, QUERY_BLOCK);
    return tiles;
}

/* Adds one block of keys to the running output of a block of queries. */
static void forward_keys(const struct attention_pass *pass, const struct forward_tiles *tiles, int64_t keys,
                         int64_t queries, int64_t first)
{
    const struct kernels *kernels = pass->kernels;
    int64_t width = pass->shape->width;
    int64_t columns = integer_round_up(queries, TILE_MULTIPLE);
    kernels->tile_multiply(&(struct tile_product){.m = keys,
                                                  .n = columns,
                                                  .k = width,
                                                  .a = tiles->key,
                                                  .a_row = pass->ld,
                                                  .a_step = 1,
                                                  .b = tiles->query,
                                                  .ldb = QUERY_BLOCK,
                                                  .c = tiles->scores,
                                                  .ldc = QUERY_BLOCK});
    kernels->softmax_step(tiles->scores, QUERY_BLOCK, keys, columns, first, tiles->largest, tiles->sum, tiles->factor);
    kernels->tile_scale(tiles->output, pass->ld, queries, pass->ld, tiles->factor);
    kernels->tile_multiply(&(struct tile_product){.m = queries,
                                                  .n = width,
                                                  .k = keys,
                                                  .a = tiles->scores,
                                                  .a_row = 1,
                                                  .a_step = QUERY_BLOCK,
                                                  .b = tiles->value,
                                                  .ldb = pass->ld,
                                                  .c = tiles->output,
                                                  .ldc = pass->ld,
                                                  .beta = 1.0f});
}

static void forward_finish(const struct attention_pass *pass, const struct forward_tiles *tiles, int64_t queries,
                           float *log_sum, void *output)
{
    const struct attention_shape *shape = pass->shape;
    for (int64_t i = 0; i < queries; i++) {
        /* A query that sees no key has a sum of 0 and gives 0. */
        tiles->factor[i] = tiles->sum[i] == 0.0f ? 0.0f : 1.0f / tiles->sum[i];
        if (log_sum)
            log_sum[i] = tiles->sum[i] == 0.0f ? 0.0f : tiles->largest[i] + logf(tiles->sum[i]);
    }
    pass->kernels->tile_scatter(output, shape->heads * shape->width, tiles->output, pass->ld, queries, shape->width,
                                tiles->factor, 0.0f, pass->dtype);
}

/* The output of one block of queries of one head. */
static void forward_block(const struct attention_pass *pass, const struct forward_tiles *tiles, int64_t row,
                          int64_t head, int64_t begin)
{
    const struct attention_shape *shape = pass->shape;
    const struct kernels *kernels = pass->kernels;
    int64_t queries = integer_min(QUERY_BLOCK, shape->length - begin);
    int64_t kv_head = shape->kv_of_head[head];
    int64_t kv_stride = shape->kv_heads * shape->width;
    int64_t at = attention_vector(shape, row * shape->length + begin, shape->heads, head);
    kernels->tile_gather_transposed(tiles->query, QUERY_BLOCK, operation_at(pass->query, at, pass->dtype),
                                    shape->heads * shape->width, queries, shape->width, pass->scale, pass->dtype);
    memset(tiles->output, 0, (size_t)(queries * pass->ld) * sizeof(float));
    for (int i = 0; i < QUERY_BLOCK; i++) {
        tiles->largest[i] = -INFINITY;
        tiles->sum[i] = 0.0f;
    }
    int64_t end = integer_min(begin + queries + pass->offset, shape->keys_length);
    for (int64_t key = 0; key < end; key += KEY_BLOCK) {
        int64_t keys = integer_min(KEY_BLOCK, end - key);
        int64_t from = attention_vector(shape, row * shape->keys_length + key, shape->kv_heads, kv_head);
        kernels->tile_gather(tiles->key, pass->ld, operation_at(pass->key, from, pass->dtype), kv_stride, keys,
                             shape->width, 1.0f, pass->dtype);
        kernels->tile_gather(tiles->value, pass->ld, operation_at(pass->value, from, pass->dtype), kv_stride, keys,
                             shape->width, 1.0f, pass->dtype);
        forward_keys(pass, tiles, keys, queries, begin + pass->offset - key);
    }
    float *log_sum = pass->log_sum ? pass->log_sum + (row * shape->heads + head) * shape->length + begin : NULL;
    forward_finish(pass, tiles, queries, log_sum, operation_at_mutable(pass->output, at, pass->dtype));
}

bool attention_floats_forward(struct tape *tape, const struct attention_pass *pass)
{
    struct engine *engine = tape->engine;
    const struct attention_shape *shape = pass->shape;
    size_t stride;
    char *scratch = engine_scratch(engine, forward_bytes(pass->ld) + 1024, &stride);
    if (!scratch)
        return false;
    int64_t blocks = integer_divide_up(shape->length, QUERY_BLOCK);
    int64_t work = shape->rows * shape->heads * shape->length * (shape->keys_length + shape->width);
    /* The last blocks see the most keys and go first. */
#pragma omp parallel for collapse(3) schedule(dynamic) num_threads(operation_threads(engine, work))
    for (int64_t block = blocks - 1; block >= 0; block--)
        for (int64_t row = 0; row < shape->rows; row++)
            for (int64_t head = 0; head < shape->heads; head++) {
                struct forward_tiles tiles =
                    forward_carve((float *)(scratch + (size_t)omp_get_thread_num() * stride), pass->ld);
                forward_block(pass, &tiles, row, head, block * QUERY_BLOCK);
            }
    return true;
}

/* -- Backward -------------------------------------------------------------------------------------------------- */

/* A task takes every `splits`-th block of keys of one kv head, and for each of them all queries that see it: the
 * gradients of keys and values need no other task, those of the queries are summed over the splits at the end. Scores
 * are [queries, keys] here. */
struct backward_tiles {
    float *key_transposed;   /* [width, KEY_BLOCK] */
    float *value_transposed; /* [width, KEY_BLOCK] */
    float *key;              /* [KEY_BLOCK, ld], times the scale */
    float *dkey, *dvalue;    /* [KEY_BLOCK, ld] */
    float *query, *dy;       /* [QUERY_BLOCK, ld], queries times the scale */
    float *scores, *slopes;  /* [QUERY_BLOCK, KEY_BLOCK] */
};

static size_t backward_bytes(int64_t ld)
{
    return (size_t)((5 * KEY_BLOCK + 2 * QUERY_BLOCK) * ld + 2 * QUERY_BLOCK * KEY_BLOCK) * sizeof(float);
}

static struct backward_tiles backward_carve(float *scratch, int64_t ld)
{
    struct backward_tiles tiles;
    tiles.key_transposed = floats_take(&scratch, KEY_BLOCK * ld);
    tiles.value_transposed = floats_take(&scratch, KEY_BLOCK * ld);
    tiles.key = floats_take(&scratch, KEY_BLOCK * ld);
    tiles.dkey = floats_take(&scratch, KEY_BLOCK * ld);
    tiles.dvalue = floats_take(&scratch, KEY_BLOCK * ld);
    tiles.query = floats_take(&scratch, QUERY_BLOCK * ld);
    tiles.dy = floats_take(&scratch, QUERY_BLOCK * ld);
    tiles.scores = floats_take(&scratch, QUERY_BLOCK * KEY_BLOCK);
    tiles.slopes = floats_take(&scratch, QUERY_BLOCK * KEY_BLOCK);
    return tiles;
}

/* scores [queries, keys] = rows times the transposed tile. */
static void scores_multiply(const struct attention_pass *pass, float *scores, const float *rows,
                            const float *transposed, int64_t queries, int64_t keys)
{
    pass->kernels->tile_multiply(&(struct tile_product){.m = queries,
                                                        .n = keys,
                                                        .k = pass->shape->width,
                                                        .a = rows,
                                                        .a_row = pass->ld,
                                                        .a_step = 1,
                                                        .b = transposed,
                                                        .ldb = KEY_BLOCK,
                                                        .c = scores,
                                                        .ldc = KEY_BLOCK});
}

/* sum [keys, width] += transposed scores times rows. */
static void keys_accumulate(const struct attention_pass *pass, float *sum, const float *scores, const float *rows,
                            int64_t queries, int64_t keys)
{
    pass->kernels->tile_multiply(&(struct tile_product){.m = keys,
                                                        .n = pass->shape->width,
                                                        .k = queries,
                                                        .a = scores,
                                                        .a_row = 1,
                                                        .a_step = KEY_BLOCK,
                                                        .b = rows,
                                                        .ldb = pass->ld,
                                                        .c = sum,
                                                        .ldc = pass->ld,
                                                        .beta = 1.0f});
}

/* One block of queries against the block of keys in the tiles. */
static void backward_pair(const struct attention_pass *pass, const struct backward_tiles *tiles, int64_t row,
                          int64_t head, int64_t begin, int64_t keys, int64_t first, float *dquery)
{
    const struct attention_shape *shape = pass->shape;
    const struct kernels *kernels = pass->kernels;
    int64_t queries = integer_min(QUERY_BLOCK, shape->length - begin);
    keys = integer_min(keys, first + queries); /* the last query sees no more */
    int64_t at = attention_vector(shape, row * shape->length + begin, shape->heads, head);
    int64_t scalars = (row * shape->heads + head) * shape->length + begin;
    int64_t stride = shape->heads * shape->width;
    kernels->tile_gather(tiles->query, pass->ld, operation_at(pass->query, at, pass->dtype), stride, queries,
                         shape->width, pass->scale, pass->dtype);
    kernels->tile_gather(tiles->dy, pass->ld, operation_at(pass->dy, at, pass->dtype), stride, queries, shape->width,
                         1.0f, pass->dtype);
    scores_multiply(pass, tiles->scores, tiles->query, tiles->key_transposed, queries, keys);
    scores_multiply(pass, tiles->slopes, tiles->dy, tiles->value_transposed, queries, keys);
    kernels->softmax_slopes(tiles->scores, tiles->slopes, KEY_BLOCK, queries, keys, first, pass->log_sum + scalars,
                            pass->mean + scalars);
    keys_accumulate(pass, tiles->dvalue, tiles->scores, tiles->dy, queries, keys);
    keys_accumulate(pass, tiles->dkey, tiles->slopes, tiles->query, queries, keys);
    kernels->tile_multiply(&(struct tile_product){.m = queries,
                                                  .n = shape->width,
                                                  .k = keys,
                                                  .a = tiles->slopes,
                                                  .a_row = KEY_BLOCK,
                                                  .a_step = 1,
                                                  .b = tiles->key,
                                                  .ldb = pass->ld,
                                                  .c = dquery,
                                                  .ldc = pass->ld,
                                                  .beta = 1.0f});
}

static void backward_keys_gather(const struct attention_pass *pass, const struct backward_tiles *tiles, int64_t from,
                                 int64_t keys)
{
    const struct kernels *kernels = pass->kernels;
    int64_t width = pass->shape->width;
    int64_t stride = pass->shape->kv_heads * width;
    const void *key = operation_at(pass->key, from, pass->dtype);
    const void *value = operation_at(pass->value, from, pass->dtype);
    kernels->tile_gather(tiles->key, pass->ld, key, stride, keys, width, pass->scale, pass->dtype);
    kernels->tile_gather_transposed(tiles->key_transposed, KEY_BLOCK, key, stride, keys, width, 1.0f, pass->dtype);
    kernels->tile_gather_transposed(tiles->value_transposed, KEY_BLOCK, value, stride, keys, width, 1.0f, pass->dtype);
    memset(tiles->dkey, 0, (size_t)(keys * pass->ld) * sizeof(float));
    memset(tiles->dvalue, 0, (size_t)(keys * pass->ld) * sizeof(float));
}

static void backward_keys_scatter(const struct attention_pass *pass, struct gradient_target target, const float *tile,
                                  int64_t from, int64_t keys)
{
    int64_t width = pass->shape->width;
    if (target.data)
        pass->kernels->tile_scatter(operation_at_mutable(target.data, from, target.dtype),
                                    pass->shape->kv_heads * width, tile, pass->ld, keys, width, NULL, target.beta,
                                    target.dtype);
}

static void backward_task(const struct attention_pass *pass, const struct backward_tiles *tiles, int64_t row,
                          int64_t kv_head, int64_t split)
{
    const struct attention_shape *shape = pass->shape;
    int64_t head_size = shape->length * pass->ld;
    float *dquery = pass->dquery + (split * shape->rows + row) * shape->heads * head_size;
    for (int64_t head = 0; head < shape->heads; head++)
        if (shape->kv_of_head[head] == kv_head)
            memset(dquery + head * head_size, 0, (size_t)head_size * sizeof(float));
    for (int64_t key = split * KEY_BLOCK; key < shape->keys_length; key += pass->splits * KEY_BLOCK) {
        int64_t keys = integer_min(KEY_BLOCK, shape->keys_length - key);
        int64_t from = attention_vector(shape, row * shape->keys_length + key, shape->kv_heads, kv_head);
        backward_keys_gather(pass, tiles, from, keys);
        int64_t seeing = integer_max(0, key - pass->offset); /* the first query that sees this block */
        for (int64_t head = 0; head < shape->heads; head++) {
            if (shape->kv_of_head[head] != kv_head)
                continue;
            for (int64_t begin = seeing / QUERY_BLOCK * QUERY_BLOCK; begin < shape->length; begin += QUERY_BLOCK)
                backward_pair(pass, tiles, row, head, begin, keys, begin + pass->offset - key,
                              dquery + head * head_size + begin * pass->ld);
        }
        backward_keys_scatter(pass, pass->dkey, tiles->dkey, from, keys);
        backward_keys_scatter(pass, pass->dvalue, tiles->dvalue, from, keys);
    }
}

/* mean[row, head, query] = sum of dy * y over the width. */
static void backward_means(struct engine *engine, const struct attention_pass *pass, const void *y, float *mean)
{
    const struct attention_shape *shape = pass->shape;
    int64_t tokens = shape->rows * shape->length;
    int64_t heads = shape->heads;
#pragma omp parallel for schedule(static) num_threads(operation_threads(engine, tokens *heads * shape->width))
    for (int64_t token = 0; token < tokens; token++)
        for (int64_t head = 0; head < heads; head++) {
            int64_t at = attention_vector(shape, token, heads, head);
            int64_t row = token / shape->length;
            mean[(row * heads + head) * shape->length + token % shape->length] = engine->kernels->dot(
                operation_at(pass->dy, at, pass->dtype), operation_at(y, at, pass->dtype), shape->width, pass->dtype);
        }
}

static void backward_queries_join(struct engine *engine, const struct attention_pass *pass,
                                  struct gradient_target target)
{
    const struct attention_shape *shape = pass->shape;
    int64_t size = shape->length * pass->ld;
    int64_t heads = shape->rows * shape->heads;
#pragma omp parallel for schedule(static) num_threads(operation_threads(engine, heads *size))
    for (int64_t h = 0; h < heads; h++) {
        float *sum = pass->dquery + h * size;
        for (int64_t split = 1; split < pass->splits; split++)
            engine->kernels->accumulate(sum, DTYPE_F32, pass->dquery + (split * heads + h) * size, DTYPE_F32, 1.0f,
                                        size);
        int64_t at = attention_vector(shape, h / shape->heads * shape->length, shape->heads, h % shape->heads);
        engine->kernels->tile_scatter(operation_at_mutable(target.data, at, target.dtype), shape->heads * shape->width,
                                      sum, pass->ld, shape->length, shape->width, NULL, target.beta, target.dtype);
    }
}

void attention_floats_backward(struct tape *tape, const struct tape_record *record, struct attention_pass *pass)
{
    struct engine *engine = tape->engine;
    const struct attention_shape *shape = pass->shape;
    pass->splits = attention_splits(engine, shape, KEY_BLOCK);
    int64_t scalars = shape->rows * shape->heads * shape->length;
    float *mean = arena_allocate(tape->work, (size_t)scalars * sizeof(float));
    pass->dquery = arena_allocate(tape->work, (size_t)(pass->splits * scalars * pass->ld) * sizeof(float));
    size_t stride;
    char *scratch = engine_scratch(engine, backward_bytes(pass->ld) + 1024, &stride);
    if (!mean || !pass->dquery || !scratch)
        return;
    pass->mean = mean;
    backward_means(engine, pass, record->output->data, mean);
    /* In the order in which they are written, should one tensor be more than one of them. */
    pass->dkey = tape_target(tape, record->input[1]);
    pass->dvalue = tape_target(tape, record->input[2]);
#pragma omp parallel for collapse(3) schedule(dynamic) num_threads(engine->threads)
    for (int64_t split = 0; split < pass->splits; split++)
        for (int64_t row = 0; row < shape->rows; row++)
            for (int64_t kv_head = 0; kv_head < shape->kv_heads; kv_head++) {
                struct backward_tiles tiles =
                    backward_carve((float *)(scratch + (size_t)omp_get_thread_num() * stride), pass->ld);
                backward_task(pass, &tiles, row, kv_head, split);
            }
    struct gradient_target dquery = tape_target(tape, record->input[0]);
    if (dquery.data)
        backward_queries_join(engine, pass, dquery);
}
