/* Random numbers without state: each is a function of a key and an index, so any rank can draw any of them and the
 * mesh never changes what is drawn. */
#ifndef CAIRN_CORE_RANDOM_H
#define CAIRN_CORE_RANDOM_H

#include <stdint.h>

/* A key from a seed and a name (a parameter's name, a purpose). */
uint64_t random_key(uint64_t seed, const char *name);

/* 64 uniform bits. */
uint64_t random_bits(uint64_t key, uint64_t index);

/* Uniform in [0, 1) with 53 bits. */
double random_uniform(uint64_t key, uint64_t index);

/* Standard normal, by Box and Muller from two of the key's uniforms. */
double random_normal(uint64_t key, uint64_t index);

/* Place `index` of a random permutation of 0..count-1 (a Feistel network on the next power of four, walked until
 * the value falls into the range). count > 0, 0 <= index < count. */
int64_t random_permute(uint64_t key, int64_t index, int64_t count);

#endif
