#include "src/ops/operation.h"

struct rope_saved {
    int64_t width;
    const int32_t *positions;
    const float *cosine;
    const float *sine;
};

/* y = beta y + x turned by its positions, or turned back with sign -1. */
static void rope_turn(struct engine *engine, void *y, const void *x, const struct tensor *shape,
                      const struct rope_saved *saved, float sign, float beta)
{
    int64_t rows = tensor_rows(shape);
    int64_t columns = tensor_columns(shape);
    int64_t half = saved->width / 2;
    enum dtype dtype = shape->dtype;
#pragma omp parallel for schedule(static) num_threads(operation_threads(engine, rows *columns))
    for (int64_t n = 0; n < rows; n++) {
        int64_t position = saved->positions[n];
        engine->kernels->rope(operation_at_mutable(y, n * columns, dtype), operation_at(x, n * columns, dtype),
                              columns / saved->width, saved->width, saved->cosine + position * half,
                              saved->sine + position * half, sign, beta, dtype);
    }
}

static void rope_backward(struct tape *tape, const struct tape_record *record)
{
    struct gradient_target dx = tape_target(tape, record->input[0]);
    if (dx.data)
        rope_turn(tape->engine, dx.data, tape_gradient(record->output), record->output, record->saved, -1.0f, dx.beta);
}

struct tensor *rope(struct tape *tape, struct tensor *x, int64_t width, const int32_t *positions, const float *cosine,
                    const float *sine)
{
    if (!x)
        return NULL;
    if (!operation_is_floating(x) || width < 2 || width % 2 != 0 || tensor_columns(x) % width != 0)
        return operation_refuse(tape, "rope", "the columns must be heads of an even width");
    struct tensor *y = tape_tensor_like(tape, x);
    struct rope_saved *saved = tape_save(tape, sizeof *saved);
    if (!y || !saved)
        return NULL;
    *saved = (struct rope_saved){.width = width, .positions = positions, .cosine = cosine, .sine = sine};
    rope_turn(tape->engine, y->data, x->data, x, saved, 1.0f, 0.0f);
    return tape_push(tape, (struct tape_record){.backward = rope_backward, .input = {x}, .output = y, .saved = saved});
}
