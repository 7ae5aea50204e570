/* Batch normalisation over parts of images [positions, lanes]: channels are lanes, and a strip of them fills a
 * register.
 */
#include "src/ops/kernels/block.h"
#include "src/ops/kernels/declare.h"

typedef int32_t mask_vector __attribute__((vector_size(VECTOR_BYTES)));

/* Positions at once, so that one sum does not wait for the one before. */
enum { ABREAST = 4 };

/* What computes a strip, of WIDTH lanes or of one: workers take it as a constant. */
enum strip { STRIP_ONE, STRIP_WIDE };

WORKER vector strip_load(const void *from, int64_t index, enum strip strip, enum dtype dtype)
{
    if (strip == STRIP_WIDE)
        return vector_load(from, index, dtype);
    return (vector){load(from, index, dtype)};
}

/* Numbers below 2^-126 may become 0. */
WORKER void wide_store(void *to, int64_t index, vector values, enum dtype dtype)
{
    if (dtype == DTYPE_F32) {
        memcpy((float *)to + index, &values, sizeof values);
        return;
    }
    bf16 *halves = (bf16 *)to + index;
#if defined(__AVX512BF16__)
    _mm256_storeu_si256((__m256i_u *)halves, (__m256i)_mm512_cvtneps_pbh((__m512)values));
#else
    for (int i = 0; i < WIDTH; i++)
        halves[i] = bf16_from_float(values[i]);
#endif
}

WORKER void strip_store(void *to, int64_t index, vector values, enum strip strip, enum dtype dtype)
{
    if (strip == STRIP_WIDE)
        wide_store(to, index, values, dtype);
    else
        store(to, index, values[0], false, dtype);
}

WORKER vector floats_load(const float *from, int64_t lane, enum strip strip)
{
    return strip_load(from, lane, strip, DTYPE_F32);
}

WORKER void floats_store(float *to, int64_t lane, vector values, enum strip strip)
{
    strip_store(to, lane, values, strip, DTYPE_F32);
}

/* As if they had been stored. */
WORKER vector rounded(vector values, enum dtype dtype)
{
    bf16 halves[WIDTH];
    if (dtype == DTYPE_F32)
        return values;
    wide_store(halves, 0, values, DTYPE_BF16);
    return vector_load(halves, 0, DTYPE_BF16);
}

WORKER vector where(mask_vector mask, vector values)
{
    return (vector)((mask_vector)values & mask);
}

WORKER vector join(const vector sum[ABREAST])
{
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/* Calls worker(lane, strip, ...) for all lanes of a part. */
#define EACH_STRIP(worker, lanes, ...)                   \
    do {                                                 \
        int64_t lane_ = 0;                               \
        for (; lane_ + WIDTH <= (lanes); lane_ += WIDTH) \
            worker(lane_, STRIP_WIDE, __VA_ARGS__);      \
        for (; lane_ < (lanes); lane_++)                 \
            worker(lane_, STRIP_ONE, __VA_ARGS__);       \
    } while (0)

/* -- Moments -- */

WORKER void moments_strip(int64_t lane, enum strip strip, const struct channel_part *part, float *mean, float *squares,
                          enum dtype dtype)
{
    vector sum[ABREAST] = {{0}};
    vector square[ABREAST] = {{0}};
    int64_t lanes = part->lanes;
    int64_t whole = part->positions / ABREAST * ABREAST;
    /* What is left of values far from zero is summed without losing it. */
    vector first = strip_load(part->x, lane, strip, dtype);
    for (int64_t p = 0; p < whole; p += ABREAST)
        for (int i = 0; i < ABREAST; i++)
            sum[i] += strip_load(part->x, (p + i) * lanes + lane, strip, dtype) - first;
    for (int64_t p = whole; p < part->positions; p++)
        sum[0] += strip_load(part->x, p * lanes + lane, strip, dtype) - first;
    vector middle = first + join(sum) / (float)part->positions;
    for (int64_t p = 0; p < whole; p += ABREAST)
        for (int i = 0; i < ABREAST; i++) {
            vector off = strip_load(part->x, (p + i) * lanes + lane, strip, dtype) - middle;
            square[i] += off * off;
        }
    for (int64_t p = whole; p < part->positions; p++) {
        vector off = strip_load(part->x, p * lanes + lane, strip, dtype) - middle;
        square[0] += off * off;
    }
    floats_store(mean, lane, middle, strip);
    floats_store(squares, lane, join(square), strip);
}

WORKER void moments_worker(const struct channel_part *part, float *mean, float *squares, enum dtype dtype)
{
    EACH_STRIP(moments_strip, part->lanes, part, mean, squares, dtype);
}

void KERNEL(channel_moments)(const struct channel_part *part, float *mean, float *squares)
{
    DISPATCH(moments_worker, part->dtype, part, mean, squares);
}

/* -- Forward -- */

WORKER vector affine(const struct channel_part *part, int64_t index, vector scale, vector shift, enum strip strip,
                     enum dtype dtype)
{
    return strip_load(part->x, index, strip, dtype) * scale + shift;
}

WORKER void apply_strip(int64_t lane, enum strip strip, const struct channel_part *part, void *y, bool rectify,
                        bool shortcut, enum dtype dtype)
{
    vector scale = floats_load(part->scale, lane, strip);
    vector shift = floats_load(part->shift, lane, strip);
    for (int64_t p = 0; p < part->positions; p++) {
        int64_t index = p * part->lanes + lane;
        vector value = affine(part, index, scale, shift, strip, dtype);
        if (shortcut)
            value = rounded(value, dtype) + strip_load(part->shortcut, index, strip, dtype);
        if (rectify)
            value = where(~(value < 0.0f), value);
        strip_store(y, index, value, strip, dtype);
    }
}

WORKER void apply_worker(const struct channel_part *part, void *y, bool rectify, bool shortcut, enum dtype dtype)
{
    EACH_STRIP(apply_strip, part->lanes, part, y, rectify, shortcut, dtype);
}

void KERNEL(channel_apply)(const struct channel_part *part, void *y)
{
    if (part->shortcut && part->rectify)
        DISPATCH(apply_worker, part->dtype, part, y, true, true);
    else if (part->shortcut)
        DISPATCH(apply_worker, part->dtype, part, y, false, true);
    else if (part->rectify)
        DISPATCH(apply_worker, part->dtype, part, y, true, false);
    else
        DISPATCH(apply_worker, part->dtype, part, y, false, false);
}

/* -- Backward -- */

/* Where no shortcut was added the sign of what was cut off is known from x alone, which is read anyway. */
WORKER vector gradient_at(const struct channel_part *part, int64_t index, vector scale, vector shift, bool rectify,
                          bool shortcut, enum strip strip, enum dtype dtype)
{
    vector dy = strip_load(part->dy, index, strip, dtype);
    if (!rectify)
        return dy;
    vector y = shortcut ? strip_load(part->y, index, strip, dtype) : affine(part, index, scale, shift, strip, dtype);
    return where(y > 0.0f, dy);
}

WORKER void sums_strip(int64_t lane, enum strip strip, const struct channel_part *part, float *total, float *along,
                       bool rectify, bool shortcut, enum dtype dtype)
{
    vector scale = floats_load(part->scale, lane, strip);
    vector shift = floats_load(part->shift, lane, strip);
    vector mean = floats_load(part->mean, lane, strip);
    vector sum[ABREAST] = {{0}};
    vector product[ABREAST] = {{0}};
    int64_t lanes = part->lanes;
    int64_t whole = part->positions / ABREAST * ABREAST;
    for (int64_t p = 0; p < whole; p += ABREAST)
        for (int i = 0; i < ABREAST; i++) {
            int64_t index = (p + i) * lanes + lane;
            vector dy = gradient_at(part, index, scale, shift, rectify, shortcut, strip, dtype);
            sum[i] += dy;
            product[i] += dy * (strip_load(part->x, index, strip, dtype) - mean);
        }
    for (int64_t p = whole; p < part->positions; p++) {
        int64_t index = p * lanes + lane;
        vector dy = gradient_at(part, index, scale, shift, rectify, shortcut, strip, dtype);
        sum[0] += dy;
        product[0] += dy * (strip_load(part->x, index, strip, dtype) - mean);
    }
    floats_store(total, lane, join(sum), strip);
    floats_store(along, lane, join(product), strip);
}

WORKER void sums_worker(const struct channel_part *part, float *total, float *along, bool rectify, bool shortcut,
                        enum dtype dtype)
{
    EACH_STRIP(sums_strip, part->lanes, part, total, along, rectify, shortcut, dtype);
}

void KERNEL(channel_gradient_sums)(const struct channel_part *part, float *total, float *along)
{
    if (!part->rectify)
        DISPATCH(sums_worker, part->dtype, part, total, along, false, false);
    else if (part->shortcut)
        DISPATCH(sums_worker, part->dtype, part, total, along, true, true);
    else
        DISPATCH(sums_worker, part->dtype, part, total, along, true, false);
}

WORKER void add_strip(void *to, int64_t index, vector value, float beta, enum strip strip, enum dtype dtype)
{
    if (beta != 0.0f)
        value += strip_load(to, index, strip, dtype);
    strip_store(to, index, value, strip, dtype);
}

WORKER void backward_strip(int64_t lane, enum strip strip, const struct channel_part *part,
                           const struct channel_backward *to, bool rectify, bool shortcut, enum dtype dtype)
{
    vector scale = floats_load(part->scale, lane, strip);
    vector shift = floats_load(part->shift, lane, strip);
    vector mean = floats_load(part->mean, lane, strip);
    vector along = floats_load(to->along, lane, strip);
    vector tilt = floats_load(to->tilt, lane, strip);
    vector offset = floats_load(to->offset, lane, strip);
    for (int64_t p = 0; p < part->positions; p++) {
        int64_t index = p * part->lanes + lane;
        vector dy = gradient_at(part, index, scale, shift, rectify, shortcut, strip, dtype);
        vector x = strip_load(part->x, index, strip, dtype);
        if (to->dshortcut)
            add_strip(to->dshortcut, index, dy, to->dshortcut_beta, strip, dtype);
        if (to->dx)
            add_strip(to->dx, index, along * dy - tilt * (x - mean) - offset, to->dx_beta, strip, dtype);
    }
}

WORKER void backward_worker(const struct channel_part *part, const struct channel_backward *to, bool rectify,
                            bool shortcut, enum dtype dtype)
{
    EACH_STRIP(backward_strip, part->lanes, part, to, rectify, shortcut, dtype);
}

void KERNEL(channel_backward)(const struct channel_part *part, const struct channel_backward *to)
{
    if (!part->rectify)
        DISPATCH(backward_worker, part->dtype, part, to, false, false);
    else if (part->shortcut)
        DISPATCH(backward_worker, part->dtype, part, to, true, true);
    else
        DISPATCH(backward_worker, part->dtype, part, to, true, false);
}

/* -- The positive part -- */

WORKER void relu_forward_worker(void *y, const void *x, int64_t count, enum dtype dtype)
{
#pragma omp simd
    for (int64_t i = 0; i < count; i++) {
        float value = load(x, i, dtype);
        store(y, i, value < 0.0f ? 0.0f : value, false, dtype);
    }
}

void KERNEL(relu_forward)(void *y, const void *x, int64_t count, enum dtype dtype)
{
    DISPATCH(relu_forward_worker, dtype, y, x, count);
}

WORKER void relu_backward_worker(void *dx, const void *dy, const void *y, int64_t count, bool add, enum dtype dtype)
{
#pragma omp simd
    for (int64_t i = 0; i < count; i++)
        store(dx, i, load(y, i, dtype) > 0.0f ? load(dy, i, dtype) : 0.0f, add, dtype);
}

void KERNEL(relu_backward)(void *dx, float beta, const void *dy, const void *y, int64_t count, enum dtype dtype)
{
    if (beta != 0.0f)
        DISPATCH(relu_backward_worker, dtype, dx, dy, y, count, true);
    else
        DISPATCH(relu_backward_worker, dtype, dx, dy, y, count, false);
}
