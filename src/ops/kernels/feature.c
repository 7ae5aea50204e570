/* The feature map of linear attention (Katharopoulos et al. 2020), sigma(x) = elu(x) + 1: x + 1 above 0, else exp(x).
 */
#include "src/ops/kernels/declare.h"

WORKER void feature_gather_worker(float *tile, int64_t ld, const void *from, int64_t stride, int64_t rows,
                                  int64_t columns, enum dtype dtype)
{
    for (int64_t r = 0; r < rows; r++) {
        float *to = tile + r * ld;
        const void *row = element(from, r * stride, dtype);
#pragma omp simd
        for (int64_t c = 0; c < columns; c++) {
            float x = load(row, c, dtype);
            float power = exponential(x);
            to[c] = x > 0.0f ? x + 1.0f : power;
        }
        for (int64_t c = columns; c < ld; c++)
            to[c] = 0.0f;
    }
}

void KERNEL(feature_gather)(float *tile, int64_t ld, const void *from, int64_t stride, int64_t rows, int64_t columns,
                            enum dtype dtype)
{
    DISPATCH(feature_gather_worker, dtype, tile, ld, from, stride, rows, columns);
}

/* The derivative of sigma is the smaller of sigma and 1. */
WORKER void feature_scatter_worker(void *to, int64_t stride, const float *derivatives, const float *features,
                                   int64_t ld, int64_t rows, int64_t columns, bool add, enum dtype dtype)
{
    for (int64_t r = 0; r < rows; r++) {
        void *row = element_of(to, r * stride, dtype);
        const float *slope = derivatives + r * ld;
        const float *feature = features + r * ld;
#pragma omp simd
        for (int64_t c = 0; c < columns; c++)
            store(row, c, slope[c] * (feature[c] > 1.0f ? 1.0f : feature[c]), add, dtype);
    }
}

void KERNEL(feature_scatter)(void *to, int64_t stride, const float *derivatives, const float *features, int64_t ld,
                             int64_t rows, int64_t columns, float beta, enum dtype dtype)
{
    DISPATCH_BETA(feature_scatter_worker, dtype, beta, to, stride, derivatives, features, ld, rows, columns);
}

void KERNEL(tile_dots)(float *sum, const float *x, int64_t x_ld, const float *y, int64_t y_ld, int64_t rows,
                       int64_t columns)
{
    for (int64_t r = 0; r < rows; r++) {
        const float *x_row = x + r * x_ld;
        const float *y_row = y + r * y_ld;
        float total = 0.0f;
#pragma omp simd reduction(+ : total)
        for (int64_t c = 0; c < columns; c++)
            total += x_row[c] * y_row[c];
        sum[r] = total;
    }
}
