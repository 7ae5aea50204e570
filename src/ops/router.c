/* Routers: a score for each token, what the gates make of it, and the losses that train the router itself. */
#include "src/ops/operation.h"
#include "src/ops/route.h"

#include <math.h>

static float sigmoid(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

/* -- Scores -- */

/* The account of executed operations: a product of all tokens with the weights. */
static void scores_count(struct tape *tape, const struct tensor *x, const struct tensor *scores)
{
    tape->context->time.flops[TIME_COMPUTE] += 2.0 * (double)tensor_count(x) * (double)tensor_columns(scores);
}

/* dx[n] += sum over r of slope[n, r] weight[r], rounded once. */
static void scores_input_gradient(struct tape *tape, const struct tape_record *record)
{
    struct engine *engine = tape->engine;
    struct tensor *x = record->input[0];
    int64_t columns = tensor_columns(x);
    int64_t outputs = tensor_columns(record->output);
    const float *slope = tape_gradient(record->output);
    struct gradient_target dx = tape_target(tape, x);
    if (!dx.data)
        return;
    scores_count(tape, x, record->output);
    struct arena_mark mark = arena_mark(tape->work);
    size_t stride;
    char *scratch = engine_scratch(engine, (size_t)columns * sizeof(float), &stride);
    const float *weight = operation_floats(tape, record->input[1]);
    if (!scratch || !weight)
        return;
#pragma omp parallel for schedule(static) num_threads(operation_threads(engine, tensor_count(x)))
    for (int64_t n = 0; n < tensor_rows(x); n++) {
        float *sum = (float *)(scratch + (size_t)omp_get_thread_num() * stride);
        for (int64_t r = 0; r < outputs; r++)
            engine->kernels->accumulate_scaled(sum, DTYPE_F32, weight + r * columns, DTYPE_F32, slope[n * outputs + r],
                                               r > 0 ? 1.0f : 0.0f, columns);
        engine->kernels->accumulate(operation_at_mutable(dx.data, n * columns, dx.dtype), dx.dtype, sum, DTYPE_F32,
                                    dx.beta, columns);
    }
    arena_rewind(tape->work, mark);
}

/* dweight[r] += sum over n of slope[n, r] x[n]. Threads own columns and add the tokens in their order, so the sums do
 * not depend on the threads. */
static void scores_weight_gradient(struct tape *tape, const struct tape_record *record)
{
    struct engine *engine = tape->engine;
    const struct tensor *x = record->input[0];
    int64_t columns = tensor_columns(x);
    int64_t outputs = tensor_columns(record->output);
    const float *slope = tape_gradient(record->output);
    struct gradient_target dweight = tape_target(tape, record->input[1]);
    if (!dweight.data)
        return;
    scores_count(tape, x, record->output);
    struct arena_mark mark = arena_mark(tape->work);
    float *sum = arena_allocate(tape->work, (size_t)(outputs * columns) * sizeof *sum);
#pragma omp parallel num_threads(operation_threads(engine, sum ? tensor_count(x) : 0))
    {
        struct range range = operation_range(sum ? columns : 0, LINE_ELEMENTS);
        for (int64_t r = 0; r < outputs && range.count > 0; r++)
            memset(sum + r * columns + range.begin, 0, (size_t)range.count * sizeof *sum);
        for (int64_t n = 0; n < tensor_rows(x) && range.count > 0; n++)
            for (int64_t r = 0; r < outputs; r++)
                engine->kernels->accumulate_scaled(sum + r * columns + range.begin, DTYPE_F32,
                                                   operation_at(x->data, n * columns + range.begin, x->dtype), x->dtype,
                                                   slope[n * outputs + r], 1.0f, range.count);
        for (int64_t r = 0; r < outputs && range.count > 0; r++)
            engine->kernels->accumulate(operation_at_mutable(dweight.data, r * columns + range.begin, dweight.dtype),
                                        dweight.dtype, sum + r * columns + range.begin, DTYPE_F32, dweight.beta,
                                        range.count);
    }
    arena_rewind(tape->work, mark);
}

static void scores_backward(struct tape *tape, const struct tape_record *record)
{
    scores_input_gradient(tape, record);
    scores_weight_gradient(tape, record);
}

struct tensor *router_scores(struct tape *tape, struct tensor *x, struct tensor *weight)
{
    if (!x || !weight)
        return NULL;
    int64_t columns = tensor_columns(x);
    int64_t outputs = tensor_rows(weight);
    if (!operation_is_floating(x) || !operation_is_floating(weight) || tensor_columns(weight) != columns)
        return operation_refuse(tape, "router_scores", "the weight must have an element for each column");
    struct tensor *scores = tape_matrix(tape, DTYPE_F32, tensor_rows(x), outputs);
    if (!scores)
        return NULL;
    const struct kernels *kernels = tape->engine->kernels;
    float *to = scores->data;
    struct arena_mark mark = arena_mark(tape->work);
    const float *weights = operation_floats(tape, weight);
    if (!weights)
        return NULL;
#pragma omp parallel for schedule(static) num_threads(operation_threads(tape->engine, tensor_count(x)))
    for (int64_t n = 0; n < tensor_rows(x); n++)
        for (int64_t r = 0; r < outputs; r++)
            to[n * outputs + r] = kernels->dot_floats(operation_at(x->data, n * columns, x->dtype),
                                                      weights + r * columns, columns, x->dtype);
    arena_rewind(tape->work, mark);
    scores_count(tape, x, scores);
    return tape_push(tape, (struct tape_record){.backward = scores_backward, .input = {x, weight}, .output = scores});
}

/* -- What the scores mean -- */

struct gate_saved {
    float alpha;
};

static void gate_backward(struct tape *tape, const struct tape_record *record)
{
    float alpha = ((const struct gate_saved *)record->saved)->alpha;
    struct tensor *scores = record->input[0];
    const float *score = scores->data;
    const float *slope = tape_gradient(record->output);
    int64_t count = tensor_count(scores);
    struct gradient_target target = tape_target(tape, scores);
    float *to = target.data;
    if (!to)
        return;
#pragma omp parallel for schedule(static) num_threads(operation_threads(tape->engine, count *EXPONENTIAL_COST))
    for (int64_t i = 0; i < count; i++)
        to[i] = (target.beta != 0.0f ? to[i] : 0.0f) + slope[i] * alpha * sigmoid(score[i]) * sigmoid(-score[i]);
}

struct tensor *router_gate(struct tape *tape, struct tensor *scores, enum gate_kind kind, float alpha)
{
    if (!scores)
        return NULL;
    if (scores->dtype != DTYPE_F32)
        return operation_refuse(tape, "router_gate", "scores are fp32");
    if (kind == GATE_LINEAR)
        return scores;
    struct tensor *gate = tape_tensor_like(tape, scores);
    struct gate_saved *saved = tape_save(tape, sizeof *saved);
    if (!gate || !saved)
        return NULL;
    saved->alpha = alpha;
    const float *score = scores->data;
    float *to = gate->data;
    int64_t count = tensor_count(scores);
#pragma omp parallel for schedule(static) num_threads(operation_threads(tape->engine, count *EXPONENTIAL_COST))
    for (int64_t i = 0; i < count; i++)
        to[i] = alpha * sigmoid(score[i]);
    return tape_push(
        tape, (struct tape_record){.backward = gate_backward, .input = {scores}, .output = gate, .saved = saved});
}

/* d score = p * (d p - sum of p d p) */
static void softmax_backward(struct tape *tape, const struct tape_record *record)
{
    int64_t rows = tensor_rows(record->output);
    int64_t columns = tensor_columns(record->output);
    struct gradient_target target = tape_target(tape, record->input[0]);
    if (!target.data)
        return;
#pragma omp parallel for schedule(static) num_threads(operation_threads(tape->engine, tensor_count(record->output)))
    for (int64_t n = 0; n < rows; n++) {
        const float *p = (const float *)record->output->data + n * columns;
        const float *slope = (const float *)tape_gradient(record->output) + n * columns;
        float *to = (float *)target.data + n * columns;
        float mean = 0.0f;
        for (int64_t i = 0; i < columns; i++)
            mean += p[i] * slope[i];
        for (int64_t i = 0; i < columns; i++)
            to[i] = (target.beta != 0.0f ? to[i] : 0.0f) + p[i] * (slope[i] - mean);
    }
}

struct tensor *router_softmax(struct tape *tape, struct tensor *scores)
{
    if (!scores)
        return NULL;
    if (scores->dtype != DTYPE_F32)
        return operation_refuse(tape, "router_softmax", "scores are fp32");
    struct tensor *probabilities = tape_tensor_like(tape, scores);
    if (!probabilities)
        return NULL;
    int64_t rows = tensor_rows(scores);
    int64_t columns = tensor_columns(scores);
#pragma omp parallel for schedule(static) num_threads(operation_threads(tape->engine, rows *columns *EXPONENTIAL_COST))
    for (int64_t n = 0; n < rows; n++) {
        const float *score = (const float *)scores->data + n * columns;
        float *p = (float *)probabilities->data + n * columns;
        float largest = -INFINITY;
        float sum = 0.0f;
        for (int64_t i = 0; i < columns; i++)
            largest = fmaxf(largest, score[i]);
        for (int64_t i = 0; i < columns; i++)
            sum += p[i] = expf(score[i] - largest);
        for (int64_t i = 0; i < columns; i++)
            p[i] /= sum;
    }
    return tape_push(tape,
                     (struct tape_record){.backward = softmax_backward, .input = {scores}, .output = probabilities});
}

struct pick_saved {
    const int32_t *column;
};

static void pick_backward(struct tape *tape, const struct tape_record *record)
{
    const int32_t *column = ((const struct pick_saved *)record->saved)->column;
    struct tensor *probabilities = record->input[0];
    int64_t columns = tensor_columns(probabilities);
    const float *slope = tape_gradient(record->output);
    struct gradient_target target = tape_target(tape, probabilities);
    float *to = target.data;
    if (!to)
        return;
    if (target.beta == 0.0f)
        memset(to, 0, (size_t)tensor_count(probabilities) * sizeof *to);
    for (int64_t n = 0; n < tensor_rows(probabilities); n++)
        if (column[n] >= 0)
            to[n * columns + column[n]] += slope[n];
}

struct tensor *router_pick(struct tape *tape, struct tensor *probabilities, const int32_t *column)
{
    if (!probabilities)
        return NULL;
    if (probabilities->dtype != DTYPE_F32)
        return operation_refuse(tape, "router_pick", "probabilities are fp32");
    int64_t rows = tensor_rows(probabilities);
    int64_t columns = tensor_columns(probabilities);
    struct tensor *picked = tape_matrix(tape, DTYPE_F32, rows, 1);
    struct pick_saved *saved = tape_save(tape, sizeof *saved);
    if (!picked || !saved)
        return NULL;
    saved->column = column;
    const float *p = probabilities->data;
    float *to = picked->data;
    for (int64_t n = 0; n < rows; n++) {
        if (column[n] >= columns)
            return operation_refuse(tape, "router_pick", "there is no such column");
        to[n] = column[n] >= 0 ? p[n * columns + column[n]] : 0.0f;
    }
    return tape_push(tape, (struct tape_record){
                               .backward = pick_backward, .input = {probabilities}, .output = picked, .saved = saved});
}
