#include "src/ops/operation.h"

static void backward(struct tape *tape, const struct tape_record *record, bool exact)
{
    struct engine *engine = tape->engine;
    struct tensor *x = record->input[0];
    enum dtype dtype = x->dtype;
    int64_t count = tensor_count(x);
    const void *dy = tape_gradient(record->output);
    struct gradient_target dx = tape_target(tape, x);
    if (!dx.data)
        return;
    bool uncached = operation_bypasses_cache(engine, count, dtype);
#pragma omp parallel num_threads(operation_threads(engine, count))
    {
        struct range range = operation_range(count, LINE_ELEMENTS);
        (exact ? engine->kernels->gelu_erf_backward : engine->kernels->gelu_backward)(
            operation_at_mutable(dx.data, range.begin, dtype), dx.beta, operation_at(dy, range.begin, dtype),
            operation_at(x->data, range.begin, dtype), range.count, dtype, uncached);
    }
}

static void gelu_backward(struct tape *tape, const struct tape_record *record)
{
    backward(tape, record, false);
}

static void gelu_erf_backward(struct tape *tape, const struct tape_record *record)
{
    backward(tape, record, true);
}

static struct tensor *forward(struct tape *tape, struct tensor *x, bool exact)
{
    if (!x)
        return NULL;
    if (!operation_is_floating(x))
        return operation_refuse(tape, "gelu", "the input must be of a floating type");
    struct tensor *y = tape_tensor_like(tape, x);
    if (!y)
        return NULL;
    struct engine *engine = tape->engine;
    enum dtype dtype = x->dtype;
    int64_t count = tensor_count(x);
    bool uncached = operation_bypasses_cache(engine, count, dtype);
#pragma omp parallel num_threads(operation_threads(engine, count))
    {
        struct range range = operation_range(count, LINE_ELEMENTS);
        (exact ? engine->kernels->gelu_erf_forward : engine->kernels->gelu_forward)(
            operation_at_mutable(y->data, range.begin, dtype), operation_at(x->data, range.begin, dtype), range.count,
            dtype, uncached);
    }
    return tape_push(
        tape, (struct tape_record){.backward = exact ? gelu_erf_backward : gelu_backward, .input = {x}, .output = y});
}

struct tensor *gelu(struct tape *tape, struct tensor *x)
{
    return forward(tape, x, false);
}

struct tensor *gelu_erf(struct tape *tape, struct tensor *x)
{
    return forward(tape, x, true);
}
