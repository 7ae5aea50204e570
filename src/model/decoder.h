/* The base decoder of model.md section 2 in its Llama, GPT-2 and PaLM forms, split over the mesh: attention heads,
 * inner MLP features and vocabulary over tensor ranks, layers over pipeline stages (and their chunks).
 *
 * A decoder knows every parameter of the whole model by its spec, and holds those of its own stage. */
#ifndef CAIRN_MODEL_DECODER_H
#define CAIRN_MODEL_DECODER_H

#include "dist/parallel/replica.h"
#include "dist/parallel/split.h"
#include "src/core/config.h"
#include "src/ops/ops.h"

struct decoder_cache;

struct linear_parameters {
    struct parameter *weight;
    struct parameter *bias; /* NULL where there is none */
};

/* Of a LAuReL connection (model.md section 6), with p `previous` states and rank r. */
struct residual_parameters {
    struct parameter *weights; /* [2] */
    struct parameter *down;    /* [r, D], or [p, r, D] */
    struct parameter *up;      /* [D, r], or [p, D, r] */
    struct parameter *gamma;   /* [p] */
};

/* The parameters of one stored layer; NULL where the form has none. */
struct block {
    int64_t layer; /* stored */
    struct linear_parameters input_norm, query, key, value, output;
    struct linear_parameters post_norm, gate, up, down;
    struct parameter *memory_gate; /* [heads of this rank] */
    struct residual_parameters attention_residual, mlp_residual, residual;
    struct parameter *router;                     /* [D] */
    struct parameter *predictor_in, *predictor_out; /* [D / 2, D], [1, D / 2] */
};

struct decoder {
    struct context *context;
    struct mesh *mesh;
    struct engine *engine;
    struct model_config config;
    enum dtype dtype;
    enum recompute_kind recompute;

    struct parameter_spec *specs; /* of the whole model, in the order of the forward pass */
    int spec_count;
    struct parameter *parameters; /* of this rank */
    int parameter_count;
    struct replica *replica;

    struct range heads;    /* query heads of this tensor rank */
    struct range kv_heads; /* the kv heads they use; neighbours may share one */
    struct range vocabulary;
    int32_t *kv_of_head; /* [heads.count], counted from kv_heads.begin */

    int chunks;           /* of this pipeline rank */
    struct range *layers; /* [chunks]: each chunk's layers */
    struct block *blocks; /* those of all chunks, one after the other */
    struct parameter *embedding, *positions, *head;
    struct linear_parameters final_norm;

    int64_t max_length;   /* rows of the tables */
    float *cosine, *sine; /* [max_length, head_width / 2] */
};

/* Validates that the mesh fits the model, lays out the parameters and allocates them, with gradients if it `trains`.
 * No sequence may be longer than max_length.
 * Local; every rank of a mesh comes to the same verdict. */
enum status decoder_create(struct context *context, struct mesh *mesh, struct engine *engine,
                           const struct model_config *config, const struct compute_config *compute, int64_t max_length,
                           bool trains, struct decoder **decoder) MUST_USE;
void decoder_destroy(struct decoder **decoder);

/* Initial values that depend on the seed alone, whatever the mesh. Collective over the replica axis. */
void decoder_initialize(struct decoder *decoder, uint64_t seed);

/* One micro-batch, the same on all ranks of a model. Lives until backward is through. */
struct decoder_input {
    const int32_t *tokens;    /* [rows * length] */
    const int32_t *targets;   /* [rows * length], negative: does not count; NULL when only logits are wanted */
    const int32_t *positions; /* [rows * length], below max_length */
    int64_t rows;
    int64_t length;
    float scale;                 /* of the loss */
    struct decoder_cache *cache; /* keys and values of earlier tokens, for one row; NULL without */
    /* Shown the logits [tokens, local vocabulary] F32 of the tokens row.. on the last chunk; NULL if nobody looks. With
     * a cache only the last token's are computed. */
    void (*see_logits)(void *self, int64_t row, const struct tensor *logits);
    void *see_self;
};

/* A chunk of this stage: hidden is [part of tokens, width] (NULL on the model's first chunk). Returns the hidden
 * states for the next chunk, or on the last chunk the loss (NULL without targets). Collective over the tensor axis. */
struct tensor *decoder_forward(struct decoder *decoder, struct tape *tape, int chunk, const struct decoder_input *input,
                               struct tensor *hidden);

/* Keys and values of up to `capacity` tokens of one sequence, for this rank's layers and heads. */
enum status decoder_cache_create(struct decoder *decoder, int64_t capacity, struct decoder_cache **cache) MUST_USE;
void decoder_cache_destroy(struct decoder *decoder, struct decoder_cache **cache);
int64_t decoder_cache_length(const struct decoder_cache *cache);
/* After a forward pass over `tokens` more tokens. */
void decoder_cache_advance(struct decoder_cache *cache, int64_t tokens);

/* Of the whole model. */
int64_t decoder_parameter_total(const struct decoder *decoder);

/* Useful floating-point operations of a training step (forward and backward, nothing recomputed) per token of a
 * sequence of this length: 6 for each weight of a matrix product, and the causal half of attention's products. */
double decoder_flops_per_token(const struct model_config *config, int64_t length);

/* The cost of head and loss in layers, by the same count. */
double decoder_head_cost(const struct model_config *config, int64_t length);

#endif
