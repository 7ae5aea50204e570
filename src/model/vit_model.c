/* The Vision Transformer as a family of models: batches of images with labels for a decoder's blocks. */
#include "src/model/decoder_model.h"

static enum status create_batch(struct batch *batch)
{
    struct context *context = batch->model->context;
    const struct decoder *decoder = decoder_of(batch->model);
    struct decoder_batch *own = memory_allocate(context, sizeof *own, MEMORY_BUFFERS);
    batch->prepared = own;
    if (!own)
        return STATUS_MEMORY;
    own->micro = memory_allocate(context, (size_t)batch->micro_batches * sizeof *own->micro, MEMORY_BUFFERS);
    own->images = memory_allocate(context, (size_t)batch->micro_batches * sizeof *own->images, MEMORY_BUFFERS);
    if (!own->micro || !own->images)
        return STATUS_MEMORY;
    batch->work = (double)(batch->mine.count * batch->length);
    for (int64_t i = 0; i < batch->micro_batches; i++) {
        struct range rows = batch_micro(batch, i);
        own->images[i] = (struct decoder_images){.pixels = (const float *)batch_field(batch, "images") +
                                                           rows.begin * decoder->config.image.channels *
                                                               decoder->config.image.size * decoder->config.image.size,
                                                 .row = rows.begin};
        own->micro[i] = (struct decoder_input){
            .images = &own->images[i], .rows = rows.count, .length = batch->length, .batch_rows = batch->rows};
    }
    return STATUS_OK;
}

static void destroy_batch(struct batch *batch)
{
    struct context *context = batch->model->context;
    struct decoder_batch *own = batch->prepared;
    if (!own)
        return;
    memory_free(context, own->images);
    memory_free(context, own->micro);
    memory_free(context, own);
}

/* Nothing is causal in an image, so routers choose as in training wherever they do. */
static void ready_batch(struct batch *batch)
{
    struct decoder_batch *own = batch->prepared;
    for (int64_t i = 0; i < batch->micro_batches; i++) {
        own->images[i].see_classes = batch->see_classes;
        own->images[i].see_self = batch->see_self;
    }
}

static bool forward(struct tape *tape, struct batch *batch, int64_t micro_batch, int chunk, const struct packet *in,
                    struct packet *out)
{
    struct decoder_batch *own = batch->prepared;
    own->images[micro_batch].targets =
        batch_class_targets(batch, batch_micro(batch, micro_batch).begin, decoder_of(batch->model)->vocabulary.begin);
    return decoder_model_forward(tape, batch, micro_batch, chunk, in, out);
}

const struct model_ops vit_ops = {.name = "vit",
                                  .check = decoder_check,
                                  .describe = decoder_describe,
                                  .create = decoder_model_create,
                                  .destroy = decoder_model_destroy,
                                  .fields = batch_image_fields,
                                  .batch_create = create_batch,
                                  .batch_destroy = destroy_batch,
                                  .batch_ready = ready_batch,
                                  .form = decoder_model_form,
                                  .packet_bytes = decoder_model_packet_bytes,
                                  .forward = forward,
                                  .flops = decoder_flops_per_token,
                                  .scalars = &decoder_scalars_ops};
