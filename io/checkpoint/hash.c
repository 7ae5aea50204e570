#include "io/checkpoint/hash.h"

#include <isa-l/crc64.h>

#include "io/checkpoint/runs.h"

/* Polynomials over GF(2) below degree 64, the coefficient of x^0 in the highest bit; MODULUS without its x^64. */
#define MODULUS UINT64_C(0xc96c5795d7870f42)
#define ONE (UINT64_C(1) << 63)

static uint64_t times_x(uint64_t a)
{
    return (a >> 1) ^ (MODULUS & -(a & 1));
}

static uint64_t multiply(uint64_t a, uint64_t b)
{
    uint64_t product = 0;
    for (; a; a <<= 1) {
        product ^= b & -(a >> 63);
        b = times_x(b);
    }
    return product;
}

/* What so many further elements do to a remainder: a factor of x^32 each. */
static uint64_t shift_of(int64_t elements)
{
    uint64_t power = ONE;
    for (uint64_t base = ONE >> 32; elements; elements >>= 1, base = multiply(base, base))
        if (elements & 1)
            power = multiply(power, base);
    return power;
}

/* The remainder of the elements alone: without what the standard puts before and behind. */
static uint64_t remainder_of(const float *values, int64_t count)
{
    return ~crc64_ecma_refl(~UINT64_C(0), (const unsigned char *)values, (uint64_t)count * sizeof *values);
}

uint64_t hash_range(const float *values, int64_t begin, int64_t count, int64_t total)
{
    return multiply(remainder_of(values, count), shift_of(total - begin - count));
}

uint64_t hash_box(const float *values, const struct box *box, int rank, const int64_t *shape)
{
    struct runs runs = runs_of_box(box, rank, shape);
    uint64_t sum = 0;
    int64_t total = 1;
    int64_t end = 0;  /* of the run before */
    int64_t step = 0; /* from its end to that of the next; mostly it stays */
    uint64_t shift = ONE;
    for (int i = 0; i < rank; i++)
        total *= shape[i];
    for (int64_t i = 0; i < runs.count; i++) {
        int64_t next = runs_begin(&runs, box, rank, shape, i) + runs.length;
        if (i > 0 && next - end != step) {
            step = next - end;
            shift = shift_of(step);
        }
        sum = multiply(sum, shift) ^ remainder_of(values + i * runs.length, runs.length);
        end = next;
    }
    return runs.count ? multiply(sum, shift_of(total - end)) : 0;
}

uint64_t hash_whole(uint64_t joined, int64_t total)
{
    return joined ^ multiply(~UINT64_C(0), shift_of(total)) ^ ~UINT64_C(0);
}
