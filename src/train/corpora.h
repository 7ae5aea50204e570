/* A corpus that all ranks open, and of which one reads the tokens to find the documents. */
#ifndef CAIRN_TRAIN_CORPORA_H
#define CAIRN_TRAIN_CORPORA_H

#include "dist/mesh/mesh.h"
#include "io/data/data.h"
#include "io/tokenizer/tokenizer.h"

/* corpus_open_with of the settings, the same on all ranks. With a tokenizer (NULL: there is none) and data.format auto,
 * texts among the files are made into tokens first, all into one pair of files in run.folder/tokens, unless they are
 * there. FILE error if a file of tokens is of another tokenizer. Collective over the team; agreed status. */
enum status corpora_open(struct context *context, struct mesh *mesh, const struct config *config,
                         const struct tokenizer *tokenizer, const struct text_list *files, double begin, double end,
                         struct corpus **corpus) MUST_USE;

/* The hash of the tokenizer that files of tokens are of, as far as one of them tells; empty: none does. Local. */
enum status corpora_tokenizer(struct context *context, const struct text_list *files,
                              char hash[TOKENIZER_HASH]) MUST_USE;

#endif
