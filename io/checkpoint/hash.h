/* The hash of a dataset: CRC-64/XZ of its bytes as they are in the file. A checksum by division of polynomials is
 * linear: each rank contributes that of its own elements with zeros for all others, contributions are joined by
 * exclusive or, and the result does not depend on how the elements were divided. It finds every change within 64
 * consecutive bits. */
#ifndef CAIRN_IO_CHECKPOINT_HASH_H
#define CAIRN_IO_CHECKPOINT_HASH_H

#include "src/tensor/box.h"

#define HASH_NAME "CRC-64/XZ"

/* What consecutive elements from index `begin` on contribute, of a dataset of `total`. */
uint64_t hash_range(const float *values, int64_t begin, int64_t count, int64_t total);

/* The same for a box of a dataset of this shape; `values` are contiguous. */
uint64_t hash_box(const float *values, const struct box *box, int rank, const int64_t *shape);

/* The hash of a dataset of `total` elements, from all contributions joined. */
uint64_t hash_whole(uint64_t joined, int64_t total);

#endif
