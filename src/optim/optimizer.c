#include "src/optim/optimizer.h"

#include <math.h>

#include "src/ops/ops.h"

enum { SLOT_M, SLOT_V };

const char *optimizer_slot_name(int slot)
{
    static const char *const names[OPTIMIZER_SLOTS] = {[SLOT_M] = "m", [SLOT_V] = "v"};
    return names[slot];
}

enum status optimizer_create(struct context *context, const struct optimizer_config *config, int64_t state_count,
                             struct optimizer *optimizer)
{
    *optimizer = (struct optimizer){.context = context, .config = *config};
    for (int i = 0; i < OPTIMIZER_SLOTS; i++) {
        optimizer->slot[i] = memory_allocate(context, (size_t)state_count * sizeof(float), MEMORY_OPTIMIZER);
        if (!optimizer->slot[i])
            return STATUS_MEMORY;
    }
    return STATUS_OK;
}

void optimizer_destroy(struct optimizer *optimizer)
{
    for (int i = 0; i < OPTIMIZER_SLOTS; i++) {
        memory_free(optimizer->context, optimizer->slot[i]);
        optimizer->slot[i] = NULL;
    }
}

double optimizer_norm_squares(struct engine *engine, const struct shard *shards, int count)
{
    double sum = 0.0;
    for (int i = 0; i < count; i++) {
        struct range owned = parameter_owned(shards[i].parameter, shards[i].flat);
        sum += sum_of_squares(engine, shards[i].gradient + owned.begin - shards[i].flat.begin, owned.count);
    }
    return sum;
}

double optimizer_clip_scale(const struct optimizer_config *config, double norm)
{
    if (config->clip == 0.0)
        return 1.0;
    return fmin(1.0, config->clip / (norm + 1e-6));
}

void optimizer_update(struct optimizer *optimizer, struct engine *engine, const struct shard *shards, int count,
                      int64_t t, double rate, double gradient_scale)
{
    const struct optimizer_config *config = &optimizer->config;
    /* Moments decay by the rounded betas, which near to 1 are others; so does what corrects them. */
    float beta1 = (float)config->beta1;
    float beta2 = (float)config->beta2;
    struct adamw_step step = {
        .gradient_scale = (float)gradient_scale,
        .beta1 = beta1,
        .beta2 = beta2,
        .epsilon = (float)config->epsilon,
        .correction1 = (float)(1.0 - pow(beta1, (double)t)),
        .correction2 = (float)(1.0 - pow(beta2, (double)t)),
    };
    for (int i = 0; i < count; i++) {
        const struct shard *shard = &shards[i];
        const struct parameter_spec *spec = &shard->parameter->spec;
        step.count = shard->flat.count;
        step.master = shard->master;
        step.m = optimizer->slot[SLOT_M] + shard->begin;
        step.v = optimizer->slot[SLOT_V] + shard->begin;
        step.gradient = shard->gradient;
        step.values = shard->values;
        step.rate = (float)(spec->is_gate ? rate * config->gate_lr_factor : rate);
        step.decay = spec->decay ? (float)config->weight_decay : 0.0f;
        adamw_step(engine, &step);
    }
}

static double decay_of(const struct optimizer_config *config, double progress)
{
    double low = config->minimum_ratio;
    if (config->schedule == SCHEDULE_COSINE)
        return low + (1.0 - low) * 0.5 * (1.0 + cos(3.14159265358979323846 * progress));
    return 1.0 - (1.0 - low) * progress;
}

double schedule_rate(const struct optimizer_config *config, int64_t steps, int64_t step)
{
    if (step <= config->warmup_steps)
        return config->learning_rate * (double)step / (double)config->warmup_steps;
    if (config->schedule == SCHEDULE_CONSTANT)
        return config->learning_rate;
    int64_t begin = config->schedule == SCHEDULE_WSD ? integer_max(steps - config->decay_steps, config->warmup_steps)
                                                     : config->warmup_steps;
    if (step <= begin || steps <= begin)
        return config->learning_rate;
    double progress = fmin(1.0, (double)(step - begin) / (double)(steps - begin));
    return config->learning_rate * decay_of(config, progress);
}
