#include "io/checkpoint/hash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t hash_range(const float *values, int64_t begin, int64_t count)
{
    uint64_t sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += XXH3_64bits_withSeed(&values[i], sizeof values[i], (XXH64_hash_t)(begin + i));
    return sum;
}

uint64_t hash_box(const float *values, const struct box *box, int rank, const int64_t *shape)
{
    /* The run: as many of the last dimensions as are contiguous in the dataset. */
    int outer = rank - 1;
    int64_t run = box->extent[outer];
    while (outer > 0 && box->extent[outer] == shape[outer])
        run *= box->extent[--outer];
    int64_t runs = 1;
    for (int i = 0; i < outer; i++)
        runs *= box->extent[i];
    uint64_t sum = 0;
    for (int64_t index = 0; run > 0 && index < runs; index++) {
        int64_t begin = 0;
        int64_t scale = 1;
        int64_t left = index;
        for (int i = rank - 1; i >= 0; i--) {
            int64_t at = box->offset[i];
            if (i < outer) {
                at += left % box->extent[i];
                left /= box->extent[i];
            }
            begin += at * scale;
            scale *= shape[i];
        }
        sum += hash_range(values + index * run, begin, run);
    }
    return sum;
}
