/* Which parameters a decoder has, their names, initial values and decay (src/model/README.md sections 2 to 7), and
 * which pipeline stage holds them. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "src/model/decoder_private.h"
#include "src/model/layers.h"
#include "src/model/stages.h"

/* Deviation of most initial values. */
static const double usual = 0.02;

/* -- Declaring one -- */

enum { PREFIX = 64 };

struct parameter_spec part_matrix(const struct part *part, const char *name, const char *suffix, int64_t rows,
                                  int64_t columns)
{
    struct parameter_spec spec = {
        .rank = 2, .shape = {rows, columns}, .initial = INITIAL_NORMAL, .deviation = usual, .decay = true};
    snprintf(spec.name, sizeof spec.name, "%s%s%s", part->prefix, name, suffix);
    return spec;
}

struct parameter_spec part_vector(const struct part *part, const char *name, const char *suffix, int64_t length,
                                  enum parameter_initial initial)
{
    struct parameter_spec spec = {.rank = 1, .shape = {length}, .initial = initial, .deviation = usual};
    snprintf(spec.name, sizeof spec.name, "%s%s%s", part->prefix, name, suffix);
    return spec;
}

struct parameter *part_declare(struct decoder *decoder, const struct part *part, enum parameter_group group,
                               const struct parameter_spec *spec, struct parameter_division division)
{
    struct parameter_spec whole = *spec;
    whole.group = (int)group;
    whole.repeats = part->uses;
    return parameter_declare(decoder->list, &whole, &division, part->here, part->chunk);
}

struct parameter *part_declare_whole(struct decoder *decoder, const struct part *part, enum parameter_group group,
                                     const struct parameter_spec *spec)
{
    return part_declare(decoder, part, group, spec, division_whole(decoder, spec->shape[0]));
}

/* -- Layers -- */

/* The chunk of the model that runs an unrolled layer. */
static int64_t chunk_of(const struct decoder *decoder, int64_t layer)
{
    int64_t chunks = decoder_model_chunks(decoder);
    for (int64_t chunk = 0; decoder->mesh && chunk < chunks; chunk++) {
        struct range layers = stages_layers(&decoder->config, mesh_config(decoder->mesh), chunk, decoder->max_length);
        if (layer >= layers.begin && layer < layers.begin + layers.count)
            return chunk;
    }
    return 0;
}

static struct linear_parameters part_declare_norm(struct decoder *decoder, const struct part *part, const char *name)
{
    const struct model_config *config = &decoder->config;
    struct linear_parameters norm = {0};
    struct parameter_spec weight = part_vector(part, name, ".weight", config->width, INITIAL_ONE);
    norm.weight = part_declare_whole(decoder, part, GROUP_NORMS, &weight);
    if (config->bias && config->norm == NORM_LAYER) {
        struct parameter_spec bias = part_vector(part, name, ".bias", config->width, INITIAL_ZERO);
        norm.bias = part_declare_whole(decoder, part, GROUP_NORMS, &bias);
    }
    return norm;
}

struct linear_map {
    enum parameter_group group;
    const char *name;
    int64_t rows, columns;
    struct parameter_division division;
    double deviation;
    bool bias;
    bool of_keys; /* or values, which later recursions may borrow from the first */
};

/* The linear layers of a block. */
enum { LINEARS = 7 };

/* The unrolled layer that is the use-th of a stored one. */
static int64_t find_use(const struct decoder *decoder, int64_t stored, int64_t use)
{
    const struct model_config *config = &decoder->config;
    for (int64_t layer = 0; layer < config->layers; layer++)
        if (layers_stored_of(config, layer) == stored && layers_use(config, layer) == use)
            return layer;
    context_fail(decoder->context, STATUS_INTERNAL, "stored layer %lld has no use %lld", (long long)stored,
                 (long long)use);
    return 0;
}

/* What divides W divides one of the two, and the other is whole on every tensor rank: up has W's rows, or down its
 * columns. */
static struct low_rank declare_maps(struct decoder *decoder, const struct part *part, const struct linear_map *map,
                                    int64_t rank)
{
    bool rows = map->division.axis == 0;
    struct parameter_spec down = part_matrix(part, map->name, ".lora_down.weight", rank, map->columns);
    struct parameter_spec up = part_matrix(part, map->name, ".lora_up.weight", map->rows, rank);
    up.initial = INITIAL_ZERO;
    down.is_matrix = up.is_matrix = true;
    struct parameter_division whole = division_whole(decoder, rows ? rank : map->rows);
    return (struct low_rank){.down = part_declare(decoder, part, GROUP_LORA, &down, rows ? whole : map->division),
                             .up = part_declare(decoder, part, GROUP_LORA, &up, rows ? map->division : whole)};
}

static const struct low_rank *declare_recursions_maps(struct decoder *decoder, const struct part *layer,
                                                      const struct linear_map *map)
{
    const struct model_config *config = &decoder->config;
    int64_t uses = map->of_keys && decoder_lends(decoder) ? 1 : config->depth.recursions;
    struct low_rank *low_rank = layer->here ? decoder->low_ranks + decoder->low_rank_count : NULL;
    decoder->low_rank_count += layer->here ? config->depth.recursions : 0;
    for (int64_t use = 0; use < uses; use++) {
        char prefix[PREFIX];
        struct part part = {.prefix = prefix,
                            .here = layer->here,
                            .uses = 1,
                            .chunk = chunk_of(decoder, find_use(decoder, layer->layer, use))};
        snprintf(prefix, sizeof prefix, "model.recursions.%lld.layers.%lld.", (long long)use, (long long)layer->layer);
        struct low_rank own = declare_maps(decoder, &part, map, config->depth.lora_rank);
        if (low_rank)
            low_rank[use] = own;
    }
    return low_rank;
}

/* What learns beside a linear layer that does not: all uses of it have the same. */
static const struct low_rank *declare_lora(struct decoder *decoder, const struct part *layer,
                                           const struct linear_map *map)
{
    struct low_rank own = declare_maps(decoder, layer, map, decoder->config.lora.rank);
    struct low_rank *low_rank = layer->here ? decoder->low_ranks + decoder->low_rank_count++ : NULL;
    if (low_rank)
        *low_rank = own;
    return low_rank;
}

static struct linear_parameters declare_linear(struct decoder *decoder, const struct part *layer,
                                               const struct linear_map *map)
{
    struct linear_parameters linear = {0};
    struct parameter_spec weight = part_matrix(layer, map->name, ".weight", map->rows, map->columns);
    weight.deviation = map->deviation;
    weight.is_matrix = true;
    linear.weight = part_declare(decoder, layer, map->group, &weight, map->division);
    if (decoder->config.bias || map->bias) {
        struct parameter_spec bias = part_vector(layer, map->name, ".bias", map->rows, INITIAL_ZERO);
        /* Divided rows take their part of the bias along; a sum over ranks gets the bias once, after it. */
        bool divided = map->division.axis == 0;
        linear.bias = divided ? part_declare(decoder, layer, map->group, &bias, map->division)
                              : part_declare_whole(decoder, layer, map->group, &bias);
    }
    if (layer->low_rank)
        linear.low_rank = declare_recursions_maps(decoder, layer, map);
    else if (layers_lora(&decoder->config, strrchr(map->name, '.') + 1))
        linear.low_rank = declare_lora(decoder, layer, map);
    return linear;
}

/* Deviation of the maps that add to the residual stream, two in each unrolled layer. */
static double into_residual(const struct model_config *config)
{
    return usual / sqrt(2.0 * (double)config->layers);
}

/* Short convolutions that leave everything as it is, and strengths of writing that are the same for all tokens. */
static void declare_gated_delta(struct decoder *decoder, const struct part *layer, struct block *block)
{
    static const char *const names[] = {"self_attn.memory_conv_q", "self_attn.memory_conv_k",
                                        "self_attn.memory_conv_v"};
    const struct model_config *config = &decoder->config;
    struct parameter_division kv_heads = division_kv_heads(decoder, 1);
    struct parameter_spec weight =
        part_matrix(layer, "self_attn.memory_write", ".weight", config->kv_heads, config->width);
    struct parameter_spec bias =
        part_vector(layer, "self_attn.memory_write", ".bias", config->kv_heads, INITIAL_CONSTANT);
    weight.initial = INITIAL_ZERO;
    bias.deviation = -2.0;
    block->memory_write.weight = part_declare(decoder, layer, GROUP_ATTENTION, &weight, kv_heads);
    block->memory_write.bias = part_declare(decoder, layer, GROUP_ATTENTION, &bias, kv_heads);
    for (int i = 0; i < 3; i++) {
        int64_t heads = i == 0 ? config->heads : config->kv_heads;
        struct parameter_spec spec =
            part_matrix(layer, names[i], ".weight", heads * config->head_width, CONVOLUTION_TAPS);
        spec.initial = INITIAL_FIRST;
        spec.decay = false;
        spec.keeps_float = true;
        block->memory_convolution[i] = part_declare(decoder, layer, GROUP_ATTENTION, &spec,
                                                    i == 0 ? division_units(0, decoder->heads, config->head_width)
                                                           : division_kv_heads(decoder, config->head_width));
    }
}

static void declare_memory(struct decoder *decoder, const struct part *layer, struct block *block)
{
    const struct model_config *config = &decoder->config;
    struct parameter_division heads = division_units(0, decoder->heads, 1);
    struct parameter_spec gate = part_vector(layer, "self_attn", ".memory_gate", config->heads, INITIAL_ZERO);
    gate.is_gate = gate.keeps_float = true;
    block->memory_gate = part_declare(decoder, layer, GROUP_MEMORY_GATES, &gate, heads);
    if (config->attention.memory_update == MEMORY_UPDATE_GATED_DELTA)
        declare_gated_delta(decoder, layer, block);
    if (config->attention.readout_norm) {
        struct parameter_spec norm =
            part_matrix(layer, "self_attn.memory_norm", ".weight", config->heads, config->head_width);
        norm.initial = INITIAL_ONE;
        norm.decay = false;
        norm.keeps_float = true;
        block->memory_norm = part_declare(decoder, layer, GROUP_NORMS, &norm, heads);
    }
}

static void declare_attention(struct decoder *decoder, const struct part *layer, struct block *block)
{
    const struct model_config *config = &decoder->config;
    int64_t width = config->width;
    int64_t query = config->heads * config->head_width;
    int64_t kv = config->kv_heads * config->head_width;
    bool inputs = config->attention.bias;
    struct parameter_division rows = division_units(0, decoder->heads, config->head_width);
    struct parameter_division kv_rows = division_kv_heads(decoder, config->head_width);
    struct parameter_division columns = division_units(1, decoder->heads, config->head_width);
    const struct linear_map maps[] = {
        {GROUP_ATTENTION, "self_attn.q_proj", query, width, rows, usual, inputs},
        {GROUP_ATTENTION, "self_attn.k_proj", kv, width, kv_rows, usual, inputs, .of_keys = true},
        {GROUP_ATTENTION, "self_attn.v_proj", kv, width, kv_rows, usual, inputs, .of_keys = true},
        {GROUP_ATTENTION, "self_attn.o_proj", width, query, columns, into_residual(config), false},
    };
    block->query = declare_linear(decoder, layer, &maps[0]);
    block->key = declare_linear(decoder, layer, &maps[1]);
    block->value = declare_linear(decoder, layer, &maps[2]);
    if (config->attention.kind == ATTENTION_INFINI)
        declare_memory(decoder, layer, block);
    block->output = declare_linear(decoder, layer, &maps[3]);
}

static void declare_mlp(struct decoder *decoder, const struct part *layer, struct block *block)
{
    const struct model_config *config = &decoder->config;
    struct parameter_division rows = division_even(decoder, 0, config->hidden);
    struct parameter_division columns = division_even(decoder, 1, config->hidden);
    const struct linear_map maps[] = {
        {GROUP_MLP, "mlp.gate_proj", config->hidden, config->width, rows, usual, false},
        {GROUP_MLP, "mlp.up_proj", config->hidden, config->width, rows, usual, false},
        {GROUP_MLP, "mlp.down_proj", config->width, config->hidden, columns, into_residual(config), false},
    };
    if (config->mlp == MLP_SWIGLU)
        block->gate = declare_linear(decoder, layer, &maps[0]);
    block->up = declare_linear(decoder, layer, &maps[1]);
    block->down = declare_linear(decoder, layer, &maps[2]);
}

/* One matrix for each previous state of the residual stream. */
static void repeat_spec(struct parameter_spec *spec, int64_t times)
{
    memmove(spec->shape + 1, spec->shape, (size_t)spec->rank * sizeof *spec->shape);
    spec->shape[0] = times;
    spec->rank++;
}

/* Section 6: starts as the plain sum, whatever its form. */
static struct residual_parameters declare_residual(struct decoder *decoder, const struct part *layer, const char *name)
{
    const struct model_config *config = &decoder->config;
    int64_t rank = config->residual.rank;
    int64_t previous = config->residual.previous;
    struct residual_parameters residual = {0};
    if (config->residual.weights) {
        struct parameter_spec weights = part_vector(layer, name, ".weights", 2, INITIAL_ZERO);
        weights.keeps_float = true;
        residual.weights = part_declare_whole(decoder, layer, GROUP_RESIDUAL, &weights);
    }
    if (rank > 0) {
        struct parameter_spec down = part_matrix(layer, name, ".down.weight", rank, config->width);
        struct parameter_spec up = part_matrix(layer, name, ".up.weight", config->width, rank);
        down.initial = INITIAL_ORTHOGONAL;
        down.deviation = 1.0 / sqrt((double)(rank * config->width));
        up.initial = INITIAL_ZERO;
        down.is_matrix = up.is_matrix = true;
        if (previous > 0) {
            repeat_spec(&down, previous);
            repeat_spec(&up, previous);
        }
        residual.down = part_declare_whole(decoder, layer, GROUP_RESIDUAL, &down);
        residual.up = part_declare_whole(decoder, layer, GROUP_RESIDUAL, &up);
    }
    if (previous > 0) {
        struct parameter_spec gamma =
            part_vector(layer, name, ".gamma", previous, rank > 0 ? INITIAL_ONE : INITIAL_ZERO);
        gamma.keeps_float = true;
        residual.gamma = part_declare_whole(decoder, layer, GROUP_RESIDUAL, &gamma);
    }
    return residual;
}

/* Of one value a token: a MoD layer's, or that of a recursion that chooses its tokens. */
static struct parameter *declare_router(struct decoder *decoder, const struct part *part)
{
    struct parameter_spec spec = part_vector(part, "router", ".weight", decoder->config.width, INITIAL_NORMAL);
    spec.keeps_float = true;
    return part_declare_whole(decoder, part, GROUP_ROUTERS, &spec);
}

static void declare_predictor(struct decoder *decoder, const struct part *layer, struct block *block)
{
    int64_t width = decoder->config.width;
    struct parameter_spec in = part_matrix(layer, "predictor", ".fc1.weight", width / 2, width);
    struct parameter_spec out = part_matrix(layer, "predictor", ".fc2.weight", 1, width / 2);
    in.decay = out.decay = false;
    block->predictor_in = part_declare_whole(decoder, layer, GROUP_PREDICTORS, &in);
    block->predictor_out = part_declare_whole(decoder, layer, GROUP_PREDICTORS, &out);
}

/* Section 13: begins as no change. */
static void declare_adapter(struct decoder *decoder, const struct part *layer, int64_t inner, struct block *block)
{
    const struct model_config *config = &decoder->config;
    char prefix[PREFIX];
    struct part part = *layer;
    part.prefix = prefix;
    snprintf(prefix, sizeof prefix, "model.adapters.%lld.", (long long)layer->layer);
    block->adapter_norm = part_declare_norm(decoder, &part, "norm");
    struct parameter_spec down = part_matrix(&part, "down", ".weight", inner, config->width);
    struct parameter_spec up = part_matrix(&part, "up", ".weight", config->width, inner);
    up.initial = INITIAL_ZERO;
    down.is_matrix = up.is_matrix = true;
    block->adapter_down.weight = part_declare_whole(decoder, &part, GROUP_ADAPTERS, &down);
    block->adapter_up.weight = part_declare_whole(decoder, &part, GROUP_ADAPTERS, &up);
    if (!config->bias)
        return;
    struct parameter_spec down_bias = part_vector(&part, "down", ".bias", inner, INITIAL_ZERO);
    struct parameter_spec up_bias = part_vector(&part, "up", ".bias", config->width, INITIAL_ZERO);
    block->adapter_down.bias = part_declare_whole(decoder, &part, GROUP_ADAPTERS, &down_bias);
    block->adapter_up.bias = part_declare_whole(decoder, &part, GROUP_ADAPTERS, &up_bias);
}

static void declare_block(struct decoder *decoder, const struct part *layer, struct block *block)
{
    const struct model_config *config = &decoder->config;
    bool laurel = config->residual.kind == RESIDUAL_LAUREL;
    bool each = config->residual.scope == RESIDUAL_SUBLAYER;
    int64_t adapter = layers_adapter(config, layer->layer);
    if (adapter > 0)
        declare_adapter(decoder, layer, adapter, block);
    if (layers_routed(config, block->layer)) {
        block->router = declare_router(decoder, layer);
        if (config->depth.causal_router == CAUSAL_ROUTER_PREDICTOR)
            declare_predictor(decoder, layer, block);
    }
    block->input_norm = part_declare_norm(decoder, layer, "input_layernorm");
    declare_attention(decoder, layer, block);
    if (laurel && each)
        block->attention_residual = declare_residual(decoder, layer, "attn_residual");
    if (!config->parallel_block)
        block->post_norm = part_declare_norm(decoder, layer, "post_attention_layernorm");
    declare_mlp(decoder, layer, block);
    if (laurel && each)
        block->mlp_residual = declare_residual(decoder, layer, "mlp_residual");
    if (laurel && !each)
        block->residual = declare_residual(decoder, layer, "residual");
}

/* -- The model -- */

/* How many of the unrolled layers in a range use a stored layer. */
static int64_t count_uses(const struct model_config *config, struct range layers, int64_t stored)
{
    int64_t uses = 0;
    for (int64_t layer = layers.begin; layer < layers.begin + layers.count; layer++)
        uses += layers_stored_of(config, layer) == stored;
    return uses;
}

static bool is_here(const struct decoder *decoder, int64_t stored)
{
    for (int i = 0; i < decoder->chunks; i++)
        if (count_uses(&decoder->config, decoder->layers[i], stored) > 0)
            return true;
    return false;
}

static void declare_layers(struct decoder *decoder)
{
    const struct model_config *config = &decoder->config;
    struct range all = {.begin = 0, .count = config->layers};
    int64_t stored = layers_stored(config);
    for (int64_t layer = 0; layer < stored; layer++) {
        char prefix[PREFIX];
        struct block elsewhere = {0};
        int64_t first = 0; /* unrolled layer that uses it */
        while (layers_stored_of(config, first) != layer)
            first++;
        struct part part = {.prefix = prefix,
                            .here = is_here(decoder, layer),
                            .uses = count_uses(config, all, layer),
                            .chunk = chunk_of(decoder, first),
                            .layer = layer,
                            .low_rank = config->depth.lora_rank > 0 && layers_use(config, first) >= 0};
        snprintf(prefix, sizeof prefix, "model.layers.%lld.", (long long)layer);
        struct block *block = part.here ? &decoder->blocks[decoder->block_count++] : &elsewhere;
        block->layer = layer;
        declare_block(decoder, &part, block);
    }
}

/* Of section 5; on the stage where recursions begin. */
static void declare_recursions(struct decoder *decoder)
{
    const struct model_config *config = &decoder->config;
    char prefix[PREFIX] = "model.";
    int64_t begin;
    int64_t count;
    if (config->depth.kind != DEPTH_MOR)
        return;
    layers_shared(config, &begin, &count);
    struct part part = {
        .prefix = prefix, .here = decoder_holds_layer(decoder, begin), .uses = 1, .chunk = chunk_of(decoder, begin)};
    for (int64_t r = 0; config->depth.routing == ROUTING_EXPERT && r < config->depth.recursions; r++) {
        snprintf(prefix, sizeof prefix, "model.recursions.%lld.", (long long)r);
        decoder->recursion_routers[r] = declare_router(decoder, &part);
    }
    if (config->depth.routing == ROUTING_TOKEN) {
        struct parameter_spec spec = part_matrix(&part, "router", ".weight", config->depth.recursions, config->width);
        spec.keeps_float = true;
        decoder->depth_router = part_declare_whole(decoder, &part, GROUP_ROUTERS, &spec);
    }
}

static void declare_all(struct decoder *decoder)
{
    int stage = decoder_rank(decoder, MESH_PIPELINE);
    struct part first = {.prefix = "", .here = stage == 0, .uses = 1};
    struct part last = {.prefix = "",
                        .here = stage == decoder_size(decoder, MESH_PIPELINE) - 1,
                        .uses = 1,
                        .chunk = decoder_model_chunks(decoder) - 1};
    decoder->ends->declare_first(decoder, &first);
    declare_recursions(decoder);
    declare_layers(decoder);
    decoder->final_norm = part_declare_norm(decoder, &last, "model.norm");
    decoder->ends->declare_last(decoder, &last);
}

enum status decoder_declare(struct decoder *decoder)
{
    struct context *context = decoder->context;
    decoder->ends = decoder_ends_of(&decoder->config);
    size_t layers = (size_t)layers_stored(&decoder->config);
    size_t recursions = decoder->config.depth.kind == DEPTH_MOR ? (size_t)decoder->config.depth.recursions : 0;
    decoder->blocks = memory_allocate(context, layers * sizeof *decoder->blocks, MEMORY_OTHER);
    decoder->recursion_routers =
        memory_allocate(context, recursions * sizeof *decoder->recursion_routers, MEMORY_OTHER);
    size_t uses = decoder->config.depth.lora_rank > 0 ? recursions : decoder->config.lora.rank > 0; /* with maps */
    decoder->low_ranks = memory_allocate(context, layers * LINEARS * uses * sizeof *decoder->low_ranks, MEMORY_OTHER);
    if (!decoder->blocks || !decoder->recursion_routers || !decoder->low_ranks)
        return STATUS_MEMORY;
    declare_all(decoder);
    return context->status;
}

enum status decoder_describe(struct context *context, const struct model_config *config, struct parameter_list *list)
{
    struct range all = {.begin = 0, .count = config->layers};
    struct decoder description = {.context = context,
                                  .config = *config,
                                  .list = list,
                                  .heads.count = config->heads,
                                  .kv_heads.count = config->kv_heads,
                                  .vocabulary.count = config->vocabulary,
                                  .chunks = 1,
                                  .layers = &all};
    enum status status = decoder_declare(&description);
    memory_free(context, description.blocks);
    memory_free(context, description.recursion_routers);
    memory_free(context, description.low_ranks);
    return status;
}

const struct block *decoder_block(const struct decoder *decoder, int64_t layer)
{
    int64_t stored = layers_stored_of(&decoder->config, layer);
    for (int i = 0; i < decoder->block_count; i++)
        if (decoder->blocks[i].layer == stored)
            return &decoder->blocks[i];
    return NULL;
}
