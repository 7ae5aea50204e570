/* Bringing bf16 tiles into the layouts that their products want. */
#include "src/ops/kernels/bf16.h"

/* 16 x 16 words. */
#ifdef __AVX512BF16__
WORKER void block_transpose(uint32_t *to, int64_t to_ld, const uint32_t *from, int64_t from_ld)
{
    __m512i x[16], y[16];
    for (int i = 0; i < 16; i++)
        x[i] = _mm512_loadu_si512(from + i * from_ld);
    for (int i = 0; i < 16; i += 2) {
        y[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
        y[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
    }
    /* x[4 q + c]: in each quarter, column c of that quarter for the rows 4 q .. 4 q + 3 */
    for (int q = 0; q < 16; q += 4) {
        x[q] = _mm512_unpacklo_epi64(y[q], y[q + 2]);
        x[q + 1] = _mm512_unpackhi_epi64(y[q], y[q + 2]);
        x[q + 2] = _mm512_unpacklo_epi64(y[q + 1], y[q + 3]);
        x[q + 3] = _mm512_unpackhi_epi64(y[q + 1], y[q + 3]);
    }
    for (int c = 0; c < 4; c++) {
        __m512i above = _mm512_shuffle_i32x4(x[c], x[4 + c], 0x88),
                above_odd = _mm512_shuffle_i32x4(x[c], x[4 + c], 0xdd);
        __m512i below = _mm512_shuffle_i32x4(x[8 + c], x[12 + c], 0x88);
        __m512i below_odd = _mm512_shuffle_i32x4(x[8 + c], x[12 + c], 0xdd);
        _mm512_storeu_si512(to + c * to_ld, _mm512_shuffle_i32x4(above, below, 0x88));
        _mm512_storeu_si512(to + (c + 4) * to_ld, _mm512_shuffle_i32x4(above_odd, below_odd, 0x88));
        _mm512_storeu_si512(to + (c + 8) * to_ld, _mm512_shuffle_i32x4(above, below, 0xdd));
        _mm512_storeu_si512(to + (c + 12) * to_ld, _mm512_shuffle_i32x4(above_odd, below_odd, 0xdd));
    }
}
#else
WORKER void block_transpose(uint32_t *to, int64_t to_ld, const uint32_t *from, int64_t from_ld)
{
    for (int r = 0; r < 16; r++)
        for (int c = 0; c < 16; c++)
            memcpy(to + c * to_ld + r, from + r * from_ld + c, sizeof *to);
}
#endif

void KERNEL(bf16_transpose)(uint32_t *to, int64_t to_ld, const void *from, int64_t from_ld, int64_t rows,
                            int64_t columns)
{
    for (int64_t r = 0; r < rows; r += 16)
        for (int64_t c = 0; c < columns; c += 16)
            block_transpose(to + c * to_ld + r, to_ld, (const uint32_t *)from + r * from_ld + c, from_ld);
}

void KERNEL(bf16_pair)(uint32_t *pairs, int64_t ld, const bf16 *tile, int64_t tile_ld, int64_t rows, int64_t columns)
{
    for (int64_t r = 0; r < rows; r += 2) {
        uint32_t *to = pairs + r / 2 * ld;
        const bf16 *low = tile + r * tile_ld, *high = low + tile_ld;
#pragma omp simd
        for (int64_t c = 0; c < columns; c++)
            to[c] = low[c] | (uint32_t)high[c] << 16;
    }
}

void KERNEL(bf16_part)(bf16 *tile, int64_t tile_ld, const uint32_t *pairs, int64_t ld, int64_t rows, int64_t columns)
{
    for (int64_t r = 0; r < rows; r += 2) {
        const uint32_t *from = pairs + r / 2 * ld;
        bf16 *low = tile + r * tile_ld, *high = low + tile_ld;
#pragma omp simd
        for (int64_t c = 0; c < columns; c++) {
            low[c] = (bf16)from[c];
            high[c] = (bf16)(from[c] >> 16);
        }
    }
}
