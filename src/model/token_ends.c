/* The two ends of a language model (src/model/README.md section 2): embeddings, and the head over the vocabulary. */
#include "dist/parallel/vocabulary.h"
#include "src/model/decoder_private.h"
#include "src/model/microbatch.h"

/* The table of embeddings, which may be the head as well. */
static struct parameter_spec table_spec(const struct decoder *decoder, const struct part *part)
{
    return part_matrix(part, "model.embed_tokens", ".weight", decoder->config.vocabulary, decoder->config.width);
}

static void declare_first(struct decoder *decoder, const struct part *part)
{
    const struct model_config *config = &decoder->config;
    struct parameter_spec table = table_spec(decoder, part);
    decoder->embedding =
        part_declare(decoder, part, GROUP_EMBEDDINGS, &table, division_even(decoder, 0, config->vocabulary));
    if (config->positions == POSITIONS_LEARNED) {
        struct parameter_spec positions =
            part_matrix(part, "model.embed_positions", ".weight", config->max_positions, config->width);
        decoder->positions = part_declare_whole(decoder, part, GROUP_EMBEDDINGS, &positions);
    }
}

/* The table of embeddings again where it is the head, if the pipeline's two ends are different ranks. */
static void declare_last(struct decoder *decoder, const struct part *part)
{
    const struct model_config *config = &decoder->config;
    struct parameter_division rows = division_even(decoder, 0, config->vocabulary);
    if (!config->tied_embeddings) {
        struct parameter_spec head = part_matrix(part, "lm_head", ".weight", config->vocabulary, config->width);
        decoder->head = part_declare(decoder, part, GROUP_HEAD, &head, rows);
    } else if (decoder_size(decoder, MESH_PIPELINE) == 1) {
        decoder->head = decoder->embedding;
    } else {
        struct parameter_spec table = table_spec(decoder, part);
        decoder->head =
            parameter_declare_copy(decoder->list, decoder->embedding, &table, &rows, part->here, part->chunk);
    }
}

static struct tensor *embed(struct tape *tape, struct decoder *decoder, const struct decoder_input *input,
                            const struct microbatch *microbatch)
{
    struct tensor *h = embedding(tape, parameter_value(decoder->embedding), input->tokens, microbatch->count,
                                 decoder->vocabulary.begin);
    h = sequence_scatter(tape, decoder->mesh, h);
    const int32_t *positions = decoder->positions ? microbatch_positions(tape, microbatch) : NULL;
    if (!positions)
        return decoder->positions ? NULL : h;
    return add(tape, h, embedding(tape, parameter_value(decoder->positions), positions, microbatch->part.count, 0));
}

/* The last token of each row that has any. */
static struct tensor *last_tokens(struct tape *tape, const struct microbatch *microbatch, struct tensor *n)
{
    int32_t *index = tape_save(tape, (size_t)microbatch->tokens.rows * sizeof *index);
    int64_t count = 0;
    for (int64_t row = 0; index && row < microbatch->tokens.rows; row++)
        if (microbatch->tokens.end[row] > microbatch->tokens.begin[row])
            index[count++] = (int32_t)microbatch->tokens.end[row] - 1;
    return index ? token_take(tape, n, index, count) : NULL;
}

static bool head(struct tape *tape, struct decoder *decoder, const struct decoder_input *input,
                 const struct microbatch *microbatch, struct packet *out)
{
    struct tensor *n =
        norm(tape, microbatch->h, parameter_value(decoder->final_norm.weight),
             parameter_value(decoder->final_norm.bias), decoder->config.norm, decoder->config.norm_epsilon);
    n = sequence_gather(tape, decoder->mesh, n, microbatch->count);
    if (input->targets) {
        struct vocabulary_targets targets = {.tokens = input->targets,
                                             .vocabulary = decoder->config.vocabulary,
                                             .first = decoder->vocabulary.begin,
                                             .scale = input->scale,
                                             .see = input->see_logits,
                                             .see_self = input->see_self};
        out->tensor[0] = vocabulary_loss(tape, decoder->mesh, n, parameter_value(decoder->head), &targets);
        out->count = 1;
        return out->tensor[0] != NULL;
    }
    if (input->cache)
        n = last_tokens(tape, microbatch, n);
    struct tensor *logits = linear(tape, n, parameter_value(decoder->head), NULL, DTYPE_F32);
    if (logits && input->see_logits)
        input->see_logits(input->see_self, 0, logits);
    return logits != NULL;
}

const struct decoder_ends token_ends = {
    .declare_first = declare_first, .declare_last = declare_last, .embed = embed, .head = head};
