/* A corpus that all ranks open, and of which one reads the tokens to find the documents. */
#ifndef CAIRN_TRAIN_CORPORA_H
#define CAIRN_TRAIN_CORPORA_H

#include "dist/mesh/mesh.h"
#include "io/data/data.h"

/* corpus_open_with of the settings, the same on all ranks. Collective over the team; agreed status. */
enum status corpora_open(struct context *context, struct mesh *mesh, const struct config *config,
                         const struct text_list *files, double begin, double end, struct corpus **corpus) MUST_USE;

#endif
