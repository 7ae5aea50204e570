/* Which tokens a block runs over, and which of them attend to which (src/model/README.md sections 2 to 5). For this
 * folder only.
 *
 * A set is a list of a micro-batch's tokens (all, or those that a router chose) in their
 * order, row after row. Context ranks share the list, and tensor ranks what a context rank has. What lies behind the
 * last row of a list is padding: slots that keep its length constant, whatever was chosen. */
#ifndef CAIRN_MODEL_TOKENS_H
#define CAIRN_MODEL_TOKENS_H

#include "dist/parallel/infini.h"
#include "dist/parallel/shares.h"
#include "src/ops/infini.h"
#include "src/ops/ops.h"

struct decoder;
struct decoder_input;

struct token_list {
    int64_t rows;
    int64_t total;           /* slots */
    const int64_t *begin;    /* [rows] a row's slots; padding is behind the last row's */
    const int64_t *end;      /* [rows] */
    const int32_t *position; /* [total] in the sequence; 0 for padding */
};

/* Queries of one list against the keys of another or the same one. */
struct token_view {
    struct attention_shape shape;
    struct infini_read_shape read;        /* Infini-attention */
    const struct attention_span *written; /* [rows * segments] keys that enter the memory */
    int64_t segments;                     /* of a row */
};

/* begin has rows + 1 entries: rows that follow one another. */
struct token_list token_list_of(int64_t rows, const int64_t *begin, int64_t total, const int32_t *position);

struct token_set {
    struct token_list list;       /* over which the keys run */
    const struct shares *shares;  /* of the list among context ranks; NULL: this rank has it whole */
    int64_t count;                /* tokens of this context rank */
    const int32_t *key_rows;      /* [list.total] their rows in the rotary tables */
    const int32_t *query_rows;    /* [count] */
    const int64_t *first_segment; /* [rows] of the segments that a row's tokens may be in */
    int64_t segments;             /* how many they are, at most */
    bool scanned;                 /* each context rank has segments of its own, and the memory's states are scanned */
    struct token_view plan;
};

/* The tokens t of a sequence of `length` that a context rank of `ranks` computes, ascending (unless tokens is NULL);
 * returns their number. For
 * Infini-attention whole segments; otherwise one early and one late stretch, so that each rank sees as many keys. */
int64_t tokens_of_context(const struct decoder *decoder, int64_t length, int ranks, int rank, int32_t *tokens);

/* The list of all tokens of the input, and how context ranks share it (NULL with one, and when a cache is used, for
 * then each computes all). NULL with the context's error. */
bool token_list_create(struct tape *tape, const struct decoder *decoder, const struct decoder_input *input,
                       struct token_list *tokens, const struct shares **shares);

/* A set whose list is given. `whole` sets hold all tokens of the input. */
struct token_set *token_set_create(struct tape *tape, const struct decoder *decoder, const struct decoder_input *input,
                                   const struct token_list *list, const struct shares *shares, bool whole);

/* The plan of a set's queries against the keys of another one. False with the context's error. */
bool token_view_create(struct tape *tape, const struct decoder *decoder, const struct decoder_input *input,
                       const struct token_set *queries, const struct token_set *keys, struct token_view *plan);

#endif
