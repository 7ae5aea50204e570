/* The decoder as a family of models: batches of tokens, passes, and how they are cut among context ranks. */
#include "src/model/decoder_model.h"

#include <string.h>

struct decoder *decoder_of(const struct model *model)
{
    bool is = model->ops == &decoder_ops || model->ops == &vit_ops || model->ops == &text_ops;
    return is ? model->self : NULL;
}

struct decoder_batch *decoder_batch_of(const struct batch *batch)
{
    return batch->prepared;
}

enum status decoder_model_create(struct model *model)
{
    struct decoder *decoder;
    enum status status = decoder_create(model, &decoder);
    model->self = decoder;
    if (status == STATUS_OK)
        model->chunks = decoder->chunks;
    return status;
}

void decoder_model_destroy(struct model *model)
{
    struct decoder *decoder = model->self;
    decoder_destroy(&decoder);
}

/* -- Batches -- */

/* Targets that are negative do not count; `valid` are a row's tokens before padding. */
static int fields(const struct config *config, struct batch_field fields[BATCH_FIELDS])
{
    int64_t length = config->training.sequence_length;
    int64_t vocabulary = config->model.vocabulary;
    fields[0] = (struct batch_field){.name = "tokens", .dtype = DTYPE_I32, .elements = length, .bound = vocabulary};
    fields[1] = (struct batch_field){.name = "targets", .dtype = DTYPE_I32, .elements = length, .bound = vocabulary};
    fields[2] = (struct batch_field){.name = "valid", .dtype = DTYPE_I64, .elements = 1, .initial = length};
    return 3;
}

static enum status find_own_tokens(struct batch *batch, struct decoder_batch *own)
{
    const struct decoder *decoder = decoder_of(batch->model);
    struct context *context = decoder->context;
    own->own = memory_allocate(context, (size_t)batch->length * sizeof *own->own, MEMORY_BUFFERS);
    if (!own->own)
        return STATUS_MEMORY;
    own->own_count =
        decoder_tokens_of_context(decoder, batch->length, mesh_rank(decoder->mesh, MESH_CONTEXT), own->own);
    own->own_tokens = batch_field(batch, "tokens");
    own->own_targets = batch_field(batch, "targets");
    if (mesh_size(decoder->mesh, MESH_CONTEXT) == 1)
        return STATUS_OK;
    size_t elements = (size_t)(batch->mine.count * own->own_count) * sizeof(int32_t);
    own->own_tokens = memory_allocate(context, elements, MEMORY_BUFFERS);
    own->own_targets = memory_allocate(context, elements, MEMORY_BUFFERS);
    return context->status;
}

static enum status create_batch(struct batch *batch)
{
    struct context *context = batch->model->context;
    const int64_t *valid = batch_field(batch, "valid");
    struct decoder_batch *own = memory_allocate(context, sizeof *own, MEMORY_BUFFERS);
    batch->prepared = own;
    if (!own)
        return STATUS_MEMORY;
    own->micro = memory_allocate(context, (size_t)batch->micro_batches * sizeof *own->micro, MEMORY_BUFFERS);
    if (!own->micro)
        return STATUS_MEMORY;
    CHECK(find_own_tokens(batch, own));
    batch->work = (double)(batch->mine.count * own->own_count);
    for (int64_t i = 0; i < batch->micro_batches; i++) {
        struct range rows = batch_micro(batch, i);
        int64_t first = rows.begin * own->own_count;
        own->micro[i] = (struct decoder_input){.tokens = own->own_tokens + first,
                                               .targets = own->own_targets + first,
                                               .valid = valid + rows.begin,
                                               .rows = rows.count,
                                               .length = batch->length,
                                               .batch_rows = batch->rows,
                                               .memory_row = rows.begin};
    }
    return STATUS_OK;
}

static void destroy_batch(struct batch *batch)
{
    struct context *context = batch->model->context;
    struct decoder_batch *own = batch->prepared;
    if (!own)
        return;
    if (own->own_tokens != batch_field(batch, "tokens")) {
        memory_free(context, own->own_tokens);
        memory_free(context, own->own_targets);
    }
    memory_free(context, own->own);
    memory_free(context, own->micro);
    memory_free(context, own);
}

static void pick_own_tokens(const struct batch *batch, struct decoder_batch *own)
{
    const int32_t *tokens = batch_field(batch, "tokens");
    const int32_t *targets = batch_field(batch, "targets");
    for (int64_t row = 0; row < batch->mine.count; row++)
        for (int64_t i = 0; i < own->own_count; i++) {
            own->own_tokens[row * own->own_count + i] = tokens[row * batch->length + own->own[i]];
            own->own_targets[row * own->own_count + i] = targets[row * batch->length + own->own[i]];
        }
}

static void ready_batch(struct batch *batch)
{
    struct decoder_batch *own = batch->prepared;
    if (own->own_tokens != batch_field(batch, "tokens"))
        pick_own_tokens(batch, own);
    for (int64_t i = 0; i < batch->micro_batches; i++) {
        own->micro[i].scale = batch->target_count ? 1.0f / (float)batch->target_count : 0.0f;
        own->micro[i].memory = batch->state ? &batch->state->memory : NULL;
        own->micro[i].causal = batch->causal;
        own->micro[i].memory_off = batch->memory_off;
    }
}

/* -- Passes -- */

void decoder_model_form(const struct batch *batch, int64_t micro_batch, int64_t model_chunk, struct packet_form *form)
{
    decoder_form(decoder_of(batch->model), &decoder_batch_of(batch)->micro[micro_batch], model_chunk, form);
}

int64_t decoder_model_packet_bytes(const struct batch *batch)
{
    struct decoder_input largest = decoder_batch_of(batch)->micro[0];
    largest.rows = batch->micro_rows;
    largest.causal = true;
    return decoder_packet_bytes(decoder_of(batch->model), &largest);
}

bool decoder_model_forward(struct tape *tape, struct batch *batch, int64_t micro_batch, int chunk,
                           const struct packet *in, struct packet *out)
{
    return decoder_forward(decoder_of(batch->model), tape, chunk, &decoder_batch_of(batch)->micro[micro_batch], in,
                           out);
}

const struct model_ops decoder_ops = {.name = "decoder",
                                      .check = decoder_check,
                                      .describe = decoder_describe,
                                      .create = decoder_model_create,
                                      .destroy = decoder_model_destroy,
                                      .fields = fields,
                                      .batch_create = create_batch,
                                      .batch_destroy = destroy_batch,
                                      .batch_ready = ready_batch,
                                      .form = decoder_model_form,
                                      .packet_bytes = decoder_model_packet_bytes,
                                      .forward = decoder_model_forward,
                                      .flops = decoder_flops_per_token,
                                      .state = &decoder_state_ops,
                                      .scalars = &decoder_scalars_ops};
