/* Tokens on their way out of the residual stream and back. */
#include "src/ops/operation.h"
#include "src/ops/route.h"

static bool index_fits(const int32_t *index, int64_t count, int64_t rows)
{
    for (int64_t i = 0; i < count; i++)
        if (index[i] >= rows)
            return false;
    return true;
}

/* Where gradients go to the rows of x that the index names, each once; rows without a name have a 0 there. */
static struct gradient_target named_target(struct tape *tape, struct tensor *x, const int32_t *index, int64_t count)
{
    struct gradient_target target = tape_target(tape, x);
    if (!target.data || target.beta != 0.0f)
        return target;
    int64_t named = 0;
    for (int64_t i = 0; i < count; i++)
        named += index[i] >= 0;
    if (named == tensor_rows(x))
        return target;
#pragma omp parallel num_threads(operation_threads(tape->engine, tensor_count(x)))
    {
        struct range range = operation_range(tensor_count(x), LINE_ELEMENTS);
        memset(operation_at_mutable(target.data, range.begin, target.dtype), 0,
               (size_t)range.count * dtype_size(target.dtype));
    }
    return target;
}

/* -- Out -- */

struct take_saved {
    const int32_t *index;
};

static void take_backward(struct tape *tape, const struct tape_record *record)
{
    struct engine *engine = tape->engine;
    const int32_t *index = ((const struct take_saved *)record->saved)->index;
    const struct tensor *y = record->output;
    int64_t count = tensor_rows(y);
    int64_t columns = tensor_columns(y);
    const void *dy = tape_gradient(y);
    struct gradient_target dx = named_target(tape, record->input[0], index, count);
    if (!dx.data)
        return;
#pragma omp parallel for schedule(static) num_threads(operation_threads(engine, count *columns))
    for (int64_t i = 0; i < count; i++)
        if (index[i] >= 0)
            engine->kernels->accumulate(operation_at_mutable(dx.data, index[i] * columns, dx.dtype), dx.dtype,
                                        operation_at(dy, i * columns, y->dtype), y->dtype, dx.beta, columns);
}

struct tensor *token_take(struct tape *tape, struct tensor *x, const int32_t *index, int64_t count)
{
    if (!x)
        return NULL;
    if (!operation_is_floating(x) || !index_fits(index, count, tensor_rows(x)))
        return operation_refuse(tape, "token_take", "an index must be a row of a tensor of a floating type");
    int64_t columns = tensor_columns(x);
    size_t bytes = (size_t)columns * dtype_size(x->dtype);
    struct tensor *y = tape_matrix(tape, x->dtype, count, columns);
    struct take_saved *saved = tape_save(tape, sizeof *saved);
    if (!y || !saved)
        return NULL;
    saved->index = index;
#pragma omp parallel for schedule(static) num_threads(operation_threads(tape->engine, count *columns))
    for (int64_t i = 0; i < count; i++) {
        void *to = operation_at_mutable(y->data, i * columns, y->dtype);
        if (index[i] >= 0)
            memcpy(to, operation_at(x->data, index[i] * columns, x->dtype), bytes);
        else
            memset(to, 0, bytes);
    }
    return tape_push(tape, (struct tape_record){.backward = take_backward, .input = {x}, .output = y, .saved = saved});
}

/* -- And back -- */

struct update {
    const struct tensor *h, *y, *gate;
    const int32_t *source;
    bool difference;
};

struct update_targets {
    struct gradient_target h, y, gate;
};

/* 0 where the row stays as it is. */
static float gate_of(const struct update *update, int64_t row)
{
    if (update->source[row] < 0)
        return 0.0f;
    return update->gate ? ((const float *)update->gate->data)[row] : 1.0f;
}

static const void *row_of(const struct tensor *tensor, int64_t row)
{
    return operation_at(tensor->data, row * tensor_columns(tensor), tensor->dtype);
}

static void update_row(const struct kernels *kernels, const struct update *update, int64_t row, void *out)
{
    enum dtype dtype = update->h->dtype;
    int64_t columns = tensor_columns(update->h);
    size_t bytes = (size_t)columns * dtype_size(dtype);
    float gate = gate_of(update, row);
    const void *h = row_of(update->h, row);
    if (gate == 0.0f) {
        memcpy(out, h, bytes);
        return;
    }
    const void *y = row_of(update->y, update->source[row]);
    if (!update->difference)
        kernels->add_scaled(out, 1.0f, h, gate, y, columns, dtype);
    else if (gate == 1.0f)
        memcpy(out, y, bytes);
    else
        kernels->interpolate(out, h, y, gate, columns, dtype);
}

/* target[row] = beta * target[row] + factor * gradient, which is of type dtype. */
static void row_add(const struct kernels *kernels, struct gradient_target target, int64_t row, float factor,
                    const void *gradient, enum dtype dtype, int64_t columns)
{
    if (!target.data || (factor == 0.0f && target.beta != 0.0f))
        return;
    void *to = operation_at_mutable(target.data, row * columns, target.dtype);
    if (factor == 0.0f)
        memset(to, 0, (size_t)columns * dtype_size(target.dtype));
    else
        kernels->accumulate_scaled(to, target.dtype, gradient, dtype, factor, target.beta, columns);
}

/* d out / d gate, along the gradient of the row. */
static float gate_slope(const struct kernels *kernels, const struct update *update, int64_t row, const void *gradient)
{
    enum dtype dtype = update->h->dtype;
    int64_t columns = tensor_columns(update->h);
    if (update->source[row] < 0)
        return 0.0f;
    const void *y = row_of(update->y, update->source[row]);
    return update->difference ? kernels->dot_difference(gradient, y, row_of(update->h, row), columns, dtype)
                              : kernels->dot(gradient, y, columns, dtype);
}

static void update_row_backward(const struct kernels *kernels, const struct update *update,
                                const struct update_targets *targets, int64_t row, const void *gradient)
{
    enum dtype dtype = update->h->dtype;
    int64_t columns = tensor_columns(update->h);
    int64_t source = update->source[row];
    float gate = gate_of(update, row);
    row_add(kernels, targets->h, row, update->difference ? 1.0f - gate : 1.0f, gradient, dtype, columns);
    if (source >= 0)
        row_add(kernels, targets->y, source, gate, gradient, dtype, columns);
    float *to = targets->gate.data;
    if (to)
        to[row] = (targets->gate.beta != 0.0f ? to[row] : 0.0f) + gate_slope(kernels, update, row, gradient);
}

static void update_backward(struct tape *tape, const struct tape_record *record)
{
    const struct update *update = record->saved;
    const struct tensor *out = record->output;
    int64_t rows = tensor_rows(out);
    int64_t columns = tensor_columns(out);
    const void *gradient = tape_gradient(out);
    struct update_targets targets = {0};
    if (update->difference)
        targets.h = tape_target(tape, record->input[0]);
    else
        tape_pass(tape, out, record->input[0]);
    targets.y = named_target(tape, record->input[1], update->source, rows);
    targets.gate = tape_target(tape, record->input[2]);
#pragma omp parallel for schedule(static) num_threads(operation_threads(tape->engine, tensor_count(out)))
    for (int64_t n = 0; n < rows; n++)
        update_row_backward(tape->engine->kernels, update, &targets, n,
                            operation_at(gradient, n * columns, out->dtype));
}

/* What is wrong with an update, or NULL. */
static const char *update_mistake(const struct update *update)
{
    const struct tensor *h = update->h;
    const struct tensor *y = update->y;
    if (!operation_is_floating(h) || h == y || y->dtype != h->dtype || tensor_columns(y) != tensor_columns(h))
        return "stream and update must be two tensors with the same columns and floating type";
    if (update->gate && (update->gate->dtype != DTYPE_F32 || tensor_count(update->gate) != tensor_rows(h)))
        return "there is one fp32 gate for each token";
    if (!index_fits(update->source, tensor_rows(h), tensor_rows(y)))
        return "a source must be a row of the update";
    return NULL;
}

struct tensor *token_update(struct tape *tape, struct tensor *h, struct tensor *y, struct tensor *gate,
                            const int32_t *source, bool difference)
{
    if (!h || !y)
        return NULL;
    struct update update = {.h = h, .y = y, .gate = gate, .source = source, .difference = difference};
    const char *mistake = update_mistake(&update);
    if (mistake)
        return operation_refuse(tape, "token_update", mistake);
    struct tensor *out = tape_tensor_like(tape, h);
    struct update *saved = tape_save(tape, sizeof *saved);
    if (!out || !saved)
        return NULL;
    *saved = update;
    int64_t columns = tensor_columns(h);
#pragma omp parallel for schedule(static) num_threads(operation_threads(tape->engine, tensor_count(h)))
    for (int64_t n = 0; n < tensor_rows(h); n++)
        update_row(tape->engine->kernels, saved, n, operation_at_mutable(out->data, n * columns, h->dtype));
    return tape_push(
        tape, (struct tape_record){.backward = update_backward, .input = {h, y, gate}, .output = out, .saved = saved});
}

struct tensor *token_place(struct tape *tape, struct tensor *h, struct tensor *y, const int32_t *source)
{
    return token_update(tape, h, y, NULL, source, true);
}
