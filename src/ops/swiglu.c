#include "src/ops/operation.h"

static void swiglu_backward(struct tape *tape, const struct tape_record *record)
{
    struct engine *engine = tape->engine;
    const struct tensor *gate = record->input[0];
    const struct tensor *up = record->input[1];
    enum dtype dtype = gate->dtype;
    int64_t count = tensor_count(gate);
    const void *dy = tape_gradient(record->output);
    struct gradient_target dgate = tape_target(tape, record->input[0]);
    struct gradient_target dup = tape_target(tape, record->input[1]);
    bool uncached = operation_bypasses_cache(engine, count, dtype);
#pragma omp parallel num_threads(operation_threads(engine, count))
    {
        struct range range = operation_range(count, LINE_ELEMENTS);
        engine->kernels->swiglu_backward(
            dgate.data ? operation_at_mutable(dgate.data, range.begin, dtype) : NULL, dgate.beta,
            dup.data ? operation_at_mutable(dup.data, range.begin, dtype) : NULL, dup.beta,
            operation_at(dy, range.begin, dtype), operation_at(gate->data, range.begin, dtype),
            operation_at(up->data, range.begin, dtype), range.count, dtype, uncached);
    }
}

struct tensor *swiglu(struct tape *tape, struct tensor *gate, struct tensor *up)
{
    if (!gate || !up)
        return NULL;
    int64_t count = tensor_count(gate);
    if (!operation_is_floating(gate) || gate->dtype != up->dtype || tensor_count(up) != count)
        return operation_refuse(tape, "swiglu", "gate and up must have the same shape and floating type");
    struct tensor *y = tape_tensor_like(tape, gate);
    if (!y)
        return NULL;
    struct engine *engine = tape->engine;
    enum dtype dtype = gate->dtype;
    bool uncached = operation_bypasses_cache(engine, count, dtype);
#pragma omp parallel num_threads(operation_threads(engine, count))
    {
        struct range range = operation_range(count, LINE_ELEMENTS);
        engine->kernels->swiglu_forward(operation_at_mutable(y->data, range.begin, dtype),
                                        operation_at(gate->data, range.begin, dtype),
                                        operation_at(up->data, range.begin, dtype), range.count, dtype, uncached);
    }
    return tape_push(tape, (struct tape_record){.backward = swiglu_backward, .input = {gate, up}, .output = y});
}
