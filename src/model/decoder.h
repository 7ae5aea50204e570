/* The base decoder of src/model/README.md section 2 in its Llama, GPT-2 and PaLM forms, split over the mesh: attention
 * heads, inner MLP features and vocabulary over tensor ranks, layers over pipeline stages (and their chunks).
 *
 * A decoder declares every parameter of the whole model, and holds those of its own stage. */
#ifndef CAIRN_MODEL_DECODER_H
#define CAIRN_MODEL_DECODER_H

#include "dist/parallel/class_loss.h"
#include "dist/parallel/pipeline.h"
#include "dist/parallel/split.h"
#include "src/core/config.h"
#include "src/model/model.h"
#include "src/ops/ops.h"

struct decoder_cache;
struct decoder_ends;

/* What a recursion adds to a linear layer that it shares, or LoRA to a frozen one, U D x (src/model/README.md
 * section 10). */
struct low_rank {
    struct parameter *down; /* D [r, in]; NULL where the recursion has none */
    struct parameter *up;   /* U [out, r] */
};

struct linear_parameters {
    struct parameter *weight;
    struct parameter *bias;          /* NULL where there is none */
    const struct low_rank *low_rank; /* [recursions], of LoRA [1]; NULL where there is none */
};

/* Of a LAuReL connection (src/model/README.md section 6), with p `previous` states and rank r. */
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
    struct linear_parameters adapter_norm, adapter_down, adapter_up;
    struct parameter *memory_gate;           /* [heads of this rank] */
    struct parameter *memory_norm;           /* [heads of this rank, E] */
    struct linear_parameters memory_write;   /* [kv heads of this rank, D] */
    struct parameter *memory_convolution[3]; /* of query, key and value: [(kv) heads of this rank * E, 4] */
    struct residual_parameters attention_residual, mlp_residual, residual;
    struct parameter *router;                       /* [D] */
    struct parameter *predictor_in, *predictor_out; /* [D / 2, D], [1, D / 2] */
};

/* What a router did since somebody last looked; this rank's share of it. */
struct router_counts {
    int64_t offered, chosen; /* tokens */
    /* The causal router against the choice that it learns to foretell, on this rank's own tokens: those it was asked
     * about, those of them that were chosen, those that it lets in, and those that are both. */
    int64_t judged, wanted, admitted, hits;
    double entropy;  /* token choice: summed over this rank's own tokens, in nats */
    int64_t decided; /* how many those are */
};

struct decoder {
    struct model *model;
    struct context *context;
    struct mesh *mesh;
    struct engine *engine;
    struct model_config config;
    enum dtype dtype;
    enum recompute_kind recompute;

    const struct decoder_ends *ends;
    struct parameter_list *list; /* in the order of the forward pass, each stored layer once; the caller's */

    struct range heads;    /* query heads of this tensor rank */
    struct range kv_heads; /* the kv heads they use; neighbours may share one */
    struct range vocabulary;
    int32_t *kv_of_head; /* [heads.count], counted from kv_heads.begin */

    int chunks;           /* of this pipeline rank */
    struct range *layers; /* [chunks]: each chunk's unrolled layers; may be none */
    struct block *blocks; /* the stored layers that they use, once each, in their order */
    int block_count;
    struct low_rank *low_ranks; /* of all blocks' linear layers */
    int64_t low_rank_count;
    struct parameter *embedding, *positions, *head; /* NULL on other stages than the first, first and last */
    struct linear_parameters patches, classifier;   /* of images, as embedding and head */
    struct parameter *class_token;                  /* [D]; NULL where images have none */
    struct linear_parameters final_norm;
    /* Of Mixture-of-Recursions, on the stage where they begin: [recursions] of [D], or NULLs; [recursions, D]. */
    struct parameter **recursion_routers, *depth_router;

    int64_t max_length;   /* of a sequence */
    int64_t rotary_rows;  /* of the tables */
    float *cosine, *sine; /* [rotary_rows, head_width / 2] */

    struct router_counts *router_counts; /* [layers], by unrolled layer or recursion */
};

/* Validates that the mesh fits the model and declares its parameters in the list, which must outlive it. No sequence
 * may be longer than max_length (with Infini-attention, none that is passed at once). Local; every rank of a mesh comes
 * to the same verdict. */
enum status decoder_create(struct model *model, struct decoder **decoder) MUST_USE;
void decoder_destroy(struct decoder **decoder);

/* Infini-attention's memories of some sequences, by unrolled layer; NULL for layers without one on this rank. Each is
 * [sequences, kv heads of this rank, elements of a state (src/ops/infini.h)] F32. */
struct decoder_memory {
    float **before; /* [layers] what the sequences start from */
    float **after;  /* [layers] what they leave */
};

/* Floats of one sequence's memory in one layer on this rank; 0 when the model has none. */
int64_t decoder_memory_size(const struct decoder *decoder);

/* Whether an unrolled layer has a memory, and whether it is on this rank's stage. */
bool decoder_has_memory(const struct decoder *decoder, int64_t layer);
bool decoder_holds_layer(const struct decoder *decoder, int64_t layer);

/* Tokens that routers chose, for who wants to see them. */
enum selection_kind {
    SELECTION_LAYER,     /* by the router of an unrolled layer */
    SELECTION_RECURSION, /* that take a recursion */
    SELECTION_DEPTH,     /* the same, when tokens choose their depth */
};

struct decoder_selection {
    enum selection_kind kind;
    int64_t index; /* of the layer or recursion */
    int64_t rows;
    const int64_t *begin;    /* [rows + 1] of each row in slot */
    const int32_t *slot;     /* chosen tokens, ascending; they count the input's tokens over all context ranks */
    const int32_t *position; /* of slots in their sequences */
};

struct microbatch;

/* What a micro-batch of images has in place of tokens. */
struct decoder_images {
    const float *pixels; /* [rows, channels, size, size] */
    struct class_targets targets;
    /* Shown the logits [rows, classes local] F32 of the rows `row`.. and the classes `first`..; NULL if nobody looks.
     */
    void (*see_classes)(void *self, int64_t row, int64_t first, const struct tensor *logits);
    void *see_self;
    int64_t row; /* of the first of them, as it is shown */
};

/* One micro-batch, the same on all tensor ranks; each context rank has its own tokens of every sequence, those that
 * decoder_tokens_of_context names. Lives until backward is through. */
struct decoder_input {
    const struct decoder_images *images; /* NULL: tokens */
    const int32_t *tokens;               /* of this rank, row after row */
    const int32_t *targets; /* of the same tokens, negative: does not count; NULL when only logits are wanted */
    int64_t rows;
    int64_t length;       /* tokens of a sequence, over all context ranks */
    const int64_t *valid; /* [rows] tokens before padding begins; NULL: all */
    float scale;          /* of the loss */
    int64_t batch_rows;   /* sequences of the whole step, over which routers' losses are averaged */
    bool causal;          /* routers decide as when generating, token by token, instead of for whole sequences */
    const struct decoder_memory *memory; /* NULL: all start empty, and nobody wants what is left */
    int64_t memory_row;                  /* of the first row in it */
    bool memory_off;                     /* attention sees its own segment only: what the memory is worth */

    /* With a cache of earlier tokens (routers are causal then, and all context ranks have all tokens): */
    struct decoder_cache *cache;
    const int64_t *begin;          /* [rows + 1] in tokens; rows may have none */
    const int32_t *first_position; /* [rows] of a row's first token */
    int64_t slots; /* tokens that pass, if more than there are: the rest is padding, which is any tokens */

    /* Shown the logits [tokens, local vocabulary] F32 of this rank's tokens number row.. on the last chunk; NULL if
     * nobody looks. With a cache only those of each row's last token are computed, in the order of the rows. */
    void (*see_logits)(void *self, int64_t row, const struct tensor *logits);
    /* Told what routers chose, on the stage that has the router. */
    void (*see_selection)(void *self, const struct decoder_selection *selection);
    void *see_self;

    struct microbatch *microbatch; /* the decoder's own, between chunks */
};

/* The tokens of a sequence of `length` that a context rank computes, ascending; returns their number. */
int64_t decoder_tokens_of_context(const struct decoder *decoder, int64_t length, int rank, int32_t *tokens);

/* A chunk of this stage on a micro-batch; `in` is what the chunk before gave (empty on the model's first), out what the
 * next one gets, or on the last chunk the loss (nothing without targets). Collective over the tensor and context axes.
 * False with the context's error. */
bool decoder_forward(struct decoder *decoder, struct tape *tape, int chunk, struct decoder_input *input,
                     const struct packet *in, struct packet *out);

/* The shapes of what enters a chunk of the model, and the bytes of the largest such packet for any input of so many
 * rows and tokens: `largest` is a causal one, for which routers have room for all. */
void decoder_form(const struct decoder *decoder, const struct decoder_input *input, int64_t model_chunk,
                  struct packet_form *form);
int64_t decoder_packet_bytes(const struct decoder *decoder, const struct decoder_input *largest);

/* Keys, values and memories of earlier tokens, for this rank's layers and heads: `rows` sequences, of which so many
 * tokens can be kept and so many passed at once. */
enum status decoder_cache_create(struct decoder *decoder, int64_t rows, int64_t kept, int64_t passed,
                                 struct decoder_cache **cache) MUST_USE;
void decoder_cache_destroy(struct decoder *decoder, struct decoder_cache **cache);
/* Tokens of a row so far. */
int64_t decoder_cache_length(const struct decoder_cache *cache, int64_t row);
/* After a forward pass over input->begin's tokens. */
void decoder_cache_advance(struct decoder_cache *cache, const int64_t *begin);
/* A row begins a new sequence. */
void decoder_cache_reset(struct decoder_cache *cache, int64_t row);

/* USAGE error, with what would fit, when a mesh cannot split the model. Local. */
enum status decoder_check(struct context *context, const struct model_config *config,
                          const struct mesh_config *mesh) MUST_USE;

/* Declares a decoder's parameters, on one rank, without memory for them: the largest model can be described anywhere.
 * Local. */
enum status decoder_describe(struct context *context, const struct model_config *config,
                             struct parameter_list *list) MUST_USE;

/* Useful floating-point operations of a training step per token of a sequence of T tokens: 6 (an addition and a
 * multiplication, forward once and backward twice; nothing recomputed) for each of these products, averaged over T.
 *
 *   linear     the weights of a layer's linear maps, for the k of T tokens that take it: k / T of them
 *   attention  2 H E for each query and key that it sees: k (k + 1) / 2 pairs; within segments for Infini-attention,
 *              as if the k tokens lay evenly in them
 *   memory     E^2 for each query head that reads and each kv head that writes; 2 E^2 for those with the delta rule,
 * and 2 E^2 + D with the gated one routers    D for each value of a router; a predictor's weights, whose input gets no
 * gradient LAuReL     2 r D for each low-rank map head       V D
 *
 * k is T but for layers of MoD (section 4) and recursions (section 5; token choice as if balanced), whose capacity has
 * this surplus (layers_tokens; 0 after its warm-up). With the shared cache later recursions project no keys and values,
 * write no memory and see all keys: k (T + 1) / 2 pairs. Norms, gates, softmax and other work on single elements do not
 * count.
 *
 * With a list, layers whose parameters are frozen count without the products that this spares; NULL: all learn. */
double decoder_flops_per_token(const struct model_config *config, int64_t length, double surplus,
                               const struct parameter_list *list);

/* The cost of head and loss by the same count, in layers (the mean of all). */
double decoder_head_cost(const struct model_config *config, int64_t length);

#endif
