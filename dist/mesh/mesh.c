#include "dist/mesh/members.h"
#include "dist/mesh/mesh_private.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/core/text.h"

/* How the sizes that are fixed could be met, for a message: by other ranks, and by another size. */
static void describe_fit(const struct mesh_config *wanted, int ranks, char *text, size_t size)
{
    long long model = (long long)(wanted->pipeline * wanted->context * wanted->tensor);
    long long all = model * (long long)wanted->data;
    int used = 0;
    if (all > 0)
        used = snprintf(text, size, "start %lld ranks (mpirun -n %lld), or ", all, all);
    else if (model > 0)
        used = snprintf(text, size, "start a multiple of %lld ranks (mpirun -n %lld), or ", model, model);
    if (model > 0 && ranks % model == 0)
        snprintf(text + used, size - (size_t)used, "mesh.data=%lld would fit", ranks / model);
    else
        snprintf(text + used, size - (size_t)used, "choose sizes whose product is %d", ranks);
}

enum status mesh_resolve(struct context *context, const struct mesh_config *wanted, int ranks,
                         struct mesh_config *resolved)
{
    *resolved = *wanted;
    int64_t *size[] = {&resolved->data, &resolved->pipeline, &resolved->context, &resolved->tensor};
    static const char *const name[] = {"data", "pipeline", "context", "tensor"};
    int automatic = -1;
    int64_t product = 1;
    char fit[160];
    describe_fit(wanted, ranks, fit, sizeof fit);
    for (int i = 0; i < 4; i++) {
        if (*size[i] < 0 || *size[i] > ranks)
            return context_fail(context, STATUS_USAGE, "mesh.%s: %lld does not fit %d rank%s; %s", name[i],
                                (long long)*size[i], ranks, ranks == 1 ? "" : "s", fit);
        if (*size[i] == 0 && automatic >= 0)
            return context_fail(context, STATUS_USAGE, "mesh: only one of the sizes may be auto; both %s and %s are",
                                name[automatic], name[i]);
        if (*size[i] == 0)
            automatic = i;
        else
            product *= *size[i];
    }
    if (automatic >= 0 && ranks % product != 0)
        return context_fail(
            context, STATUS_USAGE,
            "mesh: the other sizes make %lld, which does not divide %d ranks, so %s cannot be chosen; %s",
            (long long)product, ranks, name[automatic], fit);
    if (automatic >= 0)
        *size[automatic] = ranks / product;
    else if (product != ranks)
        return context_fail(context, STATUS_USAGE,
                            "mesh: data %lld x pipeline %lld x context %lld x tensor %lld is %lld ranks, but %d were "
                            "started; %s",
                            (long long)wanted->data, (long long)wanted->pipeline, (long long)wanted->context,
                            (long long)wanted->tensor, (long long)product, ranks, fit);
    if (resolved->virtual_stages > 1 && resolved->pipeline == 1)
        return context_fail(context, STATUS_USAGE, "mesh.virtual_stages: %lld needs a pipeline of at least 2",
                            (long long)resolved->virtual_stages);
    return STATUS_OK;
}

static void bf16_sum(void *in, void *inout, int *length, MPI_Datatype *datatype)
{
    (void)datatype;
    const bf16 *term = in;
    bf16 *sum = inout;
    for (int i = 0; i < *length; i++)
        sum[i] = bf16_from_float(bf16_to_float(sum[i]) + bf16_to_float(term[i]));
}

static void axis_create(struct mesh *mesh, enum mesh_axis axis, bool takes_part, int color, int key)
{
    MPI_Comm_split(mesh->communicator[MESH_TEAM], takes_part ? color : MPI_UNDEFINED, key, &mesh->communicator[axis]);
    mesh->size[axis] = 0;
    mesh->rank[axis] = -1;
    if (mesh->communicator[axis] != MPI_COMM_NULL) {
        MPI_Comm_size(mesh->communicator[axis], &mesh->size[axis]);
        MPI_Comm_rank(mesh->communicator[axis], &mesh->rank[axis]);
    }
}

static bool counts_create(struct mesh *mesh)
{
    int ranks = mesh->size[MESH_TEAM];
    mesh->message_most = MESSAGE_MOST;
    mesh->direct_most = DIRECT_MOST;
    mesh->counts = memory_allocate(mesh->context, 4 * (size_t)ranks * sizeof *mesh->counts, MEMORY_OTHER);
    if (mesh->counts)
        mesh->offsets = mesh->counts + ranks;
    return mesh->counts != NULL;
}

enum status mesh_create(struct context *context, const struct team *team, const struct mesh_config *config,
                        struct mesh **mesh)
{
    struct mesh *m = memory_allocate(context, sizeof *m, MEMORY_OTHER);
    if (!m)
        team_abort(1);
    m->context = context;
    m->team = team;
    m->config = *config;
    for (int axis = 0; axis < MESH_AXES; axis++)
        m->reversed[axis] = MPI_COMM_NULL;
    MPI_Comm_dup(team->communicator, &m->communicator[MESH_TEAM]);
    m->size[MESH_TEAM] = team->size;
    m->rank[MESH_TEAM] = team->rank;
    int rank = team->rank;
    struct members_place at = members_place(config, rank);
    int stages = (int)config->pipeline;
    int contexts = (int)config->context;
    int tensors = (int)config->tensor;
    int across = (at.data * contexts + at.along) * tensors + at.tensor; /* which pipeline this is */
    axis_create(m, MESH_TENSOR, true, rank / tensors, at.tensor);
    axis_create(m, MESH_CONTEXT, true, (at.data * stages + at.stage) * tensors + at.tensor, at.along);
    axis_create(m, MESH_PIPELINE, true, across, at.stage);
    axis_create(m, MESH_DATA, true, (at.stage * contexts + at.along) * tensors + at.tensor, at.data);
    axis_create(m, MESH_REPLICA, true, at.stage * tensors + at.tensor, at.data * contexts + at.along);
    axis_create(m, MESH_STAGE, true, at.stage, (at.data * contexts + at.along) * tensors + at.tensor);
    axis_create(m, MESH_ENDS, at.stage == 0 || at.stage == stages - 1, across, at.stage);
    MPI_Comm *host = &m->communicator[MESH_HOST];
    MPI_Comm_split_type(m->communicator[MESH_TEAM], MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, host);
    MPI_Comm_size(*host, &m->size[MESH_HOST]);
    MPI_Comm_rank(*host, &m->rank[MESH_HOST]);
    MPI_Type_contiguous(2, MPI_BYTE, &m->bf16);
    MPI_Type_commit(&m->bf16);
    MPI_Op_create(bf16_sum, 1, &m->bf16_sum);
    if (!counts_create(m) || mesh_ring_create(m) != STATUS_OK)
        team_abort(1);
    *mesh = m;
    return STATUS_OK;
}

enum status mesh_create_dry(struct context *context, const struct mesh_config *config, int rank, struct mesh **mesh)
{
    struct mesh *m = memory_allocate(context, sizeof *m, MEMORY_OTHER);
    *mesh = m;
    if (!m)
        return STATUS_MEMORY;
    m->context = context;
    m->config = *config;
    m->dry = true;
    struct members_place at = members_place(config, rank);
    int contexts = (int)config->context;
    bool end = at.stage == 0 || at.stage == config->pipeline - 1;
    const struct {
        int64_t size;
        int rank;
    } axes[MESH_AXES] = {
        [MESH_DATA] = {config->data, at.data},
        [MESH_PIPELINE] = {config->pipeline, at.stage},
        [MESH_CONTEXT] = {config->context, at.along},
        [MESH_TENSOR] = {config->tensor, at.tensor},
        [MESH_REPLICA] = {config->data * contexts, at.data * contexts + at.along},
        [MESH_STAGE] = {config->data * contexts * config->tensor,
                        (at.data * contexts + at.along) * (int)config->tensor + at.tensor},
        [MESH_ENDS] = {end ? integer_min(2, config->pipeline) : 0, end ? at.stage > 0 : -1},
        [MESH_HOST] = {1, 0},
        [MESH_TEAM] = {config->data * config->pipeline * contexts * config->tensor, rank},
    };
    for (int axis = 0; axis < MESH_AXES; axis++) {
        m->communicator[axis] = m->reversed[axis] = MPI_COMM_NULL;
        m->size[axis] = (int)axes[axis].size;
        m->rank[axis] = axes[axis].rank;
    }
    return counts_create(m) ? mesh_ring_create(m) : STATUS_MEMORY;
}

void mesh_destroy(struct mesh **mesh)
{
    struct mesh *m = *mesh;
    if (!m)
        return;
    for (int axis = 0; axis < MESH_AXES; axis++) {
        if (m->communicator[axis] != MPI_COMM_NULL)
            MPI_Comm_free(&m->communicator[axis]);
        if (m->reversed[axis] != MPI_COMM_NULL)
            MPI_Comm_free(&m->reversed[axis]);
    }
    mesh_reductions_destroy(m);
    if (!m->dry) {
        MPI_Op_free(&m->bf16_sum);
        MPI_Type_free(&m->bf16);
    }
    mesh_ring_destroy(m);
    memory_free(m->context, m->counts);
    memory_free(m->context, m);
    *mesh = NULL;
}

int mesh_size(const struct mesh *mesh, enum mesh_axis axis)
{
    return mesh->size[axis];
}

int mesh_rank(const struct mesh *mesh, enum mesh_axis axis)
{
    return mesh->rank[axis];
}

int mesh_ranks_on_host(const struct mesh *mesh)
{
    return mesh->size[MESH_HOST];
}

const struct team *mesh_team(const struct mesh *mesh)
{
    return mesh->team;
}

const struct mesh_config *mesh_config(const struct mesh *mesh)
{
    return &mesh->config;
}

struct mesh_traffic mesh_traffic(const struct mesh *mesh, enum mesh_axis axis)
{
    return mesh->traffic[axis];
}

uint64_t mesh_library_enter(struct mesh *mesh, enum mesh_axis axis)
{
    struct mesh_mark mark = mesh_enter(mesh, axis, CALL_LIBRARY, 0);
    (void)time_enter(&mesh->context->time, mark.before);
    return mark.number;
}

void mesh_library_leave(struct mesh *mesh, uint64_t number)
{
    mesh_leave(mesh, (struct mesh_mark){mesh->context->time.kind, number});
}

MPI_Comm mesh_communicator(const struct mesh *mesh, enum mesh_axis axis)
{
    return mesh->communicator[axis];
}

enum status mesh_agree(struct mesh *mesh, struct context *context, enum status status)
{
    if (mesh->dry)
        return status;
    struct mesh_mark mark = mesh_enter(mesh, MESH_TEAM, CALL_AGREE, (int64_t)sizeof(int));
    status = team_agree(mesh->team, context, status);
    mesh_leave(mesh, mark);
    return status;
}
