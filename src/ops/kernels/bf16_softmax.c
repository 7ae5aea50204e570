/* The softmax between two products of bf16 tiles: fp32 scores become bf16 weights. */
#include "src/ops/kernels/bf16.h"

#define LOG_2 0.69314718f

WORKER int64_t weights_seen(const struct bf16_weights *step, int64_t row)
{
    int64_t seen = step->seen[row] - step->first;
    return seen < 0 ? 0 : seen < step->columns ? seen : step->columns;
}

/* Keeps the largest so far in factor. */
WORKER void row_largest(const struct bf16_weights *step, int64_t row)
{
    const float *scores = step->scores + row * step->ld;
    int64_t seen = weights_seen(step, row), whole = seen / LANE_COUNT * LANE_COUNT;
    lanes largest = lanes_all(-INFINITY);
    for (int64_t c = 0; c < whole; c += LANE_COUNT)
        largest = lanes_larger(largest, lanes_load(scores + c));
    if (whole < seen)
        largest = lanes_larger(largest, lanes_first(lanes_load(scores + whole), seen - whole, -INFINITY));
    float found = step->scale * lanes_largest(largest);
    step->factor[row] = step->largest[row];
    if (found > step->largest[row])
        step->largest[row] = found;
}

/* The weights of 16 columns of a row, of which the first `seen` count. */
WORKER lanes row_weigh(const float *scores, lanes scale, lanes largest, int64_t seen)
{
    if (seen <= 0)
        return lanes_all(0.0f);
    lanes weights = lanes_power(lanes_load(scores) * scale - largest);
    return seen < LANE_COUNT ? lanes_first(weights, seen, 0.0f) : weights;
}

/* Two rows, because rounding takes two. */
WORKER void rows_weigh(const struct bf16_weights *step, int64_t row)
{
    const float *scores = step->scores + row * step->ld, *next = scores + step->ld;
    bf16 *weights = step->weights + row * step->ld, *weights_next = weights + step->ld;
    int64_t seen = weights_seen(step, row), seen_next = weights_seen(step, row + 1), columns = step->columns;
    int64_t whole = (seen < seen_next ? seen : seen_next) / LANE_COUNT * LANE_COUNT;
    lanes scale = lanes_all(step->scale), sum = lanes_all(0.0f), sum_next = sum;
    lanes largest = lanes_all(step->largest[row]), largest_next = lanes_all(step->largest[row + 1]);
    int64_t c = 0;
    for (; c < whole; c += LANE_COUNT) {
        lanes p = lanes_power(lanes_load(scores + c) * scale - largest);
        lanes q = lanes_power(lanes_load(next + c) * scale - largest_next);
        sum += p;
        sum_next += q;
        lanes_round(weights + c, weights_next + c, NULL, p, q);
    }
    for (; c < columns; c += LANE_COUNT) {
        lanes p = row_weigh(scores + c, scale, largest, seen - c);
        lanes q = row_weigh(next + c, scale, largest_next, seen_next - c);
        sum += p;
        sum_next += q;
        lanes_round(weights + c, weights_next + c, NULL, p, q);
    }
    step->sum[row] += lanes_sum(sum);
    step->sum[row + 1] += lanes_sum(sum_next);
}

void KERNEL(bf16_weights)(const struct bf16_weights *step)
{
    for (int64_t row = 0; row < step->rows; row++)
        row_largest(step, row);
#pragma omp simd
    for (int64_t row = 0; row < step->rows; row++) {
        float before = step->factor[row], after = step->largest[row];
        float factor = before == after ? 1.0f : exponential((before - after) * LOG_2);
        step->factor[row] = factor;
        step->sum[row] *= factor;
    }
    for (int64_t row = 0; row < step->rows; row += 2)
        rows_weigh(step, row);
}

WORKER void derivatives_worker(const struct bf16_derivatives *step, const bool masked)
{
    const lanes scale_power = lanes_all(step->scale_power), scale = lanes_all(step->scale);
    const int64_t begin = step->begin, end = step->end, ld = step->ld;
    for (int64_t key = 0; key < step->keys; key += 2) {
        const float *scores = step->scores + key * ld, *derivatives = step->derivatives + key * ld;
        const float *log_sums = step->log_sum, *means = step->mean;
        bf16 *weights = step->weights + key * ld, *rounded = step->rounded + key * ld;
        uint32_t *pairs = step->pairs + key / 2 * ld;
        for (int64_t c = begin; c < end; c += LANE_COUNT) {
            lanes log_sum = lanes_load(log_sums + c), mean = lanes_load(means + c);
            lanes p = lanes_power(lanes_load(scores + c) * scale_power - log_sum);
            lanes q = lanes_power(lanes_load(scores + ld + c) * scale_power - log_sum);
            lanes dp = p * (lanes_load(derivatives + c) * scale - mean);
            lanes dq = q * (lanes_load(derivatives + ld + c) * scale - mean);
            if (masked) {
                int32_t first = (int32_t)(step->first + key);
                p = lanes_where(p, step->last + c, first);
                q = lanes_where(q, step->last + c, first + 1);
                dp = lanes_where(dp, step->last + c, first);
                dq = lanes_where(dq, step->last + c, first + 1);
            }
            lanes_round(weights + c, weights + ld + c, NULL, p, q);
            lanes_round(rounded + c, rounded + ld + c, pairs + c, dp, dq);
        }
    }
}

void KERNEL(bf16_derivatives)(const struct bf16_derivatives *step)
{
    if (step->masked)
        derivatives_worker(step, true);
    else
        derivatives_worker(step, false);
}
