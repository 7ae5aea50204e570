/* One layer: attention, MLP and the connections around them (src/model/README.md sections 2, 3 and 6). For this folder
 * only. */
#ifndef CAIRN_MODEL_BLOCK_H
#define CAIRN_MODEL_BLOCK_H

#include "src/model/decoder.h"
#include "src/model/tokens.h"

/* Earlier states of the residual stream that a connection may reach back to. */
enum { HISTORY_LIMIT = 12 };

/* The residual streams before the last connections, the newest first: x_{i-1}, x_{i-2}, ... */
struct history {
    int count;
    struct tensor *state[HISTORY_LIMIT];
};

/* What recursion 1 lends to later ones (cache: shared). */
struct lent_keys {
    struct tensor *key, *value; /* [list, kv heads * width], turned by their positions */
    struct tensor *states;      /* of the memory; NULL without */
};

struct layer_cache;

struct block_call {
    struct decoder *decoder;
    const struct block *block;
    const struct decoder_input *input;
    const struct token_set *set;
    int64_t layer;                     /* unrolled */
    int64_t use;                       /* of its stored layer */
    const int64_t *use_begin;          /* [recursions + 1] tokens of the set, where each use has its own; NULL: `use` */
    bool lends, borrows;               /* keys and values, to later recursions or from recursion 1 */
    const struct token_view *borrowed; /* how the set's queries see the keys they borrow, without a cache */
    struct layer_cache *cache;         /* keys of earlier tokens, the layer's own or those it borrows */
    const int64_t *cache_rows;         /* [rows of the set] where they are in it */
    const int64_t *query_rows;         /* [rows of the set] where earlier queries of the same recursion are in it */
    int64_t cache_kept;                /* the first so many rows have new keys, to be kept; the others borrow theirs */
};

struct tensor *block_apply(struct tape *tape, const struct linear_parameters *parameters, struct tensor *x);

/* What the gated delta rule's memory sees of queries, keys and values, convolved within the spans (their keys). */
enum convolved { CONVOLVED_QUERY, CONVOLVED_KEY, CONVOLVED_VALUE };

struct tensor *block_features(struct tape *tape, const struct block_call *call, enum convolved of, struct tensor *x,
                              const struct attention_span *span, int64_t spans);

/* RoPE, where the model has it. */
struct tensor *block_turn(struct tape *tape, const struct decoder *decoder, struct tensor *x, const int32_t *rows);

/* h and history move on by the layer. lent is filled if the call lends, and read if it borrows; else it may be NULL.
 * Collective over the tensor and context axes. False with the context's error. */
bool block_run(struct tape *tape, const struct block_call *call, struct tensor **h, struct history *history,
               struct lent_keys *lent);

/* How many connections a layer has, and how many states their history holds. */
int block_connections(const struct model_config *config);
int history_window(const struct model_config *config);

#endif
