#include "src/model/decoder.h"

#include <math.h>
#include <string.h>

#include "src/model/decoder_private.h"
#include "src/model/layers.h"
#include "src/model/microbatch.h"
#include "src/model/stages.h"
#include "src/ops/infini.h"

/* -- A chunk -- */

static int64_t model_chunk_of(const struct decoder *decoder, int chunk)
{
    return (int64_t)chunk * mesh_size(decoder->mesh, MESH_PIPELINE) + mesh_rank(decoder->mesh, MESH_PIPELINE);
}

static bool begin_chunk(struct tape *tape, struct decoder *decoder, int64_t model_chunk, struct decoder_input *input,
                        const struct packet *in)
{
    struct microbatch *microbatch = input->microbatch;
    if (model_chunk > 0)
        return microbatch_unpack(tape, decoder, input, microbatch, model_chunk, in);
    microbatch->h = decoder->ends->embed(tape, decoder, input, microbatch);
    return microbatch->h != NULL;
}

bool decoder_forward(struct decoder *decoder, struct tape *tape, int chunk, struct decoder_input *input,
                     const struct packet *in, struct packet *out)
{
    int64_t model_chunk = model_chunk_of(decoder, chunk);
    bool last = model_chunk == decoder_model_chunks(decoder) - 1;
    out->count = 0;
    if (chunk == 0)
        input->microbatch = microbatch_create(tape, decoder, input);
    if (!input->microbatch || !begin_chunk(tape, decoder, model_chunk, input, in))
        return false;
    struct range layers = decoder->layers[chunk];
    for (int64_t layer = layers.begin; layer < layers.begin + layers.count; layer++)
        if (!microbatch_run_layer(tape, decoder, input, input->microbatch, layer))
            return false;
    location_enter_layer(&decoder->context->location, -1);
    if (!last)
        return microbatch_pack(tape, decoder, input->microbatch, model_chunk + 1, out);
    return microbatch_leave(tape, decoder, input->microbatch) &&
           decoder->ends->head(tape, decoder, input, input->microbatch, out);
}

void decoder_form(const struct decoder *decoder, const struct decoder_input *input, int64_t model_chunk,
                  struct packet_form *form)
{
    microbatch_form(decoder, input, model_chunk, form);
}

int64_t decoder_packet_bytes(const struct decoder *decoder, const struct decoder_input *largest)
{
    int64_t chunks = decoder_model_chunks(decoder);
    int64_t most = 0;
    for (int64_t chunk = 1; chunk < chunks; chunk++) {
        struct packet_form form;
        microbatch_form(decoder, largest, chunk, &form);
        most = integer_max(most, packet_bytes(&form));
    }
    return most;
}

/* -- What the model is made of -- */

const struct decoder_ends *decoder_ends_of(const struct model_config *config)
{
    if (config->family == FAMILY_VIT)
        return &image_ends;
    return config->classes > 0 ? &text_ends : &token_ends;
}

int64_t decoder_model_chunks(const struct decoder *decoder)
{
    return (int64_t)decoder->chunks * decoder_size(decoder, MESH_PIPELINE);
}

bool decoder_lends(const struct decoder *decoder)
{
    const struct model_config *config = &decoder->config;
    return recursions_are_routed(config) && config->depth.cache == CACHE_SHARED;
}

bool decoder_holds_layer(const struct decoder *decoder, int64_t layer)
{
    for (int i = 0; i < decoder->chunks; i++)
        if (layer >= decoder->layers[i].begin && layer < decoder->layers[i].begin + decoder->layers[i].count)
            return true;
    return false;
}

bool decoder_has_memory(const struct decoder *decoder, int64_t layer)
{
    bool borrows = decoder_lends(decoder) && layers_recursion(&decoder->config, layer) > 0;
    return decoder->config.attention.kind == ATTENTION_INFINI && !borrows;
}

int64_t decoder_memory_size(const struct decoder *decoder)
{
    int64_t width = decoder->config.head_width;
    return decoder->config.attention.kind == ATTENTION_INFINI
               ? decoder->kv_heads.count * infini_elements(decoder->config.attention.memory_update, width)
               : 0;
}

int64_t decoder_tokens_of_context(const struct decoder *decoder, int64_t length, int rank, int32_t *tokens)
{
    return tokens_of_context(decoder, length, mesh_size(decoder->mesh, MESH_CONTEXT), rank, tokens);
}

int64_t decoder_own_tokens(const struct decoder *decoder, const struct decoder_input *input)
{
    if (input->begin)
        return integer_max(input->begin[input->rows], input->slots);
    int ranks = input->cache ? 1 : mesh_size(decoder->mesh, MESH_CONTEXT);
    return input->rows * tokens_of_context(decoder, input->length, ranks,
                                           ranks == 1 ? 0 : mesh_rank(decoder->mesh, MESH_CONTEXT), NULL);
}

/* -- Creation and end -- */

static enum status check_support(struct context *context, const struct model_config *config)
{
    if (history_window(config) > HISTORY_LIMIT)
        return context_fail(context, STATUS_USAGE, "model.residual.previous: %lld; at most %d states can be used",
                            (long long)config->residual.previous, HISTORY_LIMIT + 1);
    if (config->lora.rank > 0 && config->depth.lora_rank > 0)
        return context_fail(context, STATUS_USAGE,
                            "model.lora.rank: expected 0 with model.depth.lora_rank, whose maps are those of the "
                            "recursions; got %lld",
                            (long long)config->lora.rank);
    return STATUS_OK;
}

enum status decoder_check(struct context *context, const struct model_config *config, const struct mesh_config *mesh)
{
    CHECK(check_support(context, config));
    if (config->family == FAMILY_VIT && mesh->context > 1)
        return context_fail(context, STATUS_USAGE,
                            "mesh.context: the tokens of an image are not divided; use 1, and more of mesh.tensor or "
                            "mesh.data");
    if (config->classes > 0 && mesh->context > 1)
        return context_fail(context, STATUS_USAGE,
                            "mesh.context: a text that is classified is not divided; use 1, and more of mesh.tensor "
                            "or mesh.data");
    if (mesh->tensor > config->heads)
        return context_fail(context, STATUS_USAGE,
                            "mesh.tensor: %lld ranks cannot share %lld heads; use at most %lld and more of mesh.data",
                            (long long)mesh->tensor, (long long)config->heads, (long long)config->heads);
    return stages_check(context, mesh, config);
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
        decoder->layers[i] = stages_layers(config, mesh_config(decoder->mesh),
                                           i * stages + mesh_rank(decoder->mesh, MESH_PIPELINE), decoder->max_length);
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
        for (int64_t position = 0; position < decoder->rotary_rows; position++) {
            decoder->cosine[position * half + e] = (float)cos((double)position * frequency);
            decoder->sine[position * half + e] = (float)sin((double)position * frequency);
        }
    }
}

enum status decoder_create(struct model *model, struct decoder **decoder)
{
    struct context *context = model->context;
    const struct model_config *config = &model->config->model;
    struct mesh *mesh = model->mesh;
    int64_t max_length = model->config->training.sequence_length;
    *decoder = NULL;
    if (config->positions == POSITIONS_LEARNED && max_length > config->max_positions)
        return context_fail(context, STATUS_USAGE, "model.max_positions: %lld is less than the %lld tokens asked for",
                            (long long)config->max_positions, (long long)max_length);
    struct decoder *d = memory_allocate(context, sizeof *d, MEMORY_OTHER);
    *decoder = d;
    if (!d)
        return STATUS_MEMORY;
    d->model = model;
    d->context = context;
    d->mesh = mesh;
    d->engine = model->engine;
    d->config = *config;
    d->list = model->parameters;
    d->dtype = model->dtype;
    d->recompute = model->config->compute.recompute;
    d->max_length = max_length;
    d->rotary_rows = config->attention.kind == ATTENTION_INFINI ? config->attention.segment : max_length;
    d->chunks = stages_chunks(config, mesh_config(mesh));
    d->layers = memory_allocate(context, (size_t)d->chunks * sizeof *d->layers, MEMORY_OTHER);
    if (!d->layers)
        return STATUS_MEMORY;
    find_parts(d);
    size_t table = (size_t)(d->rotary_rows * (config->head_width / 2)) * sizeof(float);
    d->kv_of_head = memory_allocate(context, (size_t)d->heads.count * sizeof *d->kv_of_head, MEMORY_OTHER);
    d->cosine = memory_allocate(context, table, MEMORY_OTHER);
    d->sine = memory_allocate(context, table, MEMORY_OTHER);
    d->router_counts = memory_allocate(context, (size_t)config->layers * sizeof *d->router_counts, MEMORY_OTHER);
    if (!d->kv_of_head || !d->cosine || !d->sine || !d->router_counts)
        return STATUS_MEMORY;
    fill_tables(d);
    return decoder_declare(d);
}

void decoder_destroy(struct decoder **decoder)
{
    struct decoder *d = *decoder;
    if (!d)
        return;
    struct context *context = d->context;
    void *owned[] = {d->blocks, d->low_ranks, d->recursion_routers, d->layers, d->kv_of_head,
                     d->cosine, d->sine,      d->router_counts,     d};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        memory_free(context, owned[i]);
    *decoder = NULL;
}
