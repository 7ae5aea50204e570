/* Blocks: elements that are brought to fp32, worked on and stored together. Loops over them have a constant length, so
 * that values stay in registers, and a block is whole lines of the cache in either type. */
#ifndef CAIRN_OPS_KERNELS_BLOCK_H
#define CAIRN_OPS_KERNELS_BLOCK_H

#include "src/ops/kernels/vector.h"

#if defined(__AVX__)
#include <immintrin.h>
#endif

/* What one register holds. */
#if defined(__AVX512F__)
enum { VECTOR_BYTES = 64 };
#elif defined(__AVX__)
enum { VECTOR_BYTES = 32 };
#else
enum { VECTOR_BYTES = 16 };
#endif

enum { BLOCK = 64, LINE_BYTES = 64, WIDTH = VECTOR_BYTES / sizeof(float) };

typedef float vector __attribute__((vector_size(VECTOR_BYTES)));

WORKER vector vector_load(const void *from, int64_t index, enum dtype dtype)
{
    vector values;
    if (dtype == DTYPE_F32) {
        memcpy(&values, (const float *)from + index, sizeof values);
        return values;
    }
    const bf16 *halves = (const bf16 *)from + index;
#if defined(__AVX512F__)
    __m512i words = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i_u *)halves));
    return (vector)_mm512_slli_epi32(words, 16);
#elif defined(__AVX2__)
    __m256i words = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i_u *)halves));
    return (vector)_mm256_slli_epi32(words, 16);
#else
    for (int i = 0; i < WIDTH; i++)
        values[i] = bf16_to_float(halves[i]);
    return values;
#endif
}

struct block {
    _Alignas(64) float at[BLOCK];
};

/* Calls worker(begin, size, ...) for whole blocks, of which the compiler knows the size, and for what is left. */
#define EACH_BLOCK(worker, count, ...)                                \
    do {                                                              \
        int64_t whole_blocks = (count) / BLOCK * BLOCK;               \
        for (int64_t block = 0; block < whole_blocks; block += BLOCK) \
            worker(block, BLOCK, __VA_ARGS__);                        \
        if (whole_blocks < (count))                                   \
            worker(whole_blocks, (count)-whole_blocks, __VA_ARGS__);  \
    } while (0)

WORKER void block_load(struct block *block, const void *from, int64_t begin, int64_t size, enum dtype dtype)
{
    if (size == BLOCK) {
        for (int i = 0; i < BLOCK; i += WIDTH) {
            vector values = vector_load(from, begin + i, dtype);
            memcpy(block->at + i, &values, sizeof values);
        }
        return;
    }
    for (int64_t i = 0; i < size; i++)
        block->at[i] = load(from, begin + i, dtype);
}

/* The bf16 of a whole block. The instruction takes numbers below 2^-126 for 0. */
WORKER void block_round(bf16 *to, const struct block *block, bool exact)
{
#if defined(__AVX512BF16__)
    for (int i = 0; i < BLOCK && !exact; i += 32) {
        __m512bh both = _mm512_cvtne2ps_pbh(_mm512_load_ps(block->at + i + 16), _mm512_load_ps(block->at + i));
        _mm512_store_si512(to + i, (__m512i)both);
    }
    if (!exact)
        return;
#else
    (void)exact;
#endif
#pragma omp simd
    for (int i = 0; i < BLOCK; i++)
        to[i] = bf16_from_float(block->at[i]);
}

/* Around the caches: neither is the line read from memory first, nor does it push another one out. */
WORKER void line_store_uncached(void *to, const void *from)
{
#if defined(__AVX512F__)
    _mm512_stream_si512(to, _mm512_load_si512(from));
#elif defined(__AVX__)
    _mm256_stream_si256(to, _mm256_load_si256(from));
    _mm256_stream_si256((__m256i *)to + 1, _mm256_load_si256((const __m256i *)from + 1));
#else
    memcpy(to, from, LINE_BYTES);
#endif
}

/* `uncached` needs `to` at the beginning of a line, see uncached_begin. `exact` is for conversions; what was computed
 * may lose numbers below 2^-126. */
WORKER void block_put(void *to, int64_t begin, int64_t size, struct block *block, bool exact, bool add, bool uncached,
                      enum dtype dtype)
{
    if (add)
#pragma omp simd
        for (int64_t i = 0; i < size; i++)
            block->at[i] += load(to, begin + i, dtype);
    if (size < BLOCK) {
        for (int64_t i = 0; i < size; i++)
            store(to, begin + i, block->at[i], false, dtype);
        return;
    }
    _Alignas(64) bf16 rounded[BLOCK];
    const char *from = (const char *)block->at;
    if (dtype == DTYPE_BF16) {
        block_round(rounded, block, exact);
        from = (const char *)rounded;
    }
    char *line = element_of(to, begin, dtype);
    int bytes = BLOCK * (int)dtype_size(dtype);
    for (int i = 0; i < bytes; i += LINE_BYTES) {
        if (uncached)
            line_store_uncached(line + i, from + i);
        else
            memcpy(line + i, from + i, LINE_BYTES);
    }
}

WORKER void block_store(void *to, int64_t begin, int64_t size, struct block *block, bool add, bool uncached,
                        enum dtype dtype)
{
    block_put(to, begin, size, block, false, add, uncached, dtype);
}

/* Streaming is only possible into whole lines: rows of so many bytes, one after the other, from `to` on. */
WORKER bool uncached_begin(bool wanted, const void *to, int64_t row_bytes)
{
    return wanted && (uintptr_t)to % LINE_BYTES == 0 && row_bytes % LINE_BYTES == 0;
}

/* Other threads may read what went around the caches after this. */
WORKER void uncached_end(bool uncached)
{
#if defined(__AVX__)
    if (uncached)
        _mm_sfence();
#else
    (void)uncached;
#endif
}

#endif
