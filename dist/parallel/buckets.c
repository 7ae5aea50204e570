/* Which parameters are reduced together, and where they lie. */
#include <string.h>

#include "dist/parallel/replica_private.h"

static enum bucket_kind kind_of(const struct replica *replica, const struct parameter *parameter)
{
    if (!replica->trains || !parameter_learns(parameter))
        return BUCKET_FROZEN;
    if (parameter->tied)
        return BUCKET_TIED;
    if (parameter->division.overlapping)
        return BUCKET_OVERLAPPING;
    return parameter->division.replicated ? BUCKET_REPLICATED : BUCKET_EXCLUSIVE;
}

static enum dtype dtype_of(const struct replica *replica, const struct parameter *parameter)
{
    return parameter->spec.keeps_float || parameter->spec.is_buffer ? DTYPE_F32 : replica->dtype;
}

static bool is_uncut(const struct replica *replica, const struct parameter *parameter)
{
    return parameter->uncut && kind_of(replica, parameter) != BUCKET_FROZEN;
}

/* First what learns, what is frozen last. Of each, first what has the compute type, then what alone stays in fp32; kind
 * after kind, each in reverse, as backward reaches them. */
static void order_parameters(struct replica *replica, const struct parameter_list *list)
{
    int n = 0;
    for (int frozen = 0; frozen <= 1; frozen++)
        for (int alone = 0; alone <= 1; alone++)
            for (int kind = 0; kind < BUCKET_KINDS; kind++)
                for (int i = list->count - 1; i >= list->borrowed; i--)
                    if (list->item[i]->here && (int)kind_of(replica, list->item[i]) == kind &&
                        (kind == BUCKET_FROZEN) == frozen &&
                        (dtype_of(replica, list->item[i]) != replica->dtype) == alone)
                        replica->parameters[n++] = list->item[i];
    replica->parameter_count = n;
}

static void close_bucket(struct replica *replica, struct bucket *bucket)
{
    int64_t multiple = (int64_t)replica->replicas * PARAMETER_ALIGNMENT;
    bucket->count = integer_round_up(bucket->count, multiple);
    bucket->slice = bucket->count / replica->replicas;
    bucket->state = replica->state_count;
    bucket->offset = replica->value_bytes;
    if (bucket->kind != BUCKET_FROZEN) {
        replica->whole_count += bucket->count;
        replica->state_count += bucket->slice;
        replica->master_count += bucket->dtype == DTYPE_F32 ? 0 : bucket->slice;
    }
    replica->value_bytes += (size_t)bucket->count * dtype_size(bucket->dtype);
    replica->bucket_count++;
}

/* Whether a bucket cannot take this parameter besides what it has. One that is dealt has some for every replica, or
 * most of it would be empty. */
static bool is_closed(const struct replica *replica, const struct bucket *bucket, const struct parameter *parameter,
                      int64_t bucket_bytes)
{
    bool full = (bucket->kind == BUCKET_EXCLUSIVE || bucket->kind == BUCKET_FROZEN) &&
                bucket->reach * (int64_t)sizeof(float) >= bucket_bytes &&
                (!bucket->uncut || bucket->parameters >= 2 * replica->replicas);
    return full || bucket->kind == BUCKET_TIED || bucket->kind != kind_of(replica, parameter) ||
           bucket->uncut != is_uncut(replica, parameter) || bucket->dtype != dtype_of(replica, parameter);
}

/* The one that has least of this bucket, and of those that least of all: but not of what the pipeline's ends share, who
 * have to deal it alike. */
static int least_loaded(const struct replica *replica, const struct bucket *bucket)
{
    const struct replica_load *load = replica->load;
    int least = 0;
    for (int r = 1; r < replica->replicas; r++)
        if (load[r].cost < load[least].cost ||
            (load[r].cost == load[least].cost && bucket->kind != BUCKET_TIED && load[r].total < load[least].total))
            least = r;
    return least;
}

/* Deals parameters first .. of a bucket to the replicas, the costliest first: the slice is as long as the most elements
 * that one has. Costs are those of whole parameters, so that all tensor ranks deal alike. */
static void deal_bucket(struct replica *replica, struct bucket *bucket, int first)
{
    struct replica_load *load = replica->load;
    int end = first + bucket->parameters;
    int64_t most = 0;
    for (int r = 0; r < replica->replicas; r++)
        load[r] = (struct replica_load){.total = load[r].total};
    for (int n = 0; n < bucket->parameters; n++) {
        int costliest = -1;
        for (int i = first; i < end; i++)
            if (replica->dealt[i] < 0 &&
                (costliest < 0 || replica->parameters[i]->cost > replica->parameters[costliest]->cost))
                costliest = i;
        int least = least_loaded(replica, bucket);
        replica->dealt[costliest] = least;
        replica->position[costliest] = load[least].elements;
        load[least].elements += integer_round_up(parameter_local(replica->parameters[costliest]), PARAMETER_ALIGNMENT);
        load[least].cost += replica->parameters[costliest]->cost;
        load[least].total += replica->parameters[costliest]->cost;
        most = integer_max(most, load[least].elements);
    }
    for (int i = first; i < end; i++)
        replica->position[i] += bucket->begin + replica->dealt[i] * most;
    bucket->count = most * replica->replicas;
}

/* A tensor rank's even part of a parameter. */
static int64_t reach_of(const struct replica *replica, const struct parameter *parameter)
{
    return parameter_elements(&parameter->spec) / mesh_size(replica->mesh, MESH_TENSOR);
}

/* Divides the ordered parameters into buckets of about bucket_bytes. */
static void fill_buckets(struct replica *replica, int64_t bucket_bytes)
{
    struct bucket *bucket = NULL;
    for (int i = 0; i <= replica->parameter_count; i++) {
        struct parameter *parameter = i < replica->parameter_count ? replica->parameters[i] : NULL;
        if (bucket && (!parameter || is_closed(replica, bucket, parameter, bucket_bytes))) {
            if (bucket->uncut)
                deal_bucket(replica, bucket, i - bucket->parameters);
            close_bucket(replica, bucket);
            bucket = NULL;
        }
        if (!parameter)
            return;
        if (!bucket) {
            bucket = &replica->buckets[replica->bucket_count];
            *bucket = (struct bucket){.begin = replica->whole_count,
                                      .kind = kind_of(replica, parameter),
                                      .uncut = is_uncut(replica, parameter),
                                      .dtype = dtype_of(replica, parameter)};
            mesh_request_clear(&bucket->request);
        }
        parameter->bucket = replica->bucket_count;
        replica->position[i] = bucket->begin + bucket->count;
        replica->dealt[i] = -1;
        bucket->count += integer_round_up(parameter_local(parameter), PARAMETER_ALIGNMENT);
        bucket->reach = bucket->uncut ? bucket->reach + reach_of(replica, parameter) : bucket->count;
        bucket->parameters++;
    }
}

/* Overlapping parameters are summed as many at once as a bucket takes, but for one that is larger. */
static void size_scratch(struct replica *replica, int64_t bucket_bytes)
{
    int64_t most = 0;
    int64_t total = 0;
    for (int i = 0; i < replica->parameter_count; i++) {
        int64_t whole =
            replica->parameters[i]->division.overlapping ? parameter_elements(&replica->parameters[i]->spec) : 0;
        most = integer_max(most, whole);
        total += whole;
    }
    replica->scratch_count = integer_max(most, integer_min(total, bucket_bytes / (int64_t)sizeof(float)));
}

void buckets_fill(struct replica *replica, const struct parameter_list *list, int64_t bucket_bytes)
{
    order_parameters(replica, list);
    fill_buckets(replica, bucket_bytes);
    size_scratch(replica, bucket_bytes);
}
