#include "src/ops/kernels/declare.h"

#define TEXT_(word) #word
#define TEXT(word) TEXT_(word)

#define FUNCTIONS                                                                                                   \
    .name = TEXT(KERNEL_ISA), .convert = KERNEL(convert), .accumulate = KERNEL(accumulate), .add = KERNEL(add),     \
    .add_row = KERNEL(add_row), .sum_columns = KERNEL(sum_columns), .norm_forward = KERNEL(norm_forward),           \
    .norm_backward = KERNEL(norm_backward), .swiglu_forward = KERNEL(swiglu_forward),                               \
    .swiglu_backward = KERNEL(swiglu_backward), .gelu_forward = KERNEL(gelu_forward),                               \
    .gelu_backward = KERNEL(gelu_backward), .gelu_erf_forward = KERNEL(gelu_erf_forward),                           \
    .gelu_erf_backward = KERNEL(gelu_erf_backward), .rope = KERNEL(rope), .row_max = KERNEL(row_max),               \
    .row_sum_exp = KERNEL(row_sum_exp), .row_softmax = KERNEL(row_softmax), .tile_gather = KERNEL(tile_gather),     \
    .tile_gather_transposed = KERNEL(tile_gather_transposed), .tile_scatter = KERNEL(tile_scatter),                 \
    .tile_multiply = KERNEL(tile_multiply), .tile_scale = KERNEL(tile_scale), .softmax_step = KERNEL(softmax_step), \
    .softmax_derivatives = KERNEL(softmax_derivatives), .dot = KERNEL(dot), .adamw = KERNEL(adamw),                 \
    .sum_of_squares = KERNEL(sum_of_squares), .accumulate_scaled = KERNEL(accumulate_scaled),                       \
    .add_scaled = KERNEL(add_scaled), .interpolate = KERNEL(interpolate), .silu_forward = KERNEL(silu_forward),     \
    .silu_backward = KERNEL(silu_backward), .dot_floats = KERNEL(dot_floats),                                       \
    .dot_difference = KERNEL(dot_difference), .tile_dots = KERNEL(tile_dots),                                       \
    .feature_gather = KERNEL(feature_gather), .feature_scatter = KERNEL(feature_scatter),                           \
    .query_scores = KERNEL(query_scores), .query_sums = KERNEL(query_sums), .convolve = KERNEL(convolve),           \
    .convolve_backward = KERNEL(convolve_backward), .convolve_filter = KERNEL(convolve_filter),                     \
    .channel_moments = KERNEL(channel_moments), .channel_apply = KERNEL(channel_apply),                             \
    .channel_gradient_sums = KERNEL(channel_gradient_sums), .channel_backward = KERNEL(channel_backward),           \
    .relu_forward = KERNEL(relu_forward), .relu_backward = KERNEL(relu_backward)

#ifdef KERNEL_WITH_BF16
const struct kernels KERNEL(kernels) = {FUNCTIONS, .matrix = &matrix_bf16};
#else
const struct kernels KERNEL(kernels) = {FUNCTIONS};
#endif

/* The same on machines that have tiles besides. */
#ifdef KERNEL_WITH_AMX
const struct kernels kernels_amx = {FUNCTIONS, .matrix = &matrix_amx};
#endif
