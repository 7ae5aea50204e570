#include "dist/parallel/replica.h"

#include <string.h>

#include "src/ops/ops.h"

/* Parameters begin at multiples of this many elements, so that every type is aligned. */
enum { PARAMETER_ALIGNMENT = 16 };

/* Copies of a parameter must stay equal to the bit, so what is added in which order must not depend on where a copy
 * lies: kinds that are laid out alike on all holders have a bucket of their own, and overlapping ones are summed as
 * wholes. */
enum bucket_kind {
    BUCKET_EXCLUSIVE,   /* no copies but the replicas' */
    BUCKET_REPLICATED,  /* whole on every tensor rank */
    BUCKET_OVERLAPPING, /* in part on several tensor ranks */
    BUCKET_TIED,        /* on both ends of the pipeline; one parameter a bucket */
    BUCKET_KINDS,
};

struct bucket {
    enum bucket_kind kind;
    enum dtype dtype; /* of the values */
    int64_t begin;    /* in the flat array of gradients */
    int64_t count;    /* a multiple of the replicas */
    int64_t slice;    /* count / replicas */
    int64_t state;    /* where this rank's slice begins in optimiser state */
    size_t offset;    /* of its values in bytes */
    int parameters;
    int expected; /* parameters that backward is not through with */
    bool started;
    struct mesh_request request;
};

struct replica {
    struct context *context;
    struct mesh *mesh;
    struct engine *engine;
    enum dtype dtype;
    int replicas;
    int index;                     /* of this rank among them */
    struct parameter **parameters; /* in the order of the buckets */
    int64_t *position;             /* [parameter_count] of a parameter in the flat array of gradients */
    int parameter_count;
    struct bucket *buckets;
    int bucket_count;
    int64_t whole_count;  /* of all buckets */
    int64_t state_count;  /* of this rank's slices */
    int64_t master_count; /* of those whose values are not their own masters; they come first */
    size_t value_bytes;
    int64_t scratch_count;
    char *values;
    float *gradients;
    float *reduced; /* this rank's slices of the summed gradients; NULL with one replica */
    float *master;
    float *scratch; /* for parameters that tensor ranks hold in part */
    struct shard *shards;
    int shard_count;
};

static int64_t parameter_count(const struct parameter *parameter)
{
    struct box box = parameter_box(parameter);
    return box_count(&box, parameter->spec.rank);
}

/* Of all ranks' parts together. */
static int64_t whole_count_of(const struct parameter *parameter)
{
    int64_t count = 1;
    for (int i = 0; i < parameter->spec.rank; i++)
        count *= parameter->spec.shape[i];
    return count;
}

static enum bucket_kind kind_of(const struct parameter *parameter)
{
    if (parameter->tied)
        return BUCKET_TIED;
    if (parameter->overlapping)
        return BUCKET_OVERLAPPING;
    return parameter->replicated ? BUCKET_REPLICATED : BUCKET_EXCLUSIVE;
}

static enum dtype dtype_of(const struct replica *replica, const struct parameter *parameter)
{
    return parameter->spec.keeps_float ? DTYPE_F32 : replica->dtype;
}

/* First what has the compute type, then what alone stays in fp32; kind after kind, each in reverse, as backward reaches
 * them. */
static void order_parameters(struct replica *replica, struct parameter *const *parameters, int count)
{
    int n = 0;
    for (int alone = 0; alone <= 1; alone++)
        for (int kind = 0; kind < BUCKET_KINDS; kind++)
            for (int i = count - 1; i >= 0; i--)
                if ((int)kind_of(parameters[i]) == kind &&
                    (dtype_of(replica, parameters[i]) != replica->dtype) == alone)
                    replica->parameters[n++] = parameters[i];
    replica->parameter_count = n;
}

static void close_bucket(struct replica *replica, struct bucket *bucket)
{
    int64_t multiple = (int64_t)replica->replicas * PARAMETER_ALIGNMENT;
    bucket->count = integer_round_up(bucket->count, multiple);
    bucket->slice = bucket->count / replica->replicas;
    bucket->state = replica->state_count;
    bucket->offset = replica->value_bytes;
    replica->whole_count += bucket->count;
    replica->state_count += bucket->slice;
    replica->master_count += bucket->dtype == DTYPE_F32 ? 0 : bucket->slice;
    replica->value_bytes += (size_t)bucket->count * dtype_size(bucket->dtype);
    replica->bucket_count++;
}

/* Whether a bucket cannot take this parameter besides what it has. */
static bool is_closed(const struct replica *replica, const struct bucket *bucket, const struct parameter *parameter,
                      int64_t bucket_bytes)
{
    bool full = bucket->kind == BUCKET_EXCLUSIVE && bucket->count * (int64_t)sizeof(float) >= bucket_bytes;
    return full || bucket->kind == BUCKET_TIED || bucket->kind != kind_of(parameter) ||
           bucket->dtype != dtype_of(replica, parameter);
}

/* Divides the ordered parameters into buckets of about bucket_bytes. */
static void fill_buckets(struct replica *replica, int64_t bucket_bytes)
{
    struct bucket *bucket = NULL;
    for (int i = 0; i < replica->parameter_count; i++) {
        struct parameter *parameter = replica->parameters[i];
        int64_t count = integer_round_up(parameter_count(parameter), PARAMETER_ALIGNMENT);
        if (bucket && is_closed(replica, bucket, parameter, bucket_bytes)) {
            close_bucket(replica, bucket);
            bucket = NULL;
        }
        if (!bucket) {
            bucket = &replica->buckets[replica->bucket_count];
            *bucket = (struct bucket){
                .begin = replica->whole_count, .kind = kind_of(parameter), .dtype = dtype_of(replica, parameter)};
            mesh_request_clear(&bucket->request);
        }
        parameter->bucket = replica->bucket_count;
        replica->position[i] = bucket->begin + bucket->count;
        bucket->count += count;
        bucket->parameters++;
    }
    if (bucket)
        close_bucket(replica, bucket);
}

/* Overlapping parameters are summed as many at once as a bucket takes, but for one that is larger. */
static void size_scratch(struct replica *replica, int64_t bucket_bytes)
{
    int64_t most = 0;
    int64_t total = 0;
    for (int i = 0; i < replica->parameter_count; i++) {
        int64_t whole = replica->parameters[i]->overlapping ? whole_count_of(replica->parameters[i]) : 0;
        most = integer_max(most, whole);
        total += whole;
    }
    replica->scratch_count = integer_max(most, integer_min(total, bucket_bytes / (int64_t)sizeof(float)));
}

static enum status allocate_arrays(struct replica *replica, bool trains)
{
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
        value->needs_gradient = replica->gradients != NULL;
        value->parameter = parameter;
        parameter->gradient = replica->gradients ? replica->gradients + replica->position[i] : NULL;
    }
}

static void find_shards(struct replica *replica)
{
    for (int i = 0; i < replica->parameter_count; i++) {
        struct parameter *parameter = replica->parameters[i];
        const struct bucket *bucket = &replica->buckets[parameter->bucket];
        struct range slice = {.begin = bucket->begin + replica->index * bucket->slice, .count = bucket->slice};
        struct range whole = {.begin = replica->position[i], .count = parameter_count(parameter)};
        struct range part = range_intersect(slice, whole);
        if (part.count == 0)
            continue;
        int64_t state = bucket->state + part.begin - slice.begin;
        struct shard *shard = &replica->shards[replica->shard_count++];
        shard->parameter = parameter;
        shard->flat = (struct range){.begin = part.begin - whole.begin, .count = part.count};
        shard->begin = state;
        bool own_master = bucket->dtype == DTYPE_F32;
        shard->master = own_master ? values_at(replica, bucket, part.begin) : replica->master + state;
        shard->values = own_master ? NULL : values_at(replica, bucket, part.begin);
        if (replica->gradients)
            shard->gradient = replica->reduced ? replica->reduced + state : replica->gradients + part.begin;
    }
}

enum status replica_create(struct context *context, struct mesh *mesh, struct engine *engine,
                           struct parameter *const *parameters, int count, enum dtype dtype, int64_t bucket_bytes,
                           bool trains, struct replica **replica)
{
    struct replica *r = memory_allocate(context, sizeof *r, MEMORY_OTHER);
    *replica = r;
    if (!r)
        return STATUS_MEMORY;
    r->context = context;
    r->mesh = mesh;
    r->engine = engine;
    r->dtype = dtype;
    r->replicas = mesh_size(mesh, MESH_REPLICA);
    r->index = mesh_rank(mesh, MESH_REPLICA);
    size_t entries = (size_t)count + 1;
    r->parameters = memory_allocate(context, entries * sizeof(struct parameter *), MEMORY_OTHER);
    r->position = memory_allocate(context, entries * sizeof *r->position, MEMORY_OTHER);
    r->buckets = memory_allocate(context, entries * sizeof *r->buckets, MEMORY_OTHER);
    if (!r->parameters || !r->position || !r->buckets)
        return STATUS_MEMORY;
    order_parameters(r, parameters, count);
    fill_buckets(r, bucket_bytes);
    size_scratch(r, bucket_bytes);
    CHECK(allocate_arrays(r, trains));
    int64_t largest = 0;
    for (int i = 0; i < r->bucket_count; i++)
        largest = integer_max(largest, r->buckets[i].slice);
    if (trains)
        mesh_reduce_scatter_reserve(mesh, MESH_REPLICA, r->bucket_count, largest);
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
    void *owned[] = {r->parameters, r->position, r->buckets, r->values, r->gradients,
                     r->reduced,    r->master,   r->scratch, r->shards, r};
    struct context *context = r->context;
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        memory_free(context, owned[i]);
    *replica = NULL;
}

const struct shard *replica_shards(const struct replica *replica, int *count)
{
    *count = replica->shard_count;
    return replica->shards;
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
        replica->buckets[i].started = false;
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
    return (struct range){.begin = parameter->slice.begin * slab, .count = parameter->slice.count * slab};
}

/* Ranks hold overlapping ranges of the axis 0: each adds its own into the wholes, which lie one behind the other, and
 * takes its ranges back. */
static void sum_overlapping(struct replica *replica, struct parameter *const *parameters, int count)
{
    int64_t total = 0;
    for (int i = 0; i < count; i++)
        total += whole_count_of(parameters[i]);
    memset(replica->scratch, 0, (size_t)total * sizeof(float));
    float *whole = replica->scratch;
    for (int i = 0; i < count; whole += whole_count_of(parameters[i++])) {
        struct range rows = rows_of(parameters[i]);
        memcpy(whole + rows.begin, parameters[i]->gradient, (size_t)rows.count * sizeof *whole);
    }
    mesh_all_reduce(replica->mesh, MESH_TENSOR, replica->scratch, total, DTYPE_F32, MESH_SUM);
    mesh_all_reduce(replica->mesh, MESH_REPLICA, replica->scratch, total, DTYPE_F32, MESH_SUM);
    whole = replica->scratch;
    for (int i = 0; i < count; whole += whole_count_of(parameters[i++])) {
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
            total += whole_count_of(replica->parameters[i + count]);
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

void replica_gather(struct replica *replica)
{
    for (int i = 0; i < replica->shard_count; i++) {
        const struct shard *shard = &replica->shards[i];
        if (shard->values)
            convert(replica->engine, shard->values, DTYPE_BF16, shard->master, DTYPE_F32, shard->flat.count);
    }
    engine_forget(replica->engine);
    if (replica->replicas == 1)
        return;
    for (int i = 0; i < replica->bucket_count; i++) {
        struct bucket *bucket = &replica->buckets[i];
        mesh_all_gather_start(replica->mesh, MESH_REPLICA, values_at(replica, bucket, bucket->begin), bucket->slice,
                              bucket->dtype, &bucket->request);
    }
    for (int i = 0; i < replica->bucket_count; i++)
        mesh_wait(&replica->buckets[i].request);
}
