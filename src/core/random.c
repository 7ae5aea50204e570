#include "src/core/random.h"

#include <math.h>

/* The finaliser of splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014). */
static uint64_t mix(uint64_t x)
{
    x ^= x >> 30;
    x *= UINT64_C(0xbf58476d1ce4e5b9);
    x ^= x >> 27;
    x *= UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

uint64_t random_key(uint64_t seed, const char *name)
{
    uint64_t key = mix(seed + UINT64_C(0x9e3779b97f4a7c15));
    for (const char *c = name; *c; c++)
        key = mix(key ^ (uint64_t)(unsigned char)*c) + UINT64_C(0x9e3779b97f4a7c15);
    return key;
}

uint64_t random_bits(uint64_t key, uint64_t index)
{
    return mix(mix(index + UINT64_C(0x9e3779b97f4a7c15)) ^ key);
}

double random_uniform(uint64_t key, uint64_t index)
{
    return (double)(random_bits(key, index) >> 11) * 0x1p-53;
}

double random_normal(uint64_t key, uint64_t index)
{
    double radius = sqrt(-2.0 * log(1.0 - random_uniform(key, 2 * index)));
    return radius * cos(6.283185307179586476925 * random_uniform(key, 2 * index + 1));
}

int64_t random_permute(uint64_t key, int64_t index, int64_t count)
{
    int half = 1;
    while (half < 31 && (INT64_C(1) << (2 * half)) < count)
        half++;
    uint64_t mask = (UINT64_C(1) << half) - 1;
    uint64_t value = (uint64_t)index;
    do {
        uint64_t left = value >> half;
        uint64_t right = value & mask;
        for (uint64_t round = 0; round < 4; round++) {
            uint64_t next = left ^ (random_bits(key + round, right) & mask);
            left = right;
            right = next;
        }
        value = left << half | right;
    } while (value >= (uint64_t)count);
    return (int64_t)value;
}
