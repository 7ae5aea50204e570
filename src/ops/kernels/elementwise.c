/* Operations that treat each element or each column alone. */
#include "src/ops/kernels/declare.h"

WORKER void accumulate_worker(void *to, const void *from, int64_t count, enum dtype from_type, bool add,
                              enum dtype to_type)
{
#pragma omp simd
    for (int64_t i = 0; i < count; i++)
        store(to, i, load(from, i, from_type), add, to_type);
}

void KERNEL(accumulate)(void *to, enum dtype to_type, const void *from, enum dtype from_type, float beta, int64_t count)
{
    if (from_type == DTYPE_BF16)
        DISPATCH_BETA(accumulate_worker, to_type, beta, to, from, count, DTYPE_BF16);
    else
        DISPATCH_BETA(accumulate_worker, to_type, beta, to, from, count, DTYPE_F32);
}

void KERNEL(convert)(void *to, enum dtype to_type, const void *from, enum dtype from_type, int64_t count)
{
    if (to_type == from_type)
        memcpy(to, from, (size_t)count * dtype_size(to_type));
    else
        KERNEL(accumulate)(to, to_type, from, from_type, 0.0f, count);
}

WORKER void add_worker(void *sum, const void *x, const void *y, int64_t count, enum dtype dtype)
{
#pragma omp simd
    for (int64_t i = 0; i < count; i++)
        store(sum, i, load(x, i, dtype) + load(y, i, dtype), false, dtype);
}

void KERNEL(add)(void *sum, const void *x, const void *y, int64_t count, enum dtype dtype)
{
    DISPATCH(add_worker, dtype, sum, x, y, count);
}

WORKER void add_row_worker(void *y, const void *x, const float *bias, int64_t rows, int64_t columns, enum dtype dtype)
{
    for (int64_t r = 0; r < rows; r++) {
        const void *x_row = element(x, r * columns, dtype);
        void *y_row = element_of(y, r * columns, dtype);
#pragma omp simd
        for (int64_t c = 0; c < columns; c++)
            store(y_row, c, load(x_row, c, dtype) + bias[c], false, dtype);
    }
}

void KERNEL(add_row)(void *y, const void *x, const float *bias, int64_t rows, int64_t columns, enum dtype dtype)
{
    DISPATCH(add_row_worker, dtype, y, x, bias, rows, columns);
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

WORKER void swiglu_forward_worker(void *y, const void *gate, const void *up, int64_t count, enum dtype dtype)
{
#pragma omp simd
    for (int64_t i = 0; i < count; i++) {
        float g = load(gate, i, dtype);
        store(y, i, g * sigmoid(g) * load(up, i, dtype), false, dtype);
    }
}

void KERNEL(swiglu_forward)(void *y, const void *gate, const void *up, int64_t count, enum dtype dtype)
{
    DISPATCH(swiglu_forward_worker, dtype, y, gate, up, count);
}

WORKER void swiglu_backward_piece(float *dgate, float *dup, const void *dy, const void *gate, const void *up,
                                  int64_t count, enum dtype dtype)
{
#pragma omp simd
    for (int64_t i = 0; i < count; i++) {
        float g = load(gate, i, dtype);
        float d = load(dy, i, dtype);
        float s = sigmoid(g);
        dup[i] = d * g * s;
        dgate[i] = d * load(up, i, dtype) * s * (1.0f + g * (1.0f - s));
    }
}

void KERNEL(swiglu_backward)(void *dgate, float gate_beta, void *dup, float up_beta, const void *dy, const void *gate,
                             const void *up, int64_t count, enum dtype dtype)
{
    float dgate_piece[PIECE];
    float dup_piece[PIECE];
    for (int64_t begin = 0; begin < count; begin += PIECE) {
        int64_t piece = count - begin < PIECE ? count - begin : PIECE;
        DISPATCH(swiglu_backward_piece, dtype, dgate_piece, dup_piece, element(dy, begin, dtype),
                 element(gate, begin, dtype), element(up, begin, dtype), piece);
        if (dgate)
            KERNEL(accumulate)(element_of(dgate, begin, dtype), dtype, dgate_piece, DTYPE_F32, gate_beta, piece);
        if (dup)
            KERNEL(accumulate)(element_of(dup, begin, dtype), dtype, dup_piece, DTYPE_F32, up_beta, piece);
    }
}

WORKER void silu_forward_worker(void *y, const void *x, int64_t count, enum dtype dtype)
{
#pragma omp simd
    for (int64_t i = 0; i < count; i++) {
        float value = load(x, i, dtype);
        store(y, i, value * sigmoid(value), false, dtype);
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
        float s = sigmoid(value);
        store(dx, i, load(dy, i, dtype) * s * (1.0f + value * (1.0f - s)), add, dtype);
    }
}

void KERNEL(silu_backward)(void *dx, float beta, const void *dy, const void *x, int64_t count, enum dtype dtype)
{
    DISPATCH_BETA(silu_backward_worker, dtype, beta, dx, dy, x, count);
}

/* 0.5 (1 + tanh(u)) is sigmoid(2 u). */
#define GELU_SLOPE 1.5957691216057308f /* 2 sqrt(2 / pi) */
#define GELU_CUBE 0.044715f

WORKER void gelu_forward_worker(void *y, const void *x, int64_t count, enum dtype dtype)
{
#pragma omp simd
    for (int64_t i = 0; i < count; i++) {
        float value = load(x, i, dtype);
        float u = GELU_SLOPE * value * (1.0f + GELU_CUBE * value * value);
        store(y, i, value * sigmoid(u), false, dtype);
    }
}

void KERNEL(gelu_forward)(void *y, const void *x, int64_t count, enum dtype dtype)
{
    DISPATCH(gelu_forward_worker, dtype, y, x, count);
}

WORKER void gelu_backward_worker(void *dx, const void *dy, const void *x, int64_t count, bool add, enum dtype dtype)
{
#pragma omp simd
    for (int64_t i = 0; i < count; i++) {
        float value = load(x, i, dtype);
        float u = GELU_SLOPE * value * (1.0f + GELU_CUBE * value * value);
        float s = sigmoid(u);
        float slope = s + value * s * (1.0f - s) * GELU_SLOPE * (1.0f + 3.0f * GELU_CUBE * value * value);
        store(dx, i, load(dy, i, dtype) * slope, add, dtype);
    }
}

void KERNEL(gelu_backward)(void *dx, float beta, const void *dy, const void *x, int64_t count, enum dtype dtype)
{
    DISPATCH_BETA(gelu_backward_worker, dtype, beta, dx, dy, x, count);
}

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
