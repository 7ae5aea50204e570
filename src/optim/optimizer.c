#include "src/optim/optimizer.h"

#include <fnmatch.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "src/ops/operation.h"
#include "src/ops/ops.h"
#include "src/optim/spread.h"
#include "src/optim/whole.h"

enum { ALIGNMENT = 64 };

static const struct optimizer_ops *optimizer_find(enum optimizer_kind kind)
{
    static const struct optimizer_ops *const all[] = {[OPTIMIZER_ADAMW] = &adamw_ops,
                                                      [OPTIMIZER_SGD] = &sgd_ops,
                                                      [OPTIMIZER_MUON] = &muon_ops,
                                                      [OPTIMIZER_SOAP] = &soap_ops};
    return all[kind];
}

/* The one that steps this parameter. */
static const struct optimizer_ops *choose(const struct optimizer_ops *ops, const struct parameter_spec *spec)
{
    return ops->choose ? ops->choose(spec) : ops;
}

static enum status leave_out_decay(struct context *context, const struct text_list *patterns,
                                   const struct parameter_list *list)
{
    for (int i = 0; i < patterns->count; i++) {
        bool used = false;
        for (int p = 0; p < list->count; p++) {
            struct parameter_spec *spec = &list->item[p]->spec;
            if (fnmatch(patterns->item[i], spec->name, 0) != 0)
                continue;
            used = true;
            spec->decay = false;
        }
        if (!used)
            return context_fail(context, STATUS_USAGE, "optimizer.no_decay: no parameter is named like \"%s\"",
                                patterns->item[i]);
    }
    return STATUS_OK;
}

enum status optimizer_prepare(struct context *context, const struct mesh *mesh, const struct optimizer_config *config,
                              const struct optimizer_ops *ops, const struct parameter_list *list)
{
    double all = 0.0; /* costs of what the ranks of this pipeline stage may step together */
    ops = ops ? ops : optimizer_find(config->kind);
    CHECK(spread_check(context, mesh, config));
    for (int i = list->borrowed; i < list->count; i++) {
        struct parameter *parameter = list->item[i];
        const struct optimizer_ops *chosen = choose(ops, &parameter->spec);
        parameter->cost =
            chosen->cost ? chosen->cost(config, &parameter->spec) : (double)parameter_elements(&parameter->spec);
        all += parameter->here && chosen->grid && parameter_learns(parameter) ? parameter->cost : 0.0;
    }
    for (int i = list->borrowed; i < list->count; i++) {
        struct parameter *parameter = list->item[i];
        const struct optimizer_ops *chosen = choose(ops, &parameter->spec);
        int ranks = chosen->grid ? spread_ranks(mesh, config, parameter, all) : 0;
        parameter->grid_ranks = ranks;
        parameter->uncut = chosen->direct && (ranks == 0 || spread_axis(mesh, ranks) == MESH_TENSOR);
    }
    return leave_out_decay(context, &config->no_decay, list);
}

/* -- State -- */

/* The arrays that are kept for a parameter. */
static int list_arrays(const struct optimizer *optimizer, const struct parameter_spec *spec,
                       struct optimizer_array arrays[OPTIMIZER_ARRAYS])
{
    return choose(optimizer->ops, spec)->arrays(&optimizer->config, spec, arrays);
}

/* Whether a shard's arrays are those of a parameter that one rank steps whole. */
static bool is_whole(const struct optimizer *optimizer, int index)
{
    return optimizer->stepped_by[index]->direct && optimizer->shards[index].parameter->grid_ranks == 0;
}

/* The rows that this rank has of square arrays. */
static struct range rows_of(const struct optimizer *optimizer, const struct optimizer_array *array, int index)
{
    int64_t side = array->shape[array->rank - 2];
    if (is_whole(optimizer, index))
        return (struct range){0, side};
    return spread_rows(optimizer->mesh, optimizer->shards[index].parameter, side);
}

/* The bytes that this rank has of an array. */
static int64_t array_bytes(const struct optimizer *optimizer, const struct optimizer_array *array, int index)
{
    const struct shard *shard = &optimizer->shards[index];
    bool whole = is_whole(optimizer, index);
    int64_t count = whole ? parameter_elements(&shard->parameter->spec) : shard->flat.count;
    if (!array->name || (whole && !whole_is_home(optimizer->whole, index)))
        return 0;
    for (int i = 0; i < array->rank; i++)
        count = (i ? count : 1) * (i == array->rank - 2 ? rows_of(optimizer, array, index).count : array->shape[i]);
    return count * (int64_t)dtype_size(array->dtype);
}

/* Where each array of each shard lies; returns the bytes of all. */
static int64_t place_state(struct optimizer *optimizer)
{
    struct optimizer_array arrays[OPTIMIZER_ARRAYS];
    int64_t used = 0;
    for (int array = 0; array < OPTIMIZER_ARRAYS; array++)
        for (int i = 0; i < optimizer->count; i++) {
            if (array >= list_arrays(optimizer, &optimizer->shards[i].parameter->spec, arrays))
                continue;
            int64_t bytes = array_bytes(optimizer, &arrays[array], i);
            if (optimizer->memory && bytes > 0)
                optimizer->state[i * OPTIMIZER_ARRAYS + array] = optimizer->memory + used;
            used += integer_round_up(bytes, ALIGNMENT);
        }
    return used;
}

enum status optimizer_create(struct context *context, struct mesh *mesh, const struct optimizer_config *config,
                             const struct optimizer_ops *ops, const struct shard *shards, int count,
                             struct optimizer *optimizer)
{
    *optimizer = (struct optimizer){.context = context,
                                    .mesh = mesh,
                                    .config = *config,
                                    .ops = ops ? ops : optimizer_find(config->kind),
                                    .shards = shards,
                                    .count = count};
    size_t pointers = (size_t)count * OPTIMIZER_ARRAYS;
    optimizer->state = memory_allocate(context, pointers * sizeof *optimizer->state, MEMORY_OTHER);
    optimizer->stepped_by = memory_allocate(context, (size_t)count * sizeof(struct optimizer_ops *), MEMORY_OTHER);
    enum status status = optimizer->state && optimizer->stepped_by ? STATUS_OK : STATUS_MEMORY;
    CHECK(mesh ? mesh_agree(mesh, context, status) : status);
    for (int i = 0; i < count; i++)
        optimizer->stepped_by[i] = choose(optimizer->ops, &shards[i].parameter->spec);
    CHECK(whole_create(context, mesh, optimizer, &optimizer->whole));
    CHECK(spread_create(context, mesh, optimizer, &optimizer->spread));
    optimizer->memory = memory_allocate(context, (size_t)place_state(optimizer), MEMORY_OPTIMIZER);
    if (!optimizer->memory)
        return STATUS_MEMORY;
    (void)place_state(optimizer);
    return STATUS_OK;
}

void optimizer_destroy(struct optimizer *optimizer)
{
    whole_destroy(&optimizer->whole);
    spread_destroy(&optimizer->spread);
    memory_free(optimizer->context, optimizer->memory);
    memory_free(optimizer->context, optimizer->stepped_by);
    memory_free(optimizer->context, optimizer->state);
    *optimizer = (struct optimizer){.context = optimizer->context};
}

/* The pieces of an array that this rank has: of the shard's elements, or all of it. */
static int find_pieces(const struct optimizer *optimizer, const char *name, int index, bool writes,
                       const struct optimizer_array *kept, const struct state_array *array, struct state_piece *pieces)
{
    const struct shard *shard = shard_named(optimizer->shards, optimizer->count, name);
    if (!shard)
        return 0;
    ptrdiff_t place = shard - optimizer->shards;
    void *data = optimizer->state[place * OPTIMIZER_ARRAYS + index];
    bool whole = is_whole(optimizer, (int)place);
    if (!whole && kept->rank == 0)
        return shard_pieces(shard, data, writes, pieces);
    if (!data || (writes && shard->parameter->copy))
        return 0;
    pieces[0] = (struct state_piece){.data = data};
    memcpy(pieces[0].box.extent, array->shape, sizeof array->shape);
    if (!whole) {
        struct range rows = rows_of(optimizer, kept, (int)place);
        pieces[0].box.offset[kept->rank - 2] = rows.begin;
        pieces[0].box.extent[kept->rank - 2] = rows.count;
    }
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
    if (kept->dtype == DTYPE_F64) {
        array.doubles = true;
        array.shape[array.rank - 1] *= 2;
    }
    array.piece_count = find_pieces(optimizer, spec->name, index, visitor->writes, kept, &array, pieces);
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
                array >= list_arrays(optimizer, spec, arrays) || !arrays[array].name)
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

void optimizer_apply(const struct optimizer_step *step, const struct shard *shard, struct range within,
                     const float *direction)
{
    float rate = optimizer_rate(step, shard);
    float decay = optimizer_decay(step, shard);
    int threads = operation_threads(step->engine, within.count);
    if (step->engine->context->dry)
        return;
#pragma omp parallel num_threads(threads)
    {
        struct range range = operation_range(within.count, LINE_ELEMENTS);
        float *restrict p = shard->master + within.begin;
        bf16 *values = shard->values ? shard->values + within.begin : NULL;
        int64_t end = range.begin + range.count;
#pragma omp simd
        for (int64_t i = range.begin; i < end; i++)
            p[i] -= rate * (direction[i] + decay * p[i]);
        for (int64_t i = range.begin; values && i < end; i++)
            values[i] = bf16_from_float(p[i]);
    }
}

enum status optimizer_update(struct optimizer *optimizer, struct engine *engine, struct mesh *mesh, int64_t t,
                             double rate, double gradient_scale)
{
    const struct optimizer_config *config = &optimizer->config;
    const struct optimizer_step step = {
        .config = config, .engine = engine, .mesh = mesh, .t = t, .rate = rate, .gradient_scale = gradient_scale};
    struct optimizer_step rest = step;
    if (config->adamw_learning_rate > 0.0)
        rest.rate *= config->adamw_learning_rate / config->learning_rate;
    for (int i = 0; i < optimizer->count; i++) {
        const struct optimizer_ops *ops = optimizer->stepped_by[i];
        if (ops->step)
            CHECK(ops->step(ops == optimizer->ops ? &step : &rest, &optimizer->shards[i],
                            optimizer->state + (ptrdiff_t)i * OPTIMIZER_ARRAYS));
    }
    CHECK(whole_update(optimizer->whole, optimizer, &step));
    return spread_update(optimizer->spread, optimizer, &step);
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
