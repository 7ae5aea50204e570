/* Norms over rows. */
#include "src/ops/kernels/block.h"
#include "src/ops/kernels/declare.h"

#include <math.h>

/* A sum in four vectors, so that one addition does not wait for the one before. */
struct wide_sum {
    vector a, b, c, d;
};

enum { WIDE = 4 * WIDTH };

/* Rows are read in bursts, between which nothing would be asked of the memory; it answers within this many bytes. */
enum { AHEAD_BYTES = 4096 };

WORKER void fetch_ahead(const void *row, int64_t begin, enum dtype dtype)
{
    const char *line = element(row, begin, dtype);
    for (int64_t i = 0; i < WIDE * (int64_t)dtype_size(dtype); i += LINE_BYTES)
        __builtin_prefetch(line + AHEAD_BYTES + i);
}

WORKER float wide_total(const struct wide_sum *sum)
{
    vector all = (sum->a + sum->b) + (sum->c + sum->d);
    float total[4] = {0.0f};
    for (int i = 0; i < WIDTH; i++)
        total[i % 4] += all[i];
    return (total[0] + total[1]) + (total[2] + total[3]);
}

/* -- Forward -- */

WORKER void moments_add(vector value, vector *sum, vector *squares)
{
    *sum += value;
    *squares += value * value;
}

/* Sums over a row of what is left of it after a shift. */
WORKER void row_moments(const void *x, int64_t columns, float shift, float *sum, float *squares, enum dtype dtype)
{
    struct wide_sum first = {.a = {0}};
    struct wide_sum second = {.a = {0}};
    int64_t whole = columns / WIDE * WIDE;
    for (int64_t i = 0; i < whole; i += WIDE) {
        fetch_ahead(x, i, dtype);
        moments_add(vector_load(x, i, dtype) - shift, &first.a, &second.a);
        moments_add(vector_load(x, i + WIDTH, dtype) - shift, &first.b, &second.b);
        moments_add(vector_load(x, i + 2 * WIDTH, dtype) - shift, &first.c, &second.c);
        moments_add(vector_load(x, i + 3 * WIDTH, dtype) - shift, &first.d, &second.d);
    }
    *sum = wide_total(&first);
    *squares = wide_total(&second);
    for (int64_t i = whole; i < columns; i++) {
        float value = load(x, i, dtype) - shift;
        *sum += value;
        *squares += value * value;
    }
}

/* Any value near the row's will do: the mean of its first ones is off its mean by no more than a few deviations, so
 * that little is lost when the square of that is taken from the mean square. */
WORKER float row_shift(const void *x, int64_t columns, enum dtype dtype)
{
    if (columns < WIDE)
        return load(x, 0, dtype);
    struct wide_sum first = {vector_load(x, 0, dtype), vector_load(x, WIDTH, dtype), vector_load(x, 2 * WIDTH, dtype),
                             vector_load(x, 3 * WIDTH, dtype)};
    return wide_total(&first) / (float)WIDE;
}

WORKER void normalise_block(int64_t begin, int64_t size, void *y, const void *x, const float *weight, const float *bias,
                            float mean, float inverse, bool uncached, enum dtype dtype)
{
    struct block value;
    block_load(&value, x, begin, size, dtype);
#pragma omp simd
    for (int64_t i = 0; i < size; i++) {
        float scaled = (value.at[i] - mean) * inverse * weight[begin + i];
        value.at[i] = bias ? scaled + bias[begin + i] : scaled;
    }
    block_store(y, begin, size, &value, false, uncached, dtype);
}

/* Into norm->mean and inverse. */
WORKER void row_measure(const struct norm_rows *norm, int64_t r, bool layer, enum dtype dtype)
{
    int64_t columns = norm->columns;
    const void *x = element(norm->x, r * columns, dtype);
    float shift = layer ? row_shift(x, columns, dtype) : 0.0f;
    float sum;
    float squares;
    row_moments(x, columns, shift, &sum, &squares, dtype);
    float off = layer ? sum / (float)columns : 0.0f;
    float variance = squares / (float)columns - off * off;
    if (layer)
        norm->mean[r] = shift + off;
    norm->inverse[r] = 1.0f / sqrtf((variance > 0.0f ? variance : 0.0f) + norm->epsilon);
}

WORKER void norm_forward_worker(const struct norm_rows *norm, void *y, bool uncached, bool layer, enum dtype dtype)
{
    int64_t columns = norm->columns;
    for (int64_t r = 0; r < norm->rows; r++) {
        row_measure(norm, r, layer, dtype);
        const void *x = element(norm->x, r * columns, dtype);
        void *y_row = element_of(y, r * columns, dtype);
        const float *weight = norm->weight;
        const float *bias = norm->bias;
        float mean = layer ? norm->mean[r] : 0.0f;
        float inverse = norm->inverse[r];
        if (bias)
            EACH_BLOCK(normalise_block, columns, y_row, x, weight, bias, mean, inverse, uncached, dtype);
        else
            EACH_BLOCK(normalise_block, columns, y_row, x, weight, NULL, mean, inverse, uncached, dtype);
    }
}

void KERNEL(norm_forward)(const struct norm_rows *norm, void *y)
{
    bool uncached = uncached_begin(norm->uncached, y, norm->columns * (int64_t)dtype_size(norm->dtype));
    if (norm->kind == NORM_LAYER)
        DISPATCH(norm_forward_worker, norm->dtype, norm, y, uncached, true);
    else
        DISPATCH(norm_forward_worker, norm->dtype, norm, y, uncached, false);
    uncached_end(uncached);
}

/* -- Backward: with n the normalised row and g = dy * weight, dx = inverse * (g - n mean(g n) - mean(g)), the last term
 * only for the layer norm -------------------------------------------------------------------------------------------
 */

struct norm_row {
    const void *x, *dy;
    void *dx; /* or NULL, as the next two */
    float *dweight, *dbias;
    const float *weight;
    float mean, inverse; /* mean is 0 for the rms norm */
    float total, along;  /* mean(g), which is 0 for the rms norm, and mean(g n) */
    bool uncached;
};

WORKER void derivatives_add(const struct norm_row *row, int64_t i, vector *total, vector *along, enum dtype dtype)
{
    vector slope = vector_load(row->dy, i, dtype) * vector_load(row->weight, i, DTYPE_F32);
    *total += slope;
    *along += slope * (vector_load(row->x, i, dtype) - row->mean);
}

WORKER void row_derivatives(struct norm_row *row, int64_t columns, bool layer, enum dtype dtype)
{
    struct wide_sum first = {.a = {0}};
    struct wide_sum second = {.a = {0}};
    int64_t whole = columns / WIDE * WIDE;
    for (int64_t i = 0; i < whole; i += WIDE) {
        fetch_ahead(row->x, i, dtype);
        fetch_ahead(row->dy, i, dtype);
        derivatives_add(row, i, &first.a, &second.a, dtype);
        derivatives_add(row, i + WIDTH, &first.b, &second.b, dtype);
        derivatives_add(row, i + 2 * WIDTH, &first.c, &second.c, dtype);
        derivatives_add(row, i + 3 * WIDTH, &first.d, &second.d, dtype);
    }
    float total = wide_total(&first);
    float along = wide_total(&second);
    for (int64_t i = whole; i < columns; i++) {
        float slope = load(row->dy, i, dtype) * row->weight[i];
        total += slope;
        along += slope * (load(row->x, i, dtype) - row->mean);
    }
    row->total = layer ? total / (float)columns : 0.0f;
    row->along = along * row->inverse / (float)columns;
}

WORKER void norm_backward_block(int64_t begin, int64_t size, const struct norm_row *row, bool add, enum dtype dtype)
{
    struct block n;
    struct block d;
    block_load(&n, row->x, begin, size, dtype);
    block_load(&d, row->dy, begin, size, dtype);
    float mean = row->mean;
    float inverse = row->inverse;
#pragma omp simd
    for (int64_t i = 0; i < size; i++)
        n.at[i] = (n.at[i] - mean) * inverse;
    if (row->dweight) {
        float *dweight = row->dweight + begin;
#pragma omp simd
        for (int64_t i = 0; i < size; i++)
            dweight[i] += d.at[i] * n.at[i];
    }
    if (row->dbias) {
        float *dbias = row->dbias + begin;
#pragma omp simd
        for (int64_t i = 0; i < size; i++)
            dbias[i] += d.at[i];
    }
    if (!row->dx)
        return;
    const float *weight = row->weight + begin;
    float total = row->total;
    float along = row->along;
#pragma omp simd
    for (int64_t i = 0; i < size; i++)
        d.at[i] = inverse * (d.at[i] * weight[i] - total - n.at[i] * along);
    block_store(row->dx, begin, size, &d, add, row->uncached, dtype);
}

WORKER void norm_backward_worker(const struct norm_rows *norm, struct norm_row row, bool add, enum dtype dtype)
{
    int64_t columns = norm->columns;
    bool layer = norm->kind == NORM_LAYER;
    for (int64_t r = 0; r < norm->rows; r++) {
        row.mean = layer ? norm->mean[r] : 0.0f;
        row.inverse = norm->inverse[r];
        if (row.dx)
            row_derivatives(&row, columns, layer, dtype);
        EACH_BLOCK(norm_backward_block, columns, &row, add, dtype);
        row.x = element(row.x, columns, dtype);
        row.dy = element(row.dy, columns, dtype);
        if (row.dx)
            row.dx = element_of(row.dx, columns, dtype);
    }
}

void KERNEL(norm_backward)(const struct norm_rows *norm, const void *dy, void *dx, float beta, float *dweight,
                           float *dbias)
{
    struct norm_row row = {
        .x = norm->x, .dy = dy, .dx = dx, .dweight = dweight, .dbias = dbias, .weight = norm->weight};
    row.uncached =
        uncached_begin(norm->uncached && dx && beta == 0.0f, dx, norm->columns * (int64_t)dtype_size(norm->dtype));
    DISPATCH_BETA(norm_backward_worker, norm->dtype, beta, norm, row);
    uncached_end(row.uncached);
}
