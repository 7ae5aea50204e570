/* Short causal convolutions along tokens, a filter of its own for each column. */
#include "src/ops/kernels/declare.h"

WORKER void convolve_worker(float *y, const void *x, const float *filter, int64_t before, int64_t rows, int64_t columns,
                            enum dtype dtype)
{
    for (int64_t r = 0; r < rows; r++) {
        float *to = y + r * columns;
#pragma omp simd
        for (int64_t c = 0; c < columns; c++)
            to[c] = filter[c] * load(x, r * columns + c, dtype);
        for (int64_t i = 1; i < CONVOLUTION_TAPS && i <= r + before; i++)
#pragma omp simd
            for (int64_t c = 0; c < columns; c++)
                to[c] += filter[i * columns + c] * load(x, (r - i) * columns + c, dtype);
    }
}

void KERNEL(convolve)(float *y, const void *x, const float *filter, int64_t before, int64_t rows, int64_t columns,
                      enum dtype dtype)
{
    DISPATCH(convolve_worker, dtype, y, x, filter, before, rows, columns);
}

WORKER void convolve_backward_worker(void *dx, const float *dy, const float *filter, int64_t behind, int64_t rows,
                                     int64_t columns, bool add, enum dtype dtype)
{
    for (int64_t r = 0; r < rows; r++) {
        int64_t taps = rows + behind - r < CONVOLUTION_TAPS ? rows + behind - r : CONVOLUTION_TAPS;
#pragma omp simd
        for (int64_t c = 0; c < columns; c++) {
            float sum = 0.0f;
            for (int64_t i = 0; i < taps; i++)
                sum += filter[i * columns + c] * dy[(r + i) * columns + c];
            store(dx, r * columns + c, sum, add, dtype);
        }
    }
}

void KERNEL(convolve_backward)(void *dx, float beta, const float *dy, const float *filter, int64_t behind, int64_t rows,
                               int64_t columns, enum dtype dtype)
{
    DISPATCH_BETA(convolve_backward_worker, dtype, beta, dx, dy, filter, behind, rows, columns);
}

WORKER void convolve_filter_worker(float *dfilter, int64_t ld, const float *dy, const void *x, int64_t stride,
                                   int64_t rows, int64_t columns, enum dtype dtype)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < CONVOLUTION_TAPS && i <= r; i++) {
            float *to = dfilter + i * ld;
            const float *slope = dy + r * stride;
#pragma omp simd
            for (int64_t c = 0; c < columns; c++)
                to[c] += slope[c] * load(x, (r - i) * stride + c, dtype);
        }
}

void KERNEL(convolve_filter)(float *dfilter, int64_t ld, const float *dy, const void *x, int64_t stride, int64_t rows,
                             int64_t columns, enum dtype dtype)
{
    DISPATCH(convolve_filter_worker, dtype, dfilter, ld, dy, x, stride, rows, columns);
}
