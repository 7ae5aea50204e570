#include "src/ops/operation.h"

/* Rows of a length that count. */
static int64_t counted(const int64_t *valid, int64_t row, int64_t length)
{
    return valid ? valid[row] : length;
}

static void row_mean_backward(struct tape *tape, const struct tape_record *record)
{
    struct engine *engine = tape->engine;
    const struct tensor *x = record->input[0];
    const struct tensor *y = record->output;
    int64_t columns = tensor_columns(y);
    const void *dy = tape_gradient(y);
    struct gradient_target dx = tape_target(tape, record->input[0]);
    if (!dx.data)
        return;
    int64_t length = tensor_rows(x) / integer_max(1, tensor_rows(y));
#pragma omp parallel for schedule(static) num_threads(operation_threads(engine, tensor_count(x)))
    for (int64_t n = 0; n < tensor_rows(x); n++) {
        int64_t count = counted(record->saved, n / length, length);
        float share = n % length < count ? 1.0f / (float)count : 0.0f;
        engine->kernels->accumulate_scaled(operation_at_mutable(dx.data, n * columns, dx.dtype), dx.dtype,
                                           operation_at(dy, n / length * columns, y->dtype), y->dtype, share, dx.beta,
                                           columns);
    }
}

struct tensor *row_mean(struct tape *tape, struct tensor *x, int64_t length, const int64_t *valid)
{
    if (!x)
        return NULL;
    if (!operation_is_floating(x) || length < 1 || tensor_rows(x) % length != 0)
        return operation_refuse(tape, "row_mean", "rows of a floating type must come in whole lengths");
    struct engine *engine = tape->engine;
    int64_t rows = tensor_rows(x) / length;
    int64_t columns = tensor_columns(x);
    struct tensor *y = tape_matrix(tape, x->dtype, rows, columns);
    struct arena_mark mark = arena_mark(tape->work);
    float *sums = arena_allocate(tape->work, (size_t)(rows * columns) * sizeof *sums);
    if (!y || !sums) {
        arena_rewind(tape->work, mark);
        return NULL;
    }
#pragma omp parallel for schedule(static) num_threads(operation_threads(engine, tensor_count(x)))
    for (int64_t n = 0; n < rows; n++)
        for (int64_t i = 0; i < counted(valid, n, length); i++)
            engine->kernels->accumulate_scaled(sums + n * columns, DTYPE_F32,
                                               operation_at(x->data, (n * length + i) * columns, x->dtype), x->dtype,
                                               1.0f / (float)counted(valid, n, length), i ? 1.0f : 0.0f, columns);
    convert(engine, y->data, y->dtype, sums, DTYPE_F32, rows * columns);
    arena_rewind(tape->work, mark);
    return tape_push(tape,
                     (struct tape_record){
                         .backward = row_mean_backward, .input = {x}, .output = y, .saved = (void *)(uintptr_t)valid});
}
