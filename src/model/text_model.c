/* The decoder that classifies texts as a family of models: batches of tokens, each row with a label. */
#include "src/model/decoder_model.h"

/* `valid` are a row's tokens before padding. */
static int fields(const struct config *config, struct batch_field fields[BATCH_FIELDS])
{
    int64_t length = config->training.sequence_length;
    const struct model_config *model = &config->model;
    fields[0] =
        (struct batch_field){.name = "tokens", .dtype = DTYPE_I32, .elements = length, .bound = model->vocabulary};
    fields[1] = (struct batch_field){.name = "labels", .dtype = DTYPE_I32, .elements = 1, .bound = model->classes};
    fields[2] = (struct batch_field){.name = "valid", .dtype = DTYPE_I64, .elements = 1, .initial = length};
    return 3;
}

static enum status check(struct context *context, const struct model_config *config, const struct mesh_config *mesh)
{
    if (config->depth.kind != DEPTH_FIXED)
        return context_fail(context, STATUS_USAGE, "model.classes: expected model.depth.kind fixed");
    return decoder_check(context, config, mesh);
}

static enum status create_batch(struct batch *batch)
{
    CHECK(classifier_batch_create(batch));
    struct decoder_batch *own = batch->prepared;
    for (int64_t i = 0; i < batch->micro_batches; i++) {
        int64_t row = own->images[i].row;
        own->micro[i].tokens = (const int32_t *)batch_field(batch, "tokens") + row * batch->length;
        own->micro[i].valid = (const int64_t *)batch_field(batch, "valid") + row;
    }
    return STATUS_OK;
}

static bool forward(struct tape *tape, struct batch *batch, int64_t micro_batch, int chunk, const struct packet *in,
                    struct packet *out)
{
    struct decoder_batch *own = batch->prepared;
    const struct mesh *mesh = batch->model->mesh;
    struct range classes = range_partition(batch->model->config->model.classes, mesh_size(mesh, MESH_TENSOR),
                                           mesh_rank(mesh, MESH_TENSOR));
    own->images[micro_batch].targets = batch_class_targets(batch, batch_micro(batch, micro_batch).begin, classes.begin);
    return decoder_model_forward(tape, batch, micro_batch, chunk, in, out);
}

const struct model_ops text_ops = {.name = "decoder",
                                   .check = check,
                                   .describe = decoder_describe,
                                   .create = decoder_model_create,
                                   .destroy = decoder_model_destroy,
                                   .fields = fields,
                                   .batch_create = create_batch,
                                   .batch_destroy = classifier_batch_destroy,
                                   .batch_ready = classifier_batch_ready,
                                   .form = decoder_model_form,
                                   .packet_bytes = decoder_model_packet_bytes,
                                   .forward = forward,
                                   .flops = decoder_flops_per_token,
                                   .scalars = &decoder_scalars_ops};
