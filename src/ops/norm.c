#include "src/ops/operation.h"

struct norm_saved {
    enum norm_kind kind;
    float epsilon;
    float *mean;
    float *inverse;
};

static struct norm_rows norm_part(const struct norm_saved *saved, const struct tensor *x, const float *weight,
                                  const float *bias, struct range rows, bool uncached)
{
    int64_t columns = tensor_columns(x);
    return (struct norm_rows){.rows = rows.count,
                              .columns = columns,
                              .kind = saved->kind,
                              .dtype = x->dtype,
                              .epsilon = saved->epsilon,
                              .x = operation_at(x->data, rows.begin * columns, x->dtype),
                              .weight = weight,
                              .bias = bias,
                              .mean = saved->mean + rows.begin,
                              .inverse = saved->inverse + rows.begin,
                              .uncached = uncached};
}

/* Threads sum the gradients of weight and bias over their rows, each in its own scratch (rows_part [2, columns] at
 * `stride` bytes); this joins them in the order of the threads. */
static void parts_join(struct engine *engine, struct gradient_target target, const char *parts, size_t stride,
                       int64_t columns)
{
    if (!target.data)
        return;
    struct range range = operation_range(columns, LINE_ELEMENTS);
    for (int t = 0; t < omp_get_num_threads(); t++) {
        const float *part = (const float *)(parts + (size_t)t * stride) + range.begin;
        engine->kernels->accumulate(operation_at_mutable(target.data, range.begin, target.dtype), target.dtype, part,
                                    DTYPE_F32, t == 0 ? target.beta : 1.0f, range.count);
    }
}

static void norm_backward(struct tape *tape, const struct tape_record *record)
{
    struct engine *engine = tape->engine;
    struct tensor *x = record->input[0];
    const void *dy = tape_gradient(record->output);
    int64_t columns = tensor_columns(x);
    size_t stride;
    size_t half = (size_t)integer_round_up(columns, LINE_ELEMENTS) * sizeof(float);
    char *parts = engine_scratch(engine, 2 * half, &stride);
    struct arena_mark mark = arena_mark(tape->work);
    const float *weight = operation_floats(tape, record->input[1]);
    if (!parts || !weight)
        return;
    struct gradient_target dweight = tape_target(tape, record->input[1]);
    struct gradient_target dbias = tape_target(tape, record->input[2]);
    struct gradient_target dx = tape_target(tape, x);
    bool uncached = operation_bypasses_cache(engine, tensor_count(x), x->dtype);
#pragma omp parallel num_threads(operation_threads(engine, tensor_count(x)))
    {
        struct range rows = operation_range(tensor_rows(x), 1);
        struct norm_rows part = norm_part(record->saved, x, weight, NULL, rows, uncached);
        char *own = parts + (size_t)omp_get_thread_num() * stride;
        memset(own, 0, 2 * half);
        int64_t begin = rows.begin * columns;
        engine->kernels->norm_backward(&part, operation_at(dy, begin, x->dtype),
                                       dx.data ? operation_at_mutable(dx.data, begin, dx.dtype) : NULL, dx.beta,
                                       dweight.data ? (float *)own : NULL, dbias.data ? (float *)(own + half) : NULL);
#pragma omp barrier
        parts_join(engine, dweight, parts, stride, columns);
        parts_join(engine, dbias, parts + half, stride, columns);
    }
    arena_rewind(tape->work, mark);
}

struct tensor *norm(struct tape *tape, struct tensor *x, struct tensor *weight, struct tensor *bias,
                    enum norm_kind kind, double epsilon)
{
    if (!x || !weight)
        return NULL;
    int64_t columns = tensor_columns(x);
    if (!operation_is_floating(x) || tensor_count(weight) != columns || (bias && tensor_count(bias) != columns))
        return operation_refuse(tape, "norm", "weight and bias must have an element for each column");
    struct engine *engine = tape->engine;
    size_t bytes = (size_t)tensor_rows(x) * sizeof(float);
    struct tensor *y = tape_tensor_like(tape, x);
    struct norm_saved *saved = tape_save(tape, sizeof *saved);
    float *mean = tape_save(tape, bytes);
    float *inverse = tape_save(tape, bytes);
    if (!y || !saved || !mean || !inverse)
        return NULL;
    *saved = (struct norm_saved){.kind = kind, .epsilon = (float)epsilon, .mean = mean, .inverse = inverse};
    struct arena_mark mark = arena_mark(tape->work);
    const float *weights = operation_floats(tape, weight);
    const float *biases = operation_floats(tape, bias);
    if (!weights || (bias && !biases))
        return NULL;
    bool uncached = operation_bypasses_cache(engine, tensor_count(x), x->dtype);
#pragma omp parallel num_threads(operation_threads(engine, tensor_count(x)))
    {
        struct range rows = operation_range(tensor_rows(x), 1);
        struct norm_rows part = norm_part(saved, x, weights, biases, rows, uncached);
        engine->kernels->norm_forward(&part, operation_at_mutable(y->data, rows.begin * columns, y->dtype));
    }
    arena_rewind(tape->work, mark);
    return tape_push(
        tape, (struct tape_record){.backward = norm_backward, .input = {x, weight, bias}, .output = y, .saved = saved});
}
