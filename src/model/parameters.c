/* Which parameters a decoder has, their names and initial values (model.md section 2), and which rank holds what. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "src/model/decoder_private.h"

/* How tensor ranks share a parameter: the range of `axis` that this rank holds, and of it what it owns. */
struct division {
    int axis;
    struct range slice;
    struct range owned;
    bool replicated;
    bool overlapping;
};

static struct division divide_not(const struct decoder *decoder, int64_t extent)
{
    bool owner = mesh_rank(decoder->mesh, MESH_TENSOR) == 0;
    struct range all = {.begin = 0, .count = extent};
    return (struct division){.axis = 0,
                             .slice = all,
                             .owned = {.begin = 0, .count = owner ? extent : 0},
                             .replicated = mesh_size(decoder->mesh, MESH_TENSOR) > 1};
}

static struct division divide(int axis, struct range part, int64_t unit)
{
    struct range slice = {.begin = part.begin * unit, .count = part.count * unit};
    return (struct division){.axis = axis, .slice = slice, .owned = slice};
}

/* Rows of a matrix are divided as evenly as possible. */
static struct division divide_evenly(const struct decoder *decoder, int axis, int64_t extent)
{
    struct range part =
        range_partition(extent, mesh_size(decoder->mesh, MESH_TENSOR), mesh_rank(decoder->mesh, MESH_TENSOR));
    return divide(axis, part, 1);
}

/* A kv head goes to every rank with a query head that uses it, and is owned by the first of them. */
static struct division divide_kv_heads(const struct decoder *decoder)
{
    const struct model_config *config = &decoder->config;
    int64_t group = config->heads / config->kv_heads;
    struct division division = divide(0, decoder->kv_heads, config->head_width);
    bool first_is_shared = decoder->heads.begin % group != 0 && decoder->heads.count > 0;
    if (first_is_shared) {
        division.owned.begin += config->head_width;
        division.owned.count -= config->head_width;
    }
    int ranks = mesh_size(decoder->mesh, MESH_TENSOR);
    for (int i = 1; i < ranks; i++) {
        struct range heads = range_partition(config->heads, ranks, i);
        if (heads.count > 0 && heads.begin % group != 0)
            division.replicated = division.overlapping = true;
    }
    return division;
}

/* A parameter in the making. */
struct declaration {
    struct parameter_spec spec;
    struct division division;
    int chunk; /* local chunk that holds it, negative when another stage does */
    bool tied;
    bool tied_copy; /* the second holder, which owns nothing and adds no spec */
};

/* Room is made for all specs and local parameters before the first is declared. */
static struct parameter *declare(struct decoder *decoder, const struct declaration *declaration)
{
    if (!declaration->tied_copy)
        decoder->specs[decoder->spec_count++] = declaration->spec;
    if (declaration->chunk < 0)
        return NULL;
    struct parameter *parameter = &decoder->parameters[decoder->parameter_count++];
    *parameter = (struct parameter){.spec = declaration->spec,
                                    .axis = declaration->division.axis,
                                    .slice = declaration->division.slice,
                                    .owned = declaration->division.owned,
                                    .replicated = declaration->division.replicated,
                                    .overlapping = declaration->division.overlapping,
                                    .tied = declaration->tied,
                                    .chunk = declaration->chunk};
    if (declaration->tied_copy)
        parameter->owned.count = 0;
    return parameter;
}

static struct parameter_spec matrix_spec(const char *name, int64_t rows, int64_t columns, double deviation)
{
    struct parameter_spec spec = {.rank = 2,
                                  .shape = {rows, columns},
                                  .initial = INITIAL_NORMAL,
                                  .deviation = deviation,
                                  .decay = true,
                                  .rate_factor = 1.0};
    snprintf(spec.name, sizeof spec.name, "%s", name);
    return spec;
}

static struct parameter_spec vector_spec(const char *name, int64_t length, enum parameter_initial initial)
{
    struct parameter_spec spec = {.rank = 1, .shape = {length}, .initial = initial, .rate_factor = 1.0};
    snprintf(spec.name, sizeof spec.name, "%s", name);
    return spec;
}

static struct linear_parameters declare_norm(struct decoder *decoder, int chunk, const char *name)
{
    const struct model_config *config = &decoder->config;
    struct linear_parameters norm = {0};
    char full[PARAMETER_NAME];
    struct declaration declaration = {.division = divide_not(decoder, config->width), .chunk = chunk};
    snprintf(full, sizeof full, "%s.weight", name);
    declaration.spec = vector_spec(full, config->width, INITIAL_ONE);
    norm.weight = declare(decoder, &declaration);
    if (config->bias && config->norm == NORM_LAYER) {
        snprintf(full, sizeof full, "%s.bias", name);
        declaration.spec = vector_spec(full, config->width, INITIAL_ZERO);
        norm.bias = declare(decoder, &declaration);
    }
    return norm;
}

/* What a layer's linear maps have in common. */
struct layer_names {
    int64_t layer;
    int chunk;
};

static struct linear_parameters declare_linear(struct decoder *decoder, const struct layer_names *layer,
                                               const char *name, int64_t rows, int64_t columns,
                                               struct division division, double deviation)
{
    struct linear_parameters linear = {0};
    char full[PARAMETER_NAME];
    struct declaration declaration = {.division = division, .chunk = layer->chunk};
    snprintf(full, sizeof full, "model.layers.%lld.%s.weight", (long long)layer->layer, name);
    declaration.spec = matrix_spec(full, rows, columns, deviation);
    linear.weight = declare(decoder, &declaration);
    if (decoder->config.bias) {
        snprintf(full, sizeof full, "model.layers.%lld.%s.bias", (long long)layer->layer, name);
        declaration.spec = vector_spec(full, rows, INITIAL_ZERO);
        /* Divided rows take their part of the bias along; a sum over ranks gets the bias once, after it. */
        if (division.axis != 0)
            declaration.division = divide_not(decoder, rows);
        linear.bias = declare(decoder, &declaration);
    }
    return linear;
}

static void declare_block(struct decoder *decoder, int64_t layer, int chunk, struct block *block)
{
    const struct model_config *config = &decoder->config;
    const double usual = 0.02;
    const double into_stream = 0.02 / sqrt(2.0 * (double)config->layers);
    int64_t query_width = config->heads * config->head_width;
    int64_t kv_width = config->kv_heads * config->head_width;
    struct layer_names names = {.layer = layer, .chunk = chunk};
    char norm_name[PARAMETER_NAME];

    block->layer = layer;
    snprintf(norm_name, sizeof norm_name, "model.layers.%lld.input_layernorm", (long long)layer);
    block->input_norm = declare_norm(decoder, chunk, norm_name);
    struct division heads = divide(0, decoder->heads, config->head_width);
    struct division kv_heads = divide_kv_heads(decoder);
    block->query = declare_linear(decoder, &names, "self_attn.q_proj", query_width, config->width, heads, usual);
    block->key = declare_linear(decoder, &names, "self_attn.k_proj", kv_width, config->width, kv_heads, usual);
    block->value = declare_linear(decoder, &names, "self_attn.v_proj", kv_width, config->width, kv_heads, usual);
    heads = divide(1, decoder->heads, config->head_width);
    block->output = declare_linear(decoder, &names, "self_attn.o_proj", config->width, query_width, heads, into_stream);

    if (!config->parallel_block) {
        snprintf(norm_name, sizeof norm_name, "model.layers.%lld.post_attention_layernorm", (long long)layer);
        block->post_norm = declare_norm(decoder, chunk, norm_name);
    }
    struct division rows = divide_evenly(decoder, 0, config->hidden);
    struct division columns = divide_evenly(decoder, 1, config->hidden);
    if (config->mlp == MLP_SWIGLU)
        block->gate = declare_linear(decoder, &names, "mlp.gate_proj", config->hidden, config->width, rows, usual);
    block->up = declare_linear(decoder, &names, "mlp.up_proj", config->hidden, config->width, rows, usual);
    block->down = declare_linear(decoder, &names, "mlp.down_proj", config->width, config->hidden, columns, into_stream);
}

int decoder_block_count(const struct decoder *decoder)
{
    int64_t count = 0;
    for (int i = 0; i < decoder->chunks; i++)
        count += decoder->layers[i].count;
    return (int)count;
}

/* The local chunk that holds a layer, or -1. */
static int chunk_of_layer(const struct decoder *decoder, int64_t layer)
{
    for (int i = 0; i < decoder->chunks; i++)
        if (layer >= decoder->layers[i].begin && layer < decoder->layers[i].begin + decoder->layers[i].count)
            return i;
    return -1;
}

static void declare_all(struct decoder *decoder)
{
    const struct model_config *config = &decoder->config;
    int stage = mesh_rank(decoder->mesh, MESH_PIPELINE);
    int stages = mesh_size(decoder->mesh, MESH_PIPELINE);
    int first = stage == 0 ? 0 : -1;
    int last = stage == stages - 1 ? decoder->chunks - 1 : -1;
    bool tied = config->tied_embeddings && stages > 1;

    struct declaration table = {
        .spec = matrix_spec("model.embed_tokens.weight", config->vocabulary, config->width, 0.02),
        .division = divide_evenly(decoder, 0, config->vocabulary),
        .chunk = first,
        .tied = tied,
    };
    decoder->embedding = declare(decoder, &table);
    if (config->positions == POSITIONS_LEARNED) {
        struct declaration positions = {
            .spec = matrix_spec("model.embed_positions.weight", config->max_positions, config->width, 0.02),
            .division = divide_not(decoder, config->max_positions),
            .chunk = first,
        };
        decoder->positions = declare(decoder, &positions);
    }
    int local = 0;
    for (int64_t layer = 0; layer < config->layers; layer++) {
        int chunk = chunk_of_layer(decoder, layer);
        struct block elsewhere = {0};
        declare_block(decoder, layer, chunk, chunk < 0 ? &elsewhere : &decoder->blocks[local++]);
    }
    decoder->final_norm = declare_norm(decoder, last, "model.norm");
    if (!config->tied_embeddings) {
        struct declaration head = table;
        snprintf(head.spec.name, sizeof head.spec.name, "lm_head.weight");
        head.chunk = last;
        decoder->head = declare(decoder, &head);
    } else if (tied) {
        table.tied_copy = true;
        table.chunk = last;
        decoder->head = declare(decoder, &table);
    } else {
        decoder->head = decoder->embedding;
    }
}

enum status decoder_declare(struct decoder *decoder, int64_t bucket_bytes, bool trains)
{
    struct context *context = decoder->context;
    /* A layer has at most 9 linear maps and norms, each with a bias; around the layers there are at most 6 more. */
    size_t most = 18 * (size_t)decoder->config.layers + 6;
    decoder->specs = memory_allocate(context, most * sizeof *decoder->specs, MEMORY_OTHER);
    decoder->parameters = memory_allocate(context, most * sizeof *decoder->parameters, MEMORY_OTHER);
    decoder->blocks =
        memory_allocate(context, ((size_t)decoder_block_count(decoder) + 1) * sizeof *decoder->blocks, MEMORY_OTHER);
    if (!decoder->specs || !decoder->parameters || !decoder->blocks)
        return STATUS_MEMORY;
    declare_all(decoder);
    struct parameter **list =
        memory_allocate(context, ((size_t)decoder->parameter_count + 1) * sizeof *list, MEMORY_OTHER);
    if (!list)
        return STATUS_MEMORY;
    for (int i = 0; i < decoder->parameter_count; i++)
        list[i] = &decoder->parameters[i];
    enum status status = replica_create(context, decoder->mesh, decoder->engine, list, decoder->parameter_count,
                                        decoder->dtype, bucket_bytes, trains, &decoder->replica);
    memory_free(context, list);
    return status;
}

void decoder_initialize(struct decoder *decoder, uint64_t seed)
{
    int count;
    const struct shard *shards = replica_shards(decoder->replica, &count);
    for (int i = 0; i < count; i++)
        parameter_initialize(shards[i].parameter, seed, shards[i].flat, shards[i].master);
    replica_gather(decoder->replica);
}

int64_t decoder_parameter_total(const struct decoder *decoder)
{
    int64_t total = 0;
    for (int i = 0; i < decoder->spec_count; i++) {
        int64_t count = 1;
        for (int axis = 0; axis < decoder->specs[i].rank; axis++)
            count *= decoder->specs[i].shape[axis];
        total += count;
    }
    return total;
}

/* Multiplications of a layer for one token going forward: its weights, and two products of query by half the keys. */
static double layer_products(const struct model_config *config, int64_t length)
{
    double width = (double)config->width;
    double query = (double)(config->heads * config->head_width);
    double kv = (double)(config->kv_heads * config->head_width);
    double mlp = (config->mlp == MLP_SWIGLU ? 3.0 : 2.0) * width * (double)config->hidden;
    return width * (2.0 * query + 2.0 * kv) + mlp + query * ((double)length + 1.0);
}

static double head_products(const struct model_config *config)
{
    return (double)config->width * (double)config->vocabulary;
}

double decoder_flops_per_token(const struct model_config *config, int64_t length)
{
    /* A multiplication and an addition, forward once and backward twice. */
    return 6.0 * ((double)config->layers * layer_products(config, length) + head_products(config));
}

double decoder_head_cost(const struct model_config *config, int64_t length)
{
    return head_products(config) / layer_products(config, length);
}
