/* Mixture-of-Depths (src/model/README.md section 4): a layer that a router sends some tokens through. */
#include "src/model/decoder_private.h"
#include "src/model/layers.h"
#include "src/model/microbatch.h"

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
static bool choose(struct tape *tape, struct decoder *decoder, const struct decoder_input *input,
                   struct microbatch *microbatch, int64_t layer, const struct tensor *scores,
                   const struct tensor *causal, struct choice *choice)
{
    if (!scores || !causal)
        return false;
    struct arena_mark mark = arena_mark(tape->work);
    int64_t most = layers_tokens(&decoder->config, layer, input->length, decoder->model->surplus);
    float *all = route_collect(tape, decoder, microbatch, input->causal ? causal->data : scores->data);
    if (all)
        route_balance(decoder, input, microbatch, most, layer, all);
    bool chosen = all && route_choose(tape, decoder, input, microbatch, all, NULL, most, choice);
    arena_rewind(tape->work, mark);
    return chosen;
}

bool mixture_run_layer(struct tape *tape, struct decoder *decoder, const struct decoder_input *input,
                       struct microbatch *microbatch, int64_t layer)
{
    const struct model_config *config = &decoder->config;
    const struct block *block = decoder_block(decoder, layer);
    struct choice choice;
    struct active_tokens active;

    struct tensor *r = router_scores(tape, microbatch->h, parameter_value(block->router));
    struct tensor *causal = block->predictor_in ? predict(tape, block, microbatch->h) : r;
    if (!choose(tape, decoder, input, microbatch, layer, r, causal, &choice))
        return false;
    route_account(decoder, input, microbatch, SELECTION_LAYER, layer, &choice);
    double mean = config->depth.router_loss / (double)(input->batch_rows * input->length);
    if (!input->causal && !route_learn(tape, decoder, input, microbatch, causal, NULL, &choice, mean, layer))
        return false;

    if (!active_tokens_create(tape, decoder, input, microbatch, choice.slot, choice.begin, choice.total, &active) ||
        !active_tokens_take(tape, decoder, microbatch, &active))
        return false;
    struct block_call call = {.decoder = decoder,
                              .block = block,
                              .input = input,
                              .set = active.set,
                              .layer = layer,
                              .cache = decoder_layer_cache(input->cache, layer),
                              .cache_rows = decoder_cache_rows(decoder, input->cache, layer),
                              .query_rows = decoder_query_rows(decoder, input->cache, layer),
                              .cache_kept = input->rows};
    if (!block_run(tape, &call, &active.h, &active.history, NULL))
        return false;
    if (!active_tokens_return_history(tape, decoder, microbatch, &active, block_connections(config)))
        return false;
    struct tensor *y = active_tokens_gather(tape, decoder, &active, active.h);
    struct tensor *gate = router_gate(tape, r, config->depth.gate, 1.0f);
    microbatch->h = token_update(tape, microbatch->h, y, gate, active.source, true);
    return microbatch->h != NULL;
}
