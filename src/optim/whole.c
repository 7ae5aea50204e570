#include "src/optim/whole.h"

#include <string.h>

#include "src/ops/operation.h"

enum { GRADIENT_TAG = 21, DIRECTION_TAG };

/* What a tensor rank has of a parameter along the axis of its division. */
struct slice {
    int64_t begin;
    int64_t count;
};

struct whole {
    struct context *context;
    struct mesh *mesh;
    int ranks; /* of the tensor axis */
    int rank;
    int count;            /* of parameters, the same on all tensor ranks */
    int *shard;           /* [count] their shards */
    int *home;            /* [count] */
    struct slice *slices; /* [ranks, count] */
    int *order;           /* [rounds, ranks] what each home computes in a round; -1 is nothing */
    int rounds;
    float *gradient;  /* of the largest parameter in slices whose home is here */
    float *direction; /* of the largest whose home is here */
    float *packed;    /* the other ranks' slices of one whose home is here */
    float *arrived;   /* slices of the directions that other homes compute in a round */
    void *work;
    struct mesh_request *requests; /* [2 ranks] */
};

/* -- Slices -- */

static const struct parameter *parameter_of(const struct whole *whole, const struct optimizer *optimizer, int index)
{
    return optimizer->shards[whole->shard[index]].parameter;
}

static int64_t slice_elements(const struct whole *whole, const struct parameter *parameter, int index, int rank)
{
    int64_t extent = parameter->spec.shape[parameter->division.axis];
    return parameter_elements(&parameter->spec) / extent * whole->slices[rank * whole->count + index].count;
}

static bool is_cut(const struct whole *whole, const struct parameter *parameter, int index)
{
    for (int r = 0; r < whole->ranks; r++)
        if (whole->slices[r * whole->count + index].count != parameter->spec.shape[parameter->division.axis])
            return true;
    return false;
}

/* Copies a slice, which is dense for itself, into the whole or out of it. */
static void slice_copy(const struct parameter *parameter, struct slice slice, const float *from, float *to, bool into)
{
    const struct parameter_spec *spec = &parameter->spec;
    int axis = parameter->division.axis;
    int64_t blocks = 1;
    int64_t inner = 1;
    for (int i = 0; i < axis; i++)
        blocks *= spec->shape[i];
    for (int i = axis + 1; i < spec->rank; i++)
        inner *= spec->shape[i];
    int64_t length = slice.count * inner;
    for (int64_t b = 0; b < blocks; b++) {
        int64_t at = (b * spec->shape[axis] + slice.begin) * inner;
        memcpy(to + (into ? at : b * length), from + (into ? b * length : at), (size_t)length * sizeof *to);
    }
}

/* -- Creation -- */

static enum status allocate_tables(struct whole *whole, int most)
{
    struct context *context = whole->context;
    size_t count = (size_t)most;
    size_t ranks = (size_t)whole->ranks;
    whole->shard = memory_allocate(context, count * sizeof *whole->shard, MEMORY_OTHER);
    whole->home = memory_allocate(context, count * sizeof *whole->home, MEMORY_OTHER);
    whole->slices = memory_allocate(context, count * ranks * sizeof *whole->slices, MEMORY_OTHER);
    whole->order = memory_allocate(context, count * ranks * sizeof *whole->order, MEMORY_OTHER);
    whole->requests = memory_allocate(context, 2 * ranks * sizeof *whole->requests, MEMORY_OTHER);
    return context->status;
}

static void find_slices(struct whole *whole, const struct optimizer *optimizer)
{
    struct slice *mine = whole->slices + (ptrdiff_t)whole->rank * whole->count;
    for (int i = 0; i < whole->count; i++) {
        struct range slice = parameter_of(whole, optimizer, i)->division.slice;
        mine[i] = (struct slice){slice.begin, slice.count};
    }
    /* A dry mesh brings nothing from the others. */
    for (int r = 0; r < whole->ranks; r++)
        if (r != whole->rank)
            memcpy(whole->slices + (ptrdiff_t)r * whole->count, mine, (size_t)whole->count * sizeof *mine);
    if (whole->ranks > 1)
        mesh_all_gather(whole->mesh, MESH_TENSOR, mine, whole->slices, whole->ranks, 2 * (int64_t)whole->count,
                        DTYPE_I64);
}

/* Deals parameters to homes, the costliest first, each to the one that has least. */
static void find_homes(struct whole *whole, const struct optimizer *optimizer)
{
    for (int i = 0; i < whole->count; i++)
        whole->home[i] = -1;
    for (int i = 0; i < whole->count * whole->ranks; i++)
        whole->order[i] = -1;
    for (int n = 0; n < whole->count; n++) {
        int next = -1;
        int least = 0;
        int least_count = 0;
        double least_cost = 0.0;
        for (int i = 0; i < whole->count; i++)
            if (whole->home[i] < 0 &&
                (next < 0 || parameter_of(whole, optimizer, i)->cost > parameter_of(whole, optimizer, next)->cost))
                next = i;
        for (int h = 0; h < whole->ranks; h++) {
            int has = 0;
            double cost = 0.0;
            for (; has < whole->count && whole->order[has * whole->ranks + h] >= 0; has++)
                cost += parameter_of(whole, optimizer, whole->order[has * whole->ranks + h])->cost;
            if (h == 0 || cost < least_cost) {
                least = h;
                least_count = has;
                least_cost = cost;
            }
        }
        whole->home[next] = least;
        whole->order[least_count * whole->ranks + least] = next;
        whole->rounds = integer_max(whole->rounds, least_count + 1);
    }
}

static enum status allocate_buffers(struct whole *whole, const struct optimizer *optimizer)
{
    struct context *context = whole->context;
    int64_t gradient = 0;
    int64_t direction = 0;
    int64_t packed = 0;
    int64_t arrived = 0;
    size_t work = 0;
    for (int round = 0; round < whole->rounds; round++) {
        int64_t of_round = 0;
        for (int h = 0; h < whole->ranks; h++) {
            int i = whole->order[round * whole->ranks + h];
            const struct parameter *parameter = i < 0 ? NULL : parameter_of(whole, optimizer, i);
            if (parameter && h != whole->rank)
                of_round += slice_elements(whole, parameter, i, whole->rank);
            if (!parameter || h != whole->rank)
                continue;
            const struct optimizer_ops *ops = optimizer->stepped_by[whole->shard[i]];
            int64_t elements = parameter_elements(&parameter->spec);
            int64_t others = 0;
            for (int r = 0; r < whole->ranks; r++)
                others += r == whole->rank ? 0 : slice_elements(whole, parameter, i, r);
            packed = integer_max(packed, others);
            direction = integer_max(direction, elements);
            gradient = integer_max(gradient, is_cut(whole, parameter, i) ? elements : 0);
            size_t needed = ops->work ? ops->work(&optimizer->config, &parameter->spec) : 0;
            work = needed > work ? needed : work;
        }
        arrived = integer_max(arrived, of_round);
    }
    whole->gradient = memory_allocate(context, (size_t)gradient * sizeof(float), MEMORY_BUFFERS);
    whole->direction = memory_allocate(context, (size_t)direction * sizeof(float), MEMORY_BUFFERS);
    whole->packed = memory_allocate(context, (size_t)packed * sizeof(float), MEMORY_BUFFERS);
    whole->arrived = memory_allocate(context, (size_t)arrived * sizeof(float), MEMORY_BUFFERS);
    whole->work = memory_allocate(context, work, MEMORY_BUFFERS);
    return context->status;
}

enum status whole_create(struct context *context, struct mesh *mesh, const struct optimizer *optimizer,
                         struct whole **whole)
{
    struct whole *w = memory_allocate(context, sizeof *w, MEMORY_OTHER);
    enum status status = w ? STATUS_OK : STATUS_MEMORY;
    *whole = w;
    if (w) {
        w->context = context;
        w->mesh = mesh;
        w->ranks = mesh ? mesh_size(mesh, MESH_TENSOR) : 1;
        w->rank = mesh ? mesh_rank(mesh, MESH_TENSOR) : 0;
        status = allocate_tables(w, optimizer->count);
    }
    CHECK(mesh ? mesh_agree(mesh, context, status) : status);
    for (int i = 0; i < optimizer->count; i++)
        if (optimizer->stepped_by[i]->direct && optimizer->shards[i].parameter->grid_ranks == 0)
            w->shard[w->count++] = i;
    find_slices(w, optimizer);
    find_homes(w, optimizer);
    return allocate_buffers(w, optimizer);
}

void whole_destroy(struct whole **whole)
{
    struct whole *w = *whole;
    if (!w)
        return;
    void *owned[] = {w->shard,    w->home,      w->slices, w->order,   w->requests,
                     w->gradient, w->direction, w->packed, w->arrived, w->work};
    struct context *context = w->context;
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        memory_free(context, owned[i]);
    memory_free(context, w);
    *whole = NULL;
}

bool whole_is_home(const struct whole *whole, int index)
{
    for (int i = 0; i < whole->count; i++)
        if (whole->shard[i] == index)
            return whole->home[i] == whole->rank;
    return false;
}

/* -- Steps -- */

/* One exchange of a round: gradients to the homes, or directions back. */
struct exchange {
    struct whole *whole;
    int started;
    bool back;
};

static void exchange_send(struct exchange *exchange, int to, const float *data, int64_t count)
{
    struct whole *whole = exchange->whole;
    if (count > 0)
        mesh_send(whole->mesh, MESH_TENSOR, to, exchange->back ? DIRECTION_TAG : GRADIENT_TAG, data, count, DTYPE_F32,
                  &whole->requests[exchange->started++]);
}

static void exchange_receive(struct exchange *exchange, int from, float *data, int64_t count)
{
    struct whole *whole = exchange->whole;
    if (count > 0)
        mesh_receive(whole->mesh, MESH_TENSOR, from, exchange->back ? DIRECTION_TAG : GRADIENT_TAG, data, count,
                     DTYPE_F32, &whole->requests[exchange->started++]);
}

/* This rank's own parameter of the round: a slice to or from each other rank. */
static void exchange_at_home(struct exchange *exchange, const struct parameter *parameter, int index)
{
    struct whole *whole = exchange->whole;
    int64_t used = 0;
    for (int r = 0; r < whole->ranks; r++) {
        struct slice slice = whole->slices[r * whole->count + index];
        int64_t count = slice_elements(whole, parameter, index, r);
        float *packed = whole->packed + used;
        if (r == whole->rank)
            continue;
        if (exchange->back && !whole->context->dry)
            slice_copy(parameter, slice, whole->direction, packed, false);
        if (exchange->back)
            exchange_send(exchange, r, packed, count);
        else
            exchange_receive(exchange, r, packed, count);
        used += count;
    }
}

static void exchange_wait(struct exchange *exchange)
{
    for (int i = 0; i < exchange->started; i++)
        mesh_wait(&exchange->whole->requests[i]);
}

/* The gradient of this rank's own parameter, once its slices are here. */
static const float *join_slices(struct whole *whole, const struct optimizer *optimizer, int index)
{
    const struct shard *shard = &optimizer->shards[whole->shard[index]];
    const struct parameter *parameter = shard->parameter;
    if (!is_cut(whole, parameter, index))
        return shard->gradient;
    int64_t used = 0;
    for (int r = 0; r < whole->ranks && !whole->context->dry; r++) {
        struct slice slice = whole->slices[r * whole->count + index];
        if (r == whole->rank) {
            slice_copy(parameter, slice, shard->gradient, whole->gradient, true);
        } else {
            slice_copy(parameter, slice, whole->packed + used, whole->gradient, true);
            used += slice_elements(whole, parameter, index, r);
        }
    }
    return whole->gradient;
}

static const float *gather_gradient(struct whole *whole, const struct optimizer *optimizer, int round, int own)
{
    struct exchange exchange = {.whole = whole};
    for (int h = 0; h < whole->ranks; h++) {
        int i = whole->order[round * whole->ranks + h];
        const struct parameter *parameter = i < 0 ? NULL : parameter_of(whole, optimizer, i);
        if (!parameter || !is_cut(whole, parameter, i))
            continue;
        if (h == whole->rank)
            exchange_at_home(&exchange, parameter, i);
        else
            exchange_send(&exchange, h, optimizer->shards[whole->shard[i]].gradient,
                          slice_elements(whole, parameter, i, whole->rank));
    }
    exchange_wait(&exchange);
    return own < 0 ? NULL : join_slices(whole, optimizer, own);
}

static void apply(const struct optimizer_step *step, const struct shard *shard, const float *direction)
{
    optimizer_apply(step, shard, (struct range){0, shard->flat.count}, direction);
}

/* Directions go to the ranks that hold the parameters, and each steps what it has. */
static void scatter_directions(struct whole *whole, const struct optimizer *optimizer,
                               const struct optimizer_step *step, int round, int own)
{
    struct exchange exchange = {.whole = whole, .back = true};
    int64_t used = 0;
    for (int h = 0; h < whole->ranks; h++) {
        int i = whole->order[round * whole->ranks + h];
        if (i < 0)
            continue;
        const struct parameter *parameter = parameter_of(whole, optimizer, i);
        int64_t count = slice_elements(whole, parameter, i, whole->rank);
        if (h == whole->rank) {
            exchange_at_home(&exchange, parameter, i);
        } else {
            exchange_receive(&exchange, h, whole->arrived + used, count);
            used += count;
        }
    }
    exchange_wait(&exchange);
    used = 0;
    for (int h = 0; h < whole->ranks; h++) {
        int i = whole->order[round * whole->ranks + h];
        if (i < 0 || h == whole->rank)
            continue;
        apply(step, &optimizer->shards[whole->shard[i]], whole->arrived + used);
        used += slice_elements(whole, parameter_of(whole, optimizer, i), i, whole->rank);
    }
    if (own < 0)
        return;
    const struct shard *shard = &optimizer->shards[whole->shard[own]];
    const float *direction = whole->direction;
    /* What it has of a parameter in slices is no longer needed whole. */
    if (is_cut(whole, shard->parameter, own)) {
        if (!whole->context->dry)
            slice_copy(shard->parameter, whole->slices[whole->rank * whole->count + own], whole->direction,
                       whole->gradient, false);
        direction = whole->gradient;
    }
    apply(step, shard, direction);
}

enum status whole_update(struct whole *whole, const struct optimizer *optimizer, const struct optimizer_step *step)
{
    struct time_account *time = &whole->context->time;
    struct optimizer_step mine = *step;
    enum status status = STATUS_OK;
    enum time_kind before = time_enter(time, TIME_OPTIMIZER);
    mine.work = whole->work;
    for (int round = 0; round < whole->rounds && status == STATUS_OK; round++) {
        int own = whole->order[round * whole->ranks + whole->rank];
        const float *gradient = gather_gradient(whole, optimizer, round, own);
        if (own >= 0) {
            int index = whole->shard[own];
            status = optimizer->stepped_by[index]->direct(&mine, &optimizer->shards[index].parameter->spec, gradient,
                                                          optimizer->state + (ptrdiff_t)index * OPTIMIZER_ARRAYS,
                                                          whole->direction);
        }
        if (status == STATUS_OK)
            scatter_directions(whole, optimizer, step, round, own);
    }
    time_leave(time, before);
    return status;
}
