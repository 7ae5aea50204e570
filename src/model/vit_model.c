/* The Vision Transformer as a family of models: batches of images with labels for a decoder's blocks. Nothing is causal
 * in an image, so routers choose as in training wherever they do. */
#include "src/model/decoder_model.h"

static enum status create_batch(struct batch *batch)
{
    CHECK(classifier_batch_create(batch));
    const struct decoder *decoder = decoder_of(batch->model);
    struct decoder_batch *own = batch->prepared;
    int64_t pixels = decoder->config.image.channels * decoder->config.image.size * decoder->config.image.size;
    for (int64_t i = 0; i < batch->micro_batches; i++)
        own->images[i].pixels = (const float *)batch_field(batch, "images") + own->images[i].row * pixels;
    return STATUS_OK;
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
                                  .batch_destroy = classifier_batch_destroy,
                                  .batch_ready = classifier_batch_ready,
                                  .form = decoder_model_form,
                                  .packet_bytes = decoder_model_packet_bytes,
                                  .forward = forward,
                                  .flops = decoder_flops_per_token,
                                  .scalars = &decoder_scalars_ops};
