#include "src/ops/image.h"
#include "src/ops/operation.h"

static void relu_backward(struct tape *tape, const struct tape_record *record)
{
    struct tensor *x = record->input[0];
    const struct tensor *y = record->output;
    struct gradient_target dx = tape_target(tape, x);
    int64_t count = tensor_count(x);
    if (!dx.data)
        return;
#pragma omp parallel num_threads(operation_threads(tape->engine, count))
    {
        struct range range = operation_range(count, LINE_ELEMENTS);
        tape->engine->kernels->relu_backward(operation_at_mutable(dx.data, range.begin, x->dtype), dx.beta,
                                             operation_at(tape_gradient(y), range.begin, x->dtype),
                                             operation_at(y->data, range.begin, x->dtype), range.count, x->dtype);
    }
}

struct tensor *relu(struct tape *tape, struct tensor *x)
{
    if (!x)
        return NULL;
    if (!operation_is_floating(x))
        return operation_refuse(tape, "relu", "it is for floating types");
    struct tensor *y = tape_tensor_like(tape, x);
    if (!y)
        return NULL;
    int64_t count = tensor_count(x);
#pragma omp parallel num_threads(operation_threads(tape->engine, count))
    {
        struct range range = operation_range(count, LINE_ELEMENTS);
        tape->engine->kernels->relu_forward(operation_at_mutable(y->data, range.begin, x->dtype),
                                            operation_at(x->data, range.begin, x->dtype), range.count, x->dtype);
    }
    return tape_push(tape, (struct tape_record){.backward = relu_backward, .input = {x}, .output = y});
}
