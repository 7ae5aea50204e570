/* The functions of the table in kernels.h, for this instruction set; the argument lists are there. */
#ifndef CAIRN_OPS_KERNELS_DECLARE_H
#define CAIRN_OPS_KERNELS_DECLARE_H

#include "src/ops/kernels/vector.h"

void KERNEL(convert)(void *to, enum dtype to_type, const void *from, enum dtype from_type, int64_t count,
                     bool uncached);
void KERNEL(accumulate)(void *to, enum dtype to_type, const void *from, enum dtype from_type, float beta,
                        int64_t count);
void KERNEL(accumulate_scaled)(void *to, enum dtype to_type, const void *from, enum dtype from_type, float factor,
                               float beta, int64_t count);
void KERNEL(add_scaled)(void *sum, float a, const void *x, float b, const void *y, int64_t count, enum dtype dtype);
void KERNEL(interpolate)(void *to, const void *x, const void *y, float factor, int64_t count, enum dtype dtype);
void KERNEL(add)(void *sum, const void *x, const void *y, int64_t count, enum dtype dtype, bool uncached);
void KERNEL(add_row)(void *y, const void *x, const float *bias, int64_t rows, int64_t columns, enum dtype dtype);
void KERNEL(sum_columns)(float *sum, const void *x, int64_t rows, int64_t columns, int64_t stride, enum dtype dtype);
void KERNEL(norm_forward)(const struct norm_rows *norm, void *y);
void KERNEL(norm_backward)(const struct norm_rows *norm, const void *dy, void *dx, float beta, float *dweight,
                           float *dbias);
void KERNEL(swiglu_forward)(void *y, const void *gate, const void *up, int64_t count, enum dtype dtype, bool uncached);
void KERNEL(swiglu_backward)(void *dgate, float gate_beta, void *dup, float up_beta, const void *dy, const void *gate,
                             const void *up, int64_t count, enum dtype dtype, bool uncached);
void KERNEL(silu_forward)(void *y, const void *x, int64_t count, enum dtype dtype);
void KERNEL(silu_backward)(void *dx, float beta, const void *dy, const void *x, int64_t count, enum dtype dtype);
void KERNEL(gelu_forward)(void *y, const void *x, int64_t count, enum dtype dtype, bool uncached);
void KERNEL(gelu_backward)(void *dx, float beta, const void *dy, const void *x, int64_t count, enum dtype dtype,
                           bool uncached);
void KERNEL(gelu_erf_forward)(void *y, const void *x, int64_t count, enum dtype dtype, bool uncached);
void KERNEL(gelu_erf_backward)(void *dx, float beta, const void *dy, const void *x, int64_t count, enum dtype dtype,
                               bool uncached);
void KERNEL(rope)(void *y, const void *x, int64_t heads, int64_t width, const float *cosine, const float *sine,
                  float sign, float beta, enum dtype dtype);
float KERNEL(row_max)(const float *row, int64_t count);
float KERNEL(row_sum_exp)(const float *row, float largest, int64_t count);
void KERNEL(row_softmax)(float *gradient, const float *row, float log_sum, float scale, int64_t count);
void KERNEL(tile_gather)(float *tile, int64_t ld, const void *from, int64_t stride, int64_t rows, int64_t columns,
                         float factor, enum dtype dtype);
void KERNEL(tile_gather_transposed)(float *tile, int64_t ld, const void *from, int64_t stride, int64_t rows,
                                    int64_t columns, float factor, enum dtype dtype);
void KERNEL(tile_scatter)(void *to, int64_t stride, const float *tile, int64_t ld, int64_t rows, int64_t columns,
                          const float *factor, float beta, enum dtype dtype);
void KERNEL(tile_multiply)(const struct tile_product *product);
void KERNEL(tile_scale)(float *tile, int64_t ld, int64_t rows, int64_t columns, const float *factor);
void KERNEL(tile_dots)(float *sum, const float *x, int64_t x_ld, const float *y, int64_t y_ld, int64_t rows,
                       int64_t columns);
void KERNEL(feature_gather)(float *tile, int64_t ld, const void *from, int64_t stride, int64_t rows, int64_t columns,
                            enum dtype dtype);
void KERNEL(feature_scatter)(void *to, int64_t stride, const float *derivatives, const float *features, int64_t ld,
                             int64_t rows, int64_t columns, float beta, enum dtype dtype);
void KERNEL(convolve)(float *y, const void *x, const float *filter, int64_t before, int64_t rows, int64_t columns,
                      enum dtype dtype);
void KERNEL(convolve_backward)(void *dx, float beta, const float *dy, const float *filter, int64_t behind, int64_t rows,
                               int64_t columns, enum dtype dtype);
void KERNEL(convolve_filter)(float *dfilter, int64_t ld, const float *dy, const void *x, int64_t stride, int64_t rows,
                             int64_t columns, enum dtype dtype);
void KERNEL(softmax_step)(float *scores, int64_t ld, int64_t keys, int64_t queries, const int32_t *seen, float *largest,
                          float *sum, float *factor);
void KERNEL(softmax_derivatives)(float *scores, float *derivatives, int64_t ld, int64_t queries, int64_t keys,
                                 const int32_t *seen, const float *log_sum, const float *mean);
void KERNEL(query_scores)(const struct query_block *block, enum dtype dtype);
void KERNEL(query_sums)(const struct query_block *block, enum dtype dtype);
float KERNEL(dot)(const void *x, const void *y, int64_t count, enum dtype dtype);
float KERNEL(dot_floats)(const void *x, const float *y, int64_t count, enum dtype dtype);
float KERNEL(dot_difference)(const void *x, const void *y, const void *z, int64_t count, enum dtype dtype);
void KERNEL(channel_moments)(const struct channel_part *part, float *mean, float *squares);
void KERNEL(channel_apply)(const struct channel_part *part, void *y);
void KERNEL(channel_gradient_sums)(const struct channel_part *part, float *total, float *along);
void KERNEL(channel_backward)(const struct channel_part *part, const struct channel_backward *to);
void KERNEL(relu_forward)(void *y, const void *x, int64_t count, enum dtype dtype);
void KERNEL(relu_backward)(void *dx, float beta, const void *dy, const void *y, int64_t count, enum dtype dtype);
void KERNEL(adamw)(const struct kernel_adamw *step, float *master, float *m, float *v, const float *gradient,
                   bf16 *values, int64_t count);
double KERNEL(sum_of_squares)(const float *values, int64_t count);

#endif
