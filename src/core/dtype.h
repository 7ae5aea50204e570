/* The element types of tensors and messages, and conversion between them. */
#ifndef CAIRN_CORE_DTYPE_H
#define CAIRN_CORE_DTYPE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum dtype { DTYPE_F32, DTYPE_BF16, DTYPE_F64, DTYPE_I32, DTYPE_I64, DTYPE_BYTE, DTYPES };

typedef uint16_t bf16; /* the upper half of an IEEE float */

static inline size_t dtype_size(enum dtype dtype)
{
    static const uint8_t size[DTYPES] = {
        [DTYPE_F32] = 4, [DTYPE_BF16] = 2, [DTYPE_F64] = 8, [DTYPE_I32] = 4, [DTYPE_I64] = 8, [DTYPE_BYTE] = 1};
    return size[dtype];
}

static inline float bf16_to_float(bf16 value)
{
    uint32_t bits = (uint32_t)value << 16;
    float result;
    memcpy(&result, &bits, sizeof result);
    return result;
}

/* Rounds to nearest, ties to even; a not-a-number stays one. */
static inline bf16 bf16_from_float(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return (bf16)(value != value ? (bits >> 16) | 0x40 : rounded);
}

#endif
