#include "src/model/microbatch.h"

#include <string.h>

#include "src/model/decoder_private.h"
#include "src/model/layers.h"
#include "src/model/stages.h"

/* Where the tokens are on this rank. */
static bool find_local(struct tape *tape, struct microbatch *microbatch)
{
    int32_t *local = tape_save(tape, (size_t)microbatch->tokens.total * sizeof *local);
    int32_t *itself = tape_save(tape, (size_t)microbatch->part.count * sizeof *itself);
    microbatch->running = tape_save(tape, (size_t)microbatch->tokens.total);
    if (!local || !itself || !microbatch->running)
        return false;
    for (int64_t slot = 0; slot < microbatch->tokens.total; slot++)
        local[slot] = -1;
    for (int64_t n = 0; n < microbatch->part.count; n++) {
        int64_t token = microbatch->part.begin + n;
        local[microbatch->shares ? microbatch->shares->own[token] : token] = (int32_t)n;
        itself[n] = (int32_t)n;
    }
    microbatch->local = local;
    microbatch->itself = itself;
    return true;
}

struct microbatch *microbatch_create(struct tape *tape, struct decoder *decoder, const struct decoder_input *input)
{
    const struct model_config *config = &decoder->config;
    struct microbatch *microbatch = tape_save(tape, sizeof *microbatch);
    if (!microbatch)
        return NULL;
    *microbatch = (struct microbatch){.recursion = -1};
    if (!token_list_create(tape, decoder, input, &microbatch->tokens, &microbatch->shares))
        return NULL;
    microbatch->count = microbatch->shares ? microbatch->shares->count : microbatch->tokens.total;
    microbatch->part = sequence_part(decoder->mesh, microbatch->count);
    microbatch->whole = token_set_create(tape, decoder, input, &microbatch->tokens, microbatch->shares, true);
    if (!microbatch->whole)
        return NULL;
    if (decoder_lends(decoder)) {
        int64_t first;
        int64_t count;
        layers_shared(config, &first, &count);
        microbatch->lent = tape_save(tape, (size_t)count * sizeof *microbatch->lent);
        if (!microbatch->lent)
            return NULL;
    }
    return depth_is_routed(&decoder->config) && !find_local(tape, microbatch) ? NULL : microbatch;
}

const int32_t *microbatch_positions(struct tape *tape, const struct microbatch *microbatch)
{
    if (!microbatch->shares)
        return microbatch->tokens.position + microbatch->part.begin;
    int32_t *positions = tape_save(tape, (size_t)microbatch->part.count * sizeof *positions);
    for (int64_t n = 0; positions && n < microbatch->part.count; n++)
        positions[n] = microbatch->tokens.position[microbatch->shares->own[microbatch->part.begin + n]];
    return positions;
}

bool microbatch_leave(struct tape *tape, struct decoder *decoder, struct microbatch *microbatch)
{
    return microbatch->recursion < 0 || recursion_leave(tape, decoder, microbatch);
}

/* The routed recursion of a layer, or -1. */
static int recursion_of(const struct model_config *config, int64_t layer)
{
    return recursions_are_routed(config) ? (int)layers_recursion(config, layer) : -1;
}

bool microbatch_run_layer(struct tape *tape, struct decoder *decoder, const struct decoder_input *input,
                          struct microbatch *microbatch, int64_t layer)
{
    const struct model_config *config = &decoder->config;
    int recursion = recursion_of(config, layer);
    location_enter_layer(&tape->context->location, layer);
    if (recursion != microbatch->recursion && !microbatch_leave(tape, decoder, microbatch))
        return false;
    if (recursion != microbatch->recursion && !recursion_enter(tape, decoder, input, microbatch, recursion))
        return false;
    if (layers_routed(config, layer))
        return mixture_run_layer(tape, decoder, input, microbatch, layer);

    struct block_call call = {.decoder = decoder,
                              .block = decoder_block(decoder, layer),
                              .input = input,
                              .set = microbatch->whole,
                              .layer = layer,
                              .use = layers_use(config, layer),
                              .cache = decoder_layer_cache(input->cache, layer),
                              .cache_rows = decoder_cache_rows(decoder, input->cache, layer),
                              .query_rows = decoder_query_rows(decoder, input->cache, layer),
                              .cache_kept = input->rows};
    if (recursion < 0)
        return block_run(tape, &call, &microbatch->h, &microbatch->history, NULL);
    int64_t first;
    int64_t count;
    layers_shared(config, &first, &count);
    call.set = microbatch->active.set;
    call.lends = decoder_lends(decoder) && recursion == 0 && !input->cache;
    call.borrows = decoder_lends(decoder) && recursion > 0;
    if (call.borrows) {
        call.borrowed = &microbatch->borrowed;
        call.cache_kept = 0;
    }
    struct lent_keys *lent =
        call.lends || (call.borrows && !call.cache) ? &microbatch->lent[(layer - first) % count] : NULL;
    return block_run(tape, &call, &microbatch->active.h, &microbatch->active.history, lent);
}

/* -- Between chunks -- */

/* What a chunk of the model begins with. */
struct boundary {
    int recursion;   /* that the microbatch is in, or -1 */
    bool listed;     /* the tokens in it come as a list */
    bool carried;    /* the residual stream comes along, for who will leave the recursion */
    int states;      /* of the history of what runs */
    int states_then; /* of the residual stream's, where the recursion began */
};

static int states_before(const struct model_config *config, int64_t layer)
{
    return (int)integer_min(history_window(config), layer * block_connections(config));
}

static struct boundary find_boundary(const struct decoder *decoder, int64_t model_chunk)
{
    const struct model_config *config = &decoder->config;
    int64_t stages = mesh_size(decoder->mesh, MESH_PIPELINE);
    struct range layers = stages_layers(config, mesh_config(decoder->mesh), model_chunk, decoder->max_length);
    struct boundary boundary = {.recursion = -1, .states = states_before(config, layers.begin)};
    if (!recursions_are_routed(config) || !stages_circular(config, mesh_config(decoder->mesh)))
        return boundary;
    int64_t first;
    int64_t count;
    layers_shared(config, &first, &count);
    /* Each recursion goes around all stages, and the first one leaves it when it comes back. */
    bool returns = model_chunk % stages == 0;
    boundary.recursion = (int)(model_chunk / stages) - (returns ? 1 : 0);
    boundary.listed = !returns && boundary.recursion > 0;
    boundary.carried = !returns && boundary.recursion == config->depth.recursions - 1;
    boundary.states_then = states_before(config, first + boundary.recursion * count);
    return boundary;
}

/* Tokens of the list that runs in a recursion, and this rank's part of them. */
static int64_t list_total(const struct decoder *decoder, const struct decoder_input *input, int recursion)
{
    const struct model_config *config = &decoder->config;
    int64_t first;
    int64_t count;
    layers_shared(config, &first, &count);
    if (input->begin)
        return input->begin[input->rows];
    if (recursion <= 0 || input->causal || config->depth.routing == ROUTING_TOKEN)
        return input->rows * input->length;
    return input->rows * layers_tokens(config, first + recursion * count, input->length, decoder->model->surplus);
}

static int64_t list_part(const struct decoder *decoder, const struct decoder_input *input, int recursion)
{
    int64_t total = list_total(decoder, input, recursion);
    int ranks = input->cache ? 1 : mesh_size(decoder->mesh, MESH_CONTEXT);
    int64_t count = range_partition(total, ranks, input->cache ? 0 : mesh_rank(decoder->mesh, MESH_CONTEXT)).count;
    if (recursion <= 0)
        count = decoder_own_tokens(decoder, input);
    return sequence_part(decoder->mesh, count).count;
}

static void form_add(struct packet_form *form, enum dtype dtype, int64_t rows, int64_t columns, int times)
{
    for (int i = 0; i < times; i++) {
        form->part[form->count].dtype = dtype;
        form->part[form->count].rows = rows;
        form->part[form->count].columns = columns;
        form->part[form->count].differentiable = dtype != DTYPE_I32;
        form->count++;
    }
}

static void form_all(const struct decoder *decoder, const struct decoder_input *input, int64_t model_chunk,
                     struct packet_form *form)
{
    struct boundary boundary = find_boundary(decoder, model_chunk);
    int64_t width = decoder->config.width;
    form->count = 0;
    form_add(form, decoder->dtype, list_part(decoder, input, boundary.recursion), width, 1 + boundary.states);
    if (boundary.listed)
        form_add(form, DTYPE_I32, list_total(decoder, input, boundary.recursion), 1, 1);
    if (!boundary.carried)
        return;
    bool by_token = decoder->config.depth.routing == ROUTING_TOKEN;
    int64_t part = list_part(decoder, input, 0);
    form_add(form, decoder->dtype, part, width, 1 + boundary.states_then + (by_token ? 1 : 0));
    form_add(form, DTYPE_F32, part, 1, 1);
    if (by_token)
        form_add(form, DTYPE_I32, list_total(decoder, input, 0), 1, 1);
}

void microbatch_form(const struct decoder *decoder, const struct decoder_input *input, int64_t model_chunk,
                     struct packet_form *form)
{
    form_all(decoder, input, model_chunk, form);
    bool needless = parameter_list_lowest(decoder->list) >= model_chunk;
    for (int i = 0; needless && i < form->count; i++)
        form->part[i].differentiable = false;
}

static void put(struct packet *packet, struct tensor *tensor)
{
    packet->tensor[packet->count++] = tensor;
}

static void put_residual(struct packet *packet, struct tensor *h, const struct history *history)
{
    put(packet, h);
    for (int j = 0; j < history->count; j++)
        put(packet, history->state[j]);
}

/* Numbers that the next chunk needs, as a tensor. */
static struct tensor *numbers(struct tape *tape, const int32_t *values, int64_t count)
{
    int64_t shape[2] = {count, 1};
    return tape_leaf(tape, DTYPE_I32, 2, shape, (void *)(uintptr_t)values, false);
}

bool microbatch_pack(struct tape *tape, struct decoder *decoder, struct microbatch *microbatch, int64_t model_chunk,
                     struct packet *packet)
{
    struct boundary boundary = find_boundary(decoder, model_chunk);
    packet->count = 0;
    if (boundary.recursion < 0 && !microbatch_leave(tape, decoder, microbatch))
        return false;
    if (boundary.recursion < 0)
        put_residual(packet, microbatch->h, &microbatch->history);
    else
        put_residual(packet, microbatch->active.h, &microbatch->active.history);
    if (boundary.listed)
        put(packet, numbers(tape, microbatch->active.slot, microbatch->active.set->list.total));
    if (!boundary.carried)
        return true;
    bool by_token = decoder->config.depth.routing == ROUTING_TOKEN;
    put_residual(packet, microbatch->h, &microbatch->history);
    if (by_token)
        put(packet, microbatch->entered);
    put(packet, microbatch->gate);
    if (by_token)
        put(packet, numbers(tape, microbatch->depth, microbatch->tokens.total));
    return true;
}

struct reader {
    const struct packet *packet;
    int next;
};

static struct tensor *take(struct reader *reader)
{
    return reader->packet->tensor[reader->next++];
}

static void take_residual(struct reader *reader, int states, struct tensor **h, struct history *history)
{
    *h = take(reader);
    history->count = states;
    for (int j = 0; j < states; j++)
        history->state[j] = take(reader);
}

/* The active tokens of a recursion that another stage chose. */
static bool follow_choice(struct tape *tape, struct decoder *decoder, const struct decoder_input *input,
                          struct microbatch *microbatch, const int32_t *slot, int64_t total)
{
    int64_t *begin = tape_save(tape, (size_t)(microbatch->tokens.rows + 1) * sizeof *begin);
    if (!begin)
        return false;
    int64_t n = 0;
    for (int64_t row = 0; row < microbatch->tokens.rows; row++) {
        begin[row] = n;
        while (n < total && slot[n] >= 0 && slot[n] < microbatch->tokens.end[row])
            n++;
    }
    begin[microbatch->tokens.rows] = n;
    return active_tokens_create(tape, decoder, input, microbatch, slot, begin, total, &microbatch->active) &&
           recursion_borrow(tape, decoder, input, microbatch);
}

bool microbatch_unpack(struct tape *tape, struct decoder *decoder, const struct decoder_input *input,
                       struct microbatch *microbatch, int64_t model_chunk, const struct packet *packet)
{
    struct boundary boundary = find_boundary(decoder, model_chunk);
    struct reader reader = {.packet = packet};
    struct tensor *h;
    struct history history;
    take_residual(&reader, boundary.states, &h, &history);
    if (boundary.recursion < 0) {
        microbatch->h = h;
        microbatch->history = history;
        return true;
    }
    if (boundary.listed) {
        const struct tensor *slots = take(&reader);
        if (!follow_choice(tape, decoder, input, microbatch, slots->data, tensor_count(slots)))
            return false;
    } else if (boundary.recursion == 0) {
        microbatch->active = (struct active_tokens){.set = microbatch->whole, .whole = true};
    }
    microbatch->recursion = boundary.recursion;
    microbatch->active.h = h;
    microbatch->active.history = history;
    if (!boundary.carried)
        return true;
    bool by_token = decoder->config.depth.routing == ROUTING_TOKEN;
    take_residual(&reader, boundary.states_then, &microbatch->h, &microbatch->history);
    if (by_token)
        microbatch->entered = take(&reader);
    microbatch->gate = take(&reader);
    if (by_token)
        microbatch->depth = take(&reader)->data;
    return true;
}
