/* Attention in blocks of queries and keys: the scores of one pair of blocks exist for a moment in a thread's
 * scratch, and the softmax runs along (Milakov and Gimelshein 2018, Dao 2022). */
#include "src/ops/attention_pass.h"

struct attention_saved {
    struct attention_shape shape;
    float *log_sum;
};

int64_t attention_seeing(const struct attention_shape *shape, const struct attention_span *span, int64_t keys)
{
    int64_t begin = 0, end = span->queries;
    while (begin < end) {
        int64_t middle = (begin + end) / 2;
        if (attention_seen(shape, span, middle) > keys)
            end = middle;
        else
            begin = middle + 1;
    }
    return begin;
}

void attention_seen_copy(const struct attention_shape *shape, const struct attention_span *span, int64_t begin,
                         int64_t queries, int64_t first, int32_t *seen)
{
    for (int64_t i = 0; i < queries; i++)
        seen[i] = (int32_t)(attention_seen(shape, span, begin + i) - first);
}

int64_t attention_span_pairs(const struct attention_shape *shape, const struct attention_span *span)
{
    int64_t pairs = 0;
    for (int64_t i = 0; i < span->queries; i++)
        pairs += attention_seen(shape, span, i);
    return pairs;
}

static struct attention_pass pass_create(const struct engine *engine, const struct attention_shape *shape,
                                         const struct tape_record *record)
{
    struct attention_pass pass = {.kernels = engine->kernels,
                                  .shape = shape,
                                  .dtype = record->input[0]->dtype,
                                  .queries = tensor_rows(record->input[0]),
                                  .keys = tensor_rows(record->input[1]),
                                  .ld = integer_round_up(shape->width, TILE_MULTIPLE),
                                  .scale = 1.0f / sqrtf((float)shape->width),
                                  .query = record->input[0]->data,
                                  .key = record->input[1]->data,
                                  .value = record->input[2]->data};
    for (int64_t s = 0; s < shape->spans; s++)
        pass.pairs += attention_span_pairs(shape, &shape->span[s]);
    return pass;
}

static bool pass_is_bf16(const struct attention_pass *pass)
{
    return pass->dtype == DTYPE_BF16 && pass->kernels->matrix;
}

/* The account of executed operations: `products` of a query by a key or value for every pair that is seen. */
static void attention_count(struct engine *engine, const struct attention_pass *pass, double products)
{
    engine->context->time.flops[TIME_ATTENTION] +=
        products * 2.0 * (double)pass->shape->width * (double)pass->shape->heads * (double)pass->pairs;
}

static void attention_backward(struct tape *tape, const struct tape_record *record)
{
    const struct attention_saved *saved = record->saved;
    struct time_account *time = &tape->engine->context->time;
    enum time_kind before = time_enter(time, TIME_ATTENTION);
    struct attention_pass pass = pass_create(tape->engine, &saved->shape, record);
    pass.dy = tape_gradient(record->output);
    pass.log_sum = saved->log_sum;
    struct arena_mark mark = arena_mark(tape->work);
    if (pass_is_bf16(&pass))
        attention_bf16_backward(tape, record, &pass);
    else
        attention_floats_backward(tape, record, &pass);
    attention_count(tape->engine, &pass, 5.0);
    arena_rewind(tape->work, mark);
    time_leave(time, before);
}

static const char *span_mistake(const struct attention_shape *shape, const struct attention_span *span, int64_t queries,
                                int64_t keys)
{
    if (span->queries < 0 || span->query < 0 || span->query + span->queries > queries || span->keys < 0 ||
        span->key < 0 || attention_span_end(span) > keys)
        return "a span lies outside of the queries or keys";
    int64_t before = 0;
    for (int64_t i = 0; shape->seen && i < span->queries; i++) {
        int64_t seen = shape->seen[span->query + i];
        if (seen < before || seen > span->keys)
            return "a query sees fewer keys than one before it, or more than there are";
        before = seen;
    }
    return NULL;
}

static const char *attention_mistake(const struct tensor *query, const struct tensor *key, const struct tensor *value,
                                     const struct attention_shape *shape)
{
    int64_t columns = shape->kv_heads * shape->width, queries = 0;
    if (!operation_is_floating(query) || query->dtype != key->dtype || query->dtype != value->dtype)
        return "queries, keys and values must share a floating type";
    if (tensor_columns(query) != shape->heads * shape->width || tensor_columns(key) != columns ||
        tensor_columns(value) != columns || tensor_rows(key) != tensor_rows(value))
        return "queries, keys or values do not have the shape that was given";
    for (int64_t head = 0; head < shape->heads; head++)
        if (shape->kv_of_head[head] < 0 || shape->kv_of_head[head] >= shape->kv_heads)
            return "a query head uses a key head that is not there";
    for (int64_t s = 0; s < shape->spans; s++) {
        const char *mistake = span_mistake(shape, &shape->span[s], tensor_rows(query), tensor_rows(key));
        if (mistake)
            return mistake;
        queries += shape->span[s].queries;
    }
    return queries == tensor_rows(query) ? NULL : "the spans do not have every query once";
}

const struct attention_span *attention_rows(struct tape *tape, int64_t rows, int64_t length, int64_t keys_length)
{
    struct attention_span *span = tape_save(tape, (size_t)rows * sizeof *span);
    for (int64_t row = 0; span && row < rows; row++)
        span[row] = (struct attention_span){
            .query = row * length, .queries = length, .key = row * keys_length, .keys = keys_length};
    return span;
}

static bool forward(struct tape *tape, const struct attention_pass *pass)
{
    int64_t singles = 0;
    for (int64_t s = 0; s < pass->shape->spans; s++)
        singles += attention_is_single(pass, &pass->shape->span[s]);
    if (singles > 0 && !attention_queries_forward(tape, pass))
        return false;
    if (singles == pass->queries)
        return true;
    return pass_is_bf16(pass) ? attention_bf16_forward(tape, pass) : attention_floats_forward(tape, pass);
}

struct tensor *attention(struct tape *tape, struct tensor *query, struct tensor *key, struct tensor *value,
                         const struct attention_shape *shape)
{
    if (!query || !key || !value || (shape->spans > 0 && !shape->span))
        return NULL;
    const char *mistake = attention_mistake(query, key, value, shape);
    if (mistake)
        return operation_refuse(tape, "attention", mistake);
    struct tape_record record = {.backward = attention_backward, .input = {query, key, value}};
    struct attention_pass pass = pass_create(tape->engine, shape, &record);
    record.output = tape_tensor_like(tape, query);
    if (!record.output)
        return NULL;
    pass.output = record.output->data;
    if (tape_needs(tape, query, key) || tape_needs(tape, value, NULL)) {
        struct attention_saved *saved = tape_save(tape, sizeof *saved);
        size_t scalars = (size_t)(pass.queries * shape->heads);
        pass.log_sum = tape_save(tape, scalars * sizeof(float));
        if (!saved || !pass.log_sum)
            return NULL;
        *saved = (struct attention_saved){.shape = *shape, .log_sum = pass.log_sum};
        record.saved = saved;
    }
    struct time_account *time = &tape->engine->context->time;
    enum time_kind before = time_enter(time, TIME_ATTENTION);
    struct arena_mark mark = arena_mark(tape->work);
    bool done = forward(tape, &pass);
    attention_count(tape->engine, &pass, 2.0);
    arena_rewind(tape->work, mark);
    time_leave(time, before);
    return done ? tape_push(tape, record) : NULL;
}
