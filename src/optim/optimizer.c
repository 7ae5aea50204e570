#include "src/optim/optimizer.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "src/ops/ops.h"

const struct optimizer_ops *optimizer_find(enum optimizer_kind kind)
{
    static const struct optimizer_ops *const all[] = {[OPTIMIZER_ADAMW] = &adamw_ops, [OPTIMIZER_SGD] = &sgd_ops};
    return all[kind];
}

void optimizer_prepare(const struct optimizer_ops *ops, const struct parameter_list *list)
{
    for (int i = list->borrowed; i < list->count; i++)
        list->item[i]->uncut = ops->layout == LAYOUT_WHOLE;
}

/* -- State -- */

static int64_t array_elements(const struct optimizer_array *array, const struct shard *shard)
{
    int64_t count = array->rank ? 1 : shard->flat.count;
    for (int i = 0; i < array->rank; i++)
        count *= array->shape[i];
    return count;
}

/* Where each array of each shard lies; returns the elements of all. Flat ones lie as the shards do. */
static int64_t location_state(struct optimizer *optimizer, int64_t state_count)
{
    struct optimizer_array arrays[OPTIMIZER_ARRAYS];
    int64_t used = 0;
    for (int array = 0; array < OPTIMIZER_ARRAYS; array++) {
        bool flat = false;
        for (int i = 0; i < optimizer->count; i++) {
            const struct shard *shard = &optimizer->shards[i];
            if (array >= optimizer->ops->arrays(&optimizer->config, &shard->parameter->spec, arrays))
                continue;
            flat = optimizer->ops->layout == LAYOUT_FLAT;
            if (optimizer->memory)
                optimizer->state[i * OPTIMIZER_ARRAYS + array] = optimizer->memory + used + (flat ? shard->begin : 0);
            used += flat ? 0 : array_elements(&arrays[array], shard);
        }
        used += flat ? state_count : 0;
    }
    return used;
}

enum status optimizer_create(struct context *context, const struct optimizer_config *config,
                             const struct optimizer_ops *ops, const struct shard *shards, int count,
                             int64_t state_count, struct optimizer *optimizer)
{
    *optimizer = (struct optimizer){.context = context,
                                    .config = *config,
                                    .ops = ops ? ops : optimizer_find(config->kind),
                                    .shards = shards,
                                    .count = count};
    size_t pointers = (size_t)count * OPTIMIZER_ARRAYS;
    optimizer->state = memory_allocate(context, pointers * sizeof(float *), MEMORY_OTHER);
    if (!optimizer->state)
        return STATUS_MEMORY;
    size_t elements = (size_t)location_state(optimizer, state_count);
    optimizer->memory = memory_allocate(context, elements * sizeof(float), MEMORY_OPTIMIZER);
    if (!optimizer->memory)
        return STATUS_MEMORY;
    (void)location_state(optimizer, state_count);
    return STATUS_OK;
}

void optimizer_destroy(struct optimizer *optimizer)
{
    memory_free(optimizer->context, optimizer->memory);
    memory_free(optimizer->context, optimizer->state);
    *optimizer = (struct optimizer){.context = optimizer->context};
}

/* The pieces of an array that this rank has: of the shard's elements, or of an array of its own shape. */
static int find_pieces(const struct optimizer *optimizer, const char *name, int index, bool is_own, bool writes,
                       const struct state_array *array, struct state_piece *pieces)
{
    const struct shard *shard = shard_named(optimizer->shards, optimizer->count, name);
    if (!shard)
        return 0;
    float *data = optimizer->state[(shard - optimizer->shards) * OPTIMIZER_ARRAYS + index];
    if (!is_own)
        return shard_pieces(shard, data, writes, pieces);
    if (writes && shard->parameter->division.owned.count == 0)
        return 0;
    pieces[0] = (struct state_piece){.data = data};
    memcpy(pieces[0].box.extent, array->shape, sizeof array->shape);
    return 1;
}

static enum status visit(const struct optimizer *optimizer, const struct parameter_spec *spec,
                         const struct optimizer_array *kept, int index, const struct state_visitor *visitor)
{
    struct state_piece pieces[BOXES_OF_RANGE];
    bool is_own = kept->rank > 0;
    /* A run may have frozen it before, or had another optimiser. */
    struct state_array array = {.rank = is_own ? kept->rank : spec->rank, .optional = true, .pieces = pieces};
    snprintf(array.name, sizeof array.name, "/optimizer/%s/%s", kept->name, spec->name);
    memcpy(array.shape, is_own ? kept->shape : spec->shape, sizeof array.shape);
    array.piece_count = find_pieces(optimizer, spec->name, index, is_own, visitor->writes, &array, pieces);
    return visitor->array(visitor->self, &array);
}

enum status optimizer_visit(const struct optimizer *optimizer, const struct parameter_list *list,
                            const struct state_visitor *visitor)
{
    struct optimizer_array arrays[OPTIMIZER_ARRAYS];
    for (int array = 0; array < OPTIMIZER_ARRAYS; array++)
        for (int i = 0; i < list->count; i++) {
            const struct parameter_spec *spec = &list->item[i]->spec;
            if (list->item[i]->copy || !parameter_learns(list->item[i]) ||
                array >= optimizer->ops->arrays(&optimizer->config, spec, arrays))
                continue;
            CHECK(visit(optimizer, spec, &arrays[array], array, visitor));
        }
    return STATUS_OK;
}

/* -- Steps -- */

float optimizer_rate(const struct optimizer_step *step, const struct shard *shard)
{
    return (float)(shard->parameter->spec.is_gate ? step->rate * step->config->gate_lr_factor : step->rate);
}

float optimizer_decay(const struct optimizer_step *step, const struct shard *shard)
{
    return shard->parameter->spec.decay ? (float)step->config->weight_decay : 0.0f;
}

enum status optimizer_update(struct optimizer *optimizer, struct engine *engine, struct mesh *mesh, int64_t t,
                             double rate, double gradient_scale)
{
    const struct optimizer_step step = {.config = &optimizer->config,
                                        .engine = engine,
                                        .mesh = mesh,
                                        .t = t,
                                        .rate = rate,
                                        .gradient_scale = gradient_scale};
    for (int i = 0; i < optimizer->count; i++)
        CHECK(optimizer->ops->step(&step, &optimizer->shards[i], optimizer->state + (ptrdiff_t)i * OPTIMIZER_ARRAYS));
    return STATUS_OK;
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
