#include "dist/parallel/replica_private.h"

#include <string.h>

#include "src/ops/ops.h"

static enum status allocate_arrays(struct replica *replica)
{
    bool trains = replica->trains;
    struct context *context = replica->context;
    size_t whole = (size_t)replica->whole_count;
    size_t state = (size_t)replica->state_count;
    replica->values = memory_allocate(context, replica->value_bytes, MEMORY_PARAMETERS);
    if (trains)
        replica->gradients = memory_allocate(context, whole * sizeof(float), MEMORY_GRADIENTS);
    if (trains && replica->replicas > 1)
        replica->reduced = memory_allocate(context, state * sizeof(float), MEMORY_GRADIENTS);
    replica->master = memory_allocate(context, (size_t)replica->master_count * sizeof(float), MEMORY_OPTIMIZER);
    replica->scratch = memory_allocate(context, (size_t)replica->scratch_count * sizeof(float), MEMORY_BUFFERS);
    replica->shards =
        memory_allocate(context, ((size_t)replica->parameter_count + 1) * sizeof *replica->shards, MEMORY_OTHER);
    return context->status;
}

/* The values of a bucket from an element of the flat array of gradients on. */
static void *values_at(const struct replica *replica, const struct bucket *bucket, int64_t position)
{
    return replica->values + bucket->offset + (size_t)(position - bucket->begin) * dtype_size(bucket->dtype);
}

static void point_parameters(struct replica *replica)
{
    for (int i = 0; i < replica->parameter_count; i++) {
        struct parameter *parameter = replica->parameters[i];
        const struct bucket *bucket = &replica->buckets[parameter->bucket];
        struct box box = parameter_box(parameter);
        struct tensor *value = &parameter->value;
        value->dtype = bucket->dtype;
        value->rank = parameter->spec.rank;
        memcpy(value->shape, box.extent, sizeof value->shape);
        value->data = values_at(replica, bucket, replica->position[i]);
        value->needs_gradient = bucket->kind != BUCKET_FROZEN;
        value->parameter = parameter;
        parameter->gradient = value->needs_gradient ? replica->gradients + replica->position[i] : NULL;
    }
}

static void find_shards(struct replica *replica)
{
    for (int i = 0; i < replica->parameter_count; i++) {
        struct parameter *parameter = replica->parameters[i];
        const struct bucket *bucket = &replica->buckets[parameter->bucket];
        struct range slice = {.begin = bucket->begin + replica->index * bucket->slice, .count = bucket->slice};
        struct range whole = {.begin = replica->position[i], .count = parameter_local(parameter)};
        struct range part = range_intersect(slice, whole);
        bool dealt_here = replica->dealt[i] == replica->index;
        /* What is dealt to this replica is known to all its tensor ranks, those too that have nothing of it; and what
         * replicas step together to all of them. */
        bool together = replica->dealt[i] < 0 && parameter->grid_ranks > 0;
        if (part.count == 0 && !dealt_here && !together)
            continue;
        if (dealt_here)
            part = whole;
        if (part.count == 0 && together)
            part.begin = slice.begin;
        int64_t state = bucket->state + part.begin - slice.begin;
        bool frozen = bucket->kind == BUCKET_FROZEN;
        struct shard *shard = &replica->shards[replica->shard_count++];
        replica->stepped += !frozen;
        shard->parameter = parameter;
        shard->flat = (struct range){.begin = part.count > 0 ? part.begin - whole.begin : 0, .count = part.count};
        shard->begin = frozen ? 0 : state;
        bool own_master = bucket->dtype == DTYPE_F32;
        shard->master = own_master ? values_at(replica, bucket, part.begin) : frozen ? NULL : replica->master + state;
        shard->values = own_master ? NULL : values_at(replica, bucket, part.begin);
        if (!frozen)
            shard->gradient = replica->reduced ? replica->reduced + state : replica->gradients + part.begin;
    }
}

enum status replica_create(struct context *context, struct mesh *mesh, struct engine *engine,
                           const struct parameter_list *list, enum dtype dtype, int64_t bucket_bytes, bool trains,
                           struct replica **replica)
{
    struct replica *r = memory_allocate(context, sizeof *r, MEMORY_OTHER);
    *replica = r;
    if (!r)
        return STATUS_MEMORY;
    r->context = context;
    r->mesh = mesh;
    r->engine = engine;
    r->trains = trains;
    r->dtype = dtype;
    r->replicas = mesh_size(mesh, MESH_REPLICA);
    r->index = mesh_rank(mesh, MESH_REPLICA);
    size_t entries = (size_t)list->count + 1;
    r->parameters = memory_allocate(context, entries * sizeof(struct parameter *), MEMORY_OTHER);
    r->position = memory_allocate(context, entries * sizeof *r->position, MEMORY_OTHER);
    r->dealt = memory_allocate(context, entries * sizeof *r->dealt, MEMORY_OTHER);
    r->buckets = memory_allocate(context, entries * sizeof *r->buckets, MEMORY_OTHER);
    r->load = memory_allocate(context, (size_t)r->replicas * sizeof *r->load, MEMORY_OTHER);
    if (!r->load || !r->parameters || !r->position || !r->dealt || !r->buckets)
        return STATUS_MEMORY;
    buckets_fill(r, list, bucket_bytes);
    CHECK(allocate_arrays(r));
    int64_t largest = 0;
    int reduced = 0;
    for (int i = 0; i < r->bucket_count; i++) {
        if (r->buckets[i].kind == BUCKET_FROZEN)
            continue;
        largest = integer_max(largest, r->buckets[i].slice);
        reduced++;
    }
    if (reduced > 0)
        mesh_reduce_scatter_reserve(mesh, MESH_REPLICA, reduced, largest);
    point_parameters(r);
    find_shards(r);
    return STATUS_OK;
}

void replica_destroy(struct replica **replica)
{
    struct replica *r = *replica;
    if (!r)
        return;
    engine_forget(r->engine);
    void *owned[] = {r->load,      r->parameters, r->position, r->dealt,   r->buckets, r->values,
                     r->gradients, r->reduced,    r->master,   r->scratch, r->shards,  r};
    struct context *context = r->context;
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        memory_free(context, owned[i]);
    *replica = NULL;
}

const struct shard *replica_shards(const struct replica *replica, int *count)
{
    *count = replica->stepped;
    return replica->shards;
}

const struct shard *replica_frozen(const struct replica *replica, int *count)
{
    *count = replica->shard_count - replica->stepped;
    return replica->shards + replica->stepped;
}

int64_t replica_state_count(const struct replica *replica)
{
    return replica->state_count;
}

void replica_begin(struct replica *replica)
{
    if (!replica->context->dry)
        memset(replica->gradients, 0, (size_t)replica->whole_count * sizeof(float));
    for (int i = 0; i < replica->bucket_count; i++) {
        replica->buckets[i].expected = replica->buckets[i].parameters;
        replica->buckets[i].started = replica->buckets[i].kind == BUCKET_FROZEN;
    }
    for (int i = 0; i < replica->parameter_count; i++)
        replica->parameters[i]->uses = 0;
}

static void start_bucket(struct replica *replica, struct bucket *bucket)
{
    bucket->started = true;
    if (replica->replicas == 1)
        return;
    float *gradients = replica->gradients + bucket->begin;
    float *mine = replica->reduced + bucket->state;
    if (bucket->kind == BUCKET_OVERLAPPING)
        memcpy(mine, gradients + replica->index * bucket->slice, (size_t)bucket->slice * sizeof *mine);
    else
        mesh_reduce_scatter_start(replica->mesh, MESH_REPLICA, gradients, mine, bucket->slice, &bucket->request);
}

static void parameter_done(void *self, struct parameter *parameter)
{
    struct replica *replica = self;
    struct bucket *bucket = &replica->buckets[parameter->bucket];
    if (--bucket->expected == 0 && bucket->kind == BUCKET_EXCLUSIVE)
        start_bucket(replica, bucket);
}

/* Non-blocking collectives move only inside calls of MPI. */
static void progress(void *self)
{
    struct replica *replica = self;
    if (replica->replicas == 1)
        return;
    for (int i = 0; i < replica->bucket_count; i++)
        if (replica->buckets[i].started && !mesh_test(&replica->buckets[i].request))
            return;
}

struct tape_listener replica_listener(struct replica *replica)
{
    return (struct tape_listener){.self = replica, .parameter_done = parameter_done, .progress = progress};
}

/* Where this rank's rows of an overlapping parameter lie in the whole. */
static struct range rows_of(const struct parameter *parameter)
{
    int64_t slab = 1;
    for (int i = 1; i < parameter->spec.rank; i++)
        slab *= parameter->spec.shape[i];
    return (struct range){.begin = parameter->division.slice.begin * slab,
                          .count = parameter->division.slice.count * slab};
}

/* Ranks hold overlapping ranges of the axis 0: each adds its own into the wholes, which lie one behind the other, and
 * takes its ranges back. */
static void sum_overlapping(struct replica *replica, struct parameter *const *parameters, int count)
{
    int64_t total = 0;
    for (int i = 0; i < count; i++)
        total += parameter_elements(&parameters[i]->spec);
    memset(replica->scratch, 0, (size_t)total * sizeof(float));
    float *whole = replica->scratch;
    for (int i = 0; i < count; whole += parameter_elements(&parameters[i++]->spec)) {
        struct range rows = rows_of(parameters[i]);
        memcpy(whole + rows.begin, parameters[i]->gradient, (size_t)rows.count * sizeof *whole);
    }
    mesh_all_reduce(replica->mesh, MESH_TENSOR, replica->scratch, total, DTYPE_F32, MESH_SUM);
    mesh_all_reduce(replica->mesh, MESH_REPLICA, replica->scratch, total, DTYPE_F32, MESH_SUM);
    whole = replica->scratch;
    for (int i = 0; i < count; whole += parameter_elements(&parameters[i++]->spec)) {
        struct range rows = rows_of(parameters[i]);
        memcpy(parameters[i]->gradient, whole + rows.begin, (size_t)rows.count * sizeof *whole);
    }
}

/* As many at once as there is room for, which is the same on all ranks. */
static void sum_overlapping_bucket(struct replica *replica, const struct bucket *bucket)
{
    int index = (int)(bucket - replica->buckets);
    for (int i = 0; i < replica->parameter_count;) {
        int count = 0;
        int64_t total = 0;
        while (i + count < replica->parameter_count && replica->parameters[i + count]->bucket == index) {
            total += parameter_elements(&replica->parameters[i + count]->spec);
            if (total > replica->scratch_count)
                break;
            count++;
        }
        if (count > 0)
            sum_overlapping(replica, replica->parameters + i, count);
        i += count > 0 ? count : 1;
    }
}

/* Sums what copies outside the replica axis have gathered. */
static void sum_copies(struct replica *replica, const struct bucket *bucket)
{
    float *gradients = replica->gradients + bucket->begin;
    if (bucket->kind == BUCKET_TIED)
        mesh_all_reduce(replica->mesh, MESH_ENDS, gradients, bucket->count, DTYPE_F32, MESH_SUM);
    if (bucket->kind == BUCKET_REPLICATED)
        mesh_all_reduce(replica->mesh, MESH_TENSOR, gradients, bucket->count, DTYPE_F32, MESH_SUM);
    if (bucket->kind == BUCKET_OVERLAPPING)
        sum_overlapping_bucket(replica, bucket);
}

void replica_finish(struct replica *replica)
{
    for (int i = 0; i < replica->bucket_count; i++) {
        struct bucket *bucket = &replica->buckets[i];
        if (bucket->started)
            continue;
        sum_copies(replica, bucket);
        start_bucket(replica, bucket);
    }
    for (int i = 0; i < replica->bucket_count; i++)
        mesh_wait(&replica->buckets[i].request);
}

static void gather(struct replica *replica, bool frozen_too)
{
    for (int i = 0; i < replica->stepped; i++) {
        const struct shard *shard = &replica->shards[i];
        if (shard->values)
            convert(replica->engine, shard->values, DTYPE_BF16, shard->master, DTYPE_F32, shard->flat.count);
    }
    engine_forget(replica->engine);
    if (replica->replicas == 1)
        return;
    for (int i = 0; i < replica->bucket_count; i++) {
        struct bucket *bucket = &replica->buckets[i];
        if (bucket->kind != BUCKET_FROZEN || frozen_too)
            mesh_all_gather_start(replica->mesh, MESH_REPLICA, values_at(replica, bucket, bucket->begin), bucket->slice,
                                  bucket->dtype, &bucket->request);
    }
    for (int i = 0; i < replica->bucket_count; i++)
        mesh_wait(&replica->buckets[i].request);
}

void replica_gather(struct replica *replica)
{
    gather(replica, false);
}

void replica_gather_all(struct replica *replica)
{
    gather(replica, true);
}

/* Frozen values may have no room for more than their rounding. */
static void initialize_frozen(const struct replica *replica, const struct shard *shard, uint64_t seed)
{
    enum { CHUNK = 4096 };
    float values[CHUNK];
    for (int64_t i = 0; i < shard->flat.count; i += CHUNK) {
        struct range part = {.begin = shard->flat.begin + i, .count = integer_min(CHUNK, shard->flat.count - i)};
        parameter_initialize(shard->parameter, seed, part, values);
        convert(replica->engine, shard->values + i, DTYPE_BF16, values, DTYPE_F32, part.count);
    }
}

void replica_initialize(struct replica *replica, uint64_t seed)
{
    for (int i = 0; i < replica->shard_count; i++) {
        const struct shard *shard = &replica->shards[i];
        if (shard->master)
            parameter_initialize(shard->parameter, seed, shard->flat, shard->master);
        else
            initialize_frozen(replica, shard, seed);
    }
    gather(replica, true);
}

void replica_average_buffers(struct replica *replica)
{
    if (replica->replicas == 1)
        return;
    for (int i = 0; i < replica->parameter_count; i++) {
        const struct parameter *parameter = replica->parameters[i];
        if (!parameter->spec.is_buffer || parameter->spec.is_count || parameter->frozen)
            continue;
        float *values = parameter->value.data;
        int64_t count = tensor_count(&parameter->value);
        mesh_all_reduce(replica->mesh, MESH_REPLICA, values, count, DTYPE_F32, MESH_SUM);
        for (int64_t e = 0; e < count; e++)
            values[e] /= (float)replica->replicas;
    }
}
