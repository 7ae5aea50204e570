#include "src/ops/kernels/bf16.h"

#define TEXT_(word) #word
#define TEXT(word) TEXT_(word)

const struct bf16_kernels KERNEL(matrix) = {
    .name = TEXT(KERNEL_ISA),
#ifdef KERNEL_MATRIX
    .whole_rows = true,
#endif
    .begin = KERNEL(bf16_begin),
    .end = KERNEL(bf16_end),
    .multiply = KERNEL(bf16_multiply),
    .transpose = KERNEL(bf16_transpose),
    .pair = KERNEL(bf16_pair),
    .part = KERNEL(bf16_part),
    .weights = KERNEL(bf16_weights),
    .derivatives = KERNEL(bf16_derivatives),
};
