/* Stochastic gradient descent with momentum (src/model/README.md section 7):
 *
 *   g += decay p;   v = momentum v + g;   p -= rate (g + momentum v) with nesterov, rate v without */
#include "src/ops/operation.h"
#include "src/optim/optimizer.h"

static int arrays(const struct optimizer_config *config, const struct parameter_spec *spec,
                  struct optimizer_array *arrays)
{
    (void)config;
    (void)spec;
    arrays[0] = (struct optimizer_array){.name = "momentum"};
    return 1;
}

/* Of elements begin .. begin + count of the shard. */
static void descend(const struct optimizer_step *step, const struct shard *shard, float *restrict velocity,
                    struct range range)
{
    float *restrict p = shard->master;
    const float *restrict gradient = shard->gradient;
    float scale = (float)step->gradient_scale;
    float rate = optimizer_rate(step, shard);
    float decay = optimizer_decay(step, shard);
    float momentum = (float)step->config->momentum;
    float ahead = step->config->nesterov ? momentum : 1.0f;
    float direct = step->config->nesterov ? 1.0f : 0.0f;
    int64_t end = range.begin + range.count;
#pragma omp simd
    for (int64_t i = range.begin; i < end; i++) {
        float g = scale * gradient[i] + decay * p[i];
        velocity[i] = momentum * velocity[i] + g;
        p[i] -= rate * (direct * g + ahead * velocity[i]);
    }
    for (int64_t i = range.begin; shard->values && i < end; i++)
        shard->values[i] = bf16_from_float(p[i]);
}

static enum status step(const struct optimizer_step *step, const struct shard *shard, void *const *state)
{
    struct context *context = step->engine->context;
    int64_t count = shard->flat.count;
    enum time_kind before = time_enter(&context->time, TIME_OPTIMIZER);
    int threads = operation_threads(step->engine, count);
#pragma omp parallel num_threads(threads) if (!context->dry)
    if (!context->dry)
        descend(step, shard, state[0], operation_range(count, LINE_ELEMENTS));
    time_leave(&context->time, before);
    return STATUS_OK;
}

const struct optimizer_ops sgd_ops = {.name = "sgd", .arrays = arrays, .step = step};
