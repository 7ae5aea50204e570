#include "src/ops/operation.h"

/* to = beta to + factor from */
static void run(struct tape *tape, void *to, const void *from, float factor, float beta, int64_t count,
                enum dtype dtype)
{
    struct engine *engine = tape->engine;
#pragma omp parallel num_threads(operation_threads(engine, count))
    {
        struct range range = operation_range(count, LINE_ELEMENTS);
        engine->kernels->accumulate_scaled(operation_at_mutable(to, range.begin, dtype), dtype,
                                           operation_at(from, range.begin, dtype), dtype, factor, beta, range.count);
    }
}

static void scaled_backward(struct tape *tape, const struct tape_record *record)
{
    const struct tensor *y = record->output;
    struct gradient_target dx = tape_target(tape, record->input[0]);
    if (dx.data)
        run(tape, dx.data, tape_gradient(y), *(const float *)record->saved, dx.beta, tensor_count(y), y->dtype);
}

struct tensor *scaled(struct tape *tape, struct tensor *x, float factor)
{
    if (!x)
        return NULL;
    if (!operation_is_floating(x))
        return operation_refuse(tape, "scaled", "the input must be of a floating type");
    struct tensor *y = tape_tensor_like(tape, x);
    float *saved = tape_save(tape, sizeof *saved);
    if (!y || !saved)
        return NULL;
    *saved = factor;
    run(tape, y->data, x->data, factor, 0.0f, tensor_count(x), x->dtype);
    return tape_push(tape,
                     (struct tape_record){.backward = scaled_backward, .input = {x}, .output = y, .saved = saved});
}
