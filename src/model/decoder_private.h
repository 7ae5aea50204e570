/* Inside of a decoder; for this folder only. */
#ifndef CAIRN_MODEL_DECODER_PRIVATE_H
#define CAIRN_MODEL_DECODER_PRIVATE_H

#include "src/model/decoder.h"

struct block_call;
struct layer_cache;

/* Its tensor; NULL where the form has no such parameter. */
static inline struct tensor *parameter_value(struct parameter *parameter)
{
    return parameter ? &parameter->value : NULL;
}

/* A layer, or what lies around the layers: where parameters belong. */
struct part {
    const char *prefix; /* of their names */
    bool here;          /* on this pipeline stage */
    int64_t uses;       /* unrolled layers that use it */
    int64_t chunk;      /* the first of the model's chunks that uses it */
    int64_t layer;      /* a layer's number, of the stored ones */
    bool low_rank;      /* recursions add to its linear layers */
};

/* The usual initial values and decay: matrices normal(0, 0.02) and decayed, vectors as told and not. */
struct parameter_spec part_matrix(const struct part *part, const char *name, const char *suffix, int64_t rows,
                                  int64_t columns);
struct parameter_spec part_vector(const struct part *part, const char *name, const char *suffix, int64_t length,
                                  enum parameter_initial initial);

/* Return NULL where another stage holds it. Whole: on every tensor rank. */
struct parameter *part_declare(struct decoder *decoder, const struct part *part, enum parameter_group group,
                               const struct parameter_spec *spec, struct parameter_division division);
struct parameter *part_declare_whole(struct decoder *decoder, const struct part *part, enum parameter_group group,
                                     const struct parameter_spec *spec);

/* What comes before the layers and after them, for all tokens of a microbatch that starts and has run all layers. */
struct decoder_ends {
    void (*declare_first)(struct decoder *decoder, const struct part *part);
    void (*declare_last)(struct decoder *decoder, const struct part *part);
    struct tensor *(*embed)(struct tape *tape, struct decoder *decoder, const struct decoder_input *input,
                            const struct microbatch *microbatch);
    bool (*head)(struct tape *tape, struct decoder *decoder, const struct decoder_input *input,
                 const struct microbatch *microbatch, struct packet *out);
};

extern const struct decoder_ends token_ends, image_ends, text_ends;

/* Those of the model's family. */
const struct decoder_ends *decoder_ends_of(const struct model_config *config);

/* Positions of this rank's part of the tokens. NULL with the context's error. */
const int32_t *microbatch_positions(struct tape *tape, const struct microbatch *microbatch);

/* Declares all parameters, in the order of the forward pass. Chunks, their layers and what this tensor rank has of
 * heads and vocabulary must be known. */
enum status decoder_declare(struct decoder *decoder) MUST_USE;

/* Chunks of the whole model; 1 where there is no mesh. */
int64_t decoder_model_chunks(const struct decoder *decoder);

/* The parameters that an unrolled layer of this stage uses; NULL for other stages' layers. */
const struct block *decoder_block(const struct decoder *decoder, int64_t layer);

/* Whether recursion 1 lends its keys and values to the later ones. */
bool decoder_lends(const struct decoder *decoder);

/* Tokens of the input that this context rank computes. */
int64_t decoder_own_tokens(const struct decoder *decoder, const struct decoder_input *input);

/* Where an unrolled layer keeps, or borrows, keys of earlier tokens, and in which rows of it: [rows of the cache]. NULL
 * without a cache. */
struct layer_cache *decoder_layer_cache(struct decoder_cache *cache, int64_t layer);
const int64_t *decoder_cache_rows(const struct decoder *decoder, const struct decoder_cache *cache, int64_t layer);

/* Where earlier queries of a layer's rows are kept, those of each recursion apart. */
const int64_t *decoder_query_rows(const struct decoder *decoder, const struct decoder_cache *cache, int64_t layer);

/* n [tokens, D] -> a [tokens, heads * E] against what the cache keeps and the new tokens, which it keeps, too. */
struct tensor *cache_attend(struct tape *tape, const struct block_call *call, struct tensor *n);

/* The mesh's, or one rank where there is no mesh. */
int decoder_size(const struct decoder *decoder, enum mesh_axis axis);
int decoder_rank(const struct decoder *decoder, enum mesh_axis axis);

/* All of it on every rank. */
struct parameter_division division_whole(const struct decoder *decoder, int64_t extent);

/* What belongs to the things in `part`, `unit` of the axis to each. */
struct parameter_division division_units(int axis, struct range part, int64_t unit);

/* As evenly as possible. */
struct parameter_division division_even(const struct decoder *decoder, int axis, int64_t extent);

/* Rows of kv heads, `unit` of them to each: each goes to every rank with a query head that uses it, and is owned by the
 * first of them. */
struct parameter_division division_kv_heads(const struct decoder *decoder, int64_t unit);

#endif
