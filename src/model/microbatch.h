/* What a micro-batch carries through the layers of a pipeline stage, and how routed depth (src/model/README.md sections
 * 4 and 5) leads a part of its tokens through some of them. For this folder only. */
#ifndef CAIRN_MODEL_MICROBATCH_H
#define CAIRN_MODEL_MICROBATCH_H

#include "dist/parallel/pipeline.h"
#include "src/model/block.h"
#include "src/ops/route.h"

/* The tokens that run, their residual stream and its history. */
struct active_tokens {
    struct token_set *set;
    const int32_t *slot;   /* [set->list.total] where they are among all tokens; -1: padding */
    const int32_t *source; /* [tokens of this rank] which of them a token is; -1: none */
    bool whole;            /* they are all tokens, in place: slot and source are not there */
    struct tensor *h;      /* [part, D] */
    struct history history;
};

/* Lives on the tape, for all chunks of this stage. */
struct microbatch {
    struct token_list tokens;    /* all */
    const struct shares *shares; /* of the tokens among context ranks */
    int64_t count;               /* tokens of this context rank */
    struct range part;           /* of them, this tensor rank's */
    struct token_set *whole;     /* all tokens */
    const int32_t *local;        /* [tokens.total] number of a token in `part`, -1: on another rank. With routing */
    struct tensor *h;            /* the residual stream, where this stage has it */
    struct history history;

    int recursion; /* the routed recursion the microbatch is in; -1: none */
    struct active_tokens active;
    const int32_t *itself;  /* [part] 0, 1, 2, ... */
    uint8_t *running;       /* [tokens.total] tokens that take the recursion */
    struct tensor *gate;    /* [part, 1] F32 of the recursion, or of the exit (token choice) */
    struct tensor *entered; /* token choice: the residual stream where the recursions begin */
    const int32_t *depth;   /* token choice: [tokens.total] recursions that a token takes */
    struct lent_keys *lent; /* [shared layers] of recursion 1 */
    struct token_view borrowed;
};

struct microbatch *microbatch_create(struct tape *tape, struct decoder *decoder, const struct decoder_input *input);

/* Runs an unrolled layer of this stage on the microbatch, entering and leaving recursions where they begin and end.
 * Collective over the tensor and context axes. False with the context's error. */
bool microbatch_run_layer(struct tape *tape, struct decoder *decoder, const struct decoder_input *input,
                          struct microbatch *microbatch, int64_t layer);

/* Leaves the recursion that the microbatch may be in. */
bool microbatch_leave(struct tape *tape, struct decoder *decoder, struct microbatch *microbatch);

/* What passes between chunks. False with the context's error. */
void microbatch_form(const struct decoder *decoder, const struct decoder_input *input, int64_t model_chunk,
                     struct packet_form *form);
bool microbatch_pack(struct tape *tape, struct decoder *decoder, struct microbatch *microbatch, int64_t model_chunk,
                     struct packet *packet);
bool microbatch_unpack(struct tape *tape, struct decoder *decoder, const struct decoder_input *input,
                       struct microbatch *microbatch, int64_t model_chunk, const struct packet *packet);

/* -- For the files of depth -- */

/* Makes tokens active: slot [total] lists them row after row, begin [rows + 1], -1 behind the last row.
 * Both from tape_save. */
bool active_tokens_create(struct tape *tape, struct decoder *decoder, const struct decoder_input *input,
                          struct microbatch *microbatch, const int32_t *slot, const int64_t *begin, int64_t total,
                          struct active_tokens *active);

/* The residual stream and its history at the active tokens. */
bool active_tokens_take(struct tape *tape, struct decoder *decoder, struct microbatch *microbatch,
                        struct active_tokens *active);

/* y [part of the active tokens, D] -> [active tokens, D] on every rank. */
struct tensor *active_tokens_gather(struct tape *tape, struct decoder *decoder, const struct active_tokens *active,
                                    struct tensor *y);

/* The residual stream's history after `connections` connections that the active tokens went through; microbatch->h is
 * still what it was before them. */
bool active_tokens_return_history(struct tape *tape, struct decoder *decoder, struct microbatch *microbatch,
                                  const struct active_tokens *active, int64_t connections);

/* A layer of Mixture-of-Depths. */
bool mixture_run_layer(struct tape *tape, struct decoder *decoder, const struct decoder_input *input,
                       struct microbatch *microbatch, int64_t layer);

/* Routed recursions. */
bool recursion_enter(struct tape *tape, struct decoder *decoder, const struct decoder_input *input,
                     struct microbatch *microbatch, int recursion);
bool recursion_leave(struct tape *tape, struct decoder *decoder, struct microbatch *microbatch);

/* Token choice: depth [N] = argmax + 1 of probabilities s [N, R]. */
void recursion_depths(const struct tensor *s, float *depth);

/* Expert choice: the share of a sequence's tokens that training sends through a recursion. */
double recursion_share(const struct decoder *decoder, int recursion, int64_t length);

/* How the active tokens see the keys that recursion 1 lends, if it does. */
bool recursion_borrow(struct tape *tape, const struct decoder *decoder, const struct decoder_input *input,
                      struct microbatch *microbatch);

/* Numbers of all tokens from those of this rank's part; in the work arena, which the caller rewinds. */
float *route_collect(struct tape *tape, struct decoder *decoder, const struct microbatch *microbatch,
                     const float *part);

/* A number in [0, 1) for a token that depends on its row and position alone (and `index`): model.balanced. */
double route_draw(int64_t row, int64_t position, int64_t index);

/* With model.balanced and causal routers, scores above 0 for a share of the tokens: `most` of input->length, the
 * smaller share being a part of the larger one of the same `index`. */
void route_balance(const struct decoder *decoder, const struct decoder_input *input,
                   const struct microbatch *microbatch, int64_t most, int64_t index, float *scores);

/* Tokens that a router chose. */
struct choice {
    int32_t *slot;  /* [total] ascending, row after row; -1 behind the last row */
    int64_t *begin; /* [rows + 1] */
    int64_t total;
};

/* In each row the `most` candidates (NULL: all that may be chosen) with the largest scores, or, where nothing may look
 * at later tokens, those with scores above 0. */
bool route_choose(struct tape *tape, const struct decoder *decoder, const struct decoder_input *input,
                  const struct microbatch *microbatch, const float *scores, const uint8_t *candidates, int64_t most,
                  struct choice *choice);

/* Slots for lists of at most `most` tokens a row: as many as there are where one rank trains or generates alone, else
 * always room for the most, so that messages have one size. */
int64_t route_slots(const struct decoder *decoder, const struct decoder_input *input,
                    const struct microbatch *microbatch, const int64_t *begin, int64_t most);

/* Tells whoever looks, and keeps account: `index` of the routed layer or recursion, scores as the causal router's. */
void route_account(struct decoder *decoder, const struct decoder_input *input, const struct microbatch *microbatch,
                   enum selection_kind kind, int64_t index, const struct choice *choice);

/* The router's own loss on this rank's tokens: whether they are among `choice`, of the candidates. */
bool route_learn(struct tape *tape, struct decoder *decoder, const struct decoder_input *input,
                 const struct microbatch *microbatch, struct tensor *scores, const uint8_t *candidates,
                 const struct choice *choice, double scale, int64_t index);

#endif
