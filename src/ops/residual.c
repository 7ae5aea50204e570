/* The sums of learned residual connections (LAuReL, src/model/README.md section 6). */
#include "src/ops/operation.h"

#include <math.h>

/* Element `index` of a small parameter. */
static float element_value(const struct tape *tape, const struct tensor *parameter, int64_t index)
{
    float value;
    tape->engine->kernels->convert(&value, DTYPE_F32, operation_at(parameter->data, index, parameter->dtype),
                                   parameter->dtype, 1, false);
    return value;
}

static void element_add(const struct tape *tape, struct gradient_target target, int64_t index, double value)
{
    float term = (float)value;
    tape->engine->kernels->accumulate(operation_at_mutable(target.data, index, target.dtype), target.dtype, &term,
                                      DTYPE_F32, target.beta, 1);
}

/* -- Backward, one pass over the gradient of the output -- */

struct residual_pass {
    const struct tensor *output;
    struct gradient_target target[2]; /* target += factor * gradient; without data there is none */
    float factor[2];
    const struct tensor *x, *y; /* the slope is the sum of gradient * (x - y), or of gradient * x if y is NULL */
    float *slope;               /* [rows], or NULL */
};

static void pass_row(const struct kernels *kernels, const struct residual_pass *pass, int64_t row)
{
    enum dtype dtype = pass->output->dtype;
    int64_t columns = tensor_columns(pass->output);
    int64_t begin = row * columns;
    const void *gradient = operation_at(tape_gradient(pass->output), begin, dtype);
    for (int i = 0; i < 2; i++) {
        struct gradient_target target = pass->target[i];
        if (target.data)
            kernels->accumulate_scaled(operation_at_mutable(target.data, begin, target.dtype), target.dtype, gradient,
                                       dtype, pass->factor[i], target.beta, columns);
    }
    if (!pass->slope)
        return;
    const void *x = operation_at(pass->x->data, begin, dtype);
    pass->slope[row] =
        pass->y ? kernels->dot_difference(gradient, x, operation_at(pass->y->data, begin, dtype), columns, dtype)
                : kernels->dot(gradient, x, columns, dtype);
}

/* Runs the pass; its slope, if wanted, is summed by rows and then in their order, which the threads do not change. */
static double pass_run(struct tape *tape, struct residual_pass *pass, bool wanted)
{
    int64_t rows = tensor_rows(pass->output);
    struct arena_mark mark = arena_mark(tape->work);
    pass->slope = wanted ? arena_allocate(tape->work, (size_t)rows * sizeof *pass->slope) : NULL;
#pragma omp parallel for schedule(static) num_threads(operation_threads(tape->engine, tensor_count(pass->output)))
    for (int64_t n = 0; n < rows; n++)
        pass_row(tape->engine->kernels, pass, n);
    double sum = 0.0;
    for (int64_t n = 0; n < rows && pass->slope; n++)
        sum += (double)pass->slope[n];
    arena_rewind(tape->work, mark);
    return sum;
}

/* x times a + y times b. */
static struct tensor *scaled_sum(struct tape *tape, float a, const struct tensor *x, float b, const struct tensor *y)
{
    struct tensor *sum = tape_tensor_like(tape, x);
    if (!sum)
        return NULL;
    enum dtype dtype = x->dtype;
    int64_t count = tensor_count(x);
#pragma omp parallel num_threads(operation_threads(tape->engine, count))
    {
        struct range range = operation_range(count, LINE_ELEMENTS);
        tape->engine->kernels->add_scaled(operation_at_mutable(sum->data, range.begin, dtype), a,
                                          operation_at(x->data, range.begin, dtype), b,
                                          operation_at(y->data, range.begin, dtype), range.count, dtype);
    }
    return sum;
}

/* -- a f + b g -- */

struct shares {
    float a, b;
};

/* (a, b) = 2 softmax(weights) */
static struct shares shares_of(const struct tape *tape, const struct tensor *weights)
{
    double difference = (double)element_value(tape, weights, 1) - (double)element_value(tape, weights, 0);
    return (struct shares){.a = (float)(2.0 / (1.0 + exp(difference))), .b = (float)(2.0 / (1.0 + exp(-difference)))};
}

static void sum_backward(struct tape *tape, const struct tape_record *record)
{
    const struct shares *shares = record->saved;
    struct gradient_target dweights = tape_target(tape, record->input[2]);
    struct residual_pass pass = {
        .output = record->output, .factor = {shares->a, shares->b}, .x = record->input[0], .y = record->input[1]};
    for (int i = 0; i < 2; i++)
        pass.target[i] = tape_target(tape, record->input[i]);
    double slope = pass_run(tape, &pass, dweights.data != NULL);
    if (!dweights.data)
        return;
    /* da / dw_a = a b / 2 = -db / dw_a, and the other way round for w_b. */
    slope *= 0.5 * (double)shares->a * (double)shares->b;
    element_add(tape, dweights, 0, slope);
    element_add(tape, dweights, 1, -slope);
}

struct tensor *residual_sum(struct tape *tape, struct tensor *f, struct tensor *g, struct tensor *weights)
{
    if (!weights)
        return add(tape, f, g);
    if (!f || !g)
        return NULL;
    if (!operation_is_floating(f) || f->dtype != g->dtype || tensor_count(f) != tensor_count(g) ||
        !operation_is_floating(weights) || tensor_count(weights) != 2)
        return operation_refuse(tape, "residual_sum",
                                "both terms must have the same shape and floating type, and two weights");
    struct shares *shares = tape_save(tape, sizeof *shares);
    if (!shares)
        return NULL;
    *shares = shares_of(tape, weights);
    struct tensor *sum = scaled_sum(tape, shares->a, f, shares->b, g);
    if (!sum)
        return NULL;
    return tape_push(
        tape, (struct tape_record){.backward = sum_backward, .input = {f, g, weights}, .output = sum, .saved = shares});
}

/* -- x + gamma[index] y -- */

struct term_saved {
    int index;
};

static void term_backward(struct tape *tape, const struct tape_record *record)
{
    int index = ((const struct term_saved *)record->saved)->index;
    struct tensor *y = record->input[1];
    struct tensor *gamma = record->input[2];
    tape_pass(tape, record->output, record->input[0]);
    struct gradient_target dgamma = tape_target(tape, gamma);
    struct residual_pass pass = {.output = record->output,
                                 .target = {tape_target(tape, y)},
                                 .factor = {element_value(tape, gamma, index)},
                                 .x = y};
    double slope = pass_run(tape, &pass, dgamma.data != NULL);
    if (!dgamma.data)
        return;
    if (dgamma.beta == 0.0f)
        memset(dgamma.data, 0, (size_t)tensor_count(gamma) * dtype_size(dgamma.dtype));
    element_add(tape, dgamma, index, slope);
}

struct tensor *residual_term(struct tape *tape, struct tensor *x, struct tensor *y, struct tensor *gamma, int index)
{
    if (!x || !y || !gamma)
        return NULL;
    if (!operation_is_floating(x) || x->dtype != y->dtype || tensor_count(x) != tensor_count(y) ||
        !operation_is_floating(gamma) || index < 0 || index >= tensor_count(gamma))
        return operation_refuse(tape, "residual_term",
                                "both terms must have the same shape and floating type, and gamma such an element");
    struct term_saved *saved = tape_save(tape, sizeof *saved);
    struct tensor *sum = saved ? scaled_sum(tape, 1.0f, x, element_value(tape, gamma, index), y) : NULL;
    if (!sum)
        return NULL;
    saved->index = index;
    return tape_push(
        tape, (struct tape_record){.backward = term_backward, .input = {x, y, gamma}, .output = sum, .saved = saved});
}
