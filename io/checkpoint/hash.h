/* The hash of a dataset: the sum, modulo 2^64, over its elements of XXH3 (64 bits) of the element's four bytes with
 * its flat index as the seed. It does not depend on how the elements are divided, and no change of a single element
 * leaves it the same. */
#ifndef CAIRN_IO_CHECKPOINT_HASH_H
#define CAIRN_IO_CHECKPOINT_HASH_H

#include "src/tensor/tensor.h"

/* The part of the hash that consecutive elements from index `begin` on contribute. */
uint64_t hash_range(const float *values, int64_t begin, int64_t count);

/* The same for a box of a dataset of this shape; `values` are contiguous. */
uint64_t hash_box(const float *values, const struct box *box, int rank, const int64_t *shape);

#endif
