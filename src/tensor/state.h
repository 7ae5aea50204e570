/* What a job consists of, as named arrays: parameters, buffers, an optimiser's moments, memories, past losses. Whoever
 * has some names them to a visitor, and saving, loading, comparing and converting are visits. */
#ifndef CAIRN_TENSOR_STATE_H
#define CAIRN_TENSOR_STATE_H

#include "src/core/context.h"
#include "src/tensor/parameter.h"

enum { STATE_NAME = PARAMETER_NAME + 32 };

/* A box of an array and this rank's memory for it, row-major and contiguous: fp32, or bf16 where there is no fp32 of
 * it. */
struct state_piece {
    struct box box;
    float *data; /* NULL: `values` has it */
    bf16 *values;
};

/* An array of fp32, or of fp64, of which each element is two of fp32 here and the last dimension counts these; and this
 * rank's pieces of it; each element is written by exactly one rank. Arrays are the same on
 * all ranks, in the same order; pieces may be none. */
struct state_array {
    char name[STATE_NAME]; /* with its group: "/parameters/model.norm.weight" */
    int rank;
    int64_t shape[TENSOR_RANK];
    bool doubles;
    bool optional; /* stays as it is when it is read from where it is missing */
    int piece_count;
    struct state_piece *pieces;
};

struct state_visitor {
    void *self;
    bool writes; /* only what this rank owns is wanted; else all that it holds */
    enum status (*array)(void *self, const struct state_array *array) MUST_USE; /* copies what it wants to keep */
};

#endif
