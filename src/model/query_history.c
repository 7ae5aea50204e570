#include "src/model/query_history.h"

#include <string.h>

#include "src/ops/route.h"

enum { KEPT = CONVOLUTION_TAPS - 1 };

struct query_history {
    int64_t rows, bytes;
    int32_t *position; /* [rows, KEPT], ascending; negative where there is none */
    char *queries;     /* [rows, KEPT] */
};

enum status query_history_create(struct context *context, int64_t rows, int64_t bytes, struct query_history **history)
{
    struct query_history *h = memory_allocate(context, sizeof *h, MEMORY_OTHER);
    *history = h;
    if (!h)
        return STATUS_MEMORY;
    h->rows = rows;
    h->bytes = bytes;
    h->position = memory_allocate(context, (size_t)(rows * KEPT) * sizeof *h->position, MEMORY_OTHER);
    h->queries = memory_allocate(context, (size_t)(rows * KEPT * bytes), MEMORY_BUFFERS);
    if (h->position && h->queries)
        query_history_reset(h, 0, 1);
    return context->status;
}

void query_history_destroy(struct context *context, struct query_history **history)
{
    struct query_history *h = *history;
    if (!h)
        return;
    memory_free(context, h->position);
    memory_free(context, h->queries);
    memory_free(context, h);
    *history = NULL;
}

void query_history_reset(struct query_history *history, int64_t row, int64_t step)
{
    for (int64_t i = row; i < history->rows; i += step)
        for (int j = 0; j < KEPT; j++)
            history->position[i * KEPT + j] = -1;
}

/* Queries of the call's rows, each row's earlier ones of the same segment before its new ones. */
struct packed {
    struct tensor *queries;
    int32_t *position;           /* of each */
    int32_t *index;              /* [slots of the list] where a new one is; -1 for padding */
    struct attention_span *span; /* those of one segment in one row */
    int64_t count, spans;
};

static void append(struct packed *packed, int64_t bytes, const char *query, int32_t position, bool begins,
                   int64_t segment)
{
    bool goes_on = !begins && packed->position[packed->count - 1] / segment == position / segment;
    if (!goes_on)
        packed->span[packed->spans++] = (struct attention_span){.key = packed->count};
    packed->span[packed->spans - 1].keys++;
    packed->position[packed->count] = position;
    memcpy((char *)packed->queries->data + packed->count++ * bytes, query, (size_t)bytes);
}

static void append_row(struct packed *packed, const struct block_call *call, const struct query_history *history,
                       const struct tensor *q, int64_t row)
{
    const struct token_list *list = &call->set->list;
    int64_t segment = call->decoder->config.attention.segment;
    int64_t from = call->query_rows[row] * KEPT;
    int64_t begin = packed->count;
    for (int64_t i = from; i < from + KEPT; i++)
        if (history->position[i] >= 0 && history->position[i] / segment == list->position[list->begin[row]] / segment)
            append(packed, history->bytes, history->queries + i * history->bytes, history->position[i],
                   packed->count == begin, segment);
    for (int64_t slot = list->begin[row]; slot < list->end[row]; slot++) {
        packed->index[slot] = (int32_t)packed->count;
        append(packed, history->bytes, (const char *)q->data + slot * history->bytes, list->position[slot],
               packed->count == begin, segment);
    }
}

static void keep_last(struct query_history *history, int64_t row, const char *query, int32_t position)
{
    char *queries = history->queries + row * KEPT * history->bytes;
    int32_t *positions = history->position + row * KEPT;
    memmove(positions, positions + 1, (KEPT - 1) * sizeof *positions);
    memmove(queries, queries + history->bytes, (size_t)((KEPT - 1) * history->bytes));
    positions[KEPT - 1] = position;
    memcpy(queries + (KEPT - 1) * history->bytes, query, (size_t)history->bytes);
}

struct tensor *query_history_features(struct tape *tape, const struct block_call *call, struct query_history *history,
                                      struct tensor *q)
{
    const struct token_list *list = &call->set->list;
    if (!q)
        return NULL;
    size_t most = (size_t)(list->total + KEPT * list->rows);
    struct packed packed = {.queries = tape_matrix(tape, q->dtype, (int64_t)most, tensor_columns(q)),
                            .position = tape_save(tape, most * sizeof *packed.position),
                            .index = tape_save(tape, (size_t)list->total * sizeof *packed.index),
                            .span = tape_save(tape, most * sizeof *packed.span)};
    if (!packed.queries || !packed.position || !packed.index || !packed.span)
        return NULL;
    for (int64_t slot = 0; slot < list->total; slot++)
        packed.index[slot] = -1;
    for (int64_t row = 0; row < list->rows; row++) {
        if (list->begin[row] == list->end[row])
            continue;
        append_row(&packed, call, history, q, row);
        for (int64_t slot = integer_max(list->begin[row], list->end[row] - KEPT); slot < list->end[row]; slot++)
            keep_last(history, call->query_rows[row], (const char *)q->data + slot * history->bytes,
                      list->position[slot]);
    }
    struct tensor *all = block_features(tape, call, CONVOLVED_QUERY, packed.queries, packed.span, packed.spans);
    return token_take(tape, all, packed.index, list->total);
}
