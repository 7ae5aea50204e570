/* The tile registers of AMX: 16 rows of 64 bytes each. Where the compiler does not aim at AMX, plain C that computes
 * what the instructions are specified to, for the tests. Tiles are named by literal numbers 0 .. 7; `tiles` is a
 * local struct matrix_tiles, strides count bytes. */
#ifndef CAIRN_OPS_KERNELS_MATRIX_H
#define CAIRN_OPS_KERNELS_MATRIX_H

#include <math.h>

#include "src/ops/kernels/vector.h"

enum { MATRIX_ROWS = 16, MATRIX_WORDS = 16, MATRIX_TILES = 8 };

#ifdef __AMX_BF16__
#include <immintrin.h>

struct matrix_tiles {
    char none;
};

#define tile_do(tiles, instruction) \
    do {                            \
        (void)(tiles);              \
        instruction;                \
    } while (0)
#define tile_load(tiles, tile, from, stride) tile_do(tiles, _tile_loadd(tile, from, stride))
#define tile_store(tiles, tile, to, stride) tile_do(tiles, _tile_stored(tile, to, stride))
#define tile_zero(tiles, tile) tile_do(tiles, _tile_zero(tile))
/* sum += rows times pairs */
#define tile_dot(tiles, sum, rows, pairs) tile_do(tiles, _tile_dpbf16ps(sum, rows, pairs))

/* All tiles at their full size; every thread needs it before its first tile. */
WORKER void tile_configure(void)
{
    static const struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } full = {.palette = 1, .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64}, .rows = {16, 16, 16, 16, 16, 16, 16, 16}};
    _tile_loadconfig(&full);
}

WORKER void tile_release(void)
{
    _tile_release();
}

#else

struct matrix_tiles {
    uint32_t word[MATRIX_TILES][MATRIX_ROWS][MATRIX_WORDS];
};

#define tile_load(tiles, tile, from, stride) matrix_load((tiles)->word[tile], from, stride)
#define tile_store(tiles, tile, to, stride) matrix_store((tiles)->word[tile], to, stride)
#define tile_zero(tiles, tile) memset((tiles)->word[tile], 0, sizeof(tiles)->word[tile])
#define tile_dot(tiles, sum, rows, pairs) matrix_dot((tiles)->word[sum], (tiles)->word[rows], (tiles)->word[pairs])

static inline void tile_configure(void)
{
}

static inline void tile_release(void)
{
}

static inline void matrix_load(uint32_t (*tile)[MATRIX_WORDS], const void *from, int64_t stride)
{
    for (int r = 0; r < MATRIX_ROWS; r++)
        memcpy(tile[r], (const char *)from + r * stride, sizeof tile[r]);
}

static inline void matrix_store(uint32_t (*tile)[MATRIX_WORDS], void *to, int64_t stride)
{
    for (int r = 0; r < MATRIX_ROWS; r++)
        memcpy((char *)to + r * stride, tile[r], sizeof tile[r]);
}

/* What is too small for a normal number is 0, on the way in and on the way out. */
static inline float matrix_flush(float x)
{
    return fabsf(x) < 0x1p-126f ? copysignf(0.0f, x) : x;
}

static inline float matrix_half(uint32_t pair, int half)
{
    return matrix_flush(bf16_to_float((bf16)(pair >> (16 * half))));
}

/* TDPBF16PS: the products of the even and of the odd elements are summed apart (fused, rounded to nearest), then
 * together, then onto the tile. */
static inline void matrix_dot(uint32_t (*sum)[MATRIX_WORDS], uint32_t (*rows)[MATRIX_WORDS],
                              uint32_t (*pairs)[MATRIX_WORDS])
{
    for (int m = 0; m < MATRIX_ROWS; m++)
        for (int n = 0; n < MATRIX_WORDS; n++) {
            float part[2] = {0.0f, 0.0f};
            for (int k = 0; k < MATRIX_WORDS; k++)
                for (int half = 0; half < 2; half++)
                    part[half] =
                        matrix_flush(fmaf(matrix_half(rows[m][k], half), matrix_half(pairs[k][n], half), part[half]));
            float total;
            memcpy(&total, &sum[m][n], sizeof total);
            total = matrix_flush(matrix_flush(total) + matrix_flush(part[0] + part[1]));
            memcpy(&sum[m][n], &total, sizeof total);
        }
}

#endif

#endif
