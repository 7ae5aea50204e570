/* Sums of rows with factors, and the inner products that are the derivatives of these factors. */
#include "src/ops/kernels/declare.h"

WORKER void accumulate_scaled_worker(void *to, const void *from, float factor, int64_t count, enum dtype from_type,
                                     bool add, enum dtype to_type)
{
#pragma omp simd
    for (int64_t i = 0; i < count; i++)
        store(to, i, factor * load(from, i, from_type), add, to_type);
}

void KERNEL(accumulate_scaled)(void *to, enum dtype to_type, const void *from, enum dtype from_type, float factor,
                               float beta, int64_t count)
{
    if (from_type == DTYPE_BF16)
        DISPATCH_BETA(accumulate_scaled_worker, to_type, beta, to, from, factor, count, DTYPE_BF16);
    else
        DISPATCH_BETA(accumulate_scaled_worker, to_type, beta, to, from, factor, count, DTYPE_F32);
}

WORKER void add_scaled_worker(void *sum, float a, const void *x, float b, const void *y, int64_t count,
                              enum dtype dtype)
{
#pragma omp simd
    for (int64_t i = 0; i < count; i++)
        store(sum, i, a * load(x, i, dtype) + b * load(y, i, dtype), false, dtype);
}

void KERNEL(add_scaled)(void *sum, float a, const void *x, float b, const void *y, int64_t count, enum dtype dtype)
{
    DISPATCH(add_scaled_worker, dtype, sum, a, x, b, y, count);
}

WORKER void interpolate_worker(void *to, const void *x, const void *y, float factor, int64_t count, enum dtype dtype)
{
#pragma omp simd
    for (int64_t i = 0; i < count; i++) {
        float from = load(x, i, dtype);
        store(to, i, from + factor * (load(y, i, dtype) - from), false, dtype);
    }
}

void KERNEL(interpolate)(void *to, const void *x, const void *y, float factor, int64_t count, enum dtype dtype)
{
    DISPATCH(interpolate_worker, dtype, to, x, y, factor, count);
}

WORKER void dot_floats_worker(float *sum, const void *x, const float *y, int64_t count, enum dtype dtype)
{
    float total = 0.0f;
#pragma omp simd reduction(+ : total)
    for (int64_t i = 0; i < count; i++)
        total += load(x, i, dtype) * y[i];
    *sum = total;
}

float KERNEL(dot_floats)(const void *x, const float *y, int64_t count, enum dtype dtype)
{
    float sum;
    DISPATCH(dot_floats_worker, dtype, &sum, x, y, count);
    return sum;
}

WORKER void dot_difference_worker(float *sum, const void *x, const void *y, const void *z, int64_t count,
                                  enum dtype dtype)
{
    float total = 0.0f;
#pragma omp simd reduction(+ : total)
    for (int64_t i = 0; i < count; i++)
        total += load(x, i, dtype) * (load(y, i, dtype) - load(z, i, dtype));
    *sum = total;
}

float KERNEL(dot_difference)(const void *x, const void *y, const void *z, int64_t count, enum dtype dtype)
{
    float sum;
    DISPATCH(dot_difference_worker, dtype, &sum, x, y, z, count);
    return sum;
}
