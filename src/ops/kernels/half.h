/* The functions of struct half_kernels, for this instruction set: AVX-512 BF16, AMX, or one that plays AMX in plain C
 * for the tests. */
#ifndef CAIRN_OPS_KERNELS_HALF_H
#define CAIRN_OPS_KERNELS_HALF_H

#include "src/ops/kernels/lanes.h"

#if defined(__AMX_BF16__) || !defined(__AVX512BF16__)
#define KERNEL_MATRIX
#endif

void KERNEL(half_begin)(void);
void KERNEL(half_end)(void);
void KERNEL(half_multiply)(const struct half_product *product);
void KERNEL(half_transpose)(uint32_t *to, int64_t to_ld, const void *from, int64_t from_ld, int64_t rows,
                            int64_t columns);
void KERNEL(half_pair)(uint32_t *pairs, int64_t ld, const bf16 *tile, int64_t tile_ld, int64_t rows, int64_t columns);
void KERNEL(half_part)(bf16 *tile, int64_t tile_ld, const uint32_t *pairs, int64_t ld, int64_t rows, int64_t columns);
void KERNEL(half_weights)(const struct half_weights *step);
void KERNEL(half_slopes)(const struct half_slopes *step);

#endif
