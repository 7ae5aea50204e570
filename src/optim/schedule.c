#include <math.h>

#include "src/optim/optimizer.h"

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
        return config->learning_rate *
               (config->warmup_start + (1.0 - config->warmup_start) * (double)step / (double)config->warmup_steps);
    if (config->schedule == SCHEDULE_CONSTANT)
        return config->learning_rate;
    int64_t begin = config->schedule == SCHEDULE_WSD ? integer_max(steps - config->decay_steps, config->warmup_steps)
                                                     : config->warmup_steps;
    if (step <= begin || steps <= begin)
        return config->learning_rate;
    double progress = fmin(1.0, (double)(step - begin) / (double)(steps - begin));
    return config->learning_rate * decay_of(config, progress);
}
