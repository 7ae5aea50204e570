/* What generation keeps of queries whose convolution later tokens take part in (src/model/README.md section 12): the
 * last ones of each sequence and recursion. For this folder only. */
#ifndef CAIRN_MODEL_QUERY_HISTORY_H
#define CAIRN_MODEL_QUERY_HISTORY_H

#include "src/model/block.h"

struct query_history;

/* Of so many rows, each of `bytes` a query. */
enum status query_history_create(struct context *context, int64_t rows, int64_t bytes,
                                 struct query_history **history) MUST_USE;
void query_history_destroy(struct context *context, struct query_history **history);

/* A sequence begins anew in the rows row, row + step, ... */
void query_history_reset(struct query_history *history, int64_t row, int64_t step);

/* The features of the call's queries q [tokens, heads * E] before RoPE, of which the last are kept in the rows
 * call->query_rows. NULL with the context's error. */
struct tensor *query_history_features(struct tape *tape, const struct block_call *call, struct query_history *history,
                                      struct tensor *q);

#endif
