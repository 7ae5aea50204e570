#include "dist/parallel/compare.h"

#include <string.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "src/ops/ops.h"

struct comparison {
    struct context *context;
    struct mesh *mesh;
    struct engine *engine;
    const struct replica *replica;
    const struct parameter **parameters; /* that are here */
    int count;
    uint64_t *hash;  /* [count] */
    uint64_t *noted; /* [count] */
    bool is_noted;
    int64_t *bounds; /* [2 count] */
    int64_t *votes;  /* [2, ranks of the largest axis] */
};

/* Where the copies of a parameter are. */
struct copies {
    enum mesh_axis axis;
    bool (*has)(const struct parameter *parameter);
};

static bool always(const struct parameter *parameter)
{
    (void)parameter;
    return true;
}

static bool is_whole(const struct parameter *parameter)
{
    return parameter->division.replicated && !parameter->division.overlapping;
}

static bool is_tied(const struct parameter *parameter)
{
    return parameter->tied;
}

enum status comparison_create(struct context *context, struct mesh *mesh, struct engine *engine,
                              const struct parameter_list *list, const struct replica *replica,
                              struct comparison **comparison)
{
    struct comparison *c = memory_allocate(context, sizeof *c, MEMORY_OTHER);
    *comparison = c;
    if (!c)
        return STATUS_MEMORY;
    *c = (struct comparison){.context = context, .mesh = mesh, .engine = engine, .replica = replica};
    size_t entries = (size_t)list->count + 1;
    c->parameters = memory_allocate(context, entries * sizeof(struct parameter *), MEMORY_OTHER);
    if (!c->parameters)
        return STATUS_MEMORY;
    for (int i = 0; i < list->count; i++)
        if (list->item[i]->here && !list->item[i]->spec.is_buffer)
            c->parameters[c->count++] = list->item[i];
    size_t ranks = (size_t)mesh_size(mesh, MESH_TEAM);
    c->hash = memory_allocate(context, entries * sizeof *c->hash, MEMORY_OTHER);
    c->noted = memory_allocate(context, entries * sizeof *c->noted, MEMORY_OTHER);
    c->bounds = memory_allocate(context, 2 * entries * sizeof *c->bounds, MEMORY_OTHER);
    c->votes = memory_allocate(context, 2 * (ranks + 1) * sizeof *c->votes, MEMORY_OTHER);
    return c->hash && c->noted && c->bounds && c->votes ? STATUS_OK : STATUS_MEMORY;
}

void comparison_destroy(struct comparison **comparison)
{
    struct comparison *c = *comparison;
    if (!c)
        return;
    struct context *context = c->context;
    memory_free(context, c->parameters);
    memory_free(context, c->hash);
    memory_free(context, c->noted);
    memory_free(context, c->bounds);
    memory_free(context, c->votes);
    memory_free(context, c);
    *comparison = NULL;
}

static uint64_t hash_of(const struct parameter *parameter)
{
    const struct tensor *value = &parameter->value;
    return XXH3_64bits(value->data, (size_t)tensor_count(value) * dtype_size(value->dtype));
}

void comparison_note(struct comparison *comparison)
{
    for (int i = 0; i < comparison->count; i++)
        comparison->noted[i] = hash_of(comparison->parameters[i]);
    comparison->is_noted = true;
}

void comparison_forget(struct comparison *comparison)
{
    if (comparison)
        comparison->is_noted = false;
}

/* -- What a rank sees for itself -- */

static enum status blame(struct comparison *comparison, const struct parameter *parameter, const char *why)
{
    char host[64] = "";
    gethostname(host, sizeof host - 1);
    return context_fail(comparison->context, STATUS_AGAIN,
                        "silent corruption: rank %d on host %s: %s %s; nothing of it was saved: start again from the "
                        "last checkpoint, without that host if it happens again",
                        mesh_rank(comparison->mesh, MESH_TEAM), host, parameter->spec.name, why);
}

static bool rounds_to(struct comparison *comparison, const struct shard *shard)
{
    enum { CHUNK = 4096 };
    bf16 rounded[CHUNK];
    for (int64_t i = 0; i < shard->flat.count; i += CHUNK) {
        int64_t count = integer_min(CHUNK, shard->flat.count - i);
        convert(comparison->engine, rounded, DTYPE_BF16, shard->master + i, DTYPE_F32, count);
        if (memcmp(rounded, shard->values + i, (size_t)count * sizeof *rounded) != 0)
            return false;
    }
    return true;
}

static enum status check_own(struct comparison *comparison)
{
    int count;
    const struct shard *shards = replica_shards(comparison->replica, &count);
    for (int i = 0; comparison->is_noted && i < comparison->count; i++)
        if (comparison->hash[i] != comparison->noted[i])
            return blame(comparison, comparison->parameters[i], "has changed between two updates");
    for (int i = 0; i < count; i++)
        if (shards[i].values && !rounds_to(comparison, &shards[i]))
            return blame(comparison, shards[i].parameter, "is not the rounding of its fp32 master");
    return STATUS_OK;
}

/* -- What ranks see together -- */

/* All members of the group know that the parameter's copies differ, and come to the same verdict. */
static enum status find_wrong(struct comparison *comparison, enum mesh_axis axis, int index, bool guilty)
{
    int size = mesh_size(comparison->mesh, axis);
    int64_t mine[2] = {0, guilty};
    memcpy(&mine[0], &comparison->hash[index], sizeof mine[0]);
    int64_t *all = comparison->votes;
    mesh_all_gather(comparison->mesh, axis, mine, all, size, 2, DTYPE_I64);
    int like_mine = 0;
    int most = 0;
    bool known = false;
    for (int i = 0; i < size; i++) {
        int alike = 0;
        for (int j = 0; j < size; j++)
            alike += all[2 * i] == all[2 * j];
        most = alike > most ? alike : most;
        like_mine += all[2 * i] == mine[0];
        known = known || all[2 * i + 1];
    }
    const struct parameter *parameter = comparison->parameters[index];
    if (known) /* who it is has said so */
        return STATUS_OK;
    if (2 * most <= size)
        return blame(comparison, parameter, "differs from the other copies, of which no most are alike");
    return like_mine < most ? blame(comparison, parameter, "differs from most of its copies") : STATUS_OK;
}

static enum status compare_over(struct comparison *comparison, const struct copies *copies, bool guilty)
{
    int size = mesh_size(comparison->mesh, copies->axis);
    int64_t count = 0;
    if (size < 2)
        return STATUS_OK;
    /* The smallest of a number and of its complement: together they say whether all are the same. */
    for (int i = 0; i < comparison->count; i++) {
        if (!copies->has(comparison->parameters[i]))
            continue;
        uint64_t pair[2] = {comparison->hash[i], ~comparison->hash[i]};
        memcpy(&comparison->bounds[count], pair, sizeof pair);
        count += 2;
    }
    mesh_all_reduce(comparison->mesh, copies->axis, comparison->bounds, count, DTYPE_I64, MESH_MIN);
    count = 0;
    for (int i = 0; i < comparison->count; i++) {
        if (!copies->has(comparison->parameters[i]))
            continue;
        if (comparison->bounds[count] != ~comparison->bounds[count + 1])
            return find_wrong(comparison, copies->axis, i, guilty);
        count += 2;
    }
    return STATUS_OK;
}

enum status comparison_run(struct comparison *comparison)
{
    static const struct copies copies[] = {{MESH_REPLICA, always}, {MESH_TENSOR, is_whole}, {MESH_ENDS, is_tied}};
    for (int i = 0; i < comparison->count; i++)
        comparison->hash[i] = hash_of(comparison->parameters[i]);
    enum status status = check_own(comparison);
    bool guilty = status != STATUS_OK;
    for (size_t i = 0; i < sizeof copies / sizeof *copies; i++) {
        enum status compared = compare_over(comparison, &copies[i], guilty);
        status = status == STATUS_OK ? compared : status;
    }
    return mesh_agree(comparison->mesh, comparison->context, status);
}
