#include "dist/parallel/batch_norm.h"

#include <math.h>
#include <string.h>

#include "src/ops/image.h"
#include "src/ops/operation.h"

struct saved {
    struct mesh *mesh; /* NULL: the statistics are this rank's own */
    double count;      /* values of a channel that they come from */
    float *mean, *inverse;
    float *scale, *shift;
    bool rectify;
};

static bool joins(const struct saved *saved)
{
    return saved->mesh && mesh_size(saved->mesh, MESH_DATA) > 1;
}

/* -- Statistics: doubles lose nothing of fp32 values when the ranks' moments are brought to sums and back -- */

/* From the moments of this rank's rows, [2, channels] and one more number, to those of all rows. */
static void join_moments(const struct saved *saved, int64_t channels, double *moments, double *count)
{
    if (!joins(saved))
        return;
    double own = *count;
    for (int64_t c = 0; c < channels; c++) {
        moments[channels + c] += own * moments[c] * moments[c];
        moments[c] *= own;
    }
    moments[2 * channels] = own;
    mesh_all_reduce(saved->mesh, MESH_DATA, moments, 2 * channels + 1, DTYPE_F64, MESH_SUM);
    *count = moments[2 * channels];
    if (*count == 0.0)
        return;
    for (int64_t c = 0; c < channels; c++) {
        moments[c] /= *count;
        moments[channels + c] = fmax(0.0, moments[channels + c] - *count * moments[c] * moments[c]);
    }
}

static void remember(struct parameter *running, double momentum, const double *values, double factor)
{
    float *to = running->value.data;
    for (int64_t c = 0; c < tensor_count(&running->value); c++)
        to[c] = (float)((1.0 - momentum) * (double)to[c] + momentum * factor * values[c]);
}

/* A micro-batch that is not finite leaves no trace: its step is skipped. */
static void remember_moments(const struct batch_norm *norm, const double *moments, double count)
{
    int64_t channels = tensor_count(&norm->mean->value);
    double check = 0.0;
    for (int64_t i = 0; i < 2 * channels; i++)
        check += moments[i];
    if (count == 0.0 || !isfinite(check) || norm->mean->frozen || norm->variance->frozen)
        return;
    remember(norm->mean, norm->momentum, moments, 1.0);
    remember(norm->variance, norm->momentum, moments + channels, 1.0 / fmax(1.0, count - 1.0));
}

static void count_batch(const struct tape *tape, const struct batch_norm *norm)
{
    if (norm->tracked && !norm->tracked->frozen && !tape->again && !tape->context->dry)
        *parameter_count(norm->tracked) += 1.0;
}

static bool measure(struct tape *tape, const struct tensor *x, const struct batch_norm *norm, struct saved *saved)
{
    int64_t channels = x->shape[1];
    struct arena_mark mark = arena_mark(tape->work);
    double *moments = arena_allocate(tape->work, (2 * (size_t)channels + 1) * sizeof *moments);
    bool done = moments && batch_moments(tape, x, moments);
    saved->count = (double)channel_values(x);
    if (done)
        join_moments(saved, channels, moments, &saved->count);
    for (int64_t c = 0; done && c < channels && !tape->context->dry; c++) {
        double variance = saved->count > 0.0 ? moments[channels + c] / saved->count : 0.0;
        saved->mean[c] = (float)moments[c];
        saved->inverse[c] = (float)(1.0 / sqrt(variance + norm->epsilon));
    }
    if (done && !tape->again && !tape->context->dry)
        remember_moments(norm, moments, saved->count);
    count_batch(tape, norm);
    arena_rewind(tape->work, mark);
    return done;
}

static void recall(const struct batch_norm *norm, struct saved *saved)
{
    const float *mean = norm->mean->value.data;
    const float *variance = norm->variance->value.data;
    for (int64_t c = 0; c < tensor_count(&norm->mean->value); c++) {
        saved->mean[c] = mean[c];
        saved->inverse[c] = (float)(1.0 / sqrt((double)variance[c] + norm->epsilon));
    }
}

static void fill_affine(const struct saved *saved, const float *weight, const float *bias, int64_t channels)
{
    for (int64_t c = 0; c < channels; c++) {
        saved->scale[c] = saved->inverse[c] * weight[c];
        saved->shift[c] = bias[c] - saved->mean[c] * saved->scale[c];
    }
}

/* -- Backward: with n = (x - mean) inverse, dx = weight inverse (dy - mean(dy) - n mean(dy n)) -- */

static void add_gradient(struct tape *tape, struct gradient_target target, const double *sums, const float *factor,
                         int64_t channels)
{
    float *to = target.data;
    for (int64_t c = 0; to && c < channels && !tape->context->dry; c++) {
        float value = (float)(sums[c] * (factor ? (double)factor[c] : 1.0));
        to[c] = target.beta == 0.0f ? value : to[c] + value;
    }
}

/* `sums` of all ranks whose rows made the statistics. */
static void fill_gradient(const struct saved *saved, const double *sums, int64_t channels, float *along, float *tilt,
                          float *offset)
{
    for (int64_t c = 0; c < channels && saved->count > 0.0; c++) {
        double inverse = (double)saved->inverse[c];
        along[c] = saved->scale[c];
        offset[c] = (float)((double)saved->scale[c] * sums[c] / saved->count);
        tilt[c] = (float)((double)saved->scale[c] * inverse * inverse * sums[channels + c] / saved->count);
    }
}

static void batch_norm_backward(struct tape *tape, const struct tape_record *record)
{
    const struct saved *saved = record->saved;
    struct tensor *x = record->input[0];
    int64_t channels = x->shape[1];
    size_t floats = (size_t)channels * sizeof(float);
    struct batch_affine affine = {.scale = saved->scale, .shift = saved->shift, .rectify = saved->rectify};
    struct batch_backward of = {.x = x,
                                .shortcut = record->input[1],
                                .y = record->output,
                                .dy = tape_gradient(record->output),
                                .affine = &affine,
                                .mean = saved->mean};
    struct arena_mark mark = arena_mark(tape->work);
    double *sums = arena_allocate(tape->work, 2 * (size_t)channels * sizeof *sums);
    float *along = arena_allocate(tape->work, 3 * floats);
    if (!sums || !along || !batch_gradient_sums(tape, &of, sums)) {
        arena_rewind(tape->work, mark);
        return;
    }
    add_gradient(tape, tape_target(tape, record->input[2]), sums + channels, saved->inverse, channels);
    add_gradient(tape, tape_target(tape, record->input[3]), sums, NULL, channels);
    if (joins(saved))
        mesh_all_reduce(saved->mesh, MESH_DATA, sums, 2 * channels, DTYPE_F64, MESH_SUM);
    struct batch_gradient gradient = {.along = along, .tilt = along + channels, .offset = along + 2 * channels};
    if (!tape->context->dry)
        fill_gradient(saved, sums, channels, along, along + channels, along + 2 * channels);
    struct gradient_target dshortcut = tape_target(tape, record->input[1]);
    batch_backward_apply(tape->engine, &of, &gradient, tape_target(tape, x), dshortcut);
    arena_rewind(tape->work, mark);
}

/* -- The operation -- */

static struct saved *save(struct tape *tape, struct mesh *mesh, const struct batch_norm_use *use, int64_t channels)
{
    struct saved *saved = tape_save(tape, sizeof *saved);
    float *floats = tape_save(tape, 4 * (size_t)channels * sizeof *floats);
    if (!saved || !floats)
        return NULL;
    *saved = (struct saved){.mesh = use->trains && use->group ? mesh : NULL,
                            .mean = floats,
                            .inverse = floats + channels,
                            .scale = floats + 2 * channels,
                            .shift = floats + 3 * channels,
                            .rectify = use->rectify};
    return saved;
}

static bool fits(const struct tensor *x, const struct tensor *shortcut, const struct batch_norm *norm)
{
    int64_t channels = x->shape[1];
    bool same = !shortcut || (shortcut->dtype == x->dtype && shortcut->block == x->block &&
                              memcmp(shortcut->shape, x->shape, sizeof x->shape) == 0);
    return x->rank == 4 && operation_is_floating(x) && same && tensor_count(norm->weight) == channels &&
           tensor_count(norm->bias) == channels && tensor_count(&norm->mean->value) == channels &&
           tensor_count(&norm->variance->value) == channels;
}

struct tensor *batch_norm(struct tape *tape, struct mesh *mesh, struct tensor *x, struct tensor *shortcut,
                          const struct batch_norm *norm, const struct batch_norm_use *use)
{
    if (!x || !norm->weight || !norm->bias)
        return NULL;
    if (!fits(x, shortcut, norm))
        return operation_refuse(tape, "batch_norm", "weights, buffers and shortcut must fit the images");
    if (!use->trains && tape->recording)
        return operation_refuse(tape, "batch_norm", "there is no backward through running statistics");
    int64_t channels = x->shape[1];
    struct tensor *y = tape_tensor_like(tape, x);
    struct saved *saved = save(tape, mesh, use, channels);
    struct arena_mark mark = arena_mark(tape->work);
    const float *weight = operation_floats(tape, norm->weight);
    const float *bias = operation_floats(tape, norm->bias);
    bool done = y && saved && weight && bias && (!use->trains || measure(tape, x, norm, saved));
    if (done) {
        if (!use->trains)
            recall(norm, saved);
        if (!tape->context->dry)
            fill_affine(saved, weight, bias, channels);
        struct batch_affine affine = {.scale = saved->scale, .shift = saved->shift, .rectify = use->rectify};
        batch_apply(tape->engine, x, shortcut, &affine, y);
    }
    arena_rewind(tape->work, mark);
    if (!done)
        return NULL;
    return tape_push(tape, (struct tape_record){.backward = batch_norm_backward,
                                                .input = {x, shortcut, norm->weight, norm->bias},
                                                .output = y,
                                                .saved = saved});
}
