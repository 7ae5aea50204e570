#include "src/ops/kernels/half.h"

#define TEXT_(word) #word
#define TEXT(word) TEXT_(word)

const struct half_kernels KERNEL(half) = {
    .name = TEXT(KERNEL_ISA),
#ifdef KERNEL_MATRIX
    .whole_rows = true,
#endif
    .begin = KERNEL(half_begin),
    .end = KERNEL(half_end),
    .multiply = KERNEL(half_multiply),
    .transpose = KERNEL(half_transpose),
    .pair = KERNEL(half_pair),
    .part = KERNEL(half_part),
    .weights = KERNEL(half_weights),
    .slopes = KERNEL(half_slopes),
};
