#include "src/model/tokens.h"

#include <string.h>

#include "src/model/decoder_private.h"

static bool is_infini(const struct decoder *decoder)
{
    return decoder->config.attention.kind == ATTENTION_INFINI;
}

/* Context ranks that share the work on an input. */
static int context_ranks(const struct decoder *decoder, const struct decoder_input *input)
{
    return input->cache ? 1 : mesh_size(decoder->mesh, MESH_CONTEXT);
}

static int64_t append(struct range range, int32_t *tokens, int64_t count)
{
    for (int64_t i = 0; tokens && i < range.count; i++)
        tokens[count + i] = (int32_t)(range.begin + i);
    return count + range.count;
}

int64_t tokens_of_context(const struct decoder *decoder, int64_t length, int ranks, int rank, int32_t *tokens)
{
    if (is_infini(decoder)) {
        int64_t segment = decoder->config.attention.segment;
        struct range segments = range_partition(integer_divide_up(length, segment), ranks, rank);
        struct range own = {.begin = segments.begin * segment, .count = segments.count * segment};
        return append(range_intersect(own, (struct range){.begin = 0, .count = length}), tokens, 0);
    }
    if (ranks == 1)
        return append((struct range){.begin = 0, .count = length}, tokens, 0);
    int64_t count = append(range_partition(length, 2 * ranks, rank), tokens, 0);
    return append(range_partition(length, 2 * ranks, 2 * ranks - 1 - rank), tokens, count);
}

struct token_list token_list_of(int64_t rows, const int64_t *begin, int64_t total, const int32_t *position)
{
    return (struct token_list){.rows = rows, .total = total, .begin = begin, .end = begin + 1, .position = position};
}

/* -- All tokens -- */

static const struct shares *token_shares(struct tape *tape, const struct decoder *decoder,
                                         const struct decoder_input *input)
{
    int ranks = mesh_size(decoder->mesh, MESH_CONTEXT);
    int64_t total = input->rows * input->length;
    struct arena_mark mark = arena_mark(tape->work);
    const struct shares *shares = NULL;
    int32_t **own = arena_allocate(tape->work, (size_t)ranks * sizeof *own);
    int64_t *count = arena_allocate(tape->work, (size_t)ranks * sizeof *count);
    int32_t *slots = arena_allocate(tape->work, (size_t)(total + 1) * sizeof *slots);
    int32_t *row = arena_allocate(tape->work, (size_t)(input->length + 1) * sizeof *row);
    if (!own || !count || !slots || !row)
        return NULL;
    for (int rank = 0; rank < ranks; rank++) {
        int64_t each = tokens_of_context(decoder, input->length, ranks, rank, row);
        own[rank] = slots;
        count[rank] = input->rows * each;
        for (int64_t b = 0; b < input->rows; b++)
            for (int64_t i = 0; i < each; i++)
                *slots++ = (int32_t)(b * input->length + row[i]);
    }
    shares = shares_create(tape, decoder->mesh, total, (const int32_t *const *)own, count);
    arena_rewind(tape->work, mark);
    return shares;
}

bool token_list_create(struct tape *tape, const struct decoder *decoder, const struct decoder_input *input,
                       struct token_list *tokens, const struct shares **shares)
{
    int64_t *begin = tape_save(tape, (size_t)(input->rows + 1) * sizeof *begin);
    *shares = NULL;
    if (!begin)
        return false;
    for (int64_t row = 0; row <= input->rows; row++)
        begin[row] = input->begin ? input->begin[row] : row * input->length;
    int64_t total = integer_max(begin[input->rows], input->slots);
    int32_t *position = tape_save(tape, (size_t)total * sizeof *position);
    if (!position)
        return false;
    memset(position, 0, (size_t)total * sizeof *position);
    for (int64_t row = 0; row < input->rows; row++)
        for (int64_t slot = begin[row]; slot < begin[row + 1]; slot++)
            position[slot] = (int32_t)(slot - begin[row] + (input->first_position ? input->first_position[row] : 0));
    *tokens = token_list_of(input->rows, begin, total, position);
    if (context_ranks(decoder, input) == 1)
        return true;
    *shares = token_shares(tape, decoder, input);
    return *shares != NULL;
}

/* -- Sets -- */

/* This context rank's part of all tokens as a list of its own, with its own segments of each row. */
static bool localize(struct tape *tape, const struct token_list *tokens, const struct shares *shares,
                     struct token_list *local)
{
    int64_t *begin = tape_save(tape, (size_t)(tokens->rows + 1) * sizeof *begin);
    int32_t *position = tape_save(tape, (size_t)shares->count * sizeof *position);
    if (!begin || !position)
        return false;
    int64_t n = 0;
    for (int64_t row = 0; row < tokens->rows; row++) {
        begin[row] = n;
        for (; n < shares->count && shares->own[n] < tokens->end[row]; n++)
            position[n] = tokens->position[shares->own[n]];
    }
    begin[tokens->rows] = n;
    *local = token_list_of(tokens->rows, begin, n, position);
    return true;
}

static bool find_rotary_rows(struct tape *tape, const struct decoder *decoder, struct token_set *set)
{
    int32_t *key_rows = tape_save(tape, (size_t)set->list.total * sizeof *key_rows);
    int32_t *query_rows = set->shares ? tape_save(tape, (size_t)set->count * sizeof *query_rows) : key_rows;
    if (!key_rows || !query_rows)
        return false;
    int64_t segment = decoder->config.attention.segment;
    for (int64_t i = 0; i < set->list.total; i++)
        key_rows[i] = is_infini(decoder) ? (int32_t)(set->list.position[i] % segment) : set->list.position[i];
    for (int64_t i = 0; set->shares && i < set->count; i++)
        query_rows[i] = key_rows[set->shares->own[i]];
    set->key_rows = key_rows;
    set->query_rows = query_rows;
    return true;
}

/* The segments of the sequences that a list's tokens may be in. */
static bool find_segments(struct tape *tape, const struct decoder *decoder, const struct decoder_input *input,
                          struct token_set *set)
{
    int64_t segments = is_infini(decoder) ? integer_divide_up(input->length, decoder->config.attention.segment) : 1;
    struct range part = {.begin = 0, .count = segments};
    if (set->scanned)
        part =
            range_partition(segments, mesh_size(decoder->mesh, MESH_CONTEXT), mesh_rank(decoder->mesh, MESH_CONTEXT));
    int64_t *first = tape_save(tape, (size_t)set->list.rows * sizeof *first);
    if (!first)
        return false;
    for (int64_t row = 0; row < set->list.rows; row++)
        first[row] = part.begin;
    set->first_segment = first;
    set->segments = part.count;
    return true;
}

struct token_set *token_set_create(struct tape *tape, const struct decoder *decoder, const struct decoder_input *input,
                                   const struct token_list *list, const struct shares *shares, bool whole)
{
    struct token_set *set = tape_save(tape, sizeof *set);
    if (!set)
        return NULL;
    *set = (struct token_set){.list = *list, .shares = shares, .count = shares ? shares->count : list->total};
    /* Keys that later recursions borrow have to be seen from any rank. */
    set->scanned = whole && shares && is_infini(decoder) && !decoder_lends(decoder);
    if (set->scanned) {
        set->shares = NULL;
        if (!localize(tape, list, shares, &set->list))
            return NULL;
    }
    if (!find_segments(tape, decoder, input, set) || !find_rotary_rows(tape, decoder, set))
        return NULL;
    return input->cache || token_view_create(tape, decoder, input, set, set, &set->plan) ? set : NULL;
}

/* -- Plans -- */

/* A walk over the keys and queries of one row. */
struct walk {
    const struct token_set *queries, *keys;
    int64_t query, key;         /* next */
    int64_t query_end, key_end; /* of the row: slots */
};

static int64_t query_slot(const struct walk *walk, int64_t query)
{
    return walk->queries->shares ? walk->queries->shares->own[query] : query;
}

/* The span of the tokens before position `limit`. */
static struct attention_span next_span(struct walk *walk, int64_t limit, bool causal, int32_t *seen)
{
    struct attention_span span = {.query = walk->query, .key = walk->key};
    const int32_t *key_position = walk->keys->list.position;
    while (walk->key < walk->key_end && key_position[walk->key] < limit)
        walk->key++;
    int64_t visible = span.key;
    for (; walk->query < walk->queries->count; walk->query++) {
        int64_t slot = query_slot(walk, walk->query);
        if (slot >= walk->query_end || walk->queries->list.position[slot] >= limit)
            break;
        while (visible < walk->key && (!causal || key_position[visible] <= walk->queries->list.position[slot]))
            visible++;
        seen[walk->query] = (int32_t)(visible - span.key);
    }
    span.queries = walk->query - span.query;
    span.keys = walk->key - span.key;
    return span;
}

/* The keys of a span that are no padding of the sequence. */
static struct attention_span without_padding(const struct token_list *keys, struct attention_span span, int64_t valid)
{
    while (span.keys > 0 && keys->position[span.key + span.keys - 1] >= valid)
        span.keys--;
    return span;
}

bool token_view_create(struct tape *tape, const struct decoder *decoder, const struct decoder_input *input,
                       const struct token_set *queries, const struct token_set *keys, struct token_view *plan)
{
    int64_t rows = queries->list.rows;
    int64_t segments = is_infini(decoder) ? keys->segments : 1;
    int64_t segment = decoder->config.attention.segment;
    struct attention_span *span = tape_save(tape, (size_t)(rows * segments) * sizeof *span);
    struct attention_span *written = tape_save(tape, (size_t)(rows * segments) * sizeof *written);
    int32_t *seen = tape_save(tape, (size_t)queries->count * sizeof *seen);
    if (!span || !written || !seen)
        return false;
    bool causal = decoder->config.attention.kind != ATTENTION_FULL;
    struct walk walk = {.queries = queries, .keys = keys};
    for (int64_t row = 0; row < rows; row++) {
        walk.key = keys->list.begin[row];
        walk.key_end = keys->list.end[row];
        walk.query_end = queries->list.end[row];
        for (int64_t s = 0; s < segments; s++) {
            int64_t limit = is_infini(decoder) ? (keys->first_segment[row] + s + 1) * segment : INT64_MAX;
            int64_t i = row * segments + s;
            span[i] = next_span(&walk, limit, causal, seen);
            written[i] = input->valid ? without_padding(&keys->list, span[i], input->valid[row]) : span[i];
        }
    }
    /* Padding goes along with the last span: it is there for nothing but its place. */
    bool padded = walk.query < queries->count;
    if (padded) {
        struct attention_span *last = &span[rows * segments - 1];
        for (int64_t i = walk.query; i < queries->count; i++)
            seen[i] = (int32_t)last->keys;
        last->queries += queries->count - walk.query;
    }
    *plan = (struct token_view){.written = written, .segments = segments};
    plan->shape =
        (struct attention_shape){.spans = rows * segments,
                                 .span = span,
                                 .seen = causal && queries == keys && !queries->shares && !padded ? NULL : seen,
                                 .heads = decoder->heads.count,
                                 .kv_heads = decoder->kv_heads.count,
                                 .width = decoder->config.head_width,
                                 .kv_of_head = decoder->kv_of_head};
    plan->read = (struct infini_read_shape){.spans = rows * segments,
                                            .span = span,
                                            .heads = decoder->heads.count,
                                            .kv_heads = decoder->kv_heads.count,
                                            .width = decoder->config.head_width,
                                            .kv_of_head = decoder->kv_of_head,
                                            .update = decoder->config.attention.memory_update};
    return true;
}
