/* Sizes are int64_t; this is where they are divided among ranks and narrowed for libraries that take int. */
#ifndef CAIRN_CORE_INTEGER_H
#define CAIRN_CORE_INTEGER_H

#include <stdint.h>

/* A contiguous range [begin, begin + count). */
struct range {
    int64_t begin;
    int64_t count;
};

/* Part `index` of `total` things divided among `parts` as evenly as possible, the first parts taking one more.
 * The one rule of the project for who owns what; a part may be empty. */
static inline struct range range_partition(int64_t total, int64_t parts, int64_t index)
{
    int64_t base = total / parts;
    int64_t extra = total % parts;
    return (struct range){
        .begin = index * base + (index < extra ? index : extra),
        .count = base + (index < extra),
    };
}

static inline struct range range_intersect(struct range a, struct range b)
{
    int64_t begin = a.begin > b.begin ? a.begin : b.begin;
    int64_t end_a = a.begin + a.count;
    int64_t end_b = b.begin + b.count;
    int64_t end = end_a < end_b ? end_a : end_b;
    return (struct range){.begin = begin, .count = end > begin ? end - begin : 0};
}

static inline int64_t integer_min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t integer_max(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static inline int64_t integer_divide_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static inline int64_t integer_round_up(int64_t a, int64_t multiple)
{
    return integer_divide_up(a, multiple) * multiple;
}

#endif
