/* A tokenizer learned of texts by all ranks: each counts the pieces of its part, rank 0 learns the merges. */
#ifndef CAIRN_PREPARE_TRAIN_TOKENIZER_H
#define CAIRN_PREPARE_TRAIN_TOKENIZER_H

#include "src/prepare/tokenize.h"

/* The tokenizer.json, on rank 0: the same whatever the number of ranks. Of the options format and documents count; of
 * the result all but the tokens. Collective over the team; agreed status. */
enum status tokenizer_train(struct context *context, struct mesh *mesh, const struct tokenizer_plan *plan,
                            char *const *names, int count, const struct tokenize_options *options, struct bytes *text,
                            struct tokenize_result *result) MUST_USE;

#endif
