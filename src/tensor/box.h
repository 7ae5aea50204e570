/* Boxes of a global tensor: what a rank holds of it, and what it moves to and from files. */
#ifndef CAIRN_TENSOR_BOX_H
#define CAIRN_TENSOR_BOX_H

#include "src/core/integer.h"
#include "src/tensor/tensor.h"

/* Offset and extent in each of the dimensions. */
struct box {
    int64_t offset[TENSOR_RANK];
    int64_t extent[TENSOR_RANK];
};

enum { BOXES_OF_RANGE = 2 * TENSOR_RANK - 1 };

int64_t box_count(const struct box *box, int rank);

/* Elements of `flat` (a range of the row-major local block `block`, of `rank` dimensions) as at most BOXES_OF_RANGE
 * boxes of the global tensor, in the order in which the elements lie in memory. Returns their number. */
int box_from_range(const struct box *block, int rank, struct range flat, struct box boxes[BOXES_OF_RANGE]);

#endif
