#include "src/ops/operation.h"

/* y = x + bias in each row. */
static bool rows_add(struct tape *tape, void *y, const struct tensor *x, const struct tensor *bias)
{
    struct engine *engine = tape->engine;
    struct arena_mark mark = arena_mark(tape->work);
    const float *floats = operation_floats(tape, bias);
    if (!floats)
        return false;
    int64_t columns = tensor_columns(x);
#pragma omp parallel num_threads(operation_threads(engine, tensor_count(x)))
    {
        struct range rows = operation_range(tensor_rows(x), 1);
        engine->kernels->add_row(operation_at_mutable(y, rows.begin * columns, x->dtype),
                                 operation_at(x->data, rows.begin * columns, x->dtype), floats, rows.count, columns,
                                 x->dtype);
    }
    arena_rewind(tape->work, mark);
    return true;
}

bool bias_add_in_place(struct tape *tape, struct tensor *x, const struct tensor *bias)
{
    return rows_add(tape, x->data, x, bias);
}

static void bias_backward(struct tape *tape, const struct tape_record *record)
{
    const struct tensor *y = record->output;
    operation_sum_columns(tape, tape_target(tape, record->input[1]), tape_gradient(y), y->dtype, tensor_rows(y),
                          tensor_columns(y));
    tape_pass(tape, y, record->input[0]);
}

struct tensor *bias_add(struct tape *tape, struct tensor *x, struct tensor *bias)
{
    if (!x || !bias)
        return NULL;
    if (!operation_is_floating(x) || tensor_count(bias) != tensor_columns(x))
        return operation_refuse(tape, "bias_add", "the bias must have an element for each column");
    struct tensor *y = tape_tensor_like(tape, x);
    if (!y || !rows_add(tape, y->data, x, bias))
        return NULL;
    return tape_push(tape, (struct tape_record){.backward = bias_backward, .input = {x, bias}, .output = y});
}
