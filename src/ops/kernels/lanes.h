/* Sixteen floats at a time, as the instructions of AVX-512 BF16 have them, or in plain C for the tests on machines
 * without. A pair is two bf16 in a word, the first in the low half. */
#ifndef CAIRN_OPS_KERNELS_LANES_H
#define CAIRN_OPS_KERNELS_LANES_H

#include "src/ops/kernels/vector.h"

#include <math.h>

enum { LANE_COUNT = 16 };

#ifdef __AVX512BF16__
#include <immintrin.h>

typedef __m512 lanes;

WORKER lanes lanes_all(float value)
{
    return _mm512_set1_ps(value);
}

WORKER lanes lanes_load(const float *from)
{
    return _mm512_loadu_ps(from);
}

WORKER void lanes_store(float *to, lanes x)
{
    _mm512_storeu_ps(to, x);
}

/* The larger one, or b where one of them is not a number. */
WORKER lanes lanes_larger(lanes a, lanes b)
{
    return _mm512_max_ps(a, b);
}

/* The first `count` lanes of x, `other` in the rest. */
WORKER lanes lanes_first(lanes x, int64_t count, float other)
{
    return _mm512_mask_mov_ps(_mm512_set1_ps(other), (__mmask16)((1u << count) - 1), x);
}

/* x where limit >= least, else 0. */
WORKER lanes lanes_where(lanes x, const int32_t *limit, int32_t least)
{
    return _mm512_maskz_mov_ps(_mm512_cmpge_epi32_mask(_mm512_loadu_si512(limit), _mm512_set1_epi32(least)), x);
}

WORKER float lanes_largest(lanes x)
{
    return _mm512_reduce_max_ps(x);
}

WORKER float lanes_sum(lanes x)
{
    return _mm512_reduce_add_ps(x);
}

/* x - n for the integer n below x, 0 for an infinite x; and x * 2^n for that of y. */
WORKER lanes lanes_fraction(lanes x)
{
    return _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}

WORKER lanes lanes_scale(lanes x, lanes y)
{
    return _mm512_scalef_ps(x, y);
}

/* Rounds 2 x 16 floats to bf16: into two rows and, unless NULL, into pairs of one of each. */
WORKER void lanes_round(bf16 *first, bf16 *second, uint32_t *pairs, lanes a, lanes b)
{
    __m512i both = (__m512i)_mm512_cvtne2ps_pbh(b, a);
    _mm256_storeu_si256((__m256i_u *)first, _mm512_castsi512_si256(both));
    _mm256_storeu_si256((__m256i_u *)second, _mm512_extracti64x4_epi64(both, 1));
    if (pairs) {
        const __m512i turn = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22,
                                              6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
        _mm512_storeu_si512(pairs, _mm512_permutexvar_epi16(turn, both));
    }
}

#else

/* Without registers of this size passing them has no fixed convention, but everything here is inlined. */
#pragma GCC diagnostic ignored "-Wpsabi"

typedef float lanes __attribute__((vector_size(64)));

WORKER lanes lanes_all(float value)
{
    return (lanes){0} + value;
}

WORKER lanes lanes_load(const float *from)
{
    lanes x;
    memcpy(&x, from, sizeof x);
    return x;
}

WORKER void lanes_store(float *to, lanes x)
{
    memcpy(to, &x, sizeof x);
}

WORKER lanes lanes_larger(lanes a, lanes b)
{
    for (int i = 0; i < LANE_COUNT; i++)
        b[i] = a[i] > b[i] ? a[i] : b[i];
    return b;
}

WORKER lanes lanes_first(lanes x, int64_t count, float other)
{
    for (int i = (int)count; i < LANE_COUNT; i++)
        x[i] = other;
    return x;
}

WORKER lanes lanes_where(lanes x, const int32_t *limit, int32_t least)
{
    for (int i = 0; i < LANE_COUNT; i++)
        x[i] = limit[i] >= least ? x[i] : 0.0f;
    return x;
}

WORKER float lanes_largest(lanes x)
{
    float largest = x[0];
    for (int i = 1; i < LANE_COUNT; i++)
        largest = x[i] > largest ? x[i] : largest;
    return largest;
}

WORKER float lanes_sum(lanes x)
{
    float sum = 0.0f;
    for (int i = 0; i < LANE_COUNT; i++)
        sum += x[i];
    return sum;
}

WORKER lanes lanes_fraction(lanes x)
{
    for (int i = 0; i < LANE_COUNT; i++)
        x[i] = isinf(x[i]) ? 0.0f : x[i] - floorf(x[i]);
    return x;
}

WORKER lanes lanes_scale(lanes x, lanes y)
{
    for (int i = 0; i < LANE_COUNT; i++)
        x[i] *= exp2f(floorf(y[i]));
    return x;
}

WORKER void lanes_round(bf16 *first, bf16 *second, uint32_t *pairs, lanes a, lanes b)
{
    for (int i = 0; i < LANE_COUNT; i++) {
        first[i] = bf16_from_float(a[i]);
        second[i] = bf16_from_float(b[i]);
        if (pairs)
            pairs[i] = first[i] | (uint32_t)second[i] << 16;
    }
}

#endif

/* 2^x with a relative error below 3e-6, a thousandth of what rounding to bf16 does; 0 far below, infinite far above,
 * and a not-a-number stays one. */
WORKER lanes lanes_power(lanes x)
{
    lanes r = lanes_fraction(x);
    lanes p = r * 0.01353417f + 0.05201146f;
    p = p * r + 0.24144276f;
    p = p * r + 0.69300383f;
    p = p * r + 1.00000259f;
    return lanes_scale(p, x);
}

#endif
