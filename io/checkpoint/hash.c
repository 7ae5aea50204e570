#include "io/checkpoint/hash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "io/checkpoint/runs.h"

uint64_t hash_range(const float *values, int64_t begin, int64_t count)
{
    uint64_t sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += XXH3_64bits_withSeed(&values[i], sizeof values[i], (XXH64_hash_t)(begin + i));
    return sum;
}

uint64_t hash_box(const float *values, const struct box *box, int rank, const int64_t *shape)
{
    struct runs runs = runs_of_box(box, rank, shape);
    uint64_t sum = 0;
    for (int64_t i = 0; i < runs.count; i++)
        sum += hash_range(values + i * runs.length, runs_begin(&runs, box, rank, shape, i), runs.length);
    return sum;
}
