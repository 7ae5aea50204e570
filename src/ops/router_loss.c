/* The losses of routers, which are ends of the tape beside the model's own loss. */
#include "src/ops/operation.h"
#include "src/ops/route.h"

#include <math.h>

/* Terms are summed in chunks of so many and then in the order of the chunks: the result does not depend on the
 * threads. */
enum { CHUNK = 256 };

struct loss_saved {
    float scale;
    const int8_t *target;     /* of a cross entropy */
    const float *coefficient; /* of a balance */
};

typedef double (*loss_term)(const struct loss_saved *saved, const float *values, int64_t index);

static double loss_sum(struct tape *tape, const struct loss_saved *saved, const struct tensor *values, loss_term term)
{
    int64_t count = tensor_count(values);
    int64_t chunks = integer_divide_up(count, CHUNK);
    int threads = (int)integer_max(1, integer_min(chunks, tape->engine->threads));
    struct arena_mark mark = arena_mark(tape->work);
    double *partial = arena_allocate(tape->work, (size_t)chunks * sizeof *partial);
    if (!partial)
        return 0.0;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t c = 0; c < chunks; c++) {
        partial[c] = 0.0;
        for (int64_t i = c * CHUNK; i < integer_min(count, (c + 1) * CHUNK); i++)
            partial[c] += term(saved, values->data, i);
    }
    double sum = 0.0;
    for (int64_t c = 0; c < chunks; c++)
        sum += partial[c];
    arena_rewind(tape->work, mark);
    return sum;
}

/* Pushes scale * the sum of the terms with a gradient of 1, where backward begins. */
static bool loss_end(struct tape *tape, struct tape_record record, loss_term term, double *value)
{
    const struct loss_saved *saved = record.saved;
    record.output = tape_tensor(tape, DTYPE_F32, 1, (int64_t[]){1});
    if (!record.output)
        return false;
    double sum = (double)saved->scale * loss_sum(tape, saved, record.input[0], term);
    *(float *)record.output->data = (float)sum;
    if (!tape->again)
        *value += sum;
    struct tensor *loss = tape_push(tape, record);
    if (loss && loss->needs_gradient)
        tape_seed(tape, loss, NULL);
    return tape->context->status == STATUS_OK;
}

/* -- Cross entropy -- */

/* The score that grows with the probability of the target. */
static double score_for(const struct loss_saved *saved, const float *scores, int64_t n)
{
    return saved->target[n] ? (double)scores[n] : -(double)scores[n];
}

/* -log(sigmoid(s)) = log(1 + exp(-s)), where nothing overflows. */
static double cross_entropy_term(const struct loss_saved *saved, const float *scores, int64_t n)
{
    if (saved->target[n] < 0)
        return 0.0;
    double s = score_for(saved, scores, n);
    return log1p(exp(-fabs(s))) + (s < 0.0 ? -s : 0.0);
}

/* d score = sigmoid(score) - target, which is sigmoid(-score_for) but for its sign. */
static void cross_entropy_backward(struct tape *tape, const struct tape_record *record)
{
    const struct loss_saved *saved = record->saved;
    struct tensor *scores = record->input[0];
    float scale = saved->scale * *(const float *)tape_gradient(record->output);
    struct gradient_target target = tape_target(tape, scores);
    float *to = target.data;
    int64_t rows = tensor_rows(scores);
    if (!to)
        return;
#pragma omp parallel for schedule(static) num_threads(operation_threads(tape->engine, rows *EXPONENTIAL_COST))
    for (int64_t n = 0; n < rows; n++) {
        float before = target.beta != 0.0f ? to[n] : 0.0f;
        float missing = 1.0f / (1.0f + expf((float)score_for(saved, scores->data, n)));
        float slope = saved->target[n] ? -missing : missing;
        to[n] = saved->target[n] < 0 ? before : before + scale * slope;
    }
}

bool router_cross_entropy(struct tape *tape, struct tensor *scores, const int8_t *target, float scale, double *value)
{
    if (!scores)
        return false;
    if (scores->dtype != DTYPE_F32 || tensor_columns(scores) != 1) {
        operation_refuse(tape, "router_cross_entropy", "there is one fp32 score for each token");
        return false;
    }
    struct loss_saved *saved = tape_save(tape, sizeof *saved);
    if (!saved)
        return false;
    *saved = (struct loss_saved){.scale = scale, .target = target};
    struct tape_record record = {.backward = cross_entropy_backward, .input = {scores}, .saved = saved};
    return loss_end(tape, record, cross_entropy_term, value);
}

/* -- Balance -- */

static double balance_term(const struct loss_saved *saved, const float *probabilities, int64_t i)
{
    return (double)saved->coefficient[i] * (double)probabilities[i];
}

static void balance_backward(struct tape *tape, const struct tape_record *record)
{
    const struct loss_saved *saved = record->saved;
    struct tensor *probabilities = record->input[0];
    float scale = saved->scale * *(const float *)tape_gradient(record->output);
    struct gradient_target target = tape_target(tape, probabilities);
    if (target.data)
        tape->engine->kernels->accumulate_scaled(target.data, target.dtype, saved->coefficient, DTYPE_F32, scale,
                                                 target.beta, tensor_count(probabilities));
}

bool router_balance(struct tape *tape, struct tensor *probabilities, const float *coefficient, float scale,
                    double *value)
{
    if (!probabilities)
        return false;
    if (probabilities->dtype != DTYPE_F32) {
        operation_refuse(tape, "router_balance", "probabilities are fp32");
        return false;
    }
    struct loss_saved *saved = tape_save(tape, sizeof *saved);
    if (!saved)
        return false;
    *saved = (struct loss_saved){.scale = scale, .coefficient = coefficient};
    struct tape_record record = {.backward = balance_backward, .input = {probabilities}, .saved = saved};
    return loss_end(tape, record, balance_term, value);
}
