#include "src/ops/operation.h"

void adamw_step(struct engine *engine, const struct adamw_step *step)
{
    const struct kernel_adamw settings = {.gradient_scale = step->gradient_scale,
                                          .rate = step->rate,
                                          .beta1 = step->beta1,
                                          .beta2 = step->beta2,
                                          .epsilon = step->epsilon,
                                          .decay = step->decay,
                                          .correction1 = step->correction1,
                                          .correction2 = step->correction2};
    enum time_kind before = time_enter(&engine->context->time, TIME_OPTIMIZER);
#pragma omp parallel num_threads(operation_threads(engine, step->count))
    {
        struct range range = operation_range(step->count, LINE_ELEMENTS);
        int64_t begin = range.begin;
        engine->kernels->adamw(&settings, step->master + begin, step->m + begin, step->v + begin,
                               step->gradient + begin, step->values ? step->values + begin : NULL, range.count);
    }
    time_leave(&engine->context->time, before);
}
