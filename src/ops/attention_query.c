/* Attention of spans with one query, as in generation: there is nothing to share between queries, so that keys and
 * values need no tiles, and are read as fast as the memory gives them. */
#include "src/ops/attention_pass.h"

enum { KEY_BLOCK = 64 };

struct query_tiles {
    float *query;  /* [heads, ld], scaled */
    float *scores; /* [heads, KEY_BLOCK] */
    float *output; /* [heads, ld] */
    float *largest, *sum;
};

static size_t query_bytes(const struct attention_shape *shape, int64_t ld)
{
    return (size_t)(shape->heads * (KEY_BLOCK + 2 * ld + 2)) * sizeof(float);
}

static struct query_tiles query_carve(char *scratch, int64_t heads, int64_t ld)
{
    int64_t floats = (int64_t)sizeof(float);
    struct query_tiles tiles;
    tiles.query = attention_take(&scratch, heads * ld * floats);
    tiles.scores = attention_take(&scratch, heads * KEY_BLOCK * floats);
    tiles.output = attention_take(&scratch, heads * ld * floats);
    tiles.largest = attention_take(&scratch, heads * floats);
    tiles.sum = attention_take(&scratch, heads * floats);
    return tiles;
}

/* Scores become weights exp(score - largest); what was summed with an older largest is brought to the new one. */
static void weigh(const struct attention_pass *pass, const struct query_tiles *tiles, int64_t heads, int64_t keys)
{
    for (int64_t head = 0; head < heads; head++) {
        float *scores = tiles->scores + head * KEY_BLOCK;
        float largest = fmaxf(tiles->largest[head], pass->kernels->row_max(scores, keys));
        float factor = tiles->sum[head] == 0.0f ? 0.0f : expf(tiles->largest[head] - largest);
        tiles->sum[head] = factor * tiles->sum[head] + pass->kernels->row_sum_exp(scores, largest, keys);
        tiles->largest[head] = largest;
        pass->kernels->row_softmax(scores, scores, largest, 1.0f, keys);
        pass->kernels->tile_scale(tiles->output + head * pass->ld, pass->ld, 1, pass->ld, &factor);
    }
}

/* The outputs of the heads in `part`. */
static void query_run(const struct attention_pass *pass, const struct query_tiles *tiles,
                      const struct attention_span *span, struct range part)
{
    const struct attention_shape *shape = pass->shape;
    const struct kernels *kernels = pass->kernels;
    int64_t at = attention_vector(shape, span->query, shape->heads, part.begin);
    int64_t seen = attention_seen(shape, span, 0);
    struct query_block block = {.heads = part.count,
                                .width = shape->width,
                                .kv_of_head = shape->kv_of_head + part.begin,
                                .stride = shape->kv_heads * shape->width,
                                .scores = tiles->scores,
                                .scores_ld = KEY_BLOCK,
                                .vectors_ld = pass->ld};
    kernels->tile_gather(tiles->query, pass->ld, operation_at(pass->query, at, pass->dtype), shape->width, part.count,
                         shape->width, pass->scale, pass->dtype);
    memset(tiles->output, 0, (size_t)(part.count * pass->ld) * sizeof(float));
    for (int64_t head = 0; head < part.count; head++) {
        tiles->largest[head] = -INFINITY;
        tiles->sum[head] = 0.0f;
    }
    for (int64_t key = 0; key < seen; key += KEY_BLOCK) {
        int64_t from = attention_vector(shape, span->key + key, shape->kv_heads, 0);
        block.rows = integer_min(KEY_BLOCK, seen - key);
        block.vectors = tiles->query;
        block.from = operation_at(pass->key, from, pass->dtype);
        kernels->query_scores(&block, pass->dtype);
        weigh(pass, tiles, part.count, block.rows);
        block.vectors = tiles->output;
        block.from = operation_at(pass->value, from, pass->dtype);
        kernels->query_sums(&block, pass->dtype);
    }
    /* A query that sees no key has a sum of 0 and gives 0. */
    for (int64_t head = 0; head < part.count; head++)
        tiles->sum[head] = tiles->sum[head] == 0.0f ? 0.0f : 1.0f / tiles->sum[head];
    kernels->tile_scatter(operation_at_mutable(pass->output, at, pass->dtype), shape->width, tiles->output, pass->ld,
                          part.count, shape->width, tiles->sum, 0.0f, pass->dtype);
}

bool attention_queries_forward(struct tape *tape, const struct attention_pass *pass)
{
    struct engine *engine = tape->engine;
    const struct attention_shape *shape = pass->shape;
    size_t stride;
    char *scratch = engine_scratch(engine, query_bytes(shape, pass->ld) + 1024, &stride);
    if (!scratch)
        return false;
    /* Heads apart where there are too few queries for the threads. */
    int64_t parts = integer_min(shape->heads, integer_divide_up(2 * engine->threads, integer_max(1, pass->queries)));
    if (engine->threads == 1)
        parts = 1;
    int64_t work = shape->heads * (2 * pass->pairs + pass->queries * shape->width);
#pragma omp parallel for collapse(2) schedule(dynamic) num_threads(operation_threads(engine, work))
    for (int64_t s = 0; s < shape->spans; s++)
        for (int64_t i = 0; i < parts; i++) {
            struct query_tiles tiles =
                query_carve(scratch + (size_t)omp_get_thread_num() * stride, shape->heads, pass->ld);
            if (attention_is_single(pass, &shape->span[s]))
                query_run(pass, &tiles, &shape->span[s], range_partition(shape->heads, parts, i));
        }
    return true;
}
