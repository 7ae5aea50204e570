#include "src/model/block.h"

#include <string.h>

#include "src/model/decoder_private.h"
#include "src/model/low_rank.h"
#include "src/ops/route.h"

enum { LENT_KEYS = 3, BLOCK_TENSORS = 1 + HISTORY_LIMIT + LENT_KEYS };

struct tensor *block_apply(struct tape *tape, const struct linear_parameters *parameters, struct tensor *x)
{
    return linear(tape, x, parameter_value(parameters->weight), parameter_value(parameters->bias),
                  x ? x->dtype : DTYPE_F32);
}

static struct tensor *normalize(struct tape *tape, const struct decoder *decoder,
                                const struct linear_parameters *parameters, struct tensor *h)
{
    return norm(tape, h, parameter_value(parameters->weight), parameter_value(parameters->bias), decoder->config.norm,
                decoder->config.norm_epsilon);
}

/* -- Tokens between the ranks of the tensor axis -- */

/* Where several parts of the layer take the same tokens, or few of them, they are gathered before. */
static bool gathers_first(const struct block_call *call)
{
    return call->decoder->config.parallel_block || call->cache;
}

static struct tensor *gather_first(struct tape *tape, const struct block_call *call, struct tensor *n)
{
    return gathers_first(call) ? sequence_gather(tape, call->decoder->mesh, n, call->set->count) : n;
}

/* Linear layers of the gathered n. */
static bool project(struct tape *tape, const struct block_call *call, struct tensor *n,
                    const struct linear_parameters *const *parameters, int count, struct tensor **outputs)
{
    struct linear_weights weights[COLUMN_LINEARS];
    struct tensor *all[COLUMN_LINEARS];
    if (gathers_first(call)) {
        for (int i = 0; i < count; i++)
            outputs[i] = low_rank_apply(tape, call, parameters[i], n);
        return outputs[count - 1] != NULL;
    }
    int downs = count;
    for (int i = 0; i < count; i++) {
        weights[i] = (struct linear_weights){.weight = parameter_value(parameters[i]->weight),
                                             .bias = parameter_value(parameters[i]->bias)};
        if (parameters[i]->low_rank)
            weights[downs++] = (struct linear_weights){.weight = low_rank_down_weight(call, parameters[i])};
    }
    if (!column_linear(tape, call->decoder->mesh, n, call->set->count, weights, downs, all))
        return false;
    downs = count;
    for (int i = 0; i < count; i++)
        outputs[i] = parameters[i]->low_rank
                         ? add(tape, all[i], low_rank_up(tape, call, parameters[i], all[downs++], 0))
                         : all[i];
    return outputs[count - 1] != NULL;
}

/* W x without the bias, which goes in once the ranks' parts are summed. */
static struct tensor *apply_part(struct tape *tape, const struct block_call *call,
                                 const struct linear_parameters *parameters, struct tensor *x)
{
    struct linear_parameters part = *parameters;
    part.bias = NULL;
    return low_rank_apply(tape, call, &part, x);
}

static struct tensor *add_bias(struct tape *tape, const struct linear_parameters *parameters, struct tensor *x)
{
    return parameters->bias ? bias_add(tape, x, parameter_value(parameters->bias)) : x;
}

/* This rank's tokens of W x + b, x being the ranks' features. */
static struct tensor *sum_parts(struct tape *tape, const struct block_call *call,
                                const struct linear_parameters *parameters, struct tensor *x)
{
    struct mesh *mesh = call->decoder->mesh;
    struct tensor *y = row_linear(tape, mesh, x, parameter_value(parameters->weight));
    if (y && parameters->low_rank) {
        struct tensor *inner = sequence_scatter(tape, mesh, low_rank_down(tape, call, parameters, x, 0));
        y = add(tape, y, low_rank_up(tape, call, parameters, inner, sequence_part(mesh, tensor_rows(x)).begin));
    }
    return add_bias(tape, parameters, y);
}

/* -- Attention: sections 2, 3 and 12 -- */

struct tensor *block_turn(struct tape *tape, const struct decoder *decoder, struct tensor *x, const int32_t *rows)
{
    if (decoder->config.positions != POSITIONS_ROPE)
        return x;
    return rope(tape, x, decoder->config.head_width, rows, decoder->cosine, decoder->sine);
}

static bool is_gated_delta(const struct decoder *decoder)
{
    return decoder->config.attention.kind == ATTENTION_INFINI &&
           decoder->config.attention.memory_update == MEMORY_UPDATE_GATED_DELTA;
}

struct tensor *block_features(struct tape *tape, const struct block_call *call, enum convolved of, struct tensor *x,
                              const struct attention_span *span, int64_t spans)
{
    const struct decoder *decoder = call->decoder;
    struct infini_features_shape shape = {.spans = spans,
                                          .span = span,
                                          .heads =
                                              of == CONVOLVED_QUERY ? decoder->heads.count : decoder->kv_heads.count,
                                          .width = decoder->config.head_width,
                                          .unit = of != CONVOLVED_VALUE};
    return infini_features(tape, x, parameter_value(call->block->memory_convolution[of]), &shape);
}

/* Queries as the memory takes them. Segments of a list that context ranks share may be on several of them. */
static struct tensor *query_features(struct tape *tape, const struct block_call *call, struct tensor *q)
{
    const struct token_set *set = call->set;
    if (!is_gated_delta(call->decoder))
        return q;
    struct tensor *all = shares_gather(tape, call->decoder->mesh, q, set->shares);
    all = block_features(tape, call, CONVOLVED_QUERY, all, set->plan.shape.span, set->plan.shape.spans);
    return set->shares ? token_take(tape, all, set->shares->own, set->count) : all;
}

/* The memory before each segment, from keys before RoPE. */
static struct tensor *remember(struct tape *tape, const struct block_call *call, struct tensor *k, struct tensor *v,
                               struct tensor *strength)
{
    const struct decoder *decoder = call->decoder;
    const struct token_set *set = call->set;
    const struct decoder_memory *memory = call->input->memory;
    int64_t offset = call->input->memory_row * decoder_memory_size(decoder);
    struct infini_shape shape = {.rows = set->list.rows,
                                 .segments = set->plan.segments,
                                 .written = set->plan.written,
                                 .kv_heads = decoder->kv_heads.count,
                                 .width = decoder->config.head_width,
                                 .update = decoder->config.attention.memory_update};
    if (memory) {
        shape.before = memory->before[call->layer] + offset;
        shape.after = memory->after[call->layer] + offset;
    }
    if (is_gated_delta(decoder)) {
        k = block_features(tape, call, CONVOLVED_KEY, k, shape.written, shape.rows * shape.segments);
        v = block_features(tape, call, CONVOLVED_VALUE, v, shape.written, shape.rows * shape.segments);
    }
    return infini_states(tape, set->scanned ? decoder->mesh : NULL, k, v, strength, &shape);
}

static struct tensor *attend(struct tape *tape, const struct block_call *call, struct tensor *q,
                             const struct lent_keys *keys, const struct token_view *plan)
{
    const struct decoder *decoder = call->decoder;
    struct tensor *turned = block_turn(tape, decoder, q, call->set->query_rows);
    struct tensor *a = attention(tape, turned, keys->key, keys->value, &plan->shape);
    if (decoder->config.attention.kind == ATTENTION_INFINI && !call->input->memory_off)
        a = infini_read(tape, query_features(tape, call, q), keys->states, a, parameter_value(call->block->memory_gate),
                        parameter_value(call->block->memory_norm), &plan->read);
    return a;
}

/* n -> this rank's heads' attention [tokens, heads * width]. The keys are the set's own, and lent if that is asked for,
 * or those that recursion 1 lent. */
static struct tensor *attention_part(struct tape *tape, const struct block_call *call, struct tensor *n,
                                     struct lent_keys *lent)
{
    struct decoder *decoder = call->decoder;
    const struct block *block = call->block;
    const struct token_set *set = call->set;
    if (call->cache)
        return cache_attend(tape, call, n);

    const struct linear_parameters *parameters[] = {&block->query, &block->key, &block->value, &block->memory_write};
    struct tensor *projected[4] = {NULL};
    int wanted = is_gated_delta(decoder) ? 4 : 3;
    if (!project(tape, call, n, parameters, call->borrows ? 1 : wanted, projected))
        return NULL;
    struct tensor *q = projected[0];
    if (call->borrows)
        return attend(tape, call, q, lent, call->borrowed);

    struct tensor *k = shares_gather(tape, decoder->mesh, projected[1], set->shares);
    struct tensor *v = shares_gather(tape, decoder->mesh, projected[2], set->shares);
    struct lent_keys own = {.key = block_turn(tape, decoder, k, set->key_rows), .value = v};
    if (decoder->config.attention.kind == ATTENTION_INFINI)
        own.states = remember(tape, call, k, v, shares_gather(tape, decoder->mesh, projected[3], set->shares));
    if (call->lends)
        *lent = own;
    return attend(tape, call, q, &own, &set->plan);
}

/* The same, to be recomputed: n and lent keys in, attention and keys to lend out. */
static bool attention_packed(struct tape *tape, void *argument, struct tensor *const *inputs, struct tensor **outputs)
{
    const struct block_call *call = argument;
    struct lent_keys lent = {0};
    if (call->borrows)
        lent = (struct lent_keys){.key = inputs[1], .value = inputs[2], .states = inputs[3]};
    outputs[0] = attention_part(tape, call, inputs[0], &lent);
    if (call->lends) {
        outputs[1] = lent.key;
        outputs[2] = lent.value;
        outputs[3] = lent.states;
    }
    return outputs[0] != NULL;
}

static struct tensor *attention_recomputed(struct tape *tape, const struct block_call *call, struct tensor *n,
                                           struct lent_keys *lent)
{
    struct tensor *inputs[1 + LENT_KEYS] = {n};
    struct tensor *outputs[1 + LENT_KEYS] = {NULL};
    if (call->borrows) {
        inputs[1] = lent->key;
        inputs[2] = lent->value;
        inputs[3] = lent->states;
    }
    if (!tape_recompute(tape, attention_packed, call, sizeof *call, inputs, call->borrows ? 1 + LENT_KEYS : 1, outputs,
                        call->lends ? 1 + LENT_KEYS : 1))
        return NULL;
    if (call->lends)
        *lent = (struct lent_keys){.key = outputs[1], .value = outputs[2], .states = outputs[3]};
    return outputs[0];
}

/* m -> this rank's inner features [tokens, F]. */
static struct tensor *mlp_part(struct tape *tape, const struct block_call *call, struct tensor *m)
{
    const struct linear_parameters *parameters[] = {&call->block->up, &call->block->gate};
    bool gated = call->decoder->config.mlp == MLP_SWIGLU;
    struct tensor *inner[2];
    if (!project(tape, call, m, parameters, gated ? 2 : 1, inner))
        return NULL;
    if (gated)
        return swiglu(tape, inner[1], inner[0]);
    return call->decoder->config.mlp == MLP_GELU_ERF ? gelu_erf(tape, inner[0]) : gelu(tape, inner[0]);
}

/* -- Connections: section 6 -- */

int block_connections(const struct model_config *config)
{
    return config->residual.scope == RESIDUAL_SUBLAYER && !config->parallel_block ? 2 : 1;
}

int history_window(const struct model_config *config)
{
    bool reaches_back = config->residual.kind == RESIDUAL_LAUREL && config->residual.previous > 1;
    return reaches_back ? (int)config->residual.previous - 1 : 0;
}

static void history_push(struct history *history, int window, struct tensor *x)
{
    if (window == 0)
        return;
    history->count = history->count < window ? history->count + 1 : window;
    memmove(history->state + 1, history->state, (size_t)(history->count - 1) * sizeof *history->state);
    history->state[0] = x;
}

static struct tensor *narrow(struct tape *tape, struct tensor *down, struct tensor *up, struct tensor *x)
{
    enum dtype dtype = x ? x->dtype : DTYPE_F32;
    return linear(tape, linear(tape, x, down, NULL, dtype), up, NULL, dtype);
}

/* x_{i+1} = a f + b g_i, where x is x_i. */
static struct tensor *connect(struct tape *tape, const struct block_call *call,
                              const struct residual_parameters *parameters, struct tensor *f, struct tensor *x,
                              struct history *history)
{
    const struct model_config *config = &call->decoder->config;
    if (config->residual.kind == RESIDUAL_PLAIN)
        return add(tape, x, f);
    struct tensor *down = parameter_value(parameters->down);
    struct tensor *up = parameter_value(parameters->up);
    struct tensor *g = x;
    if (config->residual.previous == 0 && down)
        g = add(tape, x, narrow(tape, down, up, x));
    for (int j = 0; j < config->residual.previous && j <= history->count; j++) {
        struct tensor *y = j == 0 ? x : history->state[j - 1];
        if (down)
            y = narrow(tape, tape_slice(tape, down, j), tape_slice(tape, up, j), y);
        g = residual_term(tape, g, y, parameter_value(parameters->gamma), j);
    }
    history_push(history, history_window(config), x);
    return residual_sum(tape, f, g, parameter_value(parameters->weights));
}

/* -- The layer -- */

/* h + U gelu(D norm(h)): section 13. */
static struct tensor *adapt(struct tape *tape, const struct block_call *call, struct tensor *h)
{
    const struct block *block = call->block;
    if (!block->adapter_down.weight)
        return h;
    struct tensor *n = normalize(tape, call->decoder, &block->adapter_norm, h);
    return add(tape, h, block_apply(tape, &block->adapter_up, gelu(tape, block_apply(tape, &block->adapter_down, n))));
}

static struct tensor *forward(struct tape *tape, const struct block_call *call, struct tensor *h,
                              struct history *history, struct lent_keys *lent)
{
    struct decoder *decoder = call->decoder;
    const struct block *block = call->block;
    const struct model_config *config = &decoder->config;
    bool around_layer = config->residual.kind == RESIDUAL_LAUREL && config->residual.scope == RESIDUAL_LAYER;

    h = adapt(tape, call, h);
    struct tensor *n = gather_first(tape, call, normalize(tape, decoder, &block->input_norm, h));
    bool again = tape->recording && decoder->recompute == RECOMPUTE_ATTENTION;
    struct tensor *a = (again ? attention_recomputed : attention_part)(tape, call, n, lent);
    if (config->parallel_block) {
        struct tensor *both = add(tape, apply_part(tape, call, &block->output, a),
                                  apply_part(tape, call, &block->down, mlp_part(tape, call, n)));
        both = sequence_scatter(tape, decoder->mesh, both);
        both = add_bias(tape, &block->down, add_bias(tape, &block->output, both));
        return connect(tape, call, &block->residual, both, h, history);
    }
    a = sum_parts(tape, call, &block->output, a);
    struct tensor *middle =
        around_layer ? add(tape, h, a) : connect(tape, call, &block->attention_residual, a, h, history);

    struct tensor *m = gather_first(tape, call, normalize(tape, decoder, &block->post_norm, middle));
    m = sum_parts(tape, call, &block->down, mlp_part(tape, call, m));
    return around_layer ? connect(tape, call, &block->residual, add(tape, a, m), h, history)
                        : connect(tape, call, &block->mlp_residual, m, middle, history);
}

/* -- Recomputation -- */

/* With a cache the borrowed keys are there. */
static bool borrows_tensors(const struct block_call *call)
{
    return call->borrows && !call->cache;
}

/* A call whose tensors are in a list: h, the history, lent keys. */
struct packed_call {
    struct block_call call;
    int states_in, states_out;
};

static void list_put(struct tensor **list, struct tensor *h, const struct history *history, int states,
                     const struct lent_keys *lent)
{
    list[0] = h;
    memcpy(list + 1, history->state, (size_t)states * sizeof *list);
    if (lent) {
        list[1 + states] = lent->key;
        list[2 + states] = lent->value;
        list[3 + states] = lent->states;
    }
}

static void list_take(struct tensor *const *list, struct tensor **h, struct history *history, int states,
                      struct lent_keys *lent)
{
    *h = list[0];
    history->count = states;
    memcpy(history->state, list + 1, (size_t)states * sizeof *list);
    if (lent)
        *lent = (struct lent_keys){.key = list[1 + states], .value = list[2 + states], .states = list[3 + states]};
}

static bool forward_packed(struct tape *tape, void *argument, struct tensor *const *inputs, struct tensor **outputs)
{
    const struct packed_call *packed = argument;
    struct tensor *h;
    struct history history;
    struct lent_keys lent = {0};
    list_take(inputs, &h, &history, packed->states_in, borrows_tensors(&packed->call) ? &lent : NULL);
    h = forward(tape, &packed->call, h, &history, &lent);
    if (!h)
        return false;
    list_put(outputs, h, &history, packed->states_out, packed->call.lends ? &lent : NULL);
    return true;
}

bool block_run(struct tape *tape, const struct block_call *call, struct tensor **h, struct history *history,
               struct lent_keys *lent)
{
    const struct decoder *decoder = call->decoder;
    if (tape->recording && decoder->recompute != RECOMPUTE_LAYER) {
        *h = forward(tape, call, *h, history, lent);
        return *h != NULL;
    }
    int window = history_window(&decoder->config);
    struct packed_call packed = {.call = *call, .states_in = history->count, .states_out = history->count};
    packed.states_out += block_connections(&decoder->config);
    if (packed.states_out > window)
        packed.states_out = window;
    struct tensor *inputs[BLOCK_TENSORS];
    struct tensor *outputs[BLOCK_TENSORS];
    list_put(inputs, *h, history, packed.states_in, borrows_tensors(call) ? lent : NULL);
    int input_count = 1 + packed.states_in + (borrows_tensors(call) ? LENT_KEYS : 0);
    int output_count = 1 + packed.states_out + (call->lends ? LENT_KEYS : 0);
    if (!tape_recompute(tape, forward_packed, &packed, sizeof packed, inputs, input_count, outputs, output_count))
        return false;
    list_take(outputs, h, history, packed.states_out, call->lends ? lent : NULL);
    return true;
}
