/* What a decoder keeps for a batch; for src/model, generation and tests. */
#ifndef CAIRN_MODEL_DECODER_MODEL_H
#define CAIRN_MODEL_DECODER_MODEL_H

#include "src/model/decoder.h"
#include "src/model/model.h"

struct decoder_batch {
    int32_t *own; /* [own_count] which tokens of a sequence this context rank computes */
    int64_t own_count;
    int32_t *own_tokens, *own_targets; /* [mine.count, own_count]; the fields themselves with one context rank */
    struct decoder_input *micro;       /* [micro_batches] */
    struct decoder_images *images;     /* [micro_batches], of a family of images */
};

/* Memories that sequences carry, in rows `mine` of `total`. */
struct model_state {
    struct context *context;
    const struct decoder *decoder;
    struct range mine; /* rows of this data rank */
    int64_t total;     /* rows of all data ranks */
    int64_t size;      /* floats of a row in a layer */
    struct decoder_memory memory;
};

/* The kv heads, counted from decoder->kv_heads.begin, for which this rank alone answers. */
struct range decoder_state_heads(const struct model_state *state);

/* A model's decoder, that of a Vision Transformer too; NULL if it is of another family. */
struct decoder *decoder_of(const struct model *model);

struct decoder_batch *decoder_batch_of(const struct batch *batch);

/* What families of the same blocks share of struct model_ops. */
enum status decoder_model_create(struct model *model) MUST_USE;
void decoder_model_destroy(struct model *model);
void decoder_model_form(const struct batch *batch, int64_t micro_batch, int64_t model_chunk, struct packet_form *form);
int64_t decoder_model_packet_bytes(const struct batch *batch);
bool decoder_model_forward(struct tape *tape, struct batch *batch, int64_t micro_batch, int chunk,
                           const struct packet *in, struct packet *out);

/* Of classifiers: inputs of whole rows, to which the family adds where its fields are; who looks at the logits. */
enum status classifier_batch_create(struct batch *batch) MUST_USE;
void classifier_batch_destroy(struct batch *batch);
void classifier_batch_ready(struct batch *batch);

extern const struct model_state_ops decoder_state_ops;
extern const struct model_scalars_ops decoder_scalars_ops;

#endif
