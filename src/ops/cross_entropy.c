#include "src/ops/operation.h"

void cross_entropy_max(struct engine *engine, const struct tensor *logits, float *largest)
{
    int64_t columns = tensor_columns(logits);
    const float *data = logits->data;
#pragma omp parallel for schedule(static) num_threads(operation_threads(engine, tensor_count(logits)))
    for (int64_t n = 0; n < tensor_rows(logits); n++)
        largest[n] = engine->kernels->row_max(data + n * columns, columns);
}

void cross_entropy_sums(struct engine *engine, const struct tensor *logits, const float *largest,
                        const int32_t *targets, int64_t first, float *sum, float *target)
{
    int64_t columns = tensor_columns(logits);
    const float *data = logits->data;
#pragma omp parallel for schedule(static) num_threads(operation_threads(engine, tensor_count(logits)))
    for (int64_t n = 0; n < tensor_rows(logits); n++) {
        const float *row = data + n * columns;
        int64_t column = targets[n] - first;
        sum[n] = engine->kernels->row_sum_exp(row, largest[n], columns);
        target[n] = targets[n] >= 0 && column >= 0 && column < columns ? row[column] : 0.0f;
    }
}

void cross_entropy_gradient(struct engine *engine, const struct tensor *logits, const float *log_sum,
                            const int32_t *targets, int64_t first, float scale, float *gradient)
{
    int64_t columns = tensor_columns(logits);
    const float *data = logits->data;
#pragma omp parallel for schedule(static) num_threads(operation_threads(engine, tensor_count(logits)))
    for (int64_t n = 0; n < tensor_rows(logits); n++) {
        float *row = gradient + n * columns;
        int64_t column = targets[n] - first;
        if (targets[n] < 0) {
            memset(row, 0, (size_t)columns * sizeof *row);
            continue;
        }
        engine->kernels->row_softmax(row, data + n * columns, log_sum[n], scale, columns);
        if (column >= 0 && column < columns)
            row[column] -= scale;
    }
}
