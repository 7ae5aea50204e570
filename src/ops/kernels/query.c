/* Attention of single queries: keys and values are read once, in their order, for all heads. */
#include "src/ops/kernels/declare.h"

/* Sixteen floats: compilers split them into the vectors that there are. Passed by address, for how they are passed
 * by value depends on these. */
enum { PART = 16 };
typedef float part_floats __attribute__((vector_size(4 * PART), aligned(4), may_alias));
typedef uint32_t part_words __attribute__((vector_size(4 * PART)));
typedef uint16_t part_halves __attribute__((vector_size(2 * PART), aligned(2), may_alias));
typedef float part_eight __attribute__((vector_size(32)));
typedef float part_four __attribute__((vector_size(16)));

WORKER void part_load(part_floats *to, const void *data, int64_t index, enum dtype dtype)
{
    const void *from = element(data, index, dtype);
    if (dtype == DTYPE_F32)
        *to = *(const part_floats *)from;
    else
        *to = (part_floats)(__builtin_convertvector(*(const part_halves *)from, part_words) << 16);
}

WORKER float part_sum(const part_floats *x)
{
    part_eight eight = __builtin_shufflevector(*x, *x, 0, 1, 2, 3, 4, 5, 6, 7) +
                       __builtin_shufflevector(*x, *x, 8, 9, 10, 11, 12, 13, 14, 15);
    part_four four =
        __builtin_shufflevector(eight, eight, 0, 1, 2, 3) + __builtin_shufflevector(eight, eight, 4, 5, 6, 7);
    return (four[0] + four[1]) + (four[2] + four[3]);
}

WORKER float query_dot(const float *query, const void *key, int64_t width, enum dtype dtype)
{
    part_floats parts = {0};
    int64_t i = 0;
    for (; i + PART <= width; i += PART) {
        part_floats wide;
        part_load(&wide, key, i, dtype);
        parts += *(const part_floats *)(query + i) * wide;
    }
    float sum = part_sum(&parts);
    for (; i < width; i++)
        sum += query[i] * load(key, i, dtype);
    return sum;
}

WORKER void query_scores_worker(const struct query_block *block, enum dtype dtype)
{
    for (int64_t row = 0; row < block->rows; row++) {
        const void *keys = element(block->from, row * block->stride, dtype);
        for (int64_t head = 0; head < block->heads; head++) {
            const void *key = element(keys, block->kv_of_head[head] * block->width, dtype);
            block->scores[head * block->scores_ld + row] =
                query_dot(block->vectors + head * block->vectors_ld, key, block->width, dtype);
        }
    }
}

void KERNEL(query_scores)(const struct query_block *block, enum dtype dtype)
{
    DISPATCH(query_scores_worker, dtype, block);
}

/* Adds `rows` values, a constant, to the outputs of all heads. */
WORKER void values_add(const struct query_block *block, int64_t row, const int rows, enum dtype dtype)
{
    for (int64_t head = 0; head < block->heads; head++) {
        float *to = block->vectors + head * block->vectors_ld;
        const float *weight = block->scores + head * block->scores_ld + row;
        const void *value = element(block->from, row * block->stride + block->kv_of_head[head] * block->width, dtype);
#pragma omp simd
        for (int64_t i = 0; i < block->width; i++) {
            float sum = to[i];
            for (int r = 0; r < rows; r++)
                sum += weight[r] * load(value, r * block->stride + i, dtype);
            to[i] = sum;
        }
    }
}

WORKER void query_sums_worker(const struct query_block *block, enum dtype dtype)
{
    enum { TOGETHER = 4 };
    int64_t row = 0;
    for (; row + TOGETHER <= block->rows; row += TOGETHER)
        values_add(block, row, TOGETHER, dtype);
    for (; row < block->rows; row++)
        values_add(block, row, 1, dtype);
}

void KERNEL(query_sums)(const struct query_block *block, enum dtype dtype)
{
    DISPATCH(query_sums_worker, dtype, block);
}
