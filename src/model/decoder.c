#include "src/model/decoder.h"

#include <math.h>
#include <string.h>

#include "dist/parallel/vocabulary.h"
#include "src/model/decoder_private.h"

/* -- The equations of model.md section 2 ------------------------------------------------------------------------- */

/* What a block's functions need besides their input. */
struct block_call {
    struct decoder *decoder;
    const struct block *block;
    const struct decoder_input *input;
    int index; /* of the block on this rank */
};

static struct tensor *value_of(struct parameter *parameter)
{
    return parameter ? &parameter->value : NULL;
}

static struct tensor *apply(struct tape *tape, const struct linear_parameters *parameters, struct tensor *x)
{
    return linear(tape, x, value_of(parameters->weight), value_of(parameters->bias), x ? x->dtype : DTYPE_F32);
}

/* W x without the bias, which goes in once the ranks' parts are summed. */
static struct tensor *apply_part(struct tape *tape, const struct linear_parameters *parameters, struct tensor *x)
{
    return linear(tape, x, value_of(parameters->weight), NULL, x ? x->dtype : DTYPE_F32);
}

static struct tensor *normalize(struct tape *tape, const struct decoder *decoder,
                                const struct linear_parameters *parameters, struct tensor *h)
{
    return norm(tape, h, value_of(parameters->weight), value_of(parameters->bias), decoder->config.norm,
                decoder->config.norm_epsilon);
}

/* Adds keys or values behind those of earlier tokens; returns all of them. */
static struct tensor *remember(struct tape *tape, struct decoder_cache *cache, void *rows, struct tensor *fresh)
{
    if (!fresh)
        return NULL;
    size_t row = (size_t)tensor_columns(fresh) * dtype_size(fresh->dtype);
    memcpy((char *)rows + (size_t)cache->length * row, fresh->data, (size_t)tensor_rows(fresh) * row);
    int64_t shape[2] = {cache->length + tensor_rows(fresh), tensor_columns(fresh)};
    return tape_leaf(tape, fresh->dtype, 2, shape, rows, false);
}

/* n [tokens, D] -> this rank's heads' part of a Wo^T [tokens, D]. */
static struct tensor *attention_part(struct tape *tape, void *argument, struct tensor *n)
{
    const struct block_call *call = argument;
    const struct decoder *decoder = call->decoder;
    const struct decoder_input *input = call->input;
    const struct block *block = call->block;
    struct attention_shape shape = {.rows = input->rows,
                                    .length = input->length,
                                    .keys_length = input->length,
                                    .heads = decoder->heads.count,
                                    .kv_heads = decoder->kv_heads.count,
                                    .width = decoder->config.head_width,
                                    .kv_of_head = decoder->kv_of_head};

    struct tensor *q = apply(tape, &block->query, n);
    struct tensor *k = apply(tape, &block->key, n);
    struct tensor *v = apply(tape, &block->value, n);
    if (decoder->config.positions == POSITIONS_ROPE) {
        q = rope(tape, q, shape.width, input->positions, decoder->cosine, decoder->sine);
        k = rope(tape, k, shape.width, input->positions, decoder->cosine, decoder->sine);
    }
    if (input->cache) {
        k = remember(tape, input->cache, input->cache->keys[call->index], k);
        v = remember(tape, input->cache, input->cache->values[call->index], v);
        shape.keys_length += input->cache->length;
    }
    struct tensor *a = attention(tape, q, k, v, &shape);
    return apply_part(tape, &block->output, a);
}

static struct tensor *mlp_part(struct tape *tape, const struct block_call *call, struct tensor *m)
{
    const struct block *block = call->block;
    struct tensor *up = apply(tape, &block->up, m);
    struct tensor *inner =
        call->decoder->config.mlp == MLP_SWIGLU ? swiglu(tape, apply(tape, &block->gate, m), up) : gelu(tape, up);
    return apply_part(tape, &block->down, inner);
}

/* The sum of the ranks' parts, this rank's tokens of it, plus the bias. */
static struct tensor *sum_parts(struct tape *tape, const struct block_call *call, struct tensor *part,
                                const struct linear_parameters *parameters)
{
    struct tensor *sum = sequence_scatter(tape, call->decoder->mesh, part);
    return parameters->bias ? bias_add(tape, sum, value_of(parameters->bias)) : sum;
}

static struct tensor *block_forward(struct tape *tape, void *argument, struct tensor *h)
{
    struct block_call *call = argument;
    struct decoder *decoder = call->decoder;
    const struct block *block = call->block;
    int64_t tokens = call->input->rows * call->input->length;

    struct tensor *n = normalize(tape, decoder, &block->input_norm, h);
    n = sequence_gather(tape, decoder->mesh, n, tokens);
    struct tensor *a = tape->recording && decoder->recompute == RECOMPUTE_ATTENTION
                           ? tape_recompute(tape, attention_part, call, sizeof *call, n)
                           : attention_part(tape, call, n);
    if (decoder->config.parallel_block) {
        struct tensor *both = add(tape, a, mlp_part(tape, call, n));
        both = sum_parts(tape, call, both, &block->output);
        if (block->down.bias)
            both = bias_add(tape, both, value_of(block->down.bias));
        return add(tape, h, both);
    }
    h = add(tape, h, sum_parts(tape, call, a, &block->output));

    struct tensor *m = normalize(tape, decoder, &block->post_norm, h);
    m = sequence_gather(tape, decoder->mesh, m, tokens);
    return add(tape, h, sum_parts(tape, call, mlp_part(tape, call, m), &block->down));
}

static struct tensor *embed(struct tape *tape, struct decoder *decoder, const struct decoder_input *input)
{
    int64_t tokens = input->rows * input->length;
    struct tensor *h = embedding(tape, value_of(decoder->embedding), input->tokens, tokens, decoder->vocabulary.begin);
    h = sequence_scatter(tape, decoder->mesh, h);
    if (!decoder->positions)
        return h;
    struct range part = sequence_part(decoder->mesh, tokens);
    return add(tape, h, embedding(tape, value_of(decoder->positions), input->positions + part.begin, part.count, 0));
}

/* The last token alone, where only its logits are wanted. */
static struct tensor *last_token(struct tape *tape, struct tensor *n)
{
    int64_t tokens = tensor_rows(n);
    size_t row = (size_t)tensor_columns(n) * dtype_size(n->dtype);
    int64_t shape[2] = {1, tensor_columns(n)};
    return tape_leaf(tape, n->dtype, 2, shape, (char *)n->data + (size_t)(tokens - 1) * row, false);
}

static struct tensor *head_loss(struct tape *tape, struct decoder *decoder, const struct decoder_input *input,
                                struct tensor *h)
{
    struct tensor *n = normalize(tape, decoder, &decoder->final_norm, h);
    n = sequence_gather(tape, decoder->mesh, n, input->rows * input->length);
    if (n && input->cache)
        n = last_token(tape, n);
    if (input->targets) {
        struct vocabulary_targets targets = {.tokens = input->targets,
                                             .first = decoder->vocabulary.begin,
                                             .scale = input->scale,
                                             .see = input->see_logits,
                                             .see_self = input->see_self};
        return vocabulary_loss(tape, decoder->mesh, n, value_of(decoder->head), &targets);
    }
    struct tensor *logits = linear(tape, n, value_of(decoder->head), NULL, DTYPE_F32);
    if (logits && input->see_logits)
        input->see_logits(input->see_self, 0, logits);
    return NULL;
}

struct tensor *decoder_forward(struct decoder *decoder, struct tape *tape, int chunk, const struct decoder_input *input,
                               struct tensor *hidden)
{
    int stage = mesh_rank(decoder->mesh, MESH_PIPELINE);
    int stages = mesh_size(decoder->mesh, MESH_PIPELINE);
    int first_block = 0;
    for (int i = 0; i < chunk; i++)
        first_block += (int)decoder->layers[i].count;

    struct tensor *h = stage == 0 && chunk == 0 ? embed(tape, decoder, input) : hidden;
    for (int i = 0; i < decoder->layers[chunk].count; i++) {
        struct block_call call = {
            .decoder = decoder, .block = &decoder->blocks[first_block + i], .input = input, .index = first_block + i};
        struct block_call *kept = tape_save(tape, sizeof *kept);
        if (!kept)
            return NULL;
        *kept = call;
        h = decoder->recompute == RECOMPUTE_LAYER || !tape->recording
                ? tape_recompute(tape, block_forward, kept, sizeof *kept, h)
                : block_forward(tape, kept, h);
    }
    return stage == stages - 1 && chunk == decoder->chunks - 1 ? head_loss(tape, decoder, input, h) : h;
}

/* -- Life -----------------------------------------------------------------------------------------------------------
 */

static enum status check_support(struct context *context, const struct model_config *config)
{
    if (config->family != FAMILY_DECODER)
        return context_fail(context, STATUS_USAGE, "model.family: this program trains decoders");
    if (config->attention.kind != ATTENTION_CAUSAL)
        return context_fail(context, STATUS_USAGE, "model.attention.kind: this program has causal attention only");
    if (config->residual.kind != RESIDUAL_PLAIN)
        return context_fail(context, STATUS_USAGE, "model.residual.kind: this program has plain residuals only");
    if (config->depth.kind != DEPTH_FIXED)
        return context_fail(context, STATUS_USAGE, "model.depth.kind: this program has fixed depth only");
    return STATUS_OK;
}

static enum status check_mesh(struct context *context, const struct mesh_config *mesh,
                              const struct model_config *config)
{
    if (mesh->tensor > config->heads)
        return context_fail(context, STATUS_USAGE,
                            "mesh.tensor: %lld ranks cannot share %lld heads; use at most %lld and more of mesh.data",
                            (long long)mesh->tensor, (long long)config->heads, (long long)config->heads);
    if (mesh->pipeline * mesh->virtual_stages > config->layers)
        return context_fail(context, STATUS_USAGE,
                            "mesh.pipeline: %lld stages of %lld chunks cannot share %lld layers; pipeline x "
                            "virtual_stages may be at most %lld",
                            (long long)mesh->pipeline, (long long)mesh->virtual_stages, (long long)config->layers,
                            (long long)config->layers);
    if (mesh->context > 1)
        return context_fail(context, STATUS_USAGE,
                            "mesh.context: %lld; causal attention is not split over sequences, use 1 and more of "
                            "mesh.data or mesh.tensor",
                            (long long)mesh->context);
    return STATUS_OK;
}

/* Layers of a chunk. The last chunk has the head besides, which may cost as much as several layers, so it gets as many
 * fewer as makes the costliest chunk cheapest; the others share the rest evenly. */
static struct range chunk_layers(const struct decoder *decoder, int64_t chunks, int64_t chunk)
{
    int64_t layers = decoder->config.layers;
    double head = decoder_head_cost(&decoder->config, decoder->max_length);
    int64_t last = layers;
    double least = INFINITY;
    for (int64_t own = 0; own <= layers && chunks > 1; own++) {
        double cost = fmax((double)integer_divide_up(layers - own, chunks - 1), (double)own + head);
        if (cost <= least) {
            least = cost;
            last = own;
        }
    }
    if (chunk == chunks - 1)
        return (struct range){.begin = layers - last, .count = last};
    return range_partition(layers - last, chunks - 1, chunk);
}

static void find_parts(struct decoder *decoder)
{
    const struct model_config *config = &decoder->config;
    int ranks = mesh_size(decoder->mesh, MESH_TENSOR);
    int rank = mesh_rank(decoder->mesh, MESH_TENSOR);
    int64_t group = config->heads / config->kv_heads;
    decoder->heads = range_partition(config->heads, ranks, rank);
    decoder->vocabulary = range_partition(config->vocabulary, ranks, rank);
    if (decoder->heads.count > 0) {
        int64_t first = decoder->heads.begin / group;
        int64_t last = (decoder->heads.begin + decoder->heads.count - 1) / group;
        decoder->kv_heads = (struct range){.begin = first, .count = last - first + 1};
    }
    int64_t stages = mesh_size(decoder->mesh, MESH_PIPELINE);
    for (int i = 0; i < decoder->chunks; i++)
        decoder->layers[i] =
            chunk_layers(decoder, stages * decoder->chunks, i * stages + mesh_rank(decoder->mesh, MESH_PIPELINE));
}

static void fill_tables(struct decoder *decoder)
{
    const struct model_config *config = &decoder->config;
    int64_t half = config->head_width / 2;
    int64_t group = config->heads / config->kv_heads;
    for (int64_t i = 0; i < decoder->heads.count; i++)
        decoder->kv_of_head[i] = (int32_t)((decoder->heads.begin + i) / group - decoder->kv_heads.begin);
    for (int64_t e = 0; e < half && config->positions == POSITIONS_ROPE; e++) {
        double frequency = pow(config->rope_base, -2.0 * (double)e / (double)config->head_width);
        for (int64_t position = 0; position < decoder->max_length; position++) {
            decoder->cosine[position * half + e] = (float)cos((double)position * frequency);
            decoder->sine[position * half + e] = (float)sin((double)position * frequency);
        }
    }
}

enum status decoder_create(struct context *context, struct mesh *mesh, struct engine *engine,
                           const struct model_config *config, const struct compute_config *compute, int64_t max_length,
                           bool trains, struct decoder **decoder)
{
    *decoder = NULL;
    CHECK(check_support(context, config));
    CHECK(check_mesh(context, mesh_config(mesh), config));
    if (config->positions == POSITIONS_LEARNED && max_length > config->max_positions)
        return context_fail(context, STATUS_USAGE, "model.max_positions: %lld is less than the %lld tokens asked for",
                            (long long)config->max_positions, (long long)max_length);
    struct decoder *d = memory_allocate(context, sizeof *d, MEMORY_OTHER);
    *decoder = d;
    if (!d)
        return STATUS_MEMORY;
    d->context = context;
    d->mesh = mesh;
    d->engine = engine;
    d->config = *config;
    d->dtype = compute->type == COMPUTE_BF16 ? DTYPE_BF16 : DTYPE_F32;
    d->recompute = compute->recompute;
    d->max_length = max_length;
    d->chunks = (int)mesh_config(mesh)->virtual_stages;
    d->layers = memory_allocate(context, (size_t)d->chunks * sizeof *d->layers, MEMORY_OTHER);
    if (!d->layers)
        return STATUS_MEMORY;
    find_parts(d);
    size_t table = (size_t)(max_length * (config->head_width / 2)) * sizeof(float);
    d->kv_of_head = memory_allocate(context, (size_t)d->heads.count * sizeof *d->kv_of_head, MEMORY_OTHER);
    d->cosine = memory_allocate(context, table, MEMORY_OTHER);
    d->sine = memory_allocate(context, table, MEMORY_OTHER);
    if (!d->kv_of_head || !d->cosine || !d->sine)
        return STATUS_MEMORY;
    fill_tables(d);
    return decoder_declare(d, compute->bucket_bytes, trains);
}

void decoder_destroy(struct decoder **decoder)
{
    struct decoder *d = *decoder;
    if (!d)
        return;
    struct context *context = d->context;
    replica_destroy(&d->replica);
    void *owned[] = {d->specs, d->parameters, d->blocks, d->layers, d->kv_of_head, d->cosine, d->sine, d};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        memory_free(context, owned[i]);
    *decoder = NULL;
}

enum status decoder_cache_create(struct decoder *decoder, int64_t capacity, struct decoder_cache **cache)
{
    struct context *context = decoder->context;
    struct decoder_cache *c = memory_allocate(context, sizeof *c, MEMORY_OTHER);
    *cache = c;
    if (!c)
        return STATUS_MEMORY;
    c->capacity = capacity;
    int blocks = decoder_block_count(decoder);
    size_t bytes =
        (size_t)(capacity * decoder->kv_heads.count * decoder->config.head_width) * dtype_size(decoder->dtype);
    c->keys = memory_allocate(context, ((size_t)blocks + 1) * sizeof(void *), MEMORY_OTHER);
    c->values = memory_allocate(context, ((size_t)blocks + 1) * sizeof(void *), MEMORY_OTHER);
    if (!c->keys || !c->values)
        return STATUS_MEMORY;
    for (c->blocks = 0; c->blocks < blocks; c->blocks++) {
        c->keys[c->blocks] = memory_allocate(context, bytes, MEMORY_BUFFERS);
        c->values[c->blocks] = memory_allocate(context, bytes, MEMORY_BUFFERS);
    }
    return context->status;
}

void decoder_cache_destroy(struct decoder *decoder, struct decoder_cache **cache)
{
    struct decoder_cache *c = *cache;
    if (!c)
        return;
    for (int i = 0; i < c->blocks; i++) {
        memory_free(decoder->context, c->keys[i]);
        memory_free(decoder->context, c->values[i]);
    }
    memory_free(decoder->context, c->keys);
    memory_free(decoder->context, c->values);
    memory_free(decoder->context, c);
    *cache = NULL;
}

int64_t decoder_cache_length(const struct decoder_cache *cache)
{
    return cache->length;
}

void decoder_cache_advance(struct decoder_cache *cache, int64_t tokens)
{
    cache->length += tokens;
}
