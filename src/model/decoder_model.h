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

/* A model's decoder; NULL if it is of another family. */
struct decoder *decoder_of(const struct model *model);

struct decoder_batch *decoder_batch_of(const struct batch *batch);

extern const struct model_state_ops decoder_state_ops;
extern const struct model_scalars_ops decoder_scalars_ops;

#endif
