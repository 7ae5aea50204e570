/* Attention by tiles that are brought to fp32 in a thread's scratch. */
#include "src/ops/attention_plan.h"

enum { QUERY_BLOCK = 64, KEY_BLOCK = 128 };

struct forward_tiles {
    float *query; /* [width, QUERY_BLOCK] */
    float *key;   /* [KEY_BLOCK, ld] */
    float *value;
    float *scores; /* [KEY_BLOCK, QUERY_BLOCK] */
    float *output; /* [QUERY_BLOCK, ld] */
    float *largest, *sum, *factor;
    int32_t *seen; /* [QUERY_BLOCK], of the block of keys */
};

static size_t forward_bytes(int64_t ld)
{
    return (size_t)(2 * (QUERY_BLOCK + KEY_BLOCK) * ld + KEY_BLOCK * QUERY_BLOCK + 4 * QUERY_BLOCK) * sizeof(float);
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
    tiles.seen = (int32_t *)floats_take(&scratch, QUERY_BLOCK);
    return tiles;
}

/* Adds one block of keys to the running output of a block of queries. */
static void forward_keys(const struct attention_pass *pass, const struct forward_tiles *tiles, int64_t keys,
                         int64_t queries)
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
    kernels->softmax_step(tiles->scores, QUERY_BLOCK, keys, columns, tiles->seen, tiles->largest, tiles->sum,
                          tiles->factor);
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
static void forward_block(const struct attention_pass *pass, const struct forward_tiles *tiles,
                          const struct attention_span *span, int64_t head, int64_t begin)
{
    const struct attention_shape *shape = pass->shape;
    const struct kernels *kernels = pass->kernels;
    int64_t queries = integer_min(QUERY_BLOCK, span->queries - begin);
    int64_t kv_head = shape->kv_of_head[head];
    int64_t kv_stride = shape->kv_heads * shape->width;
    int64_t token = span->query + begin, at = attention_vector(shape, token, shape->heads, head);
    kernels->tile_gather_transposed(tiles->query, QUERY_BLOCK, operation_at(pass->query, at, pass->dtype),
                                    shape->heads * shape->width, queries, shape->width, pass->scale, pass->dtype);
    memset(tiles->output, 0, (size_t)(queries * pass->ld) * sizeof(float));
    for (int i = 0; i < QUERY_BLOCK; i++) {
        tiles->largest[i] = -INFINITY;
        tiles->sum[i] = 0.0f;
        tiles->seen[i] = KEY_BLOCK; /* what is no query needs no mask */
    }
    int64_t end = attention_seen(shape, span, begin + queries - 1);
    for (int64_t key = 0; key < end; key += KEY_BLOCK) {
        int64_t keys = integer_min(KEY_BLOCK, end - key);
        int64_t from = attention_vector(shape, span->key + key, shape->kv_heads, kv_head);
        kernels->tile_gather(tiles->key, pass->ld, operation_at(pass->key, from, pass->dtype), kv_stride, keys,
                             shape->width, 1.0f, pass->dtype);
        kernels->tile_gather(tiles->value, pass->ld, operation_at(pass->value, from, pass->dtype), kv_stride, keys,
                             shape->width, 1.0f, pass->dtype);
        attention_seen_copy(shape, span, begin, queries, key, tiles->seen);
        forward_keys(pass, tiles, keys, queries);
    }
    float *log_sum = pass->log_sum ? pass->log_sum + head * pass->queries + token : NULL;
    forward_finish(pass, tiles, queries, log_sum, operation_at_mutable(pass->output, at, pass->dtype));
}

bool attention_floats_forward(struct tape *tape, const struct attention_pass *pass)
{
    struct engine *engine = tape->engine;
    const struct attention_shape *shape = pass->shape;
    struct attention_blocks blocks;
    size_t stride;
    char *scratch = engine_scratch(engine, forward_bytes(pass->ld) + 1024, &stride);
    if (!attention_blocks_create(tape, shape, 1, QUERY_BLOCK, &blocks) || !scratch)
        return false;
    int64_t work = shape->heads * (2 * pass->pairs + pass->queries * shape->width);
    if (engine->context->dry) /* the blocks are many */
        return true;
#pragma omp parallel for collapse(2) schedule(dynamic) num_threads(operation_threads(engine, work))
    for (int64_t b = 0; b < blocks.count; b++)
        for (int64_t head = 0; head < shape->heads; head++) {
            struct forward_tiles tiles =
                forward_carve((float *)(scratch + (size_t)omp_get_thread_num() * stride), pass->ld);
            if (!attention_is_single(pass, &shape->span[blocks.block[b].span]))
                forward_block(pass, &tiles, &shape->span[blocks.block[b].span], head,
                              blocks.block[b].index * QUERY_BLOCK);
        }
    return true;
}

/* -- Backward -- */

/* Scores are [queries, keys] here. */
struct backward_tiles {
    float *key_transposed;       /* [width, KEY_BLOCK] */
    float *value_transposed;     /* [width, KEY_BLOCK] */
    float *key;                  /* [KEY_BLOCK, ld], times the scale */
    float *dkey, *dvalue;        /* [KEY_BLOCK, ld] */
    float *query, *dy;           /* [QUERY_BLOCK, ld], queries times the scale */
    float *scores, *derivatives; /* [QUERY_BLOCK, KEY_BLOCK] */
    int32_t *seen;               /* [QUERY_BLOCK], of the block of keys */
};

static size_t backward_bytes(int64_t ld)
{
    return (size_t)((5 * KEY_BLOCK + 2 * QUERY_BLOCK) * ld + (2 * KEY_BLOCK + 1) * QUERY_BLOCK) * sizeof(float);
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
    tiles.derivatives = floats_take(&scratch, QUERY_BLOCK * KEY_BLOCK);
    tiles.seen = (int32_t *)floats_take(&scratch, QUERY_BLOCK);
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
static void backward_pair(const struct attention_pass *pass, const struct backward_tiles *tiles,
                          const struct attention_keys *block, const struct attention_span *span, int64_t head,
                          int64_t begin, float *dquery)
{
    const struct attention_shape *shape = pass->shape;
    const struct kernels *kernels = pass->kernels;
    int64_t queries = integer_min(QUERY_BLOCK, span->queries - begin);
    int64_t token = span->query + begin, at = attention_vector(shape, token, shape->heads, head);
    int64_t scalars = head * pass->queries + token;
    int64_t stride = shape->heads * shape->width;
    attention_seen_copy(shape, span, begin, queries, block->key - span->key, tiles->seen);
    int64_t keys = integer_min(block->keys, tiles->seen[queries - 1]); /* the last query sees no more */
    kernels->tile_gather(tiles->query, pass->ld, operation_at(pass->query, at, pass->dtype), stride, queries,
                         shape->width, pass->scale, pass->dtype);
    kernels->tile_gather(tiles->dy, pass->ld, operation_at(pass->dy, at, pass->dtype), stride, queries, shape->width,
                         1.0f, pass->dtype);
    scores_multiply(pass, tiles->scores, tiles->query, tiles->key_transposed, queries, keys);
    scores_multiply(pass, tiles->derivatives, tiles->dy, tiles->value_transposed, queries, keys);
    kernels->softmax_derivatives(tiles->scores, tiles->derivatives, KEY_BLOCK, queries, keys, tiles->seen,
                                 pass->log_sum + scalars, pass->mean + scalars);
    keys_accumulate(pass, tiles->dvalue, tiles->scores, tiles->dy, queries, keys);
    keys_accumulate(pass, tiles->dkey, tiles->derivatives, tiles->query, queries, keys);
    kernels->tile_multiply(&(struct tile_product){.m = queries,
                                                  .n = shape->width,
                                                  .k = keys,
                                                  .a = tiles->derivatives,
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

/* [queries, ld] of a span and head. */
static float *backward_dquery(const struct attention_pass *pass, int64_t span, int64_t split, int64_t head)
{
    int64_t row = attention_plan_row(pass->plan, span, split) + head * pass->shape->span[span].queries;
    return pass->dquery + row * pass->ld;
}

static void backward_clear(const struct attention_pass *pass, int64_t span, int64_t kv_head, int64_t split)
{
    const struct attention_shape *shape = pass->shape;
    for (int64_t head = 0; head < shape->heads; head++)
        if (shape->kv_of_head[head] == kv_head)
            memset(backward_dquery(pass, span, split, head), 0,
                   (size_t)(shape->span[span].queries * pass->ld) * sizeof(float));
}

/* All queries of a span that see the block of keys in the tiles. */
static void backward_span(const struct attention_pass *pass, const struct backward_tiles *tiles,
                          const struct attention_keys *block, int64_t index, int64_t kv_head, int64_t split)
{
    const struct attention_shape *shape = pass->shape;
    const struct attention_span *span = &shape->span[index];
    int64_t seeing = attention_seeing(shape, span, block->key - span->key);
    if (seeing == span->queries)
        return;
    for (int64_t head = 0; head < shape->heads; head++) {
        if (shape->kv_of_head[head] != kv_head)
            continue;
        float *dquery = backward_dquery(pass, index, split, head);
        for (int64_t begin = seeing / QUERY_BLOCK * QUERY_BLOCK; begin < span->queries; begin += QUERY_BLOCK)
            backward_pair(pass, tiles, block, span, head, begin, dquery + begin * pass->ld);
    }
}

static void backward_task(const struct attention_pass *pass, const struct backward_tiles *tiles,
                          const struct attention_task *task, int64_t kv_head)
{
    const struct attention_plan *plan = pass->plan;
    const struct attention_cluster *cluster = &plan->cluster[task->cluster];
    for (int64_t at = cluster->first; at < cluster->end; at++)
        backward_clear(pass, plan->order[at], kv_head, task->split);
    for (int64_t b = cluster->keys_begin + task->split; b < cluster->keys_end; b += cluster->splits) {
        const struct attention_keys *block = &plan->keys[b];
        int64_t from = attention_vector(pass->shape, block->key, pass->shape->kv_heads, kv_head);
        backward_keys_gather(pass, tiles, from, block->keys);
        for (int64_t at = block->first; at < block->end; at++)
            backward_span(pass, tiles, block, plan->order[at], kv_head, task->split);
        backward_keys_scatter(pass, pass->dkey, tiles->dkey, from, block->keys);
        backward_keys_scatter(pass, pass->dvalue, tiles->dvalue, from, block->keys);
    }
}

/* mean[head, token] = sum of dy * y over the width. */
static void backward_means(struct engine *engine, const struct attention_pass *pass, const void *y, float *mean)
{
    const struct attention_shape *shape = pass->shape;
    int64_t heads = shape->heads;
#pragma omp parallel for schedule(static) num_threads(operation_threads(engine, pass->queries *heads * shape->width))
    for (int64_t token = 0; token < pass->queries; token++)
        for (int64_t head = 0; head < heads; head++) {
            int64_t at = attention_vector(shape, token, heads, head);
            mean[head * pass->queries + token] = engine->kernels->dot(
                operation_at(pass->dy, at, pass->dtype), operation_at(y, at, pass->dtype), shape->width, pass->dtype);
        }
}

/* The gradients of a block of queries of a head: the sum over the splits. */
static void block_join(const struct attention_pass *pass, const struct attention_block *block, int64_t head,
                       struct gradient_target target)
{
    const struct attention_shape *shape = pass->shape;
    const struct attention_span *span = &shape->span[block->span];
    int64_t begin = block->index * QUERY_BLOCK, queries = integer_min(QUERY_BLOCK, span->queries - begin);
    float *sum = backward_dquery(pass, block->span, 0, head) + begin * pass->ld;
    for (int64_t split = 1; split < attention_plan_splits(pass->plan, block->span); split++)
        pass->kernels->accumulate(sum, DTYPE_F32, backward_dquery(pass, block->span, split, head) + begin * pass->ld,
                                  DTYPE_F32, 1.0f, queries * pass->ld);
    int64_t at = attention_vector(shape, span->query + begin, shape->heads, head);
    pass->kernels->tile_scatter(operation_at_mutable(target.data, at, target.dtype), shape->heads * shape->width, sum,
                                pass->ld, queries, shape->width, NULL, target.beta, target.dtype);
}

static void backward_queries_join(struct tape *tape, const struct attention_pass *pass, struct gradient_target target)
{
    const struct attention_shape *shape = pass->shape;
    struct attention_blocks blocks;
    if (!attention_blocks_create(tape, shape, 1, QUERY_BLOCK, &blocks))
        return;
    int64_t work = pass->queries * shape->heads * pass->ld;
#pragma omp parallel for collapse(2) schedule(static) num_threads(operation_threads(tape->engine, work))
    for (int64_t b = 0; b < blocks.count; b++)
        for (int64_t head = 0; head < shape->heads; head++)
            block_join(pass, &blocks.block[b], head, target);
}

void attention_floats_backward(struct tape *tape, const struct tape_record *record, struct attention_pass *pass)
{
    struct engine *engine = tape->engine;
    struct attention_plan plan;
    size_t stride;
    float *mean = arena_allocate(tape->work, (size_t)(pass->queries * pass->shape->heads) * sizeof(float));
    char *scratch = engine_scratch(engine, backward_bytes(pass->ld) + 1024, &stride);
    if (!mean || !scratch || !attention_plan_create(tape, pass, KEY_BLOCK, 0, &plan))
        return;
    pass->dquery = arena_allocate(tape->work, (size_t)(plan.rows * pass->ld) * sizeof(float));
    if (!pass->dquery)
        return;
    pass->plan = &plan;
    pass->mean = mean;
    backward_means(engine, pass, record->output->data, mean);
    /* In the order in which they are written, should one tensor be more than one of them. */
    pass->dkey = tape_target(tape, record->input[1]);
    pass->dvalue = tape_target(tape, record->input[2]);
    int64_t tasks = engine->context->dry ? 0 : plan.tasks;
#pragma omp parallel for collapse(2) schedule(dynamic) num_threads(engine->threads)
    for (int64_t task = 0; task < tasks; task++)
        for (int64_t kv_head = 0; kv_head < pass->shape->kv_heads; kv_head++) {
            struct backward_tiles tiles =
                backward_carve((float *)(scratch + (size_t)omp_get_thread_num() * stride), pass->ld);
            backward_task(pass, &tiles, &plan.task[task], kv_head);
        }
    struct gradient_target dquery = tape_target(tape, record->input[0]);
    if (dquery.data)
        backward_queries_join(tape, pass, dquery);
}
