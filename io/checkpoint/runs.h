/* A box of a row-major dataset as runs of consecutive elements, all of the same length. */
#ifndef CAIRN_IO_CHECKPOINT_RUNS_H
#define CAIRN_IO_CHECKPOINT_RUNS_H

#include "src/tensor/box.h"

struct runs {
    int outer; /* dimensions before this one have a run for each index */
    int64_t length;
    int64_t count; /* 0 for an empty box */
};

struct runs runs_of_box(const struct box *box, int rank, const int64_t *shape);

/* The flat index in the dataset of the first element of a run. */
int64_t runs_begin(const struct runs *runs, const struct box *box, int rank, const int64_t *shape, int64_t index);

#endif
