/* Compiled for every x86 machine; each function names the instructions that it needs and is called only where the
 * engine found them. */
#include "src/ops/peak_loops.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Enough independent sums to fill the pipelines, and few enough to stay in registers: AVX2 has half as many. */
enum { SUMS = 24, NARROW_SUMS = 12, TILE_SUMS = 4, TILE_BYTES = 1024 };

__attribute__((target("avx2,fma"))) static float run_fma256(int64_t rounds)
{
    __m256 sum[NARROW_SUMS];
    __m256 x = _mm256_set1_ps(1.0f + (float)rounds);
    __m256 y = _mm256_set1_ps(0.5f);
    for (int i = 0; i < NARROW_SUMS; i++)
        sum[i] = _mm256_set1_ps((float)i);
    for (int64_t round = 0; round < rounds; round++)
#pragma GCC unroll 12
        for (int i = 0; i < NARROW_SUMS; i++)
            sum[i] = _mm256_fmadd_ps(x, y, sum[i]);
    for (int i = 1; i < NARROW_SUMS; i++)
        sum[0] = _mm256_add_ps(sum[0], sum[i]);
    return _mm256_cvtss_f32(sum[0]);
}

__attribute__((target("avx512f"))) static float run_fma512(int64_t rounds)
{
    __m512 sum[SUMS];
    __m512 x = _mm512_set1_ps(1.0f + (float)rounds);
    __m512 y = _mm512_set1_ps(0.5f);
    for (int i = 0; i < SUMS; i++)
        sum[i] = _mm512_set1_ps((float)i);
    for (int64_t round = 0; round < rounds; round++)
#pragma GCC unroll 24
        for (int i = 0; i < SUMS; i++)
            sum[i] = _mm512_fmadd_ps(x, y, sum[i]);
    for (int i = 1; i < SUMS; i++)
        sum[0] = _mm512_add_ps(sum[0], sum[i]);
    return _mm512_cvtss_f32(sum[0]);
}

__attribute__((target("avx512f,avx512bf16"))) static float run_dot(int64_t rounds)
{
    __m512 sum[SUMS];
    __m512bh x = _mm512_cvtne2ps_pbh(_mm512_set1_ps(1.0f + (float)rounds), _mm512_set1_ps(0.5f));
    __m512bh y = _mm512_cvtne2ps_pbh(_mm512_set1_ps(0.5f), _mm512_set1_ps(0.25f));
    for (int i = 0; i < SUMS; i++)
        sum[i] = _mm512_set1_ps((float)i);
    for (int64_t round = 0; round < rounds; round++)
#pragma GCC unroll 24
        for (int i = 0; i < SUMS; i++)
            sum[i] = _mm512_dpbf16_ps(sum[i], x, y);
    for (int i = 1; i < SUMS; i++)
        sum[0] = _mm512_add_ps(sum[0], sum[i]);
    return _mm512_cvtss_f32(sum[0]);
}

/* -- AMX: the kernel grants the tiles to a process that asks for them -- */

struct tile_shapes {
    uint8_t palette;
    uint8_t start;
    uint8_t reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

_Static_assert(sizeof(struct tile_shapes) == 64, "what LDTILECFG reads");

__attribute__((target("amx-tile"))) static bool tiles_prepare(void)
{
    const long ask_permission = 0x1023; /* ARCH_REQ_XCOMP_PERM */
    const long tile_data = 18;
    if (syscall(SYS_arch_prctl, ask_permission, tile_data) != 0)
        return false;
    struct tile_shapes shapes = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        shapes.row_bytes[i] = 64;
        shapes.rows[i] = 16;
    }
    _tile_loadconfig(&shapes);
    return true;
}

__attribute__((target("amx-tile"))) static void tiles_release(void)
{
    _tile_release();
}

__attribute__((target("amx-tile,amx-bf16"))) static float run_tiles(int64_t rounds)
{
    float tile[TILE_BYTES / sizeof(float)] = {0};
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_loadd(4, tile, 64);
    _tile_loadd(5, tile, 64);
    _tile_loadd(6, tile, 64);
    _tile_loadd(7, tile, 64);
    for (int64_t round = 0; round < rounds; round++) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, tile, 64);
    return tile[0];
}

const struct peak_loop *peak_loop_x86(const char *isa, bool half)
{
    static const struct peak_loop tiles = {"tdpbf16ps", run_tiles, TILE_SUMS * 2.0 * 16 * 16 * 32, tiles_prepare,
                                           tiles_release};
    static const struct peak_loop dot = {"vdpbf16ps zmm", run_dot, SUMS * 2.0 * 32, NULL, NULL};
    static const struct peak_loop wide = {"vfmadd zmm", run_fma512, SUMS * 2.0 * 16, NULL, NULL};
    static const struct peak_loop narrow = {"vfmadd ymm", run_fma256, NARROW_SUMS * 2.0 * 8, NULL, NULL};
    if (half && strcmp(isa, "amx") == 0)
        return &tiles;
    if (half && strcmp(isa, "bf16") == 0)
        return &dot;
    if (strcmp(isa, "amx") == 0 || strcmp(isa, "bf16") == 0 || strcmp(isa, "avx512") == 0)
        return &wide;
    return strcmp(isa, "avx2") == 0 ? &narrow : NULL;
}

/* -- Memory -- */

__attribute__((target("avx2,fma"))) static void update256(float *y, const float *x, int64_t count)
{
    __m256 half = _mm256_set1_ps(0.5f);
    for (int64_t i = 0; i < count; i += 8)
        _mm256_storeu_ps(y + i, _mm256_fmadd_ps(half, _mm256_loadu_ps(y + i), _mm256_loadu_ps(x + i)));
}

__attribute__((target("avx512f"))) static void update512(float *y, const float *x, int64_t count)
{
    __m512 half = _mm512_set1_ps(0.5f);
    for (int64_t i = 0; i < count; i += 16)
        _mm512_storeu_ps(y + i, _mm512_fmadd_ps(half, _mm512_loadu_ps(y + i), _mm512_loadu_ps(x + i)));
}

__attribute__((target("avx2"))) static void copy256(float *y, const float *x, int64_t count)
{
    for (int64_t i = 0; i < count; i += 8)
        _mm256_stream_ps(y + i, _mm256_loadu_ps(x + i));
    _mm_sfence();
}

__attribute__((target("avx512f"))) static void copy512(float *y, const float *x, int64_t count)
{
    for (int64_t i = 0; i < count; i += 16)
        _mm512_stream_ps(y + i, _mm512_loadu_ps(x + i));
    _mm_sfence();
}

/* Whether the loops for `isa` can be used on these arrays, and which. */
static bool vectors_fit(const char *isa, const float *y, int64_t count, bool *wide)
{
    const struct peak_loop *loop = peak_loop_x86(isa, false);
    *wide = loop && loop->run == run_fma512;
    return loop && count % 16 == 0 && (uintptr_t)y % 64 == 0;
}

bool peak_update_x86(const char *isa, float *y, const float *x, int64_t count)
{
    bool wide;
    if (!vectors_fit(isa, y, count, &wide))
        return false;
    (wide ? update512 : update256)(y, x, count);
    return true;
}

bool peak_copy_x86(const char *isa, float *y, const float *x, int64_t count)
{
    bool wide;
    if (!vectors_fit(isa, y, count, &wide))
        return false;
    (wide ? copy512 : copy256)(y, x, count);
    return true;
}

#else

const struct peak_loop *peak_loop_x86(const char *isa, bool half)
{
    (void)isa;
    (void)half;
    return 0;
}

bool peak_update_x86(const char *isa, float *y, const float *x, int64_t count)
{
    (void)isa;
    (void)y;
    (void)x;
    (void)count;
    return false;
}

bool peak_copy_x86(const char *isa, float *y, const float *x, int64_t count)
{
    return peak_update_x86(isa, y, x, count);
}

#endif
