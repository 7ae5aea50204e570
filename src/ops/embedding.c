#include "src/ops/operation.h"

struct embedding_saved {
    int32_t *tokens;
    int64_t count;
    int64_t first;
};

/* Threads own ranges of columns and pass over all tokens in their order, so rows that repeat need no locks and sums
 * do not depend on the threads. */
static void embedding_backward(struct tape *tape, const struct tape_record *record)
{
    struct engine *engine = tape->engine;
    const struct embedding_saved *saved = record->saved;
    const struct tensor *y = record->output;
    int64_t columns = tensor_columns(y);
    int64_t table_rows = tensor_rows(record->input[0]);
    const void *dy = tape_gradient(y);
    struct gradient_target target = tape_target(tape, record->input[0]);
    if (!target.data)
        return;
    if (target.beta == 0.0f)
        memset(target.data, 0, (size_t)(table_rows * columns) * dtype_size(target.dtype));
#pragma omp parallel num_threads(operation_threads(engine, saved->count *columns))
    {
        struct range range = operation_range(columns, LINE_ELEMENTS);
        for (int64_t n = 0; n < saved->count && range.count > 0; n++) {
            int64_t row = saved->tokens[n] - saved->first;
            if (row < 0 || row >= table_rows)
                continue;
            void *to = operation_at_mutable(target.data, row * columns + range.begin, target.dtype);
            const void *from = operation_at(dy, n * columns + range.begin, y->dtype);
            engine->kernels->accumulate(to, target.dtype, from, y->dtype, 1.0f, range.count);
        }
    }
}

struct tensor *embedding(struct tape *tape, struct tensor *weight, const int32_t *tokens, int64_t count, int64_t first)
{
    if (!weight)
        return NULL;
    if (!operation_is_floating(weight))
        return operation_refuse(tape, "embedding", "the table must be of a floating type");
    struct engine *engine = tape->engine;
    int64_t columns = tensor_columns(weight);
    int64_t table_rows = tensor_rows(weight);
    size_t bytes = (size_t)columns * dtype_size(weight->dtype);
    struct tensor *y = tape_matrix(tape, weight->dtype, count, columns);
    if (!y)
        return NULL;
    struct embedding_saved *saved = NULL;
    if (tape_needs(tape, weight, NULL)) {
        saved = tape_save(tape, sizeof *saved);
        int32_t *copy = tape_save(tape, (size_t)count * sizeof *copy);
        if (!saved || !copy)
            return NULL;
        if (count > 0)
            memcpy(copy, tokens, (size_t)count * sizeof *copy);
        *saved = (struct embedding_saved){.tokens = copy, .count = count, .first = first};
    }
    int64_t copied = engine->context->dry ? 0 : count;
#pragma omp parallel for schedule(static) num_threads(operation_threads(engine, count *columns))
    for (int64_t n = 0; n < copied; n++) {
        int64_t row = tokens[n] - first;
        void *to = operation_at_mutable(y->data, n * columns, y->dtype);
        if (row >= 0 && row < table_rows)
            memcpy(to, operation_at(weight->data, row * columns, weight->dtype), bytes);
        else
            memset(to, 0, bytes);
    }
    return tape_push(
        tape, (struct tape_record){.backward = embedding_backward, .input = {weight}, .output = y, .saved = saved});
}
