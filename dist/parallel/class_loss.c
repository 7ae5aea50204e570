#include "dist/parallel/class_loss.h"

#include <math.h>

#include "src/ops/operation.h"
#include "src/ops/ops.h"

/* Of a row, over all classes once ranks have added theirs up. */
struct row_sums {
    float exponentials; /* of the logits less the largest */
    float logits;
    float target; /* the logits that the label and the mixed label ask for, each by its share */
};

struct class_saved {
    struct class_targets targets;
    const float *log_sum; /* [rows] log of the sum of exponentials */
};

static float share_of(const struct class_targets *targets, int64_t row, int mixed)
{
    float mixing = targets->mixed_labels ? targets->mixing[row] : 0.0f;
    return mixed ? mixing : 1.0f - mixing;
}

/* The column of a label, or of the mixed one; -1 where another rank has it. */
static int64_t column_of(const struct class_targets *targets, int64_t row, int mixed, int64_t columns)
{
    if (mixed && !targets->mixed_labels)
        return -1;
    int64_t column = (mixed ? targets->mixed_labels : targets->labels)[row] - targets->first;
    return column >= 0 && column < columns ? column : -1;
}

static struct row_sums sum_row(const struct engine *engine, const struct class_targets *targets, const float *logits,
                               int64_t row, int64_t columns, float largest)
{
    struct row_sums sums = {.exponentials = engine->kernels->row_sum_exp(logits, largest, columns)};
    for (int64_t c = 0; c < columns; c++)
        sums.logits += logits[c];
    for (int mixed = 0; mixed < 2; mixed++) {
        int64_t column = column_of(targets, row, mixed, columns);
        if (column >= 0)
            sums.target += share_of(targets, row, mixed) * logits[column];
    }
    return sums;
}

static void class_loss_backward(struct tape *tape, const struct tape_record *record)
{
    const struct class_saved *saved = record->saved;
    const struct class_targets *targets = &saved->targets;
    const struct tensor *logits = record->input[0];
    int64_t columns = tensor_columns(logits);
    float scale = targets->scale * *(const float *)tape_gradient(record->output);
    float even = scale * targets->smoothing / (float)targets->classes;
    struct gradient_target target = tape_target(tape, record->input[0]);
    if (!target.data || tape->context->dry)
        return;
    for (int64_t row = 0; row < tensor_rows(logits); row++) {
        float *to = (float *)target.data + row * columns;
        const float *from = (const float *)logits->data + row * columns;
        bool counts = targets->labels[row] >= 0;
        for (int64_t c = 0; c < columns; c++) {
            float dlogit = counts ? scale * expf(from[c] - saved->log_sum[row]) - even : 0.0f;
            to[c] = dlogit + (target.beta != 0.0f ? to[c] : 0.0f);
        }
        for (int mixed = 0; mixed < 2 && counts; mixed++) {
            int64_t column = column_of(targets, row, mixed, columns);
            if (column >= 0)
                to[column] -= scale * (1.0f - targets->smoothing) * share_of(targets, row, mixed);
        }
    }
}

/* The sum over rows of log sum exp - (1 - smoothing) target - smoothing mean(logits). */
static double sum_rows(const struct class_targets *targets, const struct row_sums *sums, int64_t rows, float *log_sum)
{
    double total = 0.0;
    for (int64_t row = 0; row < rows; row++) {
        log_sum[row] += logf(sums[row].exponentials); /* the largest logit was there */
        if (targets->labels[row] >= 0)
            total += (double)log_sum[row] - (1.0 - (double)targets->smoothing) * (double)sums[row].target -
                     (double)targets->smoothing * (double)sums[row].logits / (double)targets->classes;
    }
    return total;
}

struct tensor *class_loss(struct tape *tape, struct mesh *mesh, struct tensor *logits,
                          const struct class_targets *targets)
{
    if (!logits)
        return NULL;
    if (logits->dtype != DTYPE_F32)
        return operation_refuse(tape, "class_loss", "logits must be fp32");
    int64_t rows = tensor_rows(logits);
    int64_t columns = tensor_columns(logits);
    int64_t computed = tape->context->dry ? 0 : rows;
    struct tensor *loss = tape_tensor(tape, DTYPE_F32, 1, (int64_t[]){1});
    struct class_saved *saved = tape_save(tape, sizeof *saved);
    float *log_sum = tape_save(tape, (size_t)rows * sizeof *log_sum);
    struct arena_mark mark = arena_mark(tape->work);
    struct row_sums *sums = arena_allocate(tape->work, (size_t)rows * sizeof *sums);
    if (!loss || !saved || !log_sum || !sums) {
        arena_rewind(tape->work, mark);
        return NULL;
    }
    *saved = (struct class_saved){.targets = *targets, .log_sum = log_sum};
    cross_entropy_max(tape->engine, logits, log_sum);
    mesh_all_reduce(mesh, MESH_TENSOR, log_sum, rows, DTYPE_F32, MESH_MAX);
    for (int64_t row = 0; row < computed; row++)
        sums[row] =
            sum_row(tape->engine, targets, (const float *)logits->data + row * columns, row, columns, log_sum[row]);
    mesh_all_reduce(mesh, MESH_TENSOR, sums, rows * (int64_t)(sizeof *sums / sizeof(float)), DTYPE_F32, MESH_SUM);
    *(float *)loss->data = (float)((double)targets->scale * sum_rows(targets, sums, computed, log_sum));
    arena_rewind(tape->work, mark);
    return tape_push(
        tape, (struct tape_record){.backward = class_loss_backward, .input = {logits}, .output = loss, .saved = saved});
}
