#include "src/ops/operation.h"

/* The gradient of the output in the type of the input: a copy in the work arena where they differ. */
static const void *gradient_as(struct tape *tape, const struct tensor *y, enum dtype dtype)
{
    if (y->dtype == dtype)
        return tape_gradient(y);
    int64_t count = tensor_count(y);
    void *copy = arena_allocate(tape->work, (size_t)count * dtype_size(dtype));
    if (copy)
        convert(tape->engine, copy, dtype, tape_gradient(y), y->dtype, count);
    return copy;
}

static void linear_backward(struct tape *tape, const struct tape_record *record)
{
    struct tensor *x = record->input[0];
    struct tensor *weight = record->input[1];
    const struct tensor *y = record->output;
    int64_t rows = tensor_rows(x);
    int64_t inputs = tensor_columns(x);
    int64_t outputs = tensor_columns(y);
    operation_sum_columns(tape, tape_target(tape, record->input[2]), tape_gradient(y), y->dtype, rows, outputs);
    struct arena_mark mark = arena_mark(tape->work);
    const void *dy = gradient_as(tape, y, x->dtype);
    if (!dy) {
        arena_rewind(tape->work, mark);
        return;
    }
    /* A failed product leaves its message in the context, which ends the backward pass. */
    struct gradient_target dw = tape_target(tape, weight);
    if (dw.data)
        context_keep(tape->context, matmul_run(tape->engine, &(struct matmul){.m = outputs,
                                                                              .n = inputs,
                                                                              .k = rows,
                                                                              .a = dy,
                                                                              .b = x->data,
                                                                              .c = dw.data,
                                                                              .lda = outputs,
                                                                              .ldb = inputs,
                                                                              .ldc = inputs,
                                                                              .type = x->dtype,
                                                                              .c_type = dw.dtype,
                                                                              .a_transposed = true,
                                                                              .beta = dw.beta}));
    struct gradient_target dx = tape_target(tape, x);
    if (dx.data)
        context_keep(tape->context, matmul_run(tape->engine, &(struct matmul){.m = rows,
                                                                              .n = inputs,
                                                                              .k = outputs,
                                                                              .a = dy,
                                                                              .b = weight->data,
                                                                              .c = dx.data,
                                                                              .lda = outputs,
                                                                              .ldb = inputs,
                                                                              .ldc = inputs,
                                                                              .type = x->dtype,
                                                                              .c_type = dx.dtype,
                                                                              .b_lasts = weight->parameter != NULL,
                                                                              .beta = dx.beta}));
    arena_rewind(tape->work, mark);
}

struct tensor *linear(struct tape *tape, struct tensor *x, struct tensor *weight, struct tensor *bias, enum dtype out)
{
    if (!x || !weight)
        return NULL;
    int64_t rows = tensor_rows(x);
    int64_t inputs = tensor_columns(x);
    int64_t outputs = tensor_rows(weight);
    if (!operation_is_floating(x) || weight->dtype != x->dtype || (out != x->dtype && out != DTYPE_F32))
        return operation_refuse(tape, "linear",
                                "input and weight must share a floating type, which the output has "
                                "too unless it is fp32");
    if (tensor_columns(weight) != inputs || (bias && tensor_count(bias) != outputs))
        return operation_refuse(tape, "linear", "shapes of input, weight and bias do not fit");
    struct tensor *y = tape_matrix(tape, out, rows, outputs);
    if (!y || matmul_run(tape->engine, &(struct matmul){.m = rows,
                                                        .n = outputs,
                                                        .k = inputs,
                                                        .a = x->data,
                                                        .b = weight->data,
                                                        .c = y->data,
                                                        .lda = inputs,
                                                        .ldb = inputs,
                                                        .ldc = outputs,
                                                        .type = x->dtype,
                                                        .c_type = out,
                                                        .b_transposed = true,
                                                        .b_lasts = weight->parameter != NULL}) != STATUS_OK)
        return NULL;
    if (bias && !bias_add_in_place(tape, y, bias))
        return NULL;
    return tape_push(tape, (struct tape_record){.backward = linear_backward, .input = {x, weight, bias}, .output = y});
}
