#include <math.h>

#include "src/ops/image.h"
#include "src/ops/operation.h"

enum { WINDOW = 3, APART = 2, EDGE = 1 };

/* Images as parts [height, width, lanes] that lie one behind the other: a row's blocks of channels. */
struct parts {
    int64_t count, height, width, lanes;
};

static struct parts parts_of(const struct tensor *x)
{
    int64_t lanes = integer_max(1, x->block);
    return (struct parts){x->shape[0] * x->shape[1] / lanes, x->shape[2], x->shape[3], lanes};
}

static inline float value_at(const void *data, int64_t index, enum dtype dtype)
{
    return dtype == DTYPE_BF16 ? bf16_to_float(((const bf16 *)data)[index]) : ((const float *)data)[index];
}

static inline void value_set(void *data, int64_t index, float value, float beta, enum dtype dtype)
{
    if (beta != 0.0f)
        value += value_at(data, index, dtype);
    if (dtype == DTYPE_BF16)
        ((bf16 *)data)[index] = bf16_from_float(value);
    else
        ((float *)data)[index] = value;
}

/* -- The largest of a window -- */

static struct range window_of(int64_t out, int64_t size)
{
    int64_t begin = integer_max(0, out * APART - EDGE);
    return (struct range){begin, integer_min(size, out * APART - EDGE + WINDOW) - begin};
}

/* One window of one part; `from` is where in it the largest is, counted over the whole window. A number that is none is
 * larger than all. */
static void window_largest(const void *x, int64_t part, const struct parts *in, struct range rows, struct range columns,
                           int64_t first, void *y, uint8_t *from, int64_t to, enum dtype dtype)
{
    for (int64_t lane = 0; lane < in->lanes; lane++) {
        float best = -INFINITY;
        int place = -1;
        for (int64_t r = rows.begin; r < rows.begin + rows.count; r++)
            for (int64_t c = columns.begin; c < columns.begin + columns.count; c++) {
                float value = value_at(x, ((part * in->height + r) * in->width + c) * in->lanes + lane, dtype);
                if (place < 0 || value > best || value != value) {
                    best = value;
                    place = (int)(r * WINDOW + c - first);
                }
            }
        value_set(y, to + lane, best, 0.0f, dtype);
        from[to + lane] = (uint8_t)place;
    }
}

/* The sum of the gradients of the windows of which position (r, c) was the largest. */
static void position_gradient(const struct tensor *y, int64_t part, const struct parts *out, int64_t r, int64_t c,
                              const uint8_t *from, struct gradient_target dx, int64_t to)
{
    const void *dy = tape_gradient(y);
    int64_t row_end = integer_min(out->height - 1, (r + EDGE) / APART);
    int64_t column_end = integer_min(out->width - 1, (c + EDGE) / APART);
    for (int64_t lane = 0; lane < out->lanes; lane++) {
        float sum = 0.0f;
        for (int64_t i = r / APART; i <= row_end; i++)
            for (int64_t j = c / APART; j <= column_end; j++) {
                int64_t window = ((part * out->height + i) * out->width + j) * out->lanes + lane;
                if (from[window] == (r - i * APART + EDGE) * WINDOW + c - j * APART + EDGE)
                    sum += value_at(dy, window, y->dtype);
            }
        value_set(dx.data, to + lane, sum, dx.beta, dx.dtype);
    }
}

static void max_backward(struct tape *tape, const struct tape_record *record)
{
    struct tensor *x = record->input[0];
    struct parts in = parts_of(x);
    struct parts out = parts_of(record->output);
    struct gradient_target dx = tape_target(tape, x);
    if (!dx.data || tape->context->dry)
        return;
#pragma omp parallel for schedule(static) num_threads(operation_threads(tape->engine, tensor_count(x)))
    for (int64_t part = 0; part < in.count; part++)
        for (int64_t r = 0; r < in.height; r++)
            for (int64_t c = 0; c < in.width; c++)
                position_gradient(record->output, part, &out, r, c, record->saved, dx,
                                  ((part * in.height + r) * in.width + c) * in.lanes);
}

struct tensor *max_pooling(struct tape *tape, struct tensor *x)
{
    if (!x)
        return NULL;
    if (x->rank != 4 || !operation_is_floating(x))
        return operation_refuse(tape, "max_pooling", "it is for images");
    int64_t shape[4] = {x->shape[0], x->shape[1], (x->shape[2] + 2 * EDGE - WINDOW) / APART + 1,
                        (x->shape[3] + 2 * EDGE - WINDOW) / APART + 1};
    struct tensor *y = tape_images(tape, x->dtype, shape, x->block);
    uint8_t *from = y ? tape_save(tape, (size_t)tensor_count(y)) : NULL;
    if (!from)
        return NULL;
    struct parts in = parts_of(x);
    struct parts out = parts_of(y);
    int64_t count = tape->context->dry ? 0 : out.count;
#pragma omp parallel for schedule(static) num_threads(operation_threads(tape->engine, tensor_count(x)))
    for (int64_t part = 0; part < count; part++)
        for (int64_t r = 0; r < out.height; r++)
            for (int64_t c = 0; c < out.width; c++)
                window_largest(x->data, part, &in, window_of(r, in.height), window_of(c, in.width),
                               (r * APART - EDGE) * WINDOW + c * APART - EDGE, y->data, from,
                               ((part * out.height + r) * out.width + c) * out.lanes, x->dtype);
    return tape_push(tape, (struct tape_record){.backward = max_backward, .input = {x}, .output = y, .saved = from});
}

/* -- The mean -- */

static void average_backward(struct tape *tape, const struct tape_record *record)
{
    struct tensor *x = record->input[0];
    struct parts in = parts_of(x);
    int64_t positions = in.height * in.width;
    const void *dy = tape_gradient(record->output);
    struct gradient_target dx = tape_target(tape, x);
    if (!dx.data || tape->context->dry)
        return;
#pragma omp parallel for schedule(static) num_threads(operation_threads(tape->engine, tensor_count(x)))
    for (int64_t part = 0; part < in.count; part++)
        for (int64_t p = 0; p < positions; p++)
            for (int64_t lane = 0; lane < in.lanes; lane++)
                value_set(dx.data, (part * positions + p) * in.lanes + lane,
                          value_at(dy, part * in.lanes + lane, x->dtype) / (float)positions, dx.beta, dx.dtype);
}

struct tensor *average_pooling(struct tape *tape, struct tensor *x)
{
    if (!x)
        return NULL;
    if (x->rank != 4 || !operation_is_floating(x))
        return operation_refuse(tape, "average_pooling", "it is for images");
    struct tensor *y = tape_matrix(tape, x->dtype, x->shape[0], x->shape[1]);
    if (!y)
        return NULL;
    struct parts in = parts_of(x);
    int64_t positions = in.height * in.width;
    int64_t count = tape->context->dry ? 0 : in.count;
#pragma omp parallel for schedule(static) num_threads(operation_threads(tape->engine, tensor_count(x)))
    for (int64_t part = 0; part < count; part++)
        for (int64_t lane = 0; lane < in.lanes; lane++) {
            float sum = 0.0f;
            for (int64_t p = 0; p < positions; p++)
                sum += value_at(x->data, (part * positions + p) * in.lanes + lane, x->dtype);
            value_set(y->data, part * in.lanes + lane, sum / (float)positions, 0.0f, y->dtype);
        }
    return tape_push(tape, (struct tape_record){.backward = average_backward, .input = {x}, .output = y});
}
