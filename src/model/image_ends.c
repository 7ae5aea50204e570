/* The two ends of a Vision Transformer (src/model/README.md section 8): patches of images, and the classifier. */
#include "src/model/decoder_private.h"
#include "src/model/microbatch.h"

/* Matrix and bias, which is always there. */
static struct linear_parameters declare_end(struct decoder *decoder, const struct part *part,
                                            enum parameter_group group, const struct parameter_spec *weight,
                                            struct parameter_spec *bias, struct parameter_division division)
{
    bias->initial = INITIAL_ZERO;
    return (struct linear_parameters){.weight = part_declare(decoder, part, group, weight, division),
                                      .bias = part_declare(decoder, part, group, bias, division)};
}

static void declare_first(struct decoder *decoder, const struct part *part)
{
    const struct model_config *config = &decoder->config;
    int64_t inputs = config->image.channels * config->image.patch * config->image.patch;
    struct parameter_spec weight = part_matrix(part, "model.embed_patches", ".weight", config->width, inputs);
    struct parameter_spec bias = part_vector(part, "model.embed_patches", ".bias", config->width, INITIAL_ZERO);
    struct parameter_spec class_token = part_vector(part, "model.class_token", ".weight", config->width, INITIAL_ZERO);
    struct parameter_spec positions =
        part_matrix(part, "model.embed_positions", ".weight", config->max_positions, config->width);
    positions.decay = false;
    decoder->patches =
        declare_end(decoder, part, GROUP_EMBEDDINGS, &weight, &bias, division_whole(decoder, config->width));
    if (config->pooling == POOLING_CLASS)
        decoder->class_token = part_declare_whole(decoder, part, GROUP_EMBEDDINGS, &class_token);
    decoder->positions = part_declare_whole(decoder, part, GROUP_EMBEDDINGS, &positions);
}

static void declare_last(struct decoder *decoder, const struct part *part)
{
    const struct model_config *config = &decoder->config;
    struct parameter_spec weight = part_matrix(part, "classifier", ".weight", config->image.classes, config->width);
    struct parameter_spec bias = part_vector(part, "classifier", ".bias", config->image.classes, INITIAL_ZERO);
    weight.initial = INITIAL_ZERO;
    decoder->classifier =
        declare_end(decoder, part, GROUP_HEAD, &weight, &bias, division_even(decoder, 0, config->image.classes));
}

/* -- Images to tokens -- */

/* This rank's tokens: which patch each is, counted over all images, or that it is an image's class token. */
struct part_tokens {
    int32_t *patch; /* [patches] */
    int32_t *place; /* [tokens] of its patch among these; -1: a class token */
    int32_t *class; /* [tokens] 0: a class token; -1: a patch */
    int64_t patches;
};

static bool find_tokens(struct tape *tape, const struct decoder *decoder, const struct microbatch *microbatch,
                        struct part_tokens *tokens)
{
    struct range part = microbatch->part;
    int64_t length = decoder->max_length;
    int64_t before = decoder->config.pooling == POOLING_CLASS; /* tokens of an image before its patches */
    tokens->patch = tape_save(tape, (size_t)part.count * sizeof *tokens->patch);
    tokens->place = tape_save(tape, (size_t)part.count * sizeof *tokens->place);
    tokens->class = tape_save(tape, (size_t)part.count * sizeof *tokens->class);
    tokens->patches = 0;
    if (!tokens->patch || !tokens->place || !tokens->class)
        return false;
    for (int64_t i = 0; i < part.count; i++) {
        int64_t image = (part.begin + i) / length;
        int64_t position = (part.begin + i) % length - before;
        tokens->class[i] = position < 0 ? 0 : -1;
        tokens->place[i] = position < 0 ? -1 : (int32_t)tokens->patches;
        if (position >= 0)
            tokens->patch[tokens->patches++] = (int32_t)(image * (length - before) + position);
    }
    return true;
}

/* Each tensor rank embeds its own part of the tokens, with all of the weights. */
static struct tensor *embed(struct tape *tape, struct decoder *decoder, const struct decoder_input *input,
                            const struct microbatch *microbatch)
{
    const struct model_config *config = &decoder->config;
    struct part_tokens tokens;
    const int32_t *positions = microbatch_positions(tape, microbatch);
    if (!positions || !find_tokens(tape, decoder, microbatch, &tokens))
        return NULL;
    struct patches patches = {.images = input->images->pixels,
                              .channels = config->image.channels,
                              .size = config->image.size,
                              .patch = config->image.patch,
                              .index = tokens.patch};
    int64_t count = microbatch->part.count;
    struct tensor *h = block_apply(tape, &decoder->patches, patch_rows(tape, &patches, tokens.patches, decoder->dtype));
    if (decoder->class_token)
        h = add(tape, token_take(tape, h, tokens.place, count),
                embedding(tape, parameter_value(decoder->class_token), tokens.class, count, 0));
    return add(tape, h, embedding(tape, parameter_value(decoder->positions), positions, count, 0));
}

/* -- Tokens to classes -- */

static struct tensor *normalize(struct tape *tape, const struct decoder *decoder, struct tensor *x)
{
    return norm(tape, x, parameter_value(decoder->final_norm.weight), parameter_value(decoder->final_norm.bias),
                decoder->config.norm, decoder->config.norm_epsilon);
}

/* n [tokens, D] -> [images, D]: their class tokens. */
static struct tensor *class_tokens(struct tape *tape, struct tensor *n, int64_t images, int64_t length)
{
    int32_t *index = tape_save(tape, (size_t)images * sizeof *index);
    for (int64_t image = 0; index && image < images; image++)
        index[image] = (int32_t)(image * length);
    return index ? token_take(tape, n, index, images) : NULL;
}

static bool head(struct tape *tape, struct decoder *decoder, const struct decoder_input *input,
                 const struct microbatch *microbatch, struct packet *out)
{
    const struct model_config *config = &decoder->config;
    const struct decoder_images *images = input->images;
    bool after = config->pooling_norm == POOLING_NORM_AFTER;
    struct tensor *n = after ? microbatch->h : normalize(tape, decoder, microbatch->h);
    n = sequence_gather(tape, decoder->mesh, n, microbatch->count);
    struct tensor *pooled = config->pooling == POOLING_CLASS ? class_tokens(tape, n, input->rows, input->length)
                                                             : row_mean(tape, n, input->length, NULL);
    if (after)
        pooled = normalize(tape, decoder, pooled);
    struct tensor *logits = linear(tape, pooled, parameter_value(decoder->classifier.weight),
                                   parameter_value(decoder->classifier.bias), DTYPE_F32);
    if (logits && images->see_classes)
        images->see_classes(images->see_self, images->row, images->targets.first, logits);
    out->tensor[0] = class_loss(tape, decoder->mesh, logits, &images->targets);
    out->count = 1;
    return out->tensor[0] != NULL;
}

const struct decoder_ends image_ends = {
    .declare_first = declare_first, .declare_last = declare_last, .embed = embed, .head = head};
