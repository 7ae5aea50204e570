#include "src/ops/operation.h"

static void add_backward(struct tape *tape, const struct tape_record *record)
{
    tape_pass(tape, record->output, record->input[0]);
    tape_pass(tape, record->output, record->input[1]);
}

struct tensor *add(struct tape *tape, struct tensor *x, struct tensor *y)
{
    if (!x || !y)
        return NULL;
    int64_t count = tensor_count(x);
    if (!operation_is_floating(x) || x->dtype != y->dtype || tensor_count(y) != count)
        return operation_refuse(tape, "add", "both terms must have the same shape and floating type");
    struct tensor *sum = tape_tensor_like(tape, x);
    if (!sum)
        return NULL;
    struct engine *engine = tape->engine;
    enum dtype dtype = x->dtype;
    bool uncached = operation_bypasses_cache(engine, count, dtype);
#pragma omp parallel num_threads(operation_threads(engine, count))
    {
        struct range range = operation_range(count, LINE_ELEMENTS);
        engine->kernels->add(operation_at_mutable(sum->data, range.begin, dtype),
                             operation_at(x->data, range.begin, dtype), operation_at(y->data, range.begin, dtype),
                             range.count, dtype, uncached);
    }
    return tape_push(tape, (struct tape_record){.backward = add_backward, .input = {x, y}, .output = sum});
}
