#include "src/optim/average.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum status average_create(struct context *context, const struct shard *shards, int count, int64_t elements,
                           double decay, struct average **average)
{
    struct average *a = *average = memory_allocate(context, sizeof *a, MEMORY_OTHER);
    if (!a)
        return STATUS_MEMORY;
    *a = (struct average){.context = context, .shards = shards, .count = count, .decay = decay};
    a->values = memory_allocate(context, (size_t)elements * sizeof *a->values, MEMORY_OPTIMIZER);
    if (!a->values)
        return STATUS_MEMORY;
    average_forget(a);
    average_settle(a);
    return STATUS_OK;
}

void average_destroy(struct average **average)
{
    if (!*average)
        return;
    struct context *context = (*average)->context;
    memory_free(context, (*average)->values);
    memory_free(context, *average);
    *average = NULL;
}

void average_update(struct average *average, int64_t t)
{
    float rest = (float)(1.0 - fmin(average->decay, (1.0 + (double)t) / (10.0 + (double)t)));
    for (int i = 0; i < average->count && !average->context->dry; i++) {
        const struct shard *shard = &average->shards[i];
        const float *restrict master = shard->master;
        float *restrict values = average->values + shard->begin;
        for (int64_t n = 0; n < shard->flat.count; n++)
            values[n] += rest * (master[n] - values[n]);
    }
}

void average_swap(struct average *average)
{
    for (int i = 0; i < average->count && !average->context->dry; i++) {
        float *master = average->shards[i].master;
        float *values = average->values + average->shards[i].begin;
        for (int64_t n = 0; n < average->shards[i].flat.count; n++) {
            float value = master[n];
            master[n] = values[n];
            values[n] = value;
        }
    }
}

enum status average_visit(const struct average *average, const struct parameter_list *list,
                          const struct state_visitor *visitor)
{
    for (int i = 0; i < list->count; i++) {
        const struct parameter_spec *spec = &list->item[i]->spec;
        if (list->item[i]->copy || !parameter_learns(list->item[i]))
            continue;
        struct state_piece pieces[BOXES_OF_RANGE];
        struct state_array array = {.rank = spec->rank, .optional = true, .pieces = pieces};
        const struct shard *shard = shard_named(average->shards, average->count, spec->name);
        snprintf(array.name, sizeof array.name, "/optimizer/average/%s", spec->name);
        memcpy(array.shape, spec->shape, sizeof array.shape);
        if (shard)
            array.piece_count = shard_pieces(shard, average->values + shard->begin, visitor->writes, pieces);
        CHECK(visitor->array(visitor->self, &array));
    }
    return STATUS_OK;
}

void average_forget(struct average *average)
{
    for (int i = 0; i < average->count && !average->context->dry; i++)
        for (int64_t n = 0; n < average->shards[i].flat.count; n++)
            average->values[average->shards[i].begin + n] = NAN;
}

void average_settle(struct average *average)
{
    for (int i = 0; i < average->count && !average->context->dry; i++)
        for (int64_t n = 0; n < average->shards[i].flat.count; n++)
            if (isnan(average->values[average->shards[i].begin + n]))
                average->values[average->shards[i].begin + n] = average->shards[i].master[n];
}
