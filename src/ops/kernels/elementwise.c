/* Operations that treat each element or each column alone. */
#include "src/ops/kernels/block.h"
#include "src/ops/kernels/declare.h"

WORKER void accumulate_block(int64_t begin, int64_t size, void *to, const void *from, bool uncached,
                             enum dtype from_type, bool add, enum dtype to_type)
{
    struct block value;
    block_load(&value, from, begin, size, from_type);
    block_put(to, begin, size, &value, true, add, uncached, to_type);
}

WORKER void accumulate_pass(void *to, enum dtype to_type, const void *from, enum dtype from_type, float beta,
                            int64_t count, bool uncached)
{
    if (from_type == DTYPE_BF16)
        DISPATCH_BETA(EACH_BLOCK, to_type, beta, accumulate_block, count, to, from, uncached, DTYPE_BF16);
    else
        DISPATCH_BETA(EACH_BLOCK, to_type, beta, accumulate_block, count, to, from, uncached, DTYPE_F32);
}

void KERNEL(accumulate)(void *to, enum dtype to_type, const void *from, enum dtype from_type, float beta, int64_t count)
{
    accumulate_pass(to, to_type, from, from_type, beta, count, false);
}

void KERNEL(convert)(void *to, enum dtype to_type, const void *from, enum dtype from_type, int64_t count, bool uncached)
{
    if (to_type == from_type) {
        memcpy(to, from, (size_t)count * dtype_size(to_type));
        return;
    }
    uncached = uncached_begin(uncached, to, LINE_BYTES);
    accumulate_pass(to, to_type, from, from_type, 0.0f, count, uncached);
    uncached_end(uncached);
}

WORKER void add_block(int64_t begin, int64_t size, void *sum, const void *x, const void *y, bool uncached,
                      enum dtype dtype)
{
    struct block a;
    struct block b;
    block_load(&a, x, begin, size, dtype);
    block_load(&b, y, begin, size, dtype);
#pragma omp simd
    for (int64_t i = 0; i < size; i++)
        a.at[i] += b.at[i];
    block_store(sum, begin, size, &a, false, uncached, dtype);
}

void KERNEL(add)(void *sum, const void *x, const void *y, int64_t count, enum dtype dtype, bool uncached)
{
    uncached = uncached_begin(uncached, sum, LINE_BYTES);
    DISPATCH(EACH_BLOCK, dtype, add_block, count, sum, x, y, uncached);
    uncached_end(uncached);
}

WORKER void add_row_block(int64_t begin, int64_t size, void *y, const void *x, const float *bias, enum dtype dtype)
{
    struct block sum;
    block_load(&sum, x, begin, size, dtype);
#pragma omp simd
    for (int64_t i = 0; i < size; i++)
        sum.at[i] += bias[begin + i];
    block_store(y, begin, size, &sum, false, false, dtype);
}

void KERNEL(add_row)(void *y, const void *x, const float *bias, int64_t rows, int64_t columns, enum dtype dtype)
{
    for (int64_t r = 0; r < rows; r++)
        DISPATCH(EACH_BLOCK, dtype, add_row_block, columns, element_of(y, r * columns, dtype),
                 element(x, r * columns, dtype), bias);
}

WORKER void sum_columns_worker(float *sum, const void *x, int64_t rows, int64_t columns, int64_t stride,
                               enum dtype dtype)
{
    for (int64_t r = 0; r < rows; r++) {
        const void *row = element(x, r * stride, dtype);
#pragma omp simd
        for (int64_t c = 0; c < columns; c++)
            sum[c] += load(row, c, dtype);
    }
}

void KERNEL(sum_columns)(float *sum, const void *x, int64_t rows, int64_t columns, int64_t stride, enum dtype dtype)
{
    DISPATCH(sum_columns_worker, dtype, sum, x, rows, columns, stride);
}

/* -- Activations -- */

#define LOG2_E 1.4426950408889634f

WORKER void swiglu_forward_block(int64_t begin, int64_t size, void *y, const void *gate, const void *up, bool uncached,
                                 enum dtype dtype)
{
    struct block g;
    struct block u;
    block_load(&g, gate, begin, size, dtype);
    block_load(&u, up, begin, size, dtype);
#pragma omp simd
    for (int64_t i = 0; i < size; i++)
        u.at[i] *= g.at[i] / (1.0f + power(-LOG2_E * g.at[i]));
    block_store(y, begin, size, &u, false, uncached, dtype);
}

void KERNEL(swiglu_forward)(void *y, const void *gate, const void *up, int64_t count, enum dtype dtype, bool uncached)
{
    uncached = uncached_begin(uncached, y, LINE_BYTES);
    DISPATCH(EACH_BLOCK, dtype, swiglu_forward_block, count, y, gate, up, uncached);
    uncached_end(uncached);
}

struct swiglu_gradients {
    void *gate, *up; /* either may be NULL */
    bool add_gate, add_up;
    bool uncached_gate, uncached_up;
};

WORKER void swiglu_backward_block(int64_t begin, int64_t size, const struct swiglu_gradients *to, const void *dy,
                                  const void *gate, const void *up, enum dtype dtype)
{
    struct block d;
    struct block g;
    struct block u;
    block_load(&d, dy, begin, size, dtype);
    block_load(&g, gate, begin, size, dtype);
    block_load(&u, up, begin, size, dtype);
#pragma omp simd
    for (int64_t i = 0; i < size; i++) {
        float e = power(-LOG2_E * g.at[i]);
        float s = 1.0f / (1.0f + e);
        float y = g.at[i] * s;
        u.at[i] *= d.at[i] * (s + y * (e * s));
        d.at[i] *= y;
    }
    if (to->gate)
        block_store(to->gate, begin, size, &u, to->add_gate, to->uncached_gate, dtype);
    if (to->up)
        block_store(to->up, begin, size, &d, to->add_up, to->uncached_up, dtype);
}

void KERNEL(swiglu_backward)(void *dgate, float gate_beta, void *dup, float up_beta, const void *dy, const void *gate,
                             const void *up, int64_t count, enum dtype dtype, bool uncached)
{
    struct swiglu_gradients to = {.gate = dgate, .up = dup, .add_gate = gate_beta != 0.0f, .add_up = up_beta != 0.0f};
    to.uncached_gate = uncached_begin(uncached && !to.add_gate, dgate, LINE_BYTES);
    to.uncached_up = uncached_begin(uncached && !to.add_up, dup, LINE_BYTES);
    DISPATCH(EACH_BLOCK, dtype, swiglu_backward_block, count, &to, dy, gate, up);
    uncached_end(uncached);
}

WORKER void silu_forward_worker(void *y, const void *x, int64_t count, enum dtype dtype)
{
#pragma omp simd
    for (int64_t i = 0; i < count; i++) {
        float value = load(x, i, dtype);
        store(y, i, value / (1.0f + power(-LOG2_E * value)), false, dtype);
    }
}

void KERNEL(silu_forward)(void *y, const void *x, int64_t count, enum dtype dtype)
{
    DISPATCH(silu_forward_worker, dtype, y, x, count);
}

WORKER void silu_backward_worker(void *dx, const void *dy, const void *x, int64_t count, bool add, enum dtype dtype)
{
#pragma omp simd
    for (int64_t i = 0; i < count; i++) {
        float value = load(x, i, dtype);
        float s = 1.0f / (1.0f + power(-LOG2_E * value));
        store(dx, i, load(dy, i, dtype) * s * (1.0f + value * (1.0f - s)), add, dtype);
    }
}

void KERNEL(silu_backward)(void *dx, float beta, const void *dy, const void *x, int64_t count, enum dtype dtype)
{
    DISPATCH_BETA(silu_backward_worker, dtype, beta, dx, dy, x, count);
}

/* 0.5 (1 + tanh(u)) is sigmoid(2 u), and 2^(GELU_EXPONENT (x + GELU_CUBE x^3)) is exp(-2 u). */
#define GELU_EXPONENT (-2.302208198f) /* -2 sqrt(2 / pi) / ln 2 */
#define GELU_CUBE 0.044715f
#define GELU_OUTER 1.5957691216057308f /* 2 sqrt(2 / pi) */

/* The normal distribution's part above |v|, and e^(-v^2/2) beside it: Abramowitz and Stegun 7.1.26, whose error is
 * below 1.5e-7 of the latter. */
WORKER float normal_tail(float v, float *density)
{
    float z = (v < 0.0f ? -v : v) * 0.70710678118654752f;
    float t = 1.0f / (1.0f + 0.3275911f * z);
    float p = t * (0.254829592f + t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));
    *density = power(-LOG2_E * z * z);
    return 0.5f * p * *density;
}

/* With the normal distribution itself (erf), or with tanh in its place. */
WORKER float gelu_value(float v, bool exact)
{
    if (exact) {
        float density;
        float tail = normal_tail(v, &density);
        return v * (v < 0.0f ? tail : 1.0f - tail);
    }
    return v / (1.0f + power(v * (GELU_EXPONENT + GELU_EXPONENT * GELU_CUBE * (v * v))));
}

WORKER float gelu_derivative(float v, bool exact)
{
    if (exact) {
        float density;
        float tail = normal_tail(v, &density);
        return (v < 0.0f ? tail : 1.0f - tail) + v * 0.3989422804014327f * density;
    }
    float square = v * v;
    float e = power(v * (GELU_EXPONENT + GELU_EXPONENT * GELU_CUBE * square));
    float s = 1.0f / (1.0f + e);
    float inner = v * (GELU_OUTER + 3.0f * GELU_OUTER * GELU_CUBE * square);
    return s + s * (e * s) * inner;
}

WORKER void gelu_forward_block(int64_t begin, int64_t size, void *y, const void *x, bool exact, bool uncached,
                               enum dtype dtype)
{
    struct block value;
    block_load(&value, x, begin, size, dtype);
#pragma omp simd
    for (int64_t i = 0; i < size; i++)
        value.at[i] = gelu_value(value.at[i], exact);
    block_store(y, begin, size, &value, false, uncached, dtype);
}

WORKER void gelu_forward_all(void *y, const void *x, int64_t count, enum dtype dtype, bool exact, bool uncached)
{
    uncached = uncached_begin(uncached, y, LINE_BYTES);
    DISPATCH(EACH_BLOCK, dtype, gelu_forward_block, count, y, x, exact, uncached);
    uncached_end(uncached);
}

void KERNEL(gelu_forward)(void *y, const void *x, int64_t count, enum dtype dtype, bool uncached)
{
    gelu_forward_all(y, x, count, dtype, false, uncached);
}

void KERNEL(gelu_erf_forward)(void *y, const void *x, int64_t count, enum dtype dtype, bool uncached)
{
    gelu_forward_all(y, x, count, dtype, true, uncached);
}

WORKER void gelu_backward_block(int64_t begin, int64_t size, void *dx, const void *dy, const void *x, bool exact,
                                bool uncached, bool add, enum dtype dtype)
{
    struct block value;
    struct block gradient;
    block_load(&value, x, begin, size, dtype);
    block_load(&gradient, dy, begin, size, dtype);
#pragma omp simd
    for (int64_t i = 0; i < size; i++)
        gradient.at[i] *= gelu_derivative(value.at[i], exact);
    block_store(dx, begin, size, &gradient, add, uncached, dtype);
}

WORKER void gelu_backward_all(void *dx, float beta, const void *dy, const void *x, int64_t count, enum dtype dtype,
                              bool exact, bool uncached)
{
    uncached = uncached_begin(uncached && beta == 0.0f, dx, LINE_BYTES);
    DISPATCH_BETA(EACH_BLOCK, dtype, beta, gelu_backward_block, count, dx, dy, x, exact, uncached);
    uncached_end(uncached);
}

void KERNEL(gelu_backward)(void *dx, float beta, const void *dy, const void *x, int64_t count, enum dtype dtype,
                           bool uncached)
{
    gelu_backward_all(dx, beta, dy, x, count, dtype, false, uncached);
}

void KERNEL(gelu_erf_backward)(void *dx, float beta, const void *dy, const void *x, int64_t count, enum dtype dtype,
                               bool uncached)
{
    gelu_backward_all(dx, beta, dy, x, count, dtype, true, uncached);
}

/* -- Rotary positions -- */

WORKER void rope_worker(void *y, const void *x, int64_t heads, int64_t width, const float *cosine, const float *sine,
                        float sign, bool add, enum dtype dtype)
{
    int64_t half = width / 2;
    for (int64_t h = 0; h < heads; h++) {
        const void *low = element(x, h * width, dtype);
        const void *high = element(x, h * width + half, dtype);
        void *y_low = element_of(y, h * width, dtype);
        void *y_high = element_of(y, h * width + half, dtype);
#pragma omp simd
        for (int64_t e = 0; e < half; e++) {
            float a = load(low, e, dtype);
            float b = load(high, e, dtype);
            float s = sign * sine[e];
            store(y_low, e, a * cosine[e] - b * s, add, dtype);
            store(y_high, e, b * cosine[e] + a * s, add, dtype);
        }
    }
}

void KERNEL(rope)(void *y, const void *x, int64_t heads, int64_t width, const float *cosine, const float *sine,
                  float sign, float beta, enum dtype dtype)
{
    DISPATCH_BETA(rope_worker, dtype, beta, y, x, heads, width, cosine, sine, sign);
}
