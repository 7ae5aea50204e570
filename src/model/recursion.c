/* Mixture-of-Recursions (src/model/README.md section 5): which tokens take which recursion of the shared layers. */
#include <math.h>
#include <string.h>

#include "src/model/decoder_private.h"
#include "src/model/layers.h"
#include "src/model/microbatch.h"

static int64_t recursion_tokens(const struct decoder *decoder, int recursion, int64_t length)
{
    int64_t first;
    int64_t count;
    layers_shared(&decoder->config, &first, &count);
    return layers_tokens(&decoder->config, first + recursion * count, length, decoder->model->surplus);
}

double recursion_share(const struct decoder *decoder, int recursion, int64_t length)
{
    return (double)recursion_tokens(decoder, recursion, length) / (double)length;
}

/* Lists the running tokens. */
static bool list_running(struct tape *tape, const struct decoder *decoder, const struct decoder_input *input,
                         const struct microbatch *microbatch, int64_t most, struct choice *choice)
{
    const struct token_list *tokens = &microbatch->tokens;
    int32_t *slots = tape_save(tape, (size_t)tokens->total * sizeof *slots);
    int64_t *begin = tape_save(tape, (size_t)(tokens->rows + 1) * sizeof *begin);
    if (!slots || !begin)
        return false;
    int64_t count = 0;
    for (int64_t row = 0; row < tokens->rows; row++) {
        begin[row] = count;
        for (int64_t slot = tokens->begin[row]; slot < tokens->end[row]; slot++)
            if (microbatch->running[slot])
                slots[count++] = (int32_t)slot;
    }
    begin[tokens->rows] = count;
    *choice =
        (struct choice){.slot = slots, .begin = begin, .total = route_slots(decoder, input, microbatch, begin, most)};
    for (int64_t i = count; i < choice->total; i++)
        slots[i] = -1;
    return true;
}

/* -- Expert choice -- */

static bool choose_by_expert(struct tape *tape, struct decoder *decoder, const struct decoder_input *input,
                             struct microbatch *microbatch, int recursion, const struct tensor *z,
                             struct choice *choice)
{
    int64_t most = recursion_tokens(decoder, recursion, input->length);
    if (recursion == 0)
        return list_running(tape, decoder, input, microbatch, most, choice);
    struct arena_mark mark = arena_mark(tape->work);
    float *all = route_collect(tape, decoder, microbatch, z->data);
    if (all)
        route_balance(decoder, input, microbatch, most, 0, all);
    bool chosen = all && route_choose(tape, decoder, input, microbatch, all, microbatch->running, most, choice);
    arena_rewind(tape->work, mark);
    return chosen;
}

static bool route_by_expert(struct tape *tape, struct decoder *decoder, const struct decoder_input *input,
                            struct microbatch *microbatch, int recursion, struct choice *choice)
{
    const struct model_config *config = &decoder->config;
    struct tensor *z = router_scores(tape, microbatch->h, parameter_value(decoder->recursion_routers[recursion]));
    if (!z || !choose_by_expert(tape, decoder, input, microbatch, recursion, z, choice))
        return false;
    route_account(decoder, input, microbatch, SELECTION_RECURSION, recursion, choice);
    int64_t candidates = recursion_tokens(decoder, recursion > 0 ? recursion - 1 : 0, input->length);
    double mean = config->depth.router_loss / (double)(input->batch_rows * candidates);
    if (!input->causal &&
        !route_learn(tape, decoder, input, microbatch, z, microbatch->running, choice, mean, recursion))
        return false;
    memset(microbatch->running, 0, (size_t)microbatch->tokens.total);
    for (int64_t i = 0; i < choice->begin[microbatch->tokens.rows]; i++)
        microbatch->running[choice->slot[i]] = 1;
    microbatch->gate = router_gate(tape, z, GATE_SIGMOID, (float)config->depth.alpha);
    return microbatch->gate != NULL;
}

/* -- Token choice -- */

void recursion_depths(const struct tensor *s, float *depth)
{
    int64_t recursions = tensor_columns(s);
    for (int64_t n = 0; n < tensor_rows(s); n++) {
        const float *row = (const float *)s->data + n * recursions;
        int64_t best = 0;
        for (int64_t i = 1; i < recursions; i++)
            if (row[i] > row[best])
                best = i;
        depth[n] = (float)(best + 1);
    }
}

/* Each depth for as many tokens as any other. */
static void balance_depths(const struct model_config *config, const struct microbatch *microbatch, int32_t *depth)
{
    for (int64_t row = 0; row < microbatch->tokens.rows; row++)
        for (int64_t slot = microbatch->tokens.begin[row]; slot < microbatch->tokens.end[row]; slot++)
            depth[slot] =
                1 + (int32_t)((double)config->depth.recursions * route_draw(row, microbatch->tokens.position[slot], 0));
}

static void account_entropy(struct router_counts *counts, const struct tensor *s)
{
    const float *p = s->data;
    for (int64_t i = 0; i < tensor_count(s); i++)
        counts->entropy -= p[i] > 0.0f ? (double)p[i] * log((double)p[i]) : 0.0;
    counts->decided += tensor_rows(s);
}

/* R sum_i f_i P_i of each sequence, averaged over the rows: linear in s, as the fractions f are constants. */
static bool balance(struct tape *tape, struct decoder *decoder, const struct decoder_input *input,
                    const struct microbatch *microbatch, struct tensor *s)
{
    const struct model_config *config = &decoder->config;
    int64_t recursions = config->depth.recursions;
    float *coefficient = tape_save(tape, (size_t)(microbatch->part.count * recursions) * sizeof *coefficient);
    int64_t *taken = tape_save(tape, (size_t)recursions * sizeof *taken);
    if (!coefficient || !taken)
        return false;
    for (int64_t row = 0; row < microbatch->tokens.rows; row++) {
        int64_t begin = microbatch->tokens.begin[row];
        int64_t end = microbatch->tokens.end[row];
        memset(taken, 0, (size_t)recursions * sizeof *taken);
        for (int64_t slot = begin; slot < end; slot++)
            taken[microbatch->depth[slot] - 1]++;
        for (int64_t slot = begin; slot < end; slot++)
            for (int64_t i = 0; microbatch->local[slot] >= 0 && i < recursions; i++)
                coefficient[microbatch->local[slot] * recursions + i] =
                    (float)((double)taken[i] / (double)(end - begin));
    }
    double scale = config->depth.router_loss * (double)recursions / (double)(input->batch_rows * input->length);
    return router_balance(tape, s, coefficient, (float)scale, &decoder->model->auxiliary_loss);
}

/* One decision, on the residual stream that enters the first recursion. */
static bool decide_depths(struct tape *tape, struct decoder *decoder, const struct decoder_input *input,
                          struct microbatch *microbatch)
{
    struct tensor *s = router_softmax(tape, router_scores(tape, microbatch->h, parameter_value(decoder->depth_router)));
    int32_t *depth = tape_save(tape, (size_t)microbatch->tokens.total * sizeof *depth);
    int32_t *column = tape_save(tape, (size_t)microbatch->part.count * sizeof *column);
    struct arena_mark mark = arena_mark(tape->work);
    float *own = arena_allocate(tape->work, (size_t)microbatch->part.count * sizeof *own);
    if (!s || !depth || !column || !own)
        return false;
    recursion_depths(s, own);
    const float *all = route_collect(tape, decoder, microbatch, own);
    if (!all)
        return false;
    for (int64_t slot = 0; slot < microbatch->tokens.total; slot++)
        depth[slot] = (int32_t)all[slot];
    if (decoder->model->balanced)
        balance_depths(&decoder->config, microbatch, depth);
    for (int64_t slot = 0; slot < microbatch->tokens.total; slot++)
        if (microbatch->local[slot] >= 0)
            column[microbatch->local[slot]] = depth[slot] - 1;
    arena_rewind(tape->work, mark);
    microbatch->depth = depth;
    microbatch->entered = microbatch->h;
    microbatch->gate = router_pick(tape, s, column);
    account_entropy(&decoder->router_counts[0], s);
    return microbatch->gate && (input->causal || balance(tape, decoder, input, microbatch, s));
}

static bool route_by_token(struct tape *tape, struct decoder *decoder, const struct decoder_input *input,
                           struct microbatch *microbatch, int recursion, struct choice *choice)
{
    if (recursion == 0 && !decide_depths(tape, decoder, input, microbatch))
        return false;
    for (int64_t slot = 0; slot < microbatch->tokens.total; slot++)
        microbatch->running[slot] = microbatch->depth[slot] > recursion;
    if (!list_running(tape, decoder, input, microbatch, input->length, choice))
        return false;
    route_account(decoder, input, microbatch, SELECTION_DEPTH, recursion, choice);
    return true;
}

/* -- In and out -- */

bool recursion_enter(struct tape *tape, struct decoder *decoder, const struct decoder_input *input,
                     struct microbatch *microbatch, int recursion)
{
    struct choice choice;
    bool by_expert = decoder->config.depth.routing == ROUTING_EXPERT;
    if (recursion == 0)
        memset(microbatch->running, 1, (size_t)microbatch->tokens.total);
    if (!(by_expert ? route_by_expert : route_by_token)(tape, decoder, input, microbatch, recursion, &choice))
        return false;
    microbatch->recursion = recursion;
    if (recursion == 0) {
        microbatch->active = (struct active_tokens){
            .set = microbatch->whole, .whole = true, .h = microbatch->h, .history = microbatch->history};
        return true;
    }
    return active_tokens_create(tape, decoder, input, microbatch, choice.slot, choice.begin, choice.total,
                                &microbatch->active) &&
           recursion_borrow(tape, decoder, input, microbatch) &&
           active_tokens_take(tape, decoder, microbatch, &microbatch->active);
}

bool recursion_borrow(struct tape *tape, const struct decoder *decoder, const struct decoder_input *input,
                      struct microbatch *microbatch)
{
    if (!decoder_lends(decoder) || input->cache)
        return true;
    return token_view_create(tape, decoder, input, microbatch->active.set, microbatch->whole, &microbatch->borrowed);
}

/* h_t + p_t block(h)_t */
static struct tensor *leave_by_expert(struct tape *tape, const struct microbatch *microbatch, struct tensor *y,
                                      const int32_t *source)
{
    return token_update(tape, microbatch->h, y, microbatch->gate, source, false);
}

/* A token that goes on takes its output along; one that ends its depth here leaves with h_t^1 + s_t out_t. */
static struct tensor *leave_by_token(struct tape *tape, const struct microbatch *microbatch, struct tensor *y,
                                     const int32_t *source)
{
    int32_t *goes_on = tape_save(tape, (size_t)microbatch->part.count * sizeof *goes_on);
    int32_t *ends = tape_save(tape, (size_t)microbatch->part.count * sizeof *ends);
    int32_t *itself = tape_save(tape, (size_t)microbatch->part.count * sizeof *itself);
    if (!goes_on || !ends || !itself)
        return NULL;
    for (int64_t slot = 0; slot < microbatch->tokens.total; slot++) {
        int32_t n = microbatch->local[slot];
        if (n < 0)
            continue;
        int32_t depth = microbatch->depth[slot];
        goes_on[n] = depth > microbatch->recursion + 1 ? source[n] : -1;
        ends[n] = depth == microbatch->recursion + 1 ? source[n] : -1;
        itself[n] = depth == microbatch->recursion + 1 ? n : -1;
    }
    struct tensor *left = token_update(tape, microbatch->entered, y, microbatch->gate, ends, false);
    return token_place(tape, token_place(tape, microbatch->h, y, goes_on), left, itself);
}

bool recursion_leave(struct tape *tape, struct decoder *decoder, struct microbatch *microbatch)
{
    const struct active_tokens *active = &microbatch->active;
    int64_t first;
    int64_t count;
    layers_shared(&decoder->config, &first, &count);
    if (!active_tokens_return_history(tape, decoder, microbatch, active, count * block_connections(&decoder->config)))
        return false;
    struct tensor *y = active->whole ? active->h : active_tokens_gather(tape, decoder, active, active->h);
    const int32_t *source = active->whole ? microbatch->itself : active->source;
    bool by_expert = decoder->config.depth.routing == ROUTING_EXPERT;
    microbatch->h = (by_expert ? leave_by_expert : leave_by_token)(tape, microbatch, y, source);
    microbatch->recursion = -1;
    return microbatch->h != NULL;
}
