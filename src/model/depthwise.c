#include "src/model/depthwise.h"

#include <string.h>

#include "src/model/decoder_private.h"
#include "src/model/layers.h"
#include "src/model/microbatch.h"

/* What is known of the token under way in each row. Every tensor rank has the whole residual streams: they are small,
 * and rows come together anew in each pass. */
struct depthwise {
    struct decoder *decoder;
    int64_t rows;
    int64_t first, count; /* layers of the first recursion */
    int recursions, window;
    int32_t *recursion;           /* [rows] that it takes next; NOTHING, or `recursions`: it has left them */
    int32_t *position;            /* [rows] */
    int32_t *depth;               /* [rows] token choice: recursions that it takes */
    float *gate;                  /* [rows] of the recursion, or of the exit (token choice) */
    char *residual;               /* [rows, D] before the recursion */
    char *entered;                /* [rows, D] token choice: before the first one */
    char *history[HISTORY_LIMIT]; /* [window] of [rows, D]; zeros where there is no state yet, which add nothing */
};

enum { NOTHING = -1 };

/* Rows whose tokens pass together. */
struct cohort {
    int32_t *row; /* [total]; -1 behind the last: padding that keeps messages of tensor ranks at one size */
    int64_t count, total;
    struct range part; /* this tensor rank's */
};

/* -- Creation and end -- */

bool depthwise_fits(const struct decoder *decoder)
{
    const struct model_config *config = &decoder->config;
    return recursions_are_routed(config) && mesh_size(decoder->mesh, MESH_PIPELINE) == 1;
}

static size_t token_bytes(const struct depthwise *d)
{
    return (size_t)d->decoder->config.width * dtype_size(d->decoder->dtype);
}

enum status depthwise_create(struct decoder *decoder, int64_t rows, struct depthwise **depthwise)
{
    struct context *context = decoder->context;
    struct depthwise *d = memory_allocate(context, sizeof *d, MEMORY_OTHER);
    *depthwise = d;
    if (!d)
        return STATUS_MEMORY;
    d->decoder = decoder;
    d->rows = rows;
    d->recursions = (int)decoder->config.depth.recursions;
    d->window = history_window(&decoder->config);
    layers_shared(&decoder->config, &d->first, &d->count);
    d->recursion = memory_allocate(context, (size_t)rows * sizeof *d->recursion, MEMORY_OTHER);
    d->position = memory_allocate(context, (size_t)rows * sizeof *d->position, MEMORY_OTHER);
    d->depth = memory_allocate(context, (size_t)rows * sizeof *d->depth, MEMORY_OTHER);
    d->gate = memory_allocate(context, (size_t)rows * sizeof *d->gate, MEMORY_OTHER);
    d->residual = memory_allocate(context, (size_t)rows * token_bytes(d), MEMORY_BUFFERS);
    d->entered = memory_allocate(context, (size_t)rows * token_bytes(d), MEMORY_BUFFERS);
    for (int j = 0; j < d->window; j++)
        d->history[j] = memory_allocate(context, (size_t)rows * token_bytes(d), MEMORY_BUFFERS);
    for (int64_t row = 0; context->status == STATUS_OK && row < rows; row++)
        d->recursion[row] = NOTHING;
    return context->status;
}

void depthwise_destroy(struct depthwise **depthwise)
{
    struct depthwise *d = *depthwise;
    if (!d)
        return;
    struct context *context = d->decoder->context;
    for (int j = 0; j < d->window; j++)
        memory_free(context, d->history[j]);
    void *owned[] = {d->recursion, d->position, d->depth, d->gate, d->residual, d->entered, d};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        memory_free(context, owned[i]);
    *depthwise = NULL;
}

/* -- In and out of the rows -- */

static bool is_alone(const struct depthwise *d)
{
    return mesh_size(d->decoder->mesh, MESH_TENSOR) == 1;
}

/* Those in recursions from..to (excluded), by recursion and then by row. */
static bool gather_cohort(struct tape *tape, const struct depthwise *d, int from, int to, struct cohort *cohort)
{
    *cohort = (struct cohort){.row = tape_save(tape, (size_t)d->rows * sizeof *cohort->row)};
    if (!cohort->row)
        return false;
    for (int recursion = from; recursion < to; recursion++)
        for (int64_t row = 0; row < d->rows; row++)
            if (d->recursion[row] == recursion)
                cohort->row[cohort->count++] = (int32_t)row;
    cohort->total = is_alone(d) ? cohort->count : d->rows;
    for (int64_t i = cohort->count; i < cohort->total; i++)
        cohort->row[i] = -1;
    cohort->part = sequence_part(d->decoder->mesh, cohort->total);
    return true;
}

/* This rank's part of what rows hold, zeros for padding. */
static struct tensor *take(struct tape *tape, const struct depthwise *d, const struct cohort *cohort, char *data)
{
    int64_t shape[2] = {d->rows, d->decoder->config.width};
    struct tensor *all = tape_leaf(tape, d->decoder->dtype, 2, shape, data, false);
    return token_take(tape, all, cohort->row + cohort->part.begin, cohort->part.count);
}

/* x [part, D] becomes what rows hold. */
static bool put(struct tape *tape, const struct depthwise *d, const struct cohort *cohort, struct tensor *x, char *data)
{
    struct tensor *all = sequence_gather(tape, d->decoder->mesh, x, cohort->total);
    for (int64_t i = 0; all && i < cohort->count; i++)
        memcpy(data + (size_t)cohort->row[i] * token_bytes(d), (char *)all->data + (size_t)i * token_bytes(d),
               token_bytes(d));
    return all != NULL;
}

static bool put_history(struct tape *tape, const struct depthwise *d, const struct cohort *cohort,
                        const struct history *history)
{
    for (int j = 0; j < history->count; j++)
        if (!put(tape, d, cohort, history->state[j], d->history[j]))
            return false;
    for (int j = history->count; j < d->window; j++)
        for (int64_t i = 0; i < cohort->count; i++)
            memset(d->history[j] + (size_t)cohort->row[i] * token_bytes(d), 0, token_bytes(d));
    return true;
}

static void take_history(struct tape *tape, const struct depthwise *d, const struct cohort *cohort,
                         struct history *history)
{
    history->count = d->window;
    for (int j = 0; j < d->window; j++)
        history->state[j] = take(tape, d, cohort, d->history[j]);
}

/* -- Routers -- */

/* A token that leaves passes the connections of the recursions left out with its residual stream unchanged. */
static void leave(struct depthwise *d, int64_t row)
{
    int64_t left_out = (d->recursions - d->recursion[row]) * d->count * block_connections(&d->decoder->config);
    size_t bytes = token_bytes(d);
    size_t at = (size_t)row * bytes;
    for (int j = d->window - 1; j >= 0; j--)
        memcpy(d->history[j] + at, (j < left_out ? d->residual : d->history[j - left_out]) + at, bytes);
    d->recursion[row] = d->recursions;
}

static void go_on(struct depthwise *d, int64_t row, bool enters)
{
    if (enters)
        d->decoder->router_counts[d->recursion[row]].chosen++;
    else
        leave(d, row);
}

/* Numbers of all of the cohort from those of this rank's part: [part, columns] -> [total, columns]. Ranks decide by
 * the same bits, whatever they computed. */
static float *collect(struct tape *tape, const struct depthwise *d, const struct cohort *cohort, const float *own,
                      int64_t columns)
{
    float *all = tape_save(tape, (size_t)(cohort->total * columns) * sizeof *all);
    if (all)
        mesh_all_gather(d->decoder->mesh, MESH_TENSOR, own, all, cohort->total, columns, DTYPE_F32);
    return all;
}

/* x [part, D] -> each token's score by the router of the recursion that comes next. */
static float *expert_scores(struct tape *tape, const struct depthwise *d, const struct cohort *cohort, struct tensor *x)
{
    float *own = tape_save(tape, (size_t)cohort->part.count * sizeof *own);
    const int32_t *row = cohort->row + cohort->part.begin;
    if (!own)
        return NULL;
    memset(own, 0, (size_t)cohort->part.count * sizeof *own);
    for (int r = 0; r < d->recursions; r++) {
        const struct tensor *z = router_scores(tape, x, parameter_value(d->decoder->recursion_routers[r]));
        if (!z)
            return NULL;
        for (int64_t i = 0; i < cohort->part.count; i++)
            if (row[i] >= 0 && d->recursion[row[i]] == r)
                own[i] = ((const float *)z->data)[i];
    }
    return collect(tape, d, cohort, own, 1);
}

/* All take the first recursion; a later one those whose score is above 0. */
static bool route_by_expert(struct tape *tape, struct depthwise *d, const struct cohort *cohort, struct tensor *x,
                            int64_t length)
{
    const struct decoder *decoder = d->decoder;
    float *score = expert_scores(tape, d, cohort, x);
    int64_t shape[2] = {cohort->total, 1};
    struct tensor *z = score ? tape_leaf(tape, DTYPE_F32, 2, shape, score, false) : NULL;
    const struct tensor *gate = router_gate(tape, z, GATE_SIGMOID, (float)decoder->config.depth.alpha);
    if (!gate)
        return false;
    for (int64_t i = 0; i < cohort->count; i++) {
        int32_t row = cohort->row[i];
        int recursion = d->recursion[row];
        bool enters = score[i] > 0.0f;
        if (decoder->model->balanced && recursion < d->recursions)
            enters = route_draw(row, d->position[row], 0) < recursion_share(decoder, recursion, length);
        d->gate[row] = ((const float *)gate->data)[i];
        go_on(d, row, recursion == 0 || (recursion < d->recursions && enters));
    }
    return true;
}

/* Of tokens that begin: how many recursions they take, and the gate of their exit. */
static bool choose_depths(struct tape *tape, struct depthwise *d, const struct cohort *cohort, struct tensor *x)
{
    enum { DEPTH, GATE, COLUMNS };
    const struct decoder *decoder = d->decoder;
    const struct tensor *s = router_softmax(tape, router_scores(tape, x, parameter_value(decoder->depth_router)));
    float *own = tape_save(tape, (size_t)(cohort->part.count * COLUMNS) * sizeof *own);
    float *depth = tape_save(tape, (size_t)cohort->part.count * sizeof *depth);
    if (!s || !own || !depth)
        return false;
    recursion_depths(s, depth);
    for (int64_t i = 0; i < cohort->part.count; i++) {
        int32_t row = cohort->row[cohort->part.begin + i];
        if (decoder->model->balanced && row >= 0)
            depth[i] = 1.0f + (float)(int)((double)d->recursions * route_draw(row, d->position[row], 0));
        own[i * COLUMNS + DEPTH] = depth[i];
        own[i * COLUMNS + GATE] = ((const float *)s->data)[i * d->recursions + (int64_t)depth[i] - 1];
    }
    const float *all = collect(tape, d, cohort, own, COLUMNS);
    for (int64_t i = 0; all && i < cohort->count; i++) {
        d->depth[cohort->row[i]] = (int32_t)all[i * COLUMNS + DEPTH];
        d->gate[cohort->row[i]] = all[i * COLUMNS + GATE];
    }
    return all != NULL;
}

static void route_by_token(struct depthwise *d, const struct cohort *cohort)
{
    for (int64_t i = 0; i < cohort->count; i++) {
        int32_t row = cohort->row[i];
        go_on(d, row, d->recursion[row] < d->depth[row]);
    }
}

/* Whether the tokens take the recursion that comes next, where their residual stream is x. */
static bool route(struct tape *tape, struct depthwise *d, const struct decoder_input *input,
                  const struct cohort *cohort, struct tensor *x)
{
    if (d->decoder->config.depth.routing == ROUTING_EXPERT)
        return route_by_expert(tape, d, cohort, x, input->length);
    route_by_token(d, cohort);
    return true;
}

/* -- A pass -- */

/* The cohort's tokens through the embedding and the layers before the recursions. */
static bool begin_tokens(struct tape *tape, struct depthwise *d, const struct decoder_input *input)
{
    struct decoder *decoder = d->decoder;
    struct cohort cohort;
    struct decoder_input beginning = *input;
    for (int64_t row = 0; row < d->rows; row++)
        if (input->begin[row + 1] > input->begin[row]) {
            d->recursion[row] = 0;
            d->position[row] = input->first_position[row];
        }
    if (!gather_cohort(tape, d, 0, 1, &cohort))
        return false;
    if (cohort.total == 0)
        return true;
    beginning.slots = cohort.total;
    struct microbatch *microbatch = microbatch_create(tape, decoder, &beginning);
    if (!microbatch)
        return false;
    microbatch->h = decoder->ends->embed(tape, decoder, &beginning, microbatch);
    for (int64_t layer = 0; layer < d->first; layer++)
        if (!microbatch_run_layer(tape, decoder, &beginning, microbatch, layer))
            return false;
    for (int r = 0; r < d->recursions; r++)
        decoder->router_counts[r].offered += cohort.count;
    bool by_token = decoder->config.depth.routing == ROUTING_TOKEN;
    return put(tape, d, &cohort, microbatch->h, d->residual) && put(tape, d, &cohort, microbatch->h, d->entered) &&
           put_history(tape, d, &cohort, &microbatch->history) &&
           (!by_token || choose_depths(tape, d, &cohort, microbatch->h)) &&
           route(tape, d, input, &cohort, microbatch->h);
}

/* Where the tokens are in the cache, how many of them are in a recursion that keeps keys, and which in each. */
static bool find_rows(struct tape *tape, const struct depthwise *d, const struct cohort *cohort,
                      struct block_call *call)
{
    bool lends = decoder_lends(d->decoder);
    int64_t *rows = tape_save(tape, (size_t)cohort->count * sizeof *rows);
    int64_t *query_rows = tape_save(tape, (size_t)cohort->count * sizeof *query_rows);
    int64_t *uses = tape_save(tape, (size_t)(d->recursions + 1) * sizeof *uses);
    call->cache_rows = rows;
    call->query_rows = query_rows;
    call->use_begin = uses;
    call->cache_kept = 0;
    if (!rows || !query_rows || !uses)
        return false;
    memset(uses, 0, (size_t)(d->recursions + 1) * sizeof *uses);
    for (int64_t i = 0; i < cohort->count; i++) {
        int32_t row = cohort->row[i];
        for (int r = d->recursion[row]; r < d->recursions; r++)
            uses[r + 1]++;
        query_rows[i] = row + d->recursion[row] * d->rows;
        rows[i] = lends ? row : query_rows[i];
        call->cache_kept += !lends || d->recursion[row] == 0;
    }
    return true;
}

static struct token_set *set_of(struct tape *tape, const struct depthwise *d, const struct decoder_input *input,
                                const struct cohort *cohort)
{
    int64_t *begin = tape_save(tape, (size_t)(cohort->count + 1) * sizeof *begin);
    int32_t *position = tape_save(tape, (size_t)cohort->total * sizeof *position);
    if (!begin || !position)
        return NULL;
    for (int64_t i = 0; i <= cohort->count; i++)
        begin[i] = i;
    for (int64_t i = 0; i < cohort->total; i++)
        position[i] = cohort->row[i] >= 0 ? d->position[cohort->row[i]] : 0;
    struct token_list list = token_list_of(cohort->count, begin, cohort->total, position);
    return token_set_create(tape, d->decoder, input, &list, NULL, false);
}

/* y [part, D], what the shared layers made of the cohort's residual streams x -> those behind their recursions: see
 * recursion_leave. */
static struct tensor *merge(struct tape *tape, struct depthwise *d, const struct cohort *cohort, struct tensor *x,
                            struct tensor *y)
{
    bool by_token = d->decoder->config.depth.routing == ROUTING_TOKEN;
    int64_t count = cohort->part.count;
    int64_t shape[2] = {count, 1};
    float *gate = tape_save(tape, (size_t)count * sizeof *gate);
    int32_t *ends = tape_save(tape, (size_t)count * sizeof *ends);
    int32_t *goes_on = tape_save(tape, (size_t)count * sizeof *goes_on);
    if (!gate || !ends || !goes_on)
        return NULL;
    for (int64_t i = 0; i < count; i++) {
        int32_t row = cohort->row[cohort->part.begin + i];
        bool deeper = row >= 0 && by_token && d->recursion[row] + 1 < d->depth[row];
        gate[i] = row >= 0 ? d->gate[row] : 0.0f;
        ends[i] = deeper || row < 0 ? -1 : (int32_t)i;
        goes_on[i] = deeper ? (int32_t)i : -1;
    }
    struct tensor *base = by_token ? take(tape, d, cohort, d->entered) : x;
    struct tensor *left = token_update(tape, base, y, tape_leaf(tape, DTYPE_F32, 2, shape, gate, false), ends, false);
    return by_token ? token_place(tape, left, y, goes_on) : left;
}

/* All tokens under way through the shared layers. */
static bool pass_tokens(struct tape *tape, struct depthwise *d, const struct decoder_input *input)
{
    struct decoder *decoder = d->decoder;
    struct cohort cohort;
    struct block_call call = {.decoder = decoder, .input = input};
    if (!gather_cohort(tape, d, 0, d->recursions, &cohort) || !find_rows(tape, d, &cohort, &call))
        return false;
    call.set = set_of(tape, d, input, &cohort);
    struct tensor *x = take(tape, d, &cohort, d->residual);
    struct tensor *y = x;
    struct history history;
    take_history(tape, d, &cohort, &history);
    if (!call.set || !x)
        return false;
    for (int64_t layer = d->first; layer < d->first + d->count; layer++) {
        call.block = decoder_block(decoder, layer);
        call.layer = layer;
        call.cache = decoder_layer_cache(input->cache, layer);
        if (!block_run(tape, &call, &y, &history, NULL))
            return false;
    }
    struct tensor *residual = merge(tape, d, &cohort, x, y);
    if (!put(tape, d, &cohort, residual, d->residual) || !put_history(tape, d, &cohort, &history))
        return false;
    for (int64_t i = 0; i < cohort.count; i++)
        d->recursion[cohort.row[i]]++;
    return route(tape, d, input, &cohort, residual);
}

/* Those that have left the recursions through the other layers and the head. */
static bool finish_tokens(struct tape *tape, struct depthwise *d, const struct decoder_input *input, uint8_t *left)
{
    struct decoder *decoder = d->decoder;
    struct cohort cohort;
    struct packet out = {0};
    int64_t *begin = tape_save(tape, (size_t)(d->rows + 1) * sizeof *begin);
    if (!begin || !gather_cohort(tape, d, d->recursions, d->recursions + 1, &cohort))
        return false;
    begin[0] = 0;
    for (int64_t row = 0; row < d->rows; row++) {
        left[row] = d->recursion[row] == d->recursions;
        begin[row + 1] = begin[row] + left[row];
    }
    if (cohort.total == 0)
        return true;
    struct decoder_input end = *input;
    end.begin = begin;
    end.first_position = d->position;
    end.slots = cohort.total;
    struct microbatch *microbatch = microbatch_create(tape, decoder, &end);
    if (!microbatch)
        return false;
    microbatch->h = take(tape, d, &cohort, d->residual);
    take_history(tape, d, &cohort, &microbatch->history);
    for (int64_t layer = d->first + d->recursions * d->count; layer < decoder->config.layers; layer++)
        if (!microbatch_run_layer(tape, decoder, &end, microbatch, layer))
            return false;
    for (int64_t i = 0; i < cohort.count; i++)
        d->recursion[cohort.row[i]] = NOTHING;
    return decoder->ends->head(tape, decoder, &end, microbatch, &out);
}

bool depthwise_forward(struct depthwise *depthwise, struct tape *tape, const struct decoder_input *input, uint8_t *left)
{
    return begin_tokens(tape, depthwise, input) && pass_tokens(tape, depthwise, input) &&
           finish_tokens(tape, depthwise, input, left);
}
