/* The memories of the sequences that a data rank reads side by side (Infini-attention): carried from step to step,
 * emptied where a sequence begins. Every tensor rank holds its heads, every pipeline stage its layers, every context
 * rank the same. */
#ifndef CAIRN_TRAIN_STREAMS_H
#define CAIRN_TRAIN_STREAMS_H

#include "io/checkpoint/checkpoint.h"
#include "src/model/decoder.h"

struct streams {
    struct context *context;
    const struct decoder *decoder;
    struct range mine; /* rows of this data rank */
    int64_t total;     /* rows of all data ranks */
    int64_t size;      /* floats of a row in a layer */
    struct decoder_memory memory;
};

/* Whether runs of a configuration have them: sequences go on from what the ones before them left. */
bool streams_carried(const struct config *config);

/* For rows `mine` of `total`. Local. All start empty. */
enum status streams_create(struct context *context, const struct decoder *decoder, struct range mine, int64_t total,
                           struct streams *streams) MUST_USE;
void streams_destroy(struct streams *streams);

void streams_reset(struct streams *streams, int64_t row);

/* All rows: they go on at another place of the text. */
void streams_empty(struct streams *streams);

/* What the sequences left is what they go on from. */
void streams_advance(struct streams *streams);

/* The kv heads, counted from decoder->kv_heads.begin, for which this rank alone answers. */
struct range streams_own_heads(const struct streams *streams);

/* Memories in a checkpoint: /memory/layers.I/state [streams, G, E, E] and norm [streams, G, E], by unrolled layer. */
struct streams_image {
    int count; /* datasets, the same on every rank */
    struct checkpoint_dataset *datasets;
    struct checkpoint_piece *pieces;
    float *values;
};

/* Memory for what this rank writes (only what no other rank does) or reads (all that it holds); to be destroyed
 * whatever comes back. Local. */
enum status streams_image_create(const struct streams *streams, bool writes, struct streams_image *image) MUST_USE;
void streams_image_destroy(struct context *context, struct streams_image *image);

/* Into an image that writes. */
void streams_image_fill(const struct streams *streams, const struct streams_image *image);

/* From an image that was read. */
void streams_restore(struct streams *streams, const struct streams_image *image);

#endif
