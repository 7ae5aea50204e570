/* The two ends of a decoder that classifies texts (src/model/README.md section 14): embeddings, and a classifier of the
 * mean of a text's last states. */
#include "src/model/decoder_private.h"
#include "src/model/microbatch.h"

static void declare_first(struct decoder *decoder, const struct part *part)
{
    token_ends.declare_first(decoder, part);
}

static void declare_last(struct decoder *decoder, const struct part *part)
{
    image_ends.declare_last(decoder, part);
}

static struct tensor *embed(struct tape *tape, struct decoder *decoder, const struct decoder_input *input,
                            const struct microbatch *microbatch)
{
    return token_ends.embed(tape, decoder, input, microbatch);
}

static bool head(struct tape *tape, struct decoder *decoder, const struct decoder_input *input,
                 const struct microbatch *microbatch, struct packet *out)
{
    const struct decoder_images *wanted = input->images;
    struct context *context = decoder->context;
    if (!wanted)
        return context_fail(context, STATUS_USAGE, "model.classes: a classifier of texts continues none") == STATUS_OK;
    struct tensor *n =
        norm(tape, microbatch->h, parameter_value(decoder->final_norm.weight),
             parameter_value(decoder->final_norm.bias), decoder->config.norm, decoder->config.norm_epsilon);
    n = row_mean(tape, sequence_gather(tape, decoder->mesh, n, microbatch->count), input->length, input->valid);
    struct tensor *logits = linear(tape, n, parameter_value(decoder->classifier.weight),
                                   parameter_value(decoder->classifier.bias), DTYPE_F32);
    if (logits && wanted->see_classes)
        wanted->see_classes(wanted->see_self, wanted->row, wanted->targets.first, logits);
    out->tensor[0] = class_loss(tape, decoder->mesh, logits, &wanted->targets);
    out->count = 1;
    return out->tensor[0] != NULL;
}

const struct decoder_ends text_ends = {
    .declare_first = declare_first, .declare_last = declare_last, .embed = embed, .head = head};
