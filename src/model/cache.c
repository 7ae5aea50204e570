/* What generation keeps of earlier tokens: keys and values, of Infini-attention only those of the segment under way,
 * the rest being folded into the memory. In routed layers and recursions only the tokens that ran are kept. All
 * recursions of a layer are in one place, row after row of each, so that tokens in different ones can attend together.
 */
#include <string.h>

#include "src/model/block.h"
#include "src/model/decoder_private.h"
#include "src/model/layers.h"
#include "src/model/low_rank.h"
#include "src/model/query_history.h"

struct layer_cache {
    struct decoder_cache *whole;
    int64_t layer;                 /* unrolled, the first that is kept here */
    int64_t rows;                  /* the whole cache's, for each recursion that keeps something */
    int64_t *begin, *end;          /* [rows] kept tokens: rows of the arrays below */
    int64_t *folded;               /* [rows] of them, at the beginning, those that `pending` has taken up */
    int32_t *position;             /* [rows * capacity] */
    char *keys, *values;           /* [rows * capacity, kv heads * width], keys turned by their positions */
    char *plain_keys;              /* keys before RoPE, for the memory */
    char *strengths;               /* [rows * capacity, kv heads], with which the gated delta rule writes */
    struct query_history *queries; /* of the gated delta rule; NULL with others */
    float *memory;                 /* [rows, memory size] before the segment of the first kept token */
    float *pending;                /* the same behind the folded ones */
};

struct decoder_cache {
    int64_t rows, capacity; /* of each row: tokens kept and passed */
    int64_t *length;        /* [rows] */
    int64_t layers;
    struct layer_cache **layer; /* [layers] unrolled; NULL where this stage does not have it. May be the same ones */
    int64_t *numbers;           /* 0, 1, 2, ... for all rows of all recursions */
    int64_t row_bytes, memory_size;
    int64_t strength_bytes, query_bytes; /* 0 but for the gated delta rule */
};

/* -- Creation and end -- */

/* Recursions of a layer that keep keys. */
static int64_t kept_recursions(const struct decoder *decoder, int64_t layer)
{
    bool inside = layers_recursion(&decoder->config, layer) >= 0;
    return inside && !decoder_lends(decoder) ? decoder->config.depth.recursions : 1;
}

static enum status layer_create(struct decoder *decoder, struct decoder_cache *cache, int64_t layer)
{
    struct context *context = decoder->context;
    size_t rows = (size_t)(cache->rows * kept_recursions(decoder, layer));
    size_t bytes = rows * (size_t)(cache->capacity * cache->row_bytes);
    size_t memory = rows * (size_t)cache->memory_size * sizeof(float);
    struct layer_cache *l = memory_allocate(context, sizeof *l, MEMORY_OTHER);
    cache->layer[layer] = l;
    if (!l)
        return STATUS_MEMORY;
    l->whole = cache;
    l->layer = layer;
    l->rows = (int64_t)rows;
    l->begin = memory_allocate(context, rows * sizeof *l->begin, MEMORY_OTHER);
    l->end = memory_allocate(context, rows * sizeof *l->end, MEMORY_OTHER);
    l->folded = memory_allocate(context, rows * sizeof *l->folded, MEMORY_OTHER);
    l->position = memory_allocate(context, rows * (size_t)cache->capacity * sizeof *l->position, MEMORY_BUFFERS);
    l->keys = memory_allocate(context, bytes, MEMORY_BUFFERS);
    l->values = memory_allocate(context, bytes, MEMORY_BUFFERS);
    l->plain_keys = memory_allocate(context, memory > 0 ? bytes : 0, MEMORY_BUFFERS);
    l->strengths = memory_allocate(context, rows * (size_t)(cache->capacity * cache->strength_bytes), MEMORY_BUFFERS);
    l->memory = memory_allocate(context, memory, MEMORY_BUFFERS);
    l->pending = memory_allocate(context, memory, MEMORY_BUFFERS);
    for (int64_t row = 0; context->status == STATUS_OK && row < l->rows; row++)
        l->begin[row] = l->end[row] = row * cache->capacity;
    if (cache->query_bytes > 0) {
        bool inside = layers_recursion(&decoder->config, layer) >= 0;
        int64_t queries = cache->rows * (inside ? decoder->config.depth.recursions : 1);
        CHECK(query_history_create(context, queries, cache->query_bytes, &l->queries));
    }
    return context->status;
}

/* The layer of the first recursion that uses the same parameters. */
static int64_t first_of(const struct decoder *decoder, int64_t layer)
{
    int64_t first;
    int64_t count;
    layers_shared(&decoder->config, &first, &count);
    return layer - integer_max(0, layers_recursion(&decoder->config, layer)) * count;
}

static enum status layers_create(struct decoder *decoder, struct decoder_cache *cache)
{
    for (int64_t layer = 0; layer < cache->layers; layer++) {
        int64_t first = first_of(decoder, layer);
        if (!decoder_holds_layer(decoder, layer))
            continue;
        if (cache->layer[first])
            cache->layer[layer] = cache->layer[first];
        else
            CHECK(layer_create(decoder, cache, layer));
    }
    return STATUS_OK;
}

enum status decoder_cache_create(struct decoder *decoder, int64_t rows, int64_t kept, int64_t passed,
                                 struct decoder_cache **cache)
{
    struct context *context = decoder->context;
    const struct model_config *config = &decoder->config;
    struct decoder_cache *c = memory_allocate(context, sizeof *c, MEMORY_OTHER);
    *cache = c;
    if (!c)
        return STATUS_MEMORY;
    bool infini = config->attention.kind == ATTENTION_INFINI;
    c->rows = rows;
    c->capacity = infini ? config->attention.segment + passed : kept;
    c->row_bytes = decoder->kv_heads.count * config->head_width * (int64_t)dtype_size(decoder->dtype);
    c->memory_size = decoder_memory_size(decoder);
    if (infini && config->attention.memory_update == MEMORY_UPDATE_GATED_DELTA) {
        c->strength_bytes = decoder->kv_heads.count * (int64_t)dtype_size(decoder->dtype);
        c->query_bytes = decoder->heads.count * config->head_width * (int64_t)dtype_size(decoder->dtype);
    }
    c->layers = config->layers;
    c->length = memory_allocate(context, (size_t)rows * sizeof *c->length, MEMORY_OTHER);
    c->layer = memory_allocate(context, (size_t)c->layers * sizeof *c->layer, MEMORY_OTHER);
    int64_t numbers = rows * integer_max(1, config->depth.recursions);
    c->numbers = memory_allocate(context, (size_t)numbers * sizeof *c->numbers, MEMORY_OTHER);
    if (!c->length || !c->layer || !c->numbers)
        return STATUS_MEMORY;
    for (int64_t i = 0; i < numbers; i++)
        c->numbers[i] = i;
    return layers_create(decoder, c);
}

/* Kept there, and not in the place of an earlier layer. */
static struct layer_cache *own_cache(const struct decoder_cache *cache, int64_t layer)
{
    struct layer_cache *l = cache->layer[layer];
    return l && l->layer == layer ? l : NULL;
}

void decoder_cache_destroy(struct decoder *decoder, struct decoder_cache **cache)
{
    struct decoder_cache *c = *cache;
    struct context *context = decoder->context;
    if (!c)
        return;
    for (int64_t layer = c->layer ? c->layers - 1 : -1; layer >= 0; layer--) {
        struct layer_cache *l = own_cache(c, layer);
        if (!l)
            continue;
        query_history_destroy(context, &l->queries);
        void *owned[] = {l->begin,      l->end,       l->folded, l->position, l->keys, l->values,
                         l->plain_keys, l->strengths, l->memory, l->pending,  l};
        for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
            memory_free(context, owned[i]);
    }
    memory_free(context, c->numbers);
    memory_free(context, c->layer);
    memory_free(context, c->length);
    memory_free(context, c);
    *cache = NULL;
}

int64_t decoder_cache_length(const struct decoder_cache *cache, int64_t row)
{
    return cache->length[row];
}

void decoder_cache_advance(struct decoder_cache *cache, const int64_t *begin)
{
    for (int64_t row = 0; row < cache->rows; row++)
        cache->length[row] += begin[row + 1] - begin[row];
}

void decoder_cache_reset(struct decoder_cache *cache, int64_t row)
{
    cache->length[row] = 0;
    for (int64_t layer = 0; layer < cache->layers; layer++) {
        struct layer_cache *l = own_cache(cache, layer);
        for (int64_t i = row; l && i < l->rows; i += cache->rows) {
            l->end[i] = l->begin[i];
            l->folded[i] = 0;
            memset(l->memory + i * cache->memory_size, 0, (size_t)cache->memory_size * sizeof *l->memory);
        }
        if (l && l->queries)
            query_history_reset(l->queries, row, cache->rows);
    }
}

struct layer_cache *decoder_layer_cache(struct decoder_cache *cache, int64_t layer)
{
    return cache ? cache->layer[layer] : NULL;
}

const int64_t *decoder_cache_rows(const struct decoder *decoder, const struct decoder_cache *cache, int64_t layer)
{
    int64_t recursion = integer_max(0, layers_recursion(&decoder->config, layer));
    if (!cache)
        return NULL;
    return cache->numbers + (decoder_lends(decoder) ? 0 : recursion * cache->rows);
}

const int64_t *decoder_query_rows(const struct decoder *decoder, const struct decoder_cache *cache, int64_t layer)
{
    int64_t recursion = integer_max(0, layers_recursion(&decoder->config, layer));
    return cache ? cache->numbers + recursion * cache->rows : NULL;
}

/* -- Keeping -- */

static void move_rows(char *data, int64_t to, int64_t from, int64_t count, int64_t bytes)
{
    if (data && to != from)
        memmove(data + to * bytes, data + from * bytes, (size_t)(count * bytes));
}

/* Lets go of what the memory has taken up. */
static void settle(struct layer_cache *layer, int64_t row)
{
    int64_t size = layer->whole->memory_size;
    int64_t bytes = layer->whole->row_bytes;
    int64_t begin = layer->begin[row];
    int64_t from = begin + layer->folded[row];
    int64_t count = layer->end[row] - from;
    if (layer->folded[row] == 0)
        return;
    memcpy(layer->memory + row * size, layer->pending + row * size, (size_t)size * sizeof *layer->memory);
    move_rows(layer->keys, begin, from, count, bytes);
    move_rows(layer->values, begin, from, count, bytes);
    move_rows(layer->plain_keys, begin, from, count, bytes);
    move_rows(layer->strengths, begin, from, count, layer->whole->strength_bytes);
    move_rows((char *)layer->position, begin, from, count, (int64_t)sizeof *layer->position);
    layer->end[row] = begin + count;
    layer->folded[row] = 0;
}

/* Adds keys and values of the call's rows, those that it keeps, behind those of earlier tokens. */
static enum status keep(const struct block_call *call, const struct tensor *turned, const struct tensor *plain,
                        const struct tensor *v, const struct tensor *strength)
{
    struct layer_cache *layer = call->cache;
    const struct token_list *list = &call->set->list;
    int64_t bytes = layer->whole->row_bytes;
    int64_t strength_bytes = layer->whole->strength_bytes;
    bool has_memory = layer->whole->memory_size > 0;
    for (int64_t i = 0; i < call->cache_kept; i++) {
        int64_t row = call->cache_rows[i];
        int64_t from = list->begin[i];
        int64_t count = list->end[i] - from;
        if (count == 0)
            continue;
        settle(layer, row);
        int64_t to = layer->end[row];
        if (to + count > layer->begin[row] + layer->whole->capacity)
            return context_fail(call->decoder->context, STATUS_INTERNAL,
                                "more tokens than the cache of a sequence has room for");
        memcpy(layer->keys + to * bytes, (char *)turned->data + from * bytes, (size_t)(count * bytes));
        memcpy(layer->values + to * bytes, (char *)v->data + from * bytes, (size_t)(count * bytes));
        if (has_memory)
            memcpy(layer->plain_keys + to * bytes, (char *)plain->data + from * bytes, (size_t)(count * bytes));
        if (strength)
            memcpy(layer->strengths + to * strength_bytes, (char *)strength->data + from * strength_bytes,
                   (size_t)(count * strength_bytes));
        memcpy(layer->position + to, list->position + from, (size_t)count * sizeof *layer->position);
        layer->end[row] += count;
    }
    return STATUS_OK;
}

/* What is kept of the call's rows, as a set of keys: the segments of a row begin with that of its first token. */
static bool kept_set(struct tape *tape, const struct block_call *call, struct token_set *set)
{
    const struct layer_cache *layer = call->cache;
    const struct decoder *decoder = call->decoder;
    bool infini = decoder->config.attention.kind == ATTENTION_INFINI;
    int64_t segment = infini ? decoder->config.attention.segment : INT64_MAX;
    int64_t rows = call->set->list.rows;
    int64_t *first = tape_save(tape, (size_t)rows * sizeof *first);
    int64_t *begin = tape_save(tape, (size_t)rows * sizeof *begin);
    int64_t *end = tape_save(tape, (size_t)rows * sizeof *end);
    if (!first || !begin || !end)
        return false;
    *set = (struct token_set){.list = {.rows = rows,
                                       .total = layer->rows * layer->whole->capacity,
                                       .begin = begin,
                                       .end = end,
                                       .position = layer->position},
                              .first_segment = first,
                              .segments = 1};
    for (int64_t i = 0; i < rows; i++) {
        begin[i] = layer->begin[call->cache_rows[i]];
        end[i] = layer->end[call->cache_rows[i]];
        bool any = end[i] > begin[i];
        first[i] = any ? layer->position[begin[i]] / segment : 0;
        int64_t last = any ? layer->position[end[i] - 1] / segment : 0;
        set->segments = integer_max(set->segments, last - first[i] + 1);
    }
    return true;
}

/* The last segment of a row may grow; those before it are full, and can be folded once all have read them. */
static void fold(const struct block_call *call, const struct token_view *plan, const struct tensor *states)
{
    struct layer_cache *layer = call->cache;
    int64_t size = layer->whole->memory_size;
    for (int64_t i = 0; i < call->cache_kept; i++) {
        const struct attention_span *span = plan->written + i * plan->segments;
        int64_t row = call->cache_rows[i];
        int64_t last = plan->segments - 1;
        while (last > 0 && span[last].keys == 0)
            last--;
        if (last == 0)
            continue;
        layer->folded[row] = span[last].key - layer->begin[row];
        memcpy(layer->pending + row * size, (float *)states->data + (i * plan->segments + last) * size,
               (size_t)size * sizeof *layer->pending);
    }
}

/* -- Attention -- */

static struct tensor *kept_leaf(struct tape *tape, const struct decoder *decoder, const struct layer_cache *layer,
                                void *data, int64_t columns)
{
    int64_t shape[2] = {layer->rows * layer->whole->capacity, columns};
    return tape_leaf(tape, decoder->dtype, 2, shape, data, false);
}

static struct tensor *kept_tensor(struct tape *tape, const struct decoder *decoder, const struct layer_cache *layer,
                                  void *data)
{
    return kept_leaf(tape, decoder, layer, data, decoder->kv_heads.count * decoder->config.head_width);
}

/* Memories of the call's rows, one behind the other. */
static const float *memories(struct tape *tape, const struct block_call *call)
{
    const struct layer_cache *layer = call->cache;
    int64_t size = layer->whole->memory_size;
    int64_t rows = call->set->list.rows;
    const int64_t *row = call->cache_rows;
    bool together = true;
    for (int64_t i = 1; i < rows; i++)
        together = together && row[i] == row[0] + i;
    if (together)
        return layer->memory + (rows > 0 ? row[0] : 0) * size;
    float *copy = tape_save(tape, (size_t)(rows * size) * sizeof *copy);
    for (int64_t i = 0; copy && i < rows; i++)
        memcpy(copy + i * size, layer->memory + row[i] * size, (size_t)size * sizeof *copy);
    return copy;
}

/* The rows of n whose keys are to be kept. */
static struct tensor *kept_part(struct tape *tape, const struct block_call *call, struct tensor *n)
{
    const struct token_list *list = &call->set->list;
    if (!n || call->cache_kept == list->rows)
        return n;
    int64_t shape[2] = {list->begin[call->cache_kept], tensor_columns(n)};
    return tape_leaf(tape, n->dtype, 2, shape, n->data, false);
}

static bool keep_part(struct tape *tape, const struct block_call *call, struct tensor *n)
{
    const struct decoder *decoder = call->decoder;
    struct tensor *k = low_rank_apply(tape, call, &call->block->key, n);
    struct tensor *v = low_rank_apply(tape, call, &call->block->value, n);
    struct tensor *turned = block_turn(tape, decoder, k, call->set->key_rows);
    bool gated = call->cache->queries != NULL;
    struct tensor *strength = gated ? block_apply(tape, &call->block->memory_write, n) : NULL;
    return turned && v && (strength || !gated) && keep(call, turned, k, v, strength) == STATUS_OK;
}

/* What the segments write behind which there are queries: in each row all but the last that has keys. */
static const struct attention_span *closed_segments(struct tape *tape, const struct token_view *plan, int64_t rows,
                                                    bool *any)
{
    struct attention_span *closed = tape_save(tape, (size_t)(rows * plan->segments) * sizeof *closed);
    *any = false;
    if (!closed)
        return NULL;
    memcpy(closed, plan->written, (size_t)(rows * plan->segments) * sizeof *closed);
    for (int64_t row = 0; row < rows; row++) {
        struct attention_span *span = closed + row * plan->segments;
        int64_t last = plan->segments - 1;
        while (last > 0 && span[last].keys == 0)
            last--;
        span[last].keys = 0;
        for (int64_t s = 0; s < last; s++)
            *any = *any || span[s].keys > 0;
    }
    return closed;
}

/* The memory before each segment of the call's rows. */
static struct tensor *remember(struct tape *tape, const struct block_call *call, const struct token_view *plan)
{
    const struct decoder *decoder = call->decoder;
    const struct layer_cache *layer = call->cache;
    int64_t rows = call->set->list.rows;
    bool any;
    struct infini_shape shape = {.rows = rows,
                                 .segments = plan->segments,
                                 .written = closed_segments(tape, plan, rows, &any),
                                 .kv_heads = decoder->kv_heads.count,
                                 .width = decoder->config.head_width,
                                 .update = decoder->config.attention.memory_update,
                                 .before = memories(tape, call)};
    if (!shape.before || !shape.written)
        return NULL;
    struct tensor *k = kept_tensor(tape, decoder, layer, layer->plain_keys);
    struct tensor *v = kept_tensor(tape, decoder, layer, layer->values);
    struct tensor *strength = NULL;
    if (layer->queries) {
        strength = kept_leaf(tape, decoder, layer, layer->strengths, decoder->kv_heads.count);
        if (any) { /* once a segment */
            k = block_features(tape, call, CONVOLVED_KEY, k, shape.written, rows * plan->segments);
            v = block_features(tape, call, CONVOLVED_VALUE, v, shape.written, rows * plan->segments);
        }
    }
    return infini_states(tape, NULL, k, v, strength, &shape);
}

struct tensor *cache_attend(struct tape *tape, const struct block_call *call, struct tensor *n)
{
    struct decoder *decoder = call->decoder;
    const struct token_set *set = call->set;
    struct layer_cache *layer = call->cache;

    struct tensor *q = low_rank_apply(tape, call, &call->block->query, n);
    if (call->cache_kept > 0 && !keep_part(tape, call, kept_part(tape, call, n)))
        return NULL;
    struct token_set kept;
    struct token_view plan;
    if (!kept_set(tape, call, &kept) || !token_view_create(tape, decoder, call->input, set, &kept, &plan))
        return NULL;
    plan.shape.single_apart = true;
    struct tensor *a =
        attention(tape, block_turn(tape, decoder, q, set->query_rows), kept_tensor(tape, decoder, layer, layer->keys),
                  kept_tensor(tape, decoder, layer, layer->values), &plan.shape);
    if (decoder->config.attention.kind != ATTENTION_INFINI)
        return a;
    struct tensor *states = remember(tape, call, &plan);
    if (!states)
        return NULL;
    fold(call, &plan, states);
    if (call->input->memory_off)
        return a;
    if (layer->queries)
        q = query_history_features(tape, call, layer->queries, q);
    return infini_read(tape, q, states, a, parameter_value(call->block->memory_gate),
                       parameter_value(call->block->memory_norm), &plan.read);
}
