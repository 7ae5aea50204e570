/* Mixture-of-Depths (src/model/README.md section 4): a layer that a router sends some tokens through. */
#include "src/model/decoder_private.h"
#include "src/model/flow.h"
#include "src/model/layers.h"

/* p_t = W2 silu(W1 h_t), which nothing but the predictor learns from. */
static struct tensor *predict(struct tape *tape, const struct block *block, const struct tensor *h)
{
    struct tensor *constant = h ? tape_leaf(tape, h->dtype, h->rank, h->shape, h->data, false) : NULL;
    if (!constant)
        return NULL;
    struct tensor *inner = silu(tape, linear(tape, constant, parameter_value(block->predictor_in), NULL, h->dtype));
    return linear(tape, inner, parameter_value(block->predictor_out), NULL, DTYPE_F32);
}

/* Which tokens enter: the largest r_t of each sequence, or those that the causal router lets in. */
static bool choose(struct tape *tape, struct decoder *decoder, const struct decoder_input *input, struct flow *flow,
                   int64_t layer, const struct tensor *scores, const struct tensor *causal, struct choice *choice)
{
    if (!scores || !causal)
        return false;
    struct arena_mark mark = arena_mark(tape->work);
    int64_t most = layers_tokens(&decoder->config, layer, input->length, decoder->model->surplus);
    float *all = route_collect(tape, decoder, flow, input->causal ? causal->data : scores->data);
    if (all)
        route_balance(decoder, input, flow, most, layer, all);
    bool chosen = all && route_choose(tape, decoder, input, flow, all, NULL, most, choice);
    arena_rewind(tape->work, mark);
    return chosen;
}

bool mixture_run_layer(struct tape *tape, struct decoder *decoder, const struct decoder_input *input, struct flow *flow,
                       int64_t layer)
{
    const struct model_config *config = &decoder->config;
    const struct block *block = decoder_block(decoder, layer);
    struct choice choice;
    struct active active;

    struct tensor *r = router_scores(tape, flow->h, parameter_value(block->router));
    struct tensor *causal = block->predictor_in ? predict(tape, block, flow->h) : r;
    if (!choose(tape, decoder, input, flow, layer, r, causal, &choice))
        return false;
    route_account(decoder, input, flow, SELECTION_LAYER, layer, &choice);
    double mean = config->depth.router_loss / (double)(input->batch_rows * input->length);
    if (!input->causal && !route_learn(tape, decoder, input, flow, causal, NULL, &choice, mean, layer))
        return false;

    if (!active_create(tape, decoder, input, flow, choice.slot, choice.begin, choice.total, &active) ||
        !active_take(tape, decoder, flow, &active))
        return false;
    struct block_call call = {.decoder = decoder,
                              .block = block,
                              .input = input,
                              .set = active.set,
                              .layer = layer,
                              .cache = decoder_layer_cache(input->cache, layer),
                              .cache_rows = decoder_cache_rows(decoder, input->cache, layer),
                              .cache_kept = input->rows};
    if (!block_run(tape, &call, &active.h, &active.history, NULL))
        return false;
    if (!active_return_history(tape, decoder, flow, &active, block_connections(config)))
        return false;
    struct tensor *y = active_gather(tape, decoder, &active, active.h);
    struct tensor *gate = router_gate(tape, r, config->depth.gate, 1.0f);
    flow->h = token_update(tape, flow->h, y, gate, active.source, true);
    return flow->h != NULL;
}
