/* What the kernels share: names for their instruction set, element access, and functions that vectorise. */
#ifndef CAIRN_OPS_KERNELS_VECTOR_H
#define CAIRN_OPS_KERNELS_VECTOR_H

#include "src/ops/kernels/kernels.h"

#define KERNEL_PASTE_(name, isa) name##_##isa
#define KERNEL_PASTE(name, isa) KERNEL_PASTE_(name, isa)
#define KERNEL(name) KERNEL_PASTE(name, KERNEL_ISA)

/* Workers take the type (and whether to add) as constants, so each combination is compiled to a loop without
 * branches. */
#define WORKER static inline __attribute__((always_inline))

#define DISPATCH(worker, dtype, ...)         \
    do {                                     \
        if ((dtype) == DTYPE_BF16)           \
            worker(__VA_ARGS__, DTYPE_BF16); \
        else                                 \
            worker(__VA_ARGS__, DTYPE_F32);  \
    } while (0)

#define DISPATCH_BETA(worker, dtype, beta, ...)          \
    do {                                                 \
        if ((beta) != 0.0f)                              \
            DISPATCH(worker, dtype, __VA_ARGS__, true);  \
        else                                             \
            DISPATCH(worker, dtype, __VA_ARGS__, false); \
    } while (0)

/* Pieces of this many elements stay in the first cache between two loops over them. */
enum { PIECE = 512 };

WORKER float load(const void *data, int64_t index, enum dtype dtype)
{
    return dtype == DTYPE_BF16 ? bf16_to_float(((const bf16 *)data)[index]) : ((const float *)data)[index];
}

WORKER void store(void *data, int64_t index, float value, bool add, enum dtype dtype)
{
    if (add)
        value += load(data, index, dtype);
    if (dtype == DTYPE_BF16)
        ((bf16 *)data)[index] = bf16_from_float(value);
    else
        ((float *)data)[index] = value;
}

WORKER const void *element(const void *data, int64_t index, enum dtype dtype)
{
    return (const char *)data + index * (int64_t)dtype_size(dtype);
}

WORKER void *element_of(void *data, int64_t index, enum dtype dtype)
{
    return (char *)data + index * (int64_t)dtype_size(dtype);
}

/* exp with a relative error below 2e-7 (the polynomial of Cephes' expf): 0 below -87.7, infinite above 88.4; a
 * not-a-number stays one. */
WORKER float exponential(float x)
{
    const float rounder = 12582912.0f; /* 1.5 * 2^23: adding it leaves the nearest integer in the low bits */
    x = x < -88.0f ? -88.0f : x;
    x = x > 89.0f ? 89.0f : x;
    float shifted = x * 1.44269504088896341f + rounder;
    float n = shifted - rounder;
    float r = x - n * 0.693359375f;
    r = r - n * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    uint32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits + 127u) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return p * power;
}

/* 2^x with a relative error below 2e-7 (a minimax polynomial between -1/2 and 1/2). Beyond -126 and 126 it is that of
 * the nearer one, and for a not-a-number one of the two: cheaper than the above where the result only makes a sigmoid,
 * which is 1 / (1 + 2^(-x / ln 2)). */
WORKER float power(float x)
{
    /* Where the sign bit is set a float is the larger as an integer the smaller it is: two minima clamp both sides. */
    int32_t order;
    memcpy(&order, &x, sizeof order);
    order = order < 0x42fc0000 ? order : 0x42fc0000;
    uint32_t below = (uint32_t)order;
    below = below < 0xc2fc0000u ? below : 0xc2fc0000u;
    memcpy(&x, &below, sizeof x);
    const float rounder = 12582912.0f + 127.0f; /* leaves the nearest integer in the low bits, as an exponent */
    float shifted = x + rounder;
    float r = x - (shifted - rounder);
    float p = 1.3253463e-3f;
    p = p * r + 9.6723680e-3f;
    p = p * r + 5.5508000e-2f;
    p = p * r + 2.4022223e-1f;
    p = p * r + 6.9314690e-1f;
    p = p * r + 1.0f;
    uint32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits <<= 23;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return p * scale;
}

#endif
