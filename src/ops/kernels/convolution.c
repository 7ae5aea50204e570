/* Short causal convolutions along tokens, a filter of its own for each column. A vector of columns goes along the rows
 * with its filter and the rows before in registers. */
#include "src/ops/kernels/block.h"
#include "src/ops/kernels/declare.h"

_Static_assert(CONVOLUTION_TAPS == 4, "the functions below write them out");

/* Calls worker(column, size, ...) for vectors of columns, of which the compiler knows the size, and for each column
 * that is left. */
#define EACH_VECTOR(worker, columns, ...)                    \
    do {                                                     \
        int64_t column = 0;                                  \
        for (; column + WIDTH <= (columns); column += WIDTH) \
            worker(column, WIDTH, __VA_ARGS__);              \
        for (; column < (columns); column++)                 \
            worker(column, 1, __VA_ARGS__);                  \
    } while (0)

/* The first `size` elements, which is 1 or WIDTH. */
WORKER vector some_load(const void *from, int64_t index, int64_t size, enum dtype dtype)
{
    if (size == WIDTH)
        return vector_load(from, index, dtype);
    vector values = {load(from, index, dtype)};
    return values;
}

WORKER void some_store(void *to, int64_t index, vector values, int64_t size, bool add, enum dtype dtype)
{
    for (int64_t i = 0; i < size; i++)
        store(to, index + i, values[i], add, dtype);
}

WORKER void convolve_columns(int64_t c, int64_t size, float *y, const void *x, const float *filter, int64_t before,
                             int64_t rows, int64_t columns, enum dtype dtype)
{
    const vector none = {0};
    vector f0 = some_load(filter, c, size, DTYPE_F32);
    vector f1 = some_load(filter, columns + c, size, DTYPE_F32);
    vector f2 = some_load(filter, 2 * columns + c, size, DTYPE_F32);
    vector f3 = some_load(filter, 3 * columns + c, size, DTYPE_F32);
    vector x1 = before > 0 ? some_load(x, c - columns, size, dtype) : none;
    vector x2 = before > 1 ? some_load(x, c - 2 * columns, size, dtype) : none;
    vector x3 = before > 2 ? some_load(x, c - 3 * columns, size, dtype) : none;
    for (int64_t r = 0; r < rows; r++) {
        vector x0 = some_load(x, r * columns + c, size, dtype);
        some_store(y, r * columns + c, (f0 * x0 + f1 * x1) + (f2 * x2 + f3 * x3), size, false, DTYPE_F32);
        x3 = x2;
        x2 = x1;
        x1 = x0;
    }
}

WORKER void convolve_worker(float *y, const void *x, const float *filter, int64_t before, int64_t rows, int64_t columns,
                            enum dtype dtype)
{
    EACH_VECTOR(convolve_columns, columns, y, x, filter, before, rows, columns, dtype);
}

void KERNEL(convolve)(float *y, const void *x, const float *filter, int64_t before, int64_t rows, int64_t columns,
                      enum dtype dtype)
{
    DISPATCH(convolve_worker, dtype, y, x, filter, before, rows, columns);
}

WORKER void convolve_backward_columns(int64_t c, int64_t size, void *dx, const float *dy, const float *filter,
                                      int64_t behind, int64_t rows, int64_t columns, bool add, enum dtype dtype)
{
    const vector none = {0};
    vector f0 = some_load(filter, c, size, DTYPE_F32);
    vector f1 = some_load(filter, columns + c, size, DTYPE_F32);
    vector f2 = some_load(filter, 2 * columns + c, size, DTYPE_F32);
    vector f3 = some_load(filter, 3 * columns + c, size, DTYPE_F32);
    const float *end = dy + rows * columns;
    vector d1 = behind > 0 ? some_load(end, c, size, DTYPE_F32) : none;
    vector d2 = behind > 1 ? some_load(end, columns + c, size, DTYPE_F32) : none;
    vector d3 = behind > 2 ? some_load(end, 2 * columns + c, size, DTYPE_F32) : none;
    for (int64_t r = rows - 1; r >= 0; r--) {
        vector d0 = some_load(dy, r * columns + c, size, DTYPE_F32);
        some_store(dx, r * columns + c, (f0 * d0 + f1 * d1) + (f2 * d2 + f3 * d3), size, add, dtype);
        d3 = d2;
        d2 = d1;
        d1 = d0;
    }
}

WORKER void convolve_backward_worker(void *dx, const float *dy, const float *filter, int64_t behind, int64_t rows,
                                     int64_t columns, bool add, enum dtype dtype)
{
    EACH_VECTOR(convolve_backward_columns, columns, dx, dy, filter, behind, rows, columns, add, dtype);
}

void KERNEL(convolve_backward)(void *dx, float beta, const float *dy, const float *filter, int64_t behind, int64_t rows,
                               int64_t columns, enum dtype dtype)
{
    DISPATCH_BETA(convolve_backward_worker, dtype, beta, dx, dy, filter, behind, rows, columns);
}

WORKER void convolve_filter_columns(int64_t c, int64_t size, float *dfilter, int64_t ld, const float *dy, const void *x,
                                    int64_t stride, int64_t rows, enum dtype dtype)
{
    vector sum0 = {0};
    vector sum1 = {0};
    vector sum2 = {0};
    vector sum3 = {0};
    vector x1 = {0};
    vector x2 = {0};
    vector x3 = {0};
    for (int64_t r = 0; r < rows; r++) {
        vector d = some_load(dy, r * stride + c, size, DTYPE_F32);
        vector x0 = some_load(x, r * stride + c, size, dtype);
        sum0 += d * x0;
        sum1 += d * x1;
        sum2 += d * x2;
        sum3 += d * x3;
        x3 = x2;
        x2 = x1;
        x1 = x0;
    }
    some_store(dfilter, c, sum0, size, true, DTYPE_F32);
    some_store(dfilter, ld + c, sum1, size, true, DTYPE_F32);
    some_store(dfilter, 2 * ld + c, sum2, size, true, DTYPE_F32);
    some_store(dfilter, 3 * ld + c, sum3, size, true, DTYPE_F32);
}

WORKER void convolve_filter_worker(float *dfilter, int64_t ld, const float *dy, const void *x, int64_t stride,
                                   int64_t rows, int64_t columns, enum dtype dtype)
{
    EACH_VECTOR(convolve_filter_columns, columns, dfilter, ld, dy, x, stride, rows, dtype);
}

void KERNEL(convolve_filter)(float *dfilter, int64_t ld, const float *dy, const void *x, int64_t stride, int64_t rows,
                             int64_t columns, enum dtype dtype)
{
    DISPATCH(convolve_filter_worker, dtype, dfilter, ld, dy, x, stride, rows, columns);
}
