/* Norms over rows. */
#include "src/ops/kernels/declare.h"

#include <math.h>

WORKER void norm_forward_worker(const struct norm_rows *norm, void *y, bool layer, enum dtype dtype)
{
    int64_t columns = norm->columns;
    for (int64_t r = 0; r < norm->rows; r++) {
        const void *x = element(norm->x, r * columns, dtype);
        void *y_row = element_of(y, r * columns, dtype);
        float mean = 0.0f;
        if (layer) {
#pragma omp simd reduction(+ : mean)
            for (int64_t c = 0; c < columns; c++)
                mean += load(x, c, dtype);
            mean /= (float)columns;
            norm->mean[r] = mean;
        }
        float variance = 0.0f;
#pragma omp simd reduction(+ : variance)
        for (int64_t c = 0; c < columns; c++) {
            float centred = load(x, c, dtype) - mean;
            variance += centred * centred;
        }
        float inverse = 1.0f / sqrtf(variance / (float)columns + norm->epsilon);
        norm->inverse[r] = inverse;
        const float *weight = norm->weight;
        const float *bias = norm->bias;
        if (bias) {
#pragma omp simd
            for (int64_t c = 0; c < columns; c++)
                store(y_row, c, (load(x, c, dtype) - mean) * inverse * weight[c] + bias[c], false, dtype);
        } else {
#pragma omp simd
            for (int64_t c = 0; c < columns; c++)
                store(y_row, c, (load(x, c, dtype) - mean) * inverse * weight[c], false, dtype);
        }
    }
}

void KERNEL(norm_forward)(const struct norm_rows *norm, void *y)
{
    if (norm->kind == NORM_LAYER)
        DISPATCH(norm_forward_worker, norm->dtype, norm, y, true);
    else
        DISPATCH(norm_forward_worker, norm->dtype, norm, y, false);
}

/* With n the normalised row and g = dy * weight: dx = inverse * (g - n mean(g n) - mean(g)), the last term only for
 * the layer norm. */
WORKER void norm_row_worker(const struct norm_rows *norm, int64_t r, const void *dy, void *dx, bool layer, bool add,
                            enum dtype dtype)
{
    int64_t columns = norm->columns;
    const void *x = element(norm->x, r * columns, dtype);
    const float *weight = norm->weight;
    float mean = layer ? norm->mean[r] : 0.0f;
    float inverse = norm->inverse[r];
    float along = 0.0f;
    float total = 0.0f;
#pragma omp simd reduction(+ : along, total)
    for (int64_t c = 0; c < columns; c++) {
        float g = load(dy, c, dtype) * weight[c];
        along += g * (load(x, c, dtype) - mean) * inverse;
        total += g;
    }
    along /= (float)columns;
    total = layer ? total / (float)columns : 0.0f;
#pragma omp simd
    for (int64_t c = 0; c < columns; c++) {
        float g = load(dy, c, dtype) * weight[c];
        float n = (load(x, c, dtype) - mean) * inverse;
        store(dx, c, inverse * (g - total - n * along), add, dtype);
    }
}

WORKER void norm_parameters_worker(const struct norm_rows *norm, int64_t r, const void *dy, float *dweight,
                                   enum dtype dtype)
{
    const void *x = element(norm->x, r * norm->columns, dtype);
    float mean = norm->kind == NORM_LAYER ? norm->mean[r] : 0.0f;
    float inverse = norm->inverse[r];
#pragma omp simd
    for (int64_t c = 0; c < norm->columns; c++)
        dweight[c] += load(dy, c, dtype) * (load(x, c, dtype) - mean) * inverse;
}

void KERNEL(norm_backward)(const struct norm_rows *norm, const void *dy, void *dx, float beta, float *dweight,
                           float *dbias)
{
    enum dtype dtype = norm->dtype;
    for (int64_t r = 0; r < norm->rows; r++) {
        const void *dy_row = element(dy, r * norm->columns, dtype);
        if (dx && norm->kind == NORM_LAYER)
            DISPATCH_BETA(norm_row_worker, dtype, beta, norm, r, dy_row, element_of(dx, r * norm->columns, dtype),
                          true);
        else if (dx)
            DISPATCH_BETA(norm_row_worker, dtype, beta, norm, r, dy_row, element_of(dx, r * norm->columns, dtype),
                          false);
        if (dweight)
            DISPATCH(norm_parameters_worker, dtype, norm, r, dy_row, dweight);
        if (dbias)
            KERNEL(sum_columns)(dbias, dy_row, 1, norm->columns, norm->columns, dtype);
    }
}
