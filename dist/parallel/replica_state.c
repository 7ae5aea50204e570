/* The replica's part of the state. */
#include <stdio.h>
#include <string.h>

#include "dist/parallel/replica.h"

int shard_pieces(const struct shard *shard, float *data, bool writes, struct state_piece pieces[BOXES_OF_RANGE])
{
    struct range flat = writes ? parameter_owned(shard->parameter, shard->flat) : shard->flat;
    struct box boxes[BOXES_OF_RANGE];
    struct box block = parameter_box(shard->parameter);
    int rank = shard->parameter->spec.rank;
    int count = box_from_range(&block, rank, flat, boxes);
    int64_t skip = flat.begin - shard->flat.begin;
    for (int i = 0; i < count; i++) {
        pieces[i] = (struct state_piece){.box = boxes[i]};
        if (data)
            pieces[i].data = data + skip;
        else
            pieces[i].values = shard->values + skip;
        skip += box_count(&boxes[i], rank);
    }
    return count;
}

const struct shard *shard_named(const struct shard *shards, int count, const char *name)
{
    for (int i = 0; i < count; i++)
        if (strcmp(shards[i].parameter->spec.name, name) == 0)
            return &shards[i];
    return NULL;
}

static const struct shard *find_shard(const struct replica *replica, const char *name)
{
    int count;
    const struct shard *shards = replica_shards(replica, &count);
    const struct shard *shard = shard_named(shards, count, name);
    if (shard)
        return shard;
    shards = replica_frozen(replica, &count);
    return shard_named(shards, count, name);
}

static enum status visit(const struct replica *replica, const struct parameter_spec *spec,
                         const struct state_visitor *visitor)
{
    struct state_piece pieces[BOXES_OF_RANGE];
    struct state_array array = {.rank = spec->rank, .doubles = spec->is_count, .pieces = pieces};
    snprintf(array.name, sizeof array.name, "/%s/%s", spec->is_buffer ? "buffers" : "parameters", spec->name);
    memcpy(array.shape, spec->shape, sizeof array.shape);
    const struct shard *shard = find_shard(replica, spec->name);
    if (shard)
        array.piece_count = shard_pieces(shard, shard->master, visitor->writes, pieces);
    return visitor->array(visitor->self, &array);
}

enum status replica_visit(const struct replica *replica, const struct parameter_list *list,
                          const struct state_visitor *visitor)
{
    for (int i = list->borrowed; i < list->count; i++)
        if (parameter_counts(list->item[i]))
            CHECK(visit(replica, &list->item[i]->spec, visitor));
    for (int i = list->borrowed; i < list->count; i++)
        if (list->item[i]->spec.is_buffer)
            CHECK(visit(replica, &list->item[i]->spec, visitor));
    return STATUS_OK;
}
