/* The functions of struct bf16_kernels, for this instruction set: AVX-512 BF16, AMX, or one that plays AMX in plain C
 * for the tests. */
#ifndef CAIRN_OPS_KERNELS_BF16_H
#define CAIRN_OPS_KERNELS_BF16_H

#include "src/ops/kernels/lanes.h"

#if defined(__AMX_BF16__) || !defined(__AVX512BF16__)
#define KERNEL_MATRIX
#endif

void KERNEL(bf16_begin)(void);
void KERNEL(bf16_end)(void);
void KERNEL(bf16_multiply)(const struct bf16_product *product);
void KERNEL(bf16_transpose)(uint32_t *to, int64_t to_ld, const void *from, int64_t from_ld, int64_t rows,
                            int64_t columns);
void KERNEL(bf16_pair)(uint32_t *pairs, int64_t ld, const bf16 *tile, int64_t tile_ld, int64_t rows, int64_t columns);
void KERNEL(bf16_part)(bf16 *tile, int64_t tile_ld, const uint32_t *pairs, int64_t ld, int64_t rows, int64_t columns);
void KERNEL(bf16_weights)(const struct bf16_weights *step);
void KERNEL(bf16_derivatives)(const struct bf16_derivatives *step);

#endif
