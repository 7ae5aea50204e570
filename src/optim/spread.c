#include "src/optim/spread.h"

#include <string.h>

#include "dist/matrix/exchange.h"
#include "src/optim/matrices.h"

/* What the optimiser has made for all matrices of a size. */
struct plan {
    const struct optimizer_ops *ops;
    const struct grid *grid;
    int64_t rows, columns;
    void *made;
};

/* One matrix of a parameter. */
struct entry {
    int shard;
    int64_t index;       /* among the parameter's matrices */
    struct range within; /* what this rank has of it, in arrays of the shard */
    struct plan *plan;
    struct exchange *exchange;
};

enum { AXES = 2 };

struct spread {
    struct context *context;
    struct grid *grid[AXES]; /* over tensor ranks and over the stage; NULL until one is needed */
    struct plan *plans;
    int plan_count;
    struct entry *entries;
    int count;
    float *direction; /* of the largest part of a matrix that is here */
    void *work;       /* of exchanges */
};

/* -- Who -- */

static int stage_ranks(const struct mesh *mesh)
{
    return mesh_size(mesh, MESH_STAGE);
}

enum status spread_check(struct context *context, const struct mesh *mesh, const struct optimizer_config *config)
{
    if (!mesh || config->matrix_ranks <= stage_ranks(mesh))
        return STATUS_OK;
    return context_fail(context, STATUS_USAGE,
                        "optimizer.matrix_ranks: %lld do not fit the %d ranks of a pipeline stage (data x context x "
                        "tensor); take %d or fewer, or auto",
                        (long long)config->matrix_ranks, stage_ranks(mesh), stage_ranks(mesh));
}

/* While every rank has whole matrices to step, dealing them keeps all busy and sends least. One that alone takes longer
 * than the even share of all is what they would wait for. */
int spread_ranks(const struct mesh *mesh, const struct optimizer_config *config, const struct parameter *parameter,
                 double all_costs)
{
    struct matrices m = matrices_of(&parameter->spec);
    if (!mesh || stage_ranks(mesh) == 1 || config->matrix_ranks == 1 || parameter->tied ||
        integer_min(m.rows, m.columns) < config->matrix_border)
        return 0;
    if (config->matrix_ranks > 1)
        return (int)config->matrix_ranks;
    double even = all_costs / (double)stage_ranks(mesh);
    int tensor = mesh_size(mesh, MESH_TENSOR);
    if (parameter->cost <= even)
        return 0;
    return parameter->cost <= even * tensor ? tensor : stage_ranks(mesh);
}

enum mesh_axis spread_axis(const struct mesh *mesh, int ranks)
{
    return ranks <= mesh_size(mesh, MESH_TENSOR) ? MESH_TENSOR : MESH_STAGE;
}

struct range spread_rows(const struct mesh *mesh, const struct parameter *parameter, int64_t side)
{
    enum mesh_axis axis = spread_axis(mesh, parameter->grid_ranks);
    return range_partition(side, mesh_size(mesh, axis), mesh_rank(mesh, axis));
}

/* -- Shares -- */

/* Of matrix `index` of a parameter the rows and columns of this rank's block, and the elements of the block. */
struct block {
    struct range rows, columns, elements;
};

static struct block find_block(const struct parameter *parameter, int64_t index)
{
    struct box box = parameter_box(parameter);
    int rank = parameter->spec.rank;
    struct block block = {.rows = {box.offset[rank - 2], box.extent[rank - 2]},
                          .columns = {box.offset[rank - 1], box.extent[rank - 1]}};
    int64_t each = block.rows.count * block.columns.count;
    int64_t place = 0;
    int64_t below = 1;
    for (int i = rank - 3; i >= 0; i--) {
        int64_t at = index % parameter->spec.shape[i] - box.offset[i];
        index /= parameter->spec.shape[i];
        if (at < 0 || at >= box.extent[i])
            return (struct block){.rows = block.rows, .columns = block.columns};
        place += at * below;
        below *= box.extent[i];
    }
    block.elements = (struct range){place * each, each};
    return block;
}

/* Elements `flat` of the local block that belong to a matrix, as a share whose buffer begins at `begin`. */
static struct matrix_share find_share(const struct block *block, struct range flat, int64_t begin)
{
    struct range mine = range_intersect(flat, block->elements);
    struct range within = {mine.begin - block->elements.begin, mine.count};
    struct matrix_share share = {0};
    if (mine.count > 0)
        share = matrix_share_of_range(block->rows, block->columns, within);
    for (int i = 0; i < share.count; i++)
        share.part[i].begin += mine.begin - begin;
    return share;
}

static enum status plan_exchange(struct spread *spread, struct mesh *mesh, const struct shard *shard,
                                 struct entry *entry)
{
    const struct parameter *parameter = shard->parameter;
    const struct optimizer_ops *ops = entry->plan->ops;
    struct block block = find_block(parameter, entry->index);
    struct range mine = range_intersect(shard->flat, block.elements);
    struct matrix_share brings = find_share(&block, parameter_owned(parameter, shard->flat), mine.begin);
    struct matrix_share wants = find_share(&block, shard->flat, mine.begin);
    bool copied = parameter->division.replicated && !parameter->division.overlapping;
    entry->within = (struct range){mine.count > 0 ? mine.begin - shard->flat.begin : 0, mine.count};
    return exchange_create(spread->context, parameter->spec.name, ops->grid->matrix(entry->plan->made), &brings, &wants,
                           copied ? mesh_size(mesh, MESH_TENSOR) : 1, DTYPE_F32, &entry->exchange);
}

/* -- Creation -- */

static enum status find_grid(struct spread *spread, struct mesh *mesh, const struct parameter *parameter,
                             const struct grid **grid)
{
    enum mesh_axis axis = spread_axis(mesh, parameter->grid_ranks);
    int place = axis == MESH_STAGE;
    int rows;
    int columns;
    grid_shape(parameter->grid_ranks, &rows, &columns);
    if (!spread->grid[place])
        CHECK(grid_create(spread->context, mesh, axis, rows, columns, &spread->grid[place]));
    *grid = spread->grid[place];
    return STATUS_OK;
}

static enum status find_plan(struct spread *spread, const struct optimizer *optimizer, const struct optimizer_ops *ops,
                             const struct grid *grid, const struct parameter_spec *spec, struct plan **plan)
{
    struct matrices m = matrices_of(spec);
    for (int i = 0; i < spread->plan_count; i++) {
        *plan = &spread->plans[i];
        if ((*plan)->grid == grid && (*plan)->rows == m.rows && (*plan)->columns == m.columns)
            return STATUS_OK;
    }
    *plan = &spread->plans[spread->plan_count++];
    **plan = (struct plan){.ops = ops, .grid = grid, .rows = m.rows, .columns = m.columns};
    return ops->grid->create(spread->context, &optimizer->config, spec->name, grid, m.rows, m.columns, &(*plan)->made);
}

static int64_t count_matrices(const struct optimizer *optimizer)
{
    int64_t count = 0;
    for (int i = 0; i < optimizer->count; i++)
        if (optimizer->shards[i].parameter->grid_ranks > 0)
            count += matrices_of(&optimizer->shards[i].parameter->spec).count;
    return count;
}

static enum status make_entries(struct spread *spread, struct mesh *mesh, const struct optimizer *optimizer)
{
    for (int i = 0; i < optimizer->count; i++) {
        const struct shard *shard = &optimizer->shards[i];
        const struct parameter *parameter = shard->parameter;
        const struct grid *grid;
        struct plan *plan;
        if (parameter->grid_ranks == 0)
            continue;
        CHECK(find_grid(spread, mesh, parameter, &grid));
        CHECK(find_plan(spread, optimizer, optimizer->stepped_by[i], grid, &parameter->spec, &plan));
        for (int64_t index = 0; index < matrices_of(&parameter->spec).count; index++) {
            struct entry *entry = &spread->entries[spread->count++];
            *entry = (struct entry){.shard = i, .index = index, .plan = plan};
            CHECK(plan_exchange(spread, mesh, shard, entry));
        }
    }
    return STATUS_OK;
}

static enum status allocate_buffers(struct spread *spread)
{
    struct context *context = spread->context;
    int64_t direction = 0;
    size_t work = 0;
    for (int i = 0; i < spread->count; i++) {
        size_t needed = exchange_work(spread->entries[i].exchange);
        direction = integer_max(direction, spread->entries[i].within.count);
        work = needed > work ? needed : work;
    }
    spread->direction = memory_allocate(context, (size_t)direction * sizeof(float), MEMORY_BUFFERS);
    spread->work = memory_allocate(context, work, MEMORY_BUFFERS);
    return context->status;
}

enum status spread_create(struct context *context, struct mesh *mesh, const struct optimizer *optimizer,
                          struct spread **spread)
{
    int64_t matrices = count_matrices(optimizer);
    struct spread *s = memory_allocate(context, sizeof *s, MEMORY_OTHER);
    *spread = s;
    if (s) {
        s->context = context;
        s->plans = memory_allocate(context, (size_t)matrices * sizeof *s->plans, MEMORY_OTHER);
        s->entries = memory_allocate(context, (size_t)matrices * sizeof *s->entries, MEMORY_OTHER);
    }
    CHECK(mesh ? mesh_agree(mesh, context, context->status) : context->status);
    CHECK(make_entries(s, mesh, optimizer));
    return allocate_buffers(s);
}

void spread_destroy(struct spread **spread)
{
    struct spread *s = *spread;
    if (!s)
        return;
    struct context *context = s->context;
    for (int i = 0; i < s->count; i++)
        exchange_destroy(&s->entries[i].exchange);
    for (int i = 0; i < s->plan_count; i++)
        s->plans[i].ops->grid->destroy(context, &s->plans[i].made);
    for (int i = 0; i < AXES; i++)
        grid_destroy(&s->grid[i]);
    memory_free(context, s->plans);
    memory_free(context, s->entries);
    memory_free(context, s->direction);
    memory_free(context, s->work);
    memory_free(context, s);
    *spread = NULL;
}

/* -- Steps -- */

/* What is kept of a matrix: its part of arrays of the parameter's shape, and this rank's rows of its squares. */
static void find_state(const struct optimizer *optimizer, const struct entry *entry, void *state[OPTIMIZER_ARRAYS])
{
    const struct shard *shard = &optimizer->shards[entry->shard];
    const struct parameter_spec *spec = &shard->parameter->spec;
    struct optimizer_array arrays[OPTIMIZER_ARRAYS];
    int count = entry->plan->ops->arrays(&optimizer->config, spec, arrays);
    memset(state, 0, OPTIMIZER_ARRAYS * sizeof *state);
    for (int i = 0; i < count; i++) {
        char *data = optimizer->state[(ptrdiff_t)entry->shard * OPTIMIZER_ARRAYS + i];
        int64_t begin = entry->within.begin;
        if (arrays[i].rank > 0) {
            int64_t side = arrays[i].shape[arrays[i].rank - 1];
            begin = entry->index * side * spread_rows(optimizer->mesh, shard->parameter, side).count;
        }
        state[i] = data ? data + (size_t)begin * dtype_size(arrays[i].dtype) : NULL;
    }
}

static enum status step_matrix(struct spread *spread, const struct optimizer *optimizer, const struct entry *entry,
                               const struct optimizer_step *step)
{
    const struct shard *shard = &optimizer->shards[entry->shard];
    void *state[OPTIMIZER_ARRAYS];
    const struct grid_share share = {.name = shard->parameter->spec.name,
                                     .count = entry->within.count,
                                     .exchange = entry->exchange,
                                     .work = spread->work};
    find_state(optimizer, entry, state);
    CHECK(entry->plan->ops->grid->step(step, entry->plan->made, &share, shard->gradient + entry->within.begin, state,
                                       spread->direction));
    optimizer_apply(step, shard, entry->within, spread->direction);
    return STATUS_OK;
}

enum status spread_update(struct spread *spread, const struct optimizer *optimizer, const struct optimizer_step *step)
{
    struct time_account *time = &spread->context->time;
    enum status status = STATUS_OK;
    enum time_kind before = time_enter(time, TIME_OPTIMIZER);
    for (int i = 0; i < spread->count && status == STATUS_OK; i++)
        status = step_matrix(spread, optimizer, &spread->entries[i], step);
    time_leave(time, before);
    return status;
}
