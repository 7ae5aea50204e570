/* Tiles: small fp32 matrices that stay in the cache, and their products. */
#include "src/ops/kernels/declare.h"

/* Registers of a vector, rows and vectors of a product's block: they fill the register file. */
#if defined(__AVX512F__)
enum { LANES = 16, BLOCK_ROWS = 6, BLOCK_VECTORS = 4 };
#elif defined(__AVX__)
enum { LANES = 8, BLOCK_ROWS = 6, BLOCK_VECTORS = 2 };
#else
enum { LANES = 4, BLOCK_ROWS = 6, BLOCK_VECTORS = 2 };
#endif

typedef float vector __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

WORKER void block_multiply(const struct tile_product *p, int64_t row, int64_t column, const int rows, const int vectors)
{
    vector sum[BLOCK_ROWS][BLOCK_VECTORS];
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < vectors; v++)
            sum[i][v] = (vector){0};
    const float *a = p->a + row * p->a_row;
    const float *b = p->b + column;
    for (int64_t step = 0; step < p->k; step++) {
        vector right[BLOCK_VECTORS];
        for (int v = 0; v < vectors; v++)
            right[v] = *(const vector *)(b + v * LANES);
        for (int i = 0; i < rows; i++) {
            float left = a[i * p->a_row];
            for (int v = 0; v < vectors; v++)
                sum[i][v] += left * right[v];
        }
        a += p->a_step;
        b += p->ldb;
    }
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < vectors; v++) {
            vector *c = (vector *)(p->c + (row + i) * p->ldc + column + v * LANES);
            if (p->beta != 0.0f)
                sum[i][v] += *c;
            *c = sum[i][v];
        }
}

WORKER void rows_multiply(const struct tile_product *p, int64_t row, const int rows)
{
    int64_t columns = (p->n + TILE_MULTIPLE - 1) / TILE_MULTIPLE * TILE_MULTIPLE;
    int64_t column = 0;
    for (; column + BLOCK_VECTORS * LANES <= columns; column += BLOCK_VECTORS * LANES)
        block_multiply(p, row, column, rows, BLOCK_VECTORS);
    for (; column < columns; column += LANES)
        block_multiply(p, row, column, rows, 1);
}

void KERNEL(tile_multiply)(const struct tile_product *product)
{
    int64_t row = 0;
    for (; row + BLOCK_ROWS <= product->m; row += BLOCK_ROWS)
        rows_multiply(product, row, BLOCK_ROWS);
    switch (product->m - row) {
    case 5:
        rows_multiply(product, row, 5);
        break;
    case 4:
        rows_multiply(product, row, 4);
        break;
    case 3:
        rows_multiply(product, row, 3);
        break;
    case 2:
        rows_multiply(product, row, 2);
        break;
    case 1:
        rows_multiply(product, row, 1);
        break;
    default:
        break;
    }
}

void KERNEL(tile_scale)(float *tile, int64_t ld, int64_t rows, int64_t columns, const float *factor)
{
    for (int64_t r = 0; r < rows; r++) {
        if (factor[r] == 1.0f)
            continue;
#pragma omp simd
        for (int64_t c = 0; c < columns; c++)
            tile[r * ld + c] *= factor[r];
    }
}

WORKER void gather_worker(float *tile, int64_t ld, const void *from, int64_t stride, int64_t rows, int64_t columns,
                          float factor, enum dtype dtype)
{
    for (int64_t r = 0; r < rows; r++) {
        float *to = tile + r * ld;
        const void *row = element(from, r * stride, dtype);
#pragma omp simd
        for (int64_t c = 0; c < columns; c++)
            to[c] = factor * load(row, c, dtype);
        for (int64_t c = columns; c < ld; c++)
            to[c] = 0.0f;
    }
}

void KERNEL(tile_gather)(float *tile, int64_t ld, const void *from, int64_t stride, int64_t rows, int64_t columns,
                         float factor, enum dtype dtype)
{
    DISPATCH(gather_worker, dtype, tile, ld, from, stride, rows, columns, factor);
}

WORKER void gather_transposed_worker(float *tile, int64_t ld, const void *from, int64_t stride, int64_t rows,
                                     int64_t columns, float factor, enum dtype dtype)
{
    for (int64_t c = 0; c < columns; c++) {
        float *to = tile + c * ld;
        for (int64_t r = 0; r < rows; r++)
            to[r] = factor * load(from, r * stride + c, dtype);
        for (int64_t r = rows; r < ld; r++)
            to[r] = 0.0f;
    }
}

void KERNEL(tile_gather_transposed)(float *tile, int64_t ld, const void *from, int64_t stride, int64_t rows,
                                    int64_t columns, float factor, enum dtype dtype)
{
    DISPATCH(gather_transposed_worker, dtype, tile, ld, from, stride, rows, columns, factor);
}

WORKER void scatter_worker(void *to, int64_t stride, const float *tile, int64_t ld, int64_t rows, int64_t columns,
                           const float *factor, bool add, enum dtype dtype)
{
    for (int64_t r = 0; r < rows; r++) {
        void *row = element_of(to, r * stride, dtype);
        const float *from = tile + r * ld;
        float scale = factor ? factor[r] : 1.0f;
#pragma omp simd
        for (int64_t c = 0; c < columns; c++)
            store(row, c, scale * from[c], add, dtype);
    }
}

void KERNEL(tile_scatter)(void *to, int64_t stride, const float *tile, int64_t ld, int64_t rows, int64_t columns,
                          const float *factor, float beta, enum dtype dtype)
{
    DISPATCH_BETA(scatter_worker, dtype, beta, to, stride, tile, ld, rows, columns, factor);
}
