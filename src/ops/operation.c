#include "src/ops/operation.h"

const float *operation_floats(struct tape *tape, const struct tensor *tensor)
{
    if (!tensor)
        return NULL;
    if (tensor->dtype == DTYPE_F32)
        return tensor->data;
    int64_t count = tensor_count(tensor);
    float *floats = arena_allocate(tape->work, (size_t)count * sizeof *floats);
    if (floats)
        tape->engine->kernels->convert(floats, DTYPE_F32, tensor->data, tensor->dtype, count, false);
    return floats;
}

struct tensor *operation_refuse(struct tape *tape, const char *operation, const char *what)
{
    context_fail(tape->context, STATUS_INTERNAL, "operation %s: %s", operation, what);
    return NULL;
}

void operation_sum_columns(struct tape *tape, struct gradient_target target, const void *x, enum dtype dtype,
                           int64_t rows, int64_t columns)
{
    struct engine *engine = tape->engine;
    if (!target.data)
        return;
    struct arena_mark mark = arena_mark(tape->work);
    float *sum = arena_allocate(tape->work, (size_t)columns * sizeof *sum);
    if (!sum)
        return;
#pragma omp parallel num_threads(operation_threads(engine, rows *columns))
    {
        struct range range = operation_range(columns, LINE_ELEMENTS);
        for (int64_t c = range.begin; c < range.begin + range.count; c++)
            sum[c] = 0.0f;
        engine->kernels->sum_columns(sum + range.begin, operation_at(x, range.begin, dtype), rows, range.count, columns,
                                     dtype);
        engine->kernels->accumulate(operation_at_mutable(target.data, range.begin, target.dtype), target.dtype,
                                    sum + range.begin, DTYPE_F32, target.beta, range.count);
    }
    arena_rewind(tape->work, mark);
}
