/* The head of a language model over a vocabulary that tensor ranks divide: logits and cross entropy in one operation,
 * in chunks of tokens, so that the logits never exist for all tokens and are never gathered. */
#ifndef CAIRN_DIST_PARALLEL_VOCABULARY_H
#define CAIRN_DIST_PARALLEL_VOCABULARY_H

#include "dist/mesh/mesh.h"
#include "src/tensor/tape.h"

struct vocabulary_targets {
    const int32_t *tokens; /* [N], negative: does not count */
    int64_t vocabulary;    /* of all tensor ranks, divided by range_partition */
    int64_t first;         /* of this rank's part of it */
    float scale;           /* of the loss */
    /* Shown the logits [rows, V local] F32 of the tokens row.. as they pass; NULL if nobody looks. */
    void (*see)(void *self, int64_t row, const struct tensor *logits);
    void *see_self;
};

/* n [N, D], weight [V local, D] -> loss [1] F32: scale * sum over tokens of -log softmax(n weight^T)[target], the same
 * on all tensor ranks. While the tape records, the gradients are computed along the way, for a loss that is the end of
 * the tape (its own gradient being 1). Collective over the tensor axis. */
struct tensor *vocabulary_loss(struct tape *tape, struct mesh *mesh, struct tensor *n, struct tensor *weight,
                               const struct vocabulary_targets *targets);

#endif
