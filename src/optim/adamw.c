/* AdamW (src/model/README.md section 7): m and v beside each parameter. */
#include <math.h>

#include "src/ops/ops.h"
#include "src/optim/optimizer.h"

static int arrays(const struct optimizer_config *config, const struct parameter_spec *spec,
                  struct optimizer_array *arrays)
{
    (void)config;
    (void)spec;
    arrays[0] = (struct optimizer_array){.name = "m"};
    arrays[1] = (struct optimizer_array){.name = "v"};
    return 2;
}

static enum status step(const struct optimizer_step *step, const struct shard *shard, void *const *state)
{
    const struct optimizer_config *config = step->config;
    /* Moments decay by the rounded betas, which near to 1 are others; so does what corrects them. */
    float beta1 = (float)config->beta1;
    float beta2 = (float)config->beta2;
    adamw_step(step->engine, &(struct adamw_step){.count = shard->flat.count,
                                                  .master = shard->master,
                                                  .m = state[0],
                                                  .v = state[1],
                                                  .gradient = shard->gradient,
                                                  .values = shard->values,
                                                  .gradient_scale = (float)step->gradient_scale,
                                                  .rate = optimizer_rate(step, shard),
                                                  .decay = optimizer_decay(step, shard),
                                                  .beta1 = beta1,
                                                  .beta2 = beta2,
                                                  .epsilon = (float)config->epsilon,
                                                  .correction1 = (float)(1.0 - pow(beta1, (double)step->t)),
                                                  .correction2 = (float)(1.0 - pow(beta2, (double)step->t))});
    return STATUS_OK;
}

const struct optimizer_ops adamw_ops = {.name = "adamw", .arrays = arrays, .step = step};
