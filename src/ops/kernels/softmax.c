/* Softmax: over rows of logits, and step by step over tiles of attention scores. */
#include "src/ops/kernels/declare.h"

#include <math.h>

float KERNEL(row_max)(const float *row, int64_t count)
{
    float largest = -INFINITY;
#pragma omp simd reduction(max : largest)
    for (int64_t i = 0; i < count; i++)
        largest = row[i] > largest ? row[i] : largest;
    return largest;
}

float KERNEL(row_sum_exp)(const float *row, float largest, int64_t count)
{
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < count; i++)
        sum += exponential(row[i] - largest);
    return sum;
}

void KERNEL(row_softmax)(float *gradient, const float *row, float log_sum, float scale, int64_t count)
{
#pragma omp simd
    for (int64_t i = 0; i < count; i++)
        gradient[i] = scale * exponential(row[i] - log_sum);
}

WORKER void step_worker(float *scores, int64_t ld, int32_t keys, int64_t queries, const int32_t *seen, float *largest,
                        float *sum, float *factor, const bool masked)
{
    for (int64_t i = 0; i < queries; i++)
        factor[i] = largest[i];
    for (int32_t j = 0; j < keys; j++) {
        const float *row = scores + j * ld;
#pragma omp simd
        for (int64_t i = 0; i < queries; i++)
            largest[i] = (!masked || j < seen[i]) && row[i] > largest[i] ? row[i] : largest[i];
    }
#pragma omp simd
    for (int64_t i = 0; i < queries; i++) {
        factor[i] = factor[i] == largest[i] ? 1.0f : exponential(factor[i] - largest[i]);
        sum[i] *= factor[i];
    }
    for (int32_t j = 0; j < keys; j++) {
        float *row = scores + j * ld;
#pragma omp simd
        for (int64_t i = 0; i < queries; i++) {
            float p = exponential(row[i] - largest[i]);
            p = !masked || j < seen[i] ? p : 0.0f;
            row[i] = p;
            sum[i] += p;
        }
    }
}

void KERNEL(softmax_step)(float *scores, int64_t ld, int64_t keys, int64_t queries, const int32_t *seen, float *largest,
                          float *sum, float *factor)
{
    bool masked = false;
    for (int64_t i = 0; i < queries; i++)
        masked |= seen[i] < keys;
    if (masked)
        step_worker(scores, ld, (int32_t)keys, queries, seen, largest, sum, factor, true);
    else
        step_worker(scores, ld, (int32_t)keys, queries, seen, largest, sum, factor, false);
}

void KERNEL(softmax_derivatives)(float *scores, float *derivatives, int64_t ld, int64_t queries, int64_t keys,
                                 const int32_t *seen, const float *log_sum, const float *mean)
{
    for (int64_t i = 0; i < queries; i++) {
        float *p_row = scores + i * ld;
        float *slope_row = derivatives + i * ld;
        int64_t limit = seen[i] < keys ? seen[i] : keys;
#pragma omp simd
        for (int64_t j = 0; j < limit; j++) {
            p_row[j] = exponential(p_row[j] - log_sum[i]);
            slope_row[j] = p_row[j] * (slope_row[j] - mean[i]);
        }
        for (int64_t j = limit < 0 ? 0 : limit; j < keys; j++)
            p_row[j] = slope_row[j] = 0.0f;
    }
}

WORKER void dot_worker(float *sum, const void *x, const void *y, int64_t count, enum dtype dtype)
{
    float total = 0.0f;
#pragma omp simd reduction(+ : total)
    for (int64_t i = 0; i < count; i++)
        total += load(x, i, dtype) * load(y, i, dtype);
    *sum = total;
}

float KERNEL(dot)(const void *x, const void *y, int64_t count, enum dtype dtype)
{
    float sum;
    DISPATCH(dot_worker, dtype, &sum, x, y, count);
    return sum;
}
