/* Causal attention in blocks of queries and keys: the scores of one pair of blocks exist for a moment in a thread's
 * scratch, and the softmax runs along (Milakov and Gimelshein 2018, Dao 2022). */
#include "src/ops/attention_pass.h"

enum { SPLITS_LIMIT = 8 };

struct attention_saved {
    struct attention_shape shape;
    float *log_sum;
};

static struct attention_pass pass_create(const struct engine *engine, const struct attention_shape *shape,
                                         const struct tape_record *record)
{
    return (struct attention_pass){.kernels = engine->kernels,
                                   .shape = shape,
                                   .dtype = record->input[0]->dtype,
                                   .ld = integer_round_up(shape->width, TILE_MULTIPLE),
                                   .offset = shape->keys_length - shape->length,
                                   .scale = 1.0f / sqrtf((float)shape->width),
                                   .query = record->input[0]->data,
                                   .key = record->input[1]->data,
                                   .value = record->input[2]->data};
}

static bool pass_is_half(const struct attention_pass *pass)
{
    return pass->dtype == DTYPE_BF16 && pass->kernels->half;
}

int64_t attention_splits(const struct engine *engine, const struct attention_shape *shape, int64_t key_block)
{
    int64_t tasks = shape->rows * shape->kv_heads;
    int64_t blocks = integer_max(1, integer_divide_up(shape->keys_length, key_block));
    int64_t wanted = engine->threads == 1 || tasks == 0 ? 1 : integer_divide_up(2 * engine->threads, tasks);
    return integer_min(integer_min(wanted, SPLITS_LIMIT), blocks);
}

/* The account of executed operations: `products` of a query by a key or value for every pair that is seen. */
static void attention_count(struct engine *engine, const struct attention_shape *shape, double products)
{
    double first = (double)(shape->keys_length - shape->length);
    double pairs = (double)shape->length * (first + 0.5 * ((double)shape->length + 1.0));
    engine->context->time.flops[TIME_ATTENTION] +=
        products * 2.0 * (double)shape->width * (double)(shape->rows * shape->heads) * pairs;
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
    if (pass_is_half(&pass))
        attention_half_backward(tape, record, &pass);
    else
        attention_floats_backward(tape, record, &pass);
    attention_count(tape->engine, &saved->shape, 5.0);
    arena_rewind(tape->work, mark);
    time_leave(time, before);
}

static const char *attention_mistake(const struct tensor *query, const struct tensor *key, const struct tensor *value,
                                     const struct attention_shape *shape)
{
    int64_t queries = shape->rows * shape->length * shape->heads * shape->width;
    int64_t keys = shape->rows * shape->keys_length * shape->kv_heads * shape->width;
    if (!operation_is_floating(query) || query->dtype != key->dtype || query->dtype != value->dtype)
        return "queries, keys and values must share a floating type";
    if (tensor_count(query) != queries || tensor_count(key) != keys || tensor_count(value) != keys)
        return "queries, keys or values do not have the shape that was given";
    for (int64_t head = 0; head < shape->heads; head++)
        if (shape->kv_of_head[head] < 0 || shape->kv_of_head[head] >= shape->kv_heads)
            return "a query head uses a key head that is not there";
    return NULL;
}

struct tensor *attention(struct tape *tape, struct tensor *query, struct tensor *key, struct tensor *value,
                         const struct attention_shape *shape)
{
    if (!query || !key || !value)
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
        size_t scalars = (size_t)(shape->rows * shape->heads * shape->length);
        pass.log_sum = tape_save(tape, scalars * sizeof(float));
        if (!saved || !pass.log_sum)
            return NULL;
        *saved = (struct attention_saved){.shape = *shape, .log_sum = pass.log_sum};
        record.saved = saved;
    }
    struct time_account *time = &tape->engine->context->time;
    enum time_kind before = time_enter(time, TIME_ATTENTION);
    struct arena_mark mark = arena_mark(tape->work);
    bool done = pass_is_half(&pass) ? attention_half_forward(tape, &pass) : attention_floats_forward(tape, &pass);
    attention_count(tape->engine, shape, 2.0);
    arena_rewind(tape->work, mark);
    time_leave(time, before);
    return done ? tape_push(tape, record) : NULL;
}
