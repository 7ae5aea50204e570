/* What generation keeps of earlier tokens: keys and values, of Infini-attention only those of the segment under way,
 * the rest being folded into the memory. In routed layers and recursions only the tokens that ran are kept. */
#include <string.h>

#include "src/model/block.h"
#include "src/model/decoder_private.h"
#include "src/model/layers.h"

struct layer_cache {
    struct decoder_cache *whole;
    int64_t *begin, *end; /* [rows] kept tokens: rows of the arrays below */
    int64_t *folded;      /* [rows] of them, at the beginning, those that `pending` has taken up */
    int32_t *position;    /* [rows * capacity] */
    char *keys, *values;  /* [rows * capacity, kv heads * width], keys turned by their positions */
    char *plain_keys;     /* keys before RoPE, for the memory */
    float *memory;        /* [rows, memory size] before the segment of the first kept token */
    float *pending;       /* the same behind the folded ones */
};

struct decoder_cache {
    int64_t rows, capacity; /* of each row: tokens kept and passed */
    int64_t *length;        /* [rows] */
    int64_t layers;
    struct layer_cache **layer; /* [layers] unrolled; NULL where this stage does not have it, or it keeps nothing */
    int64_t row_bytes, memory_size;
};

/* -- Life ------------------------------------------------------------------------------------------------------------
 */

static bool keeps(const struct decoder *decoder, int64_t layer)
{
    bool borrows = decoder_lends(decoder) && layers_recursion(&decoder->config, layer) > 0;
    return decoder_holds_layer(decoder, layer) && !borrows;
}

static enum status layer_create(struct decoder *decoder, struct decoder_cache *cache, struct layer_cache **layer)
{
    struct context *context = decoder->context;
    size_t rows = (size_t)cache->rows;
    size_t bytes = (size_t)(cache->rows * cache->capacity * cache->row_bytes);
    size_t memory = rows * (size_t)cache->memory_size * sizeof(float);
    struct layer_cache *l = memory_allocate(context, sizeof *l, MEMORY_OTHER);
    *layer = l;
    if (!l)
        return STATUS_MEMORY;
    l->whole = cache;
    l->begin = memory_allocate(context, rows * sizeof *l->begin, MEMORY_OTHER);
    l->end = memory_allocate(context, rows * sizeof *l->end, MEMORY_OTHER);
    l->folded = memory_allocate(context, rows * sizeof *l->folded, MEMORY_OTHER);
    l->position = memory_allocate(context, rows * (size_t)cache->capacity * sizeof *l->position, MEMORY_BUFFERS);
    l->keys = memory_allocate(context, bytes, MEMORY_BUFFERS);
    l->values = memory_allocate(context, bytes, MEMORY_BUFFERS);
    l->plain_keys = memory_allocate(context, memory > 0 ? bytes : 0, MEMORY_BUFFERS);
    l->memory = memory_allocate(context, memory, MEMORY_BUFFERS);
    l->pending = memory_allocate(context, memory, MEMORY_BUFFERS);
    for (int64_t row = 0; context->status == STATUS_OK && row < cache->rows; row++)
        l->begin[row] = l->end[row] = row * cache->capacity;
    return context->status;
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
    c->layers = config->layers;
    c->length = memory_allocate(context, (size_t)rows * sizeof *c->length, MEMORY_OTHER);
    c->layer = memory_allocate(context, (size_t)c->layers * sizeof *c->layer, MEMORY_OTHER);
    if (!c->length || !c->layer)
        return STATUS_MEMORY;
    for (int64_t layer = 0; layer < c->layers; layer++)
        if (keeps(decoder, layer))
            CHECK(layer_create(decoder, c, &c->layer[layer]));
    return STATUS_OK;
}

void decoder_cache_destroy(struct decoder *decoder, struct decoder_cache **cache)
{
    struct decoder_cache *c = *cache;
    struct context *context = decoder->context;
    if (!c)
        return;
    for (int64_t layer = 0; c->layer && layer < c->layers; layer++) {
        struct layer_cache *l = c->layer[layer];
        if (!l)
            continue;
        void *owned[] = {l->begin,  l->end,        l->folded, l->position, l->keys,
                         l->values, l->plain_keys, l->memory, l->pending,  l};
        for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
            memory_free(context, owned[i]);
    }
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
        struct layer_cache *l = cache->layer[layer];
        if (!l)
            continue;
        l->end[row] = l->begin[row];
        l->folded[row] = 0;
        memset(l->memory + row * cache->memory_size, 0, (size_t)cache->memory_size * sizeof *l->memory);
    }
}

struct layer_cache *decoder_layer_cache(struct decoder_cache *cache, int64_t layer)
{
    return cache ? cache->layer[layer] : NULL;
}

/* -- Keeping ---------------------------------------------------------------------------------------------------------
 */

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
    move_rows((char *)layer->position, begin, from, count, (int64_t)sizeof *layer->position);
    layer->end[row] = begin + count;
    layer->folded[row] = 0;
}

/* Adds the set's keys and values behind those of earlier tokens. */
static enum status keep(struct context *context, struct layer_cache *layer, const struct token_list *list,
                        const struct tensor *turned, const struct tensor *plain, const struct tensor *v)
{
    int64_t bytes = layer->whole->row_bytes;
    bool has_memory = layer->whole->memory_size > 0;
    for (int64_t row = 0; row < list->rows; row++) {
        int64_t from = list->begin[row];
        int64_t count = list->end[row] - from;
        if (count == 0)
            continue;
        settle(layer, row);
        int64_t to = layer->end[row];
        if (to + count > layer->begin[row] + layer->whole->capacity)
            return context_fail(context, STATUS_INTERNAL, "more tokens than the cache of a sequence has room for");
        memcpy(layer->keys + to * bytes, (char *)turned->data + from * bytes, (size_t)(count * bytes));
        memcpy(layer->values + to * bytes, (char *)v->data + from * bytes, (size_t)(count * bytes));
        if (has_memory)
            memcpy(layer->plain_keys + to * bytes, (char *)plain->data + from * bytes, (size_t)(count * bytes));
        memcpy(layer->position + to, list->position + from, (size_t)count * sizeof *layer->position);
        layer->end[row] += count;
    }
    return STATUS_OK;
}

/* What is kept, as a set of keys: the segments of a row begin with that of its first token. */
static bool kept_set(struct tape *tape, const struct decoder *decoder, const struct layer_cache *layer, int64_t rows,
                     struct token_set *set)
{
    bool infini = decoder->config.attention.kind == ATTENTION_INFINI;
    int64_t segment = infini ? decoder->config.attention.segment : INT64_MAX;
    int64_t *first = tape_save(tape, (size_t)rows * sizeof *first);
    if (!first)
        return false;
    *set = (struct token_set){.list = {.rows = rows,
                                       .total = rows * layer->whole->capacity,
                                       .begin = layer->begin,
                                       .end = layer->end,
                                       .position = layer->position},
                              .first_segment = first,
                              .segments = 1};
    for (int64_t row = 0; row < rows; row++) {
        bool any = layer->end[row] > layer->begin[row];
        first[row] = any ? layer->position[layer->begin[row]] / segment : 0;
        int64_t last = any ? layer->position[layer->end[row] - 1] / segment : 0;
        set->segments = integer_max(set->segments, last - first[row] + 1);
    }
    return true;
}

/* The last segment of a row may grow; those before it are full, and can be folded once all have read them. */
static void fold(struct layer_cache *layer, const struct token_view *plan, const struct tensor *states, int64_t rows)
{
    int64_t size = layer->whole->memory_size;
    for (int64_t row = 0; row < rows; row++) {
        const struct attention_span *span = plan->written + row * plan->segments;
        int64_t last = plan->segments - 1;
        while (last > 0 && span[last].keys == 0)
            last--;
        if (last == 0)
            continue;
        layer->folded[row] = span[last].key - layer->begin[row];
        memcpy(layer->pending + row * size, (float *)states->data + (row * plan->segments + last) * size,
               (size_t)size * sizeof *layer->pending);
    }
}

/* -- Attention -------------------------------------------------------------------------------------------------------
 */

static struct tensor *kept_tensor(struct tape *tape, const struct decoder *decoder, const struct layer_cache *layer,
                                  void *data)
{
    int64_t shape[2] = {layer->whole->rows * layer->whole->capacity,
                        decoder->kv_heads.count * decoder->config.head_width};
    return tape_leaf(tape, decoder->dtype, 2, shape, data, false);
}

struct tensor *cache_attend(struct tape *tape, const struct block_call *call, struct tensor *n)
{
    struct decoder *decoder = call->decoder;
    const struct token_set *set = call->set;
    struct layer_cache *layer = call->cache;
    const struct block *block = call->block;
    int64_t rows = set->list.rows;

    struct tensor *q = block_apply(tape, &block->query, n);
    if (!call->borrows) {
        struct tensor *k = block_apply(tape, &block->key, n);
        struct tensor *v = block_apply(tape, &block->value, n);
        struct tensor *turned = block_turn(tape, decoder, k, set->key_rows);
        if (!turned || !v || keep(decoder->context, layer, &set->list, turned, k, v) != STATUS_OK)
            return NULL;
    }
    struct token_set kept;
    struct token_view plan;
    if (!kept_set(tape, decoder, layer, rows, &kept) ||
        !token_view_create(tape, decoder, call->input, set, &kept, &plan))
        return NULL;
    struct tensor *a =
        attention(tape, block_turn(tape, decoder, q, set->query_rows), kept_tensor(tape, decoder, layer, layer->keys),
                  kept_tensor(tape, decoder, layer, layer->values), &plan.shape);
    if (decoder->config.attention.kind != ATTENTION_INFINI)
        return a;
    struct memory_shape shape = {.rows = rows,
                                 .segments = plan.segments,
                                 .written = plan.written,
                                 .kv_heads = decoder->kv_heads.count,
                                 .width = decoder->config.head_width,
                                 .update = decoder->config.attention.memory_update,
                                 .before = layer->memory};
    struct tensor *states = memory_states(tape, NULL, kept_tensor(tape, decoder, layer, layer->plain_keys),
                                          kept_tensor(tape, decoder, layer, layer->values), &shape);
    if (!states)
        return NULL;
    if (!call->borrows)
        fold(layer, &plan, states, rows);
    return call->input->memory_off ? a : memory_read(tape, q, states, a, &block->memory_gate->value, &plan.read);
}
