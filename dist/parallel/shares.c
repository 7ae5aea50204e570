#include "dist/parallel/shares.h"

#include <string.h>

#include "src/ops/ops.h"

const struct shares *shares_create(struct tape *tape, const struct mesh *mesh, int64_t total, const int32_t *const *own,
                                   const int64_t *count)
{
    int ranks = mesh_size(mesh, MESH_CONTEXT);
    int rank = mesh_rank(mesh, MESH_CONTEXT);
    struct shares *shares = tape_save(tape, sizeof *shares);
    int32_t *mine = tape_save(tape, (size_t)count[rank] * sizeof *mine);
    int32_t *place = tape_save(tape, (size_t)total * sizeof *place);
    if (!shares || !mine || !place)
        return NULL;
    *shares = (struct shares){.total = total, .count = count[rank], .own = mine, .place = place};
    for (int i = 0; i < ranks; i++)
        shares->most = integer_max(shares->most, count[i]);
    for (int i = 0; i < ranks; i++)
        for (int64_t n = 0; n < count[i]; n++)
            place[own[i][n]] = (int32_t)(i * shares->most + n);
    memcpy(mine, own[rank], (size_t)count[rank] * sizeof *mine);
    return shares;
}

const struct shares *shares_of_stretches(struct tape *tape, const struct mesh *mesh, int64_t total)
{
    int ranks = mesh_size(mesh, MESH_CONTEXT);
    struct range mine = range_partition(total, ranks, mesh_rank(mesh, MESH_CONTEXT));
    struct shares *shares = tape_save(tape, sizeof *shares);
    int32_t *own = tape_save(tape, (size_t)mine.count * sizeof *own);
    int32_t *place = tape_save(tape, (size_t)total * sizeof *place);
    if (!shares || !own || !place)
        return NULL;
    *shares = (struct shares){.total = total,
                              .most = range_partition(total, ranks, 0).count,
                              .count = mine.count,
                              .own = own,
                              .place = place};
    for (int i = 0; i < ranks; i++) {
        struct range part = range_partition(total, ranks, i);
        for (int64_t n = 0; n < part.count; n++)
            place[part.begin + n] = (int32_t)(i * shares->most + n);
    }
    for (int64_t n = 0; n < mine.count; n++)
        own[n] = (int32_t)(mine.begin + n);
    return shares;
}

/* -- Rows between the order of the list and that of the ranks, each rank's padded to the most -- */

static size_t row_bytes(const struct tensor *x)
{
    return (size_t)tensor_columns(x) * dtype_size(x->dtype);
}

/* A dry run has nothing in them, and would make memory real by writing to it. */
static void copy(const struct tape *tape, void *to, const void *from, size_t bytes)
{
    if (!tape->context->dry)
        memcpy(to, from, bytes);
}

static void to_ranks(char *ranks, const char *list, const struct shares *shares, int64_t rows, size_t bytes)
{
    memset(ranks, 0, (size_t)rows * bytes);
    for (int64_t i = 0; i < shares->total; i++)
        memcpy(ranks + (size_t)shares->place[i] * bytes, list + (size_t)i * bytes, bytes);
}

static void to_list(char *list, const char *ranks, const struct shares *shares, size_t bytes)
{
    for (int64_t i = 0; i < shares->total; i++)
        memcpy(list + (size_t)i * bytes, ranks + (size_t)shares->place[i] * bytes, bytes);
}

/* list [total] = what all ranks have, own [count] each. Uses the work arena, which the caller rewinds. */
static bool gather(struct tape *tape, struct mesh *mesh, const struct shares *shares, const void *own, void *list,
                   int64_t columns, enum dtype dtype)
{
    int64_t rows = shares->most * mesh_size(mesh, MESH_CONTEXT);
    size_t bytes = (size_t)columns * dtype_size(dtype);
    char *padded = arena_allocate(tape->work, (size_t)shares->most * bytes);
    char *ranks = arena_allocate(tape->work, (size_t)rows * bytes);
    if (!padded || !ranks)
        return false;
    copy(tape, padded, own, (size_t)shares->count * bytes);
    if (!tape->context->dry)
        memset(padded + (size_t)shares->count * bytes, 0, (size_t)(shares->most - shares->count) * bytes);
    mesh_all_gather(mesh, MESH_CONTEXT, padded, ranks, rows, columns, dtype);
    if (!tape->context->dry)
        to_list(list, ranks, shares, bytes);
    return true;
}

/* own [most], of which count are meant = this rank's part of the sum of list [total]. The same about the arena. */
static void *scatter(struct tape *tape, struct mesh *mesh, const struct shares *shares, const void *list,
                     int64_t columns, enum dtype dtype)
{
    int64_t rows = shares->most * mesh_size(mesh, MESH_CONTEXT);
    size_t bytes = (size_t)columns * dtype_size(dtype);
    char *own = arena_allocate(tape->work, (size_t)shares->most * bytes);
    char *ranks = arena_allocate(tape->work, (size_t)rows * bytes);
    if (!own || !ranks)
        return NULL;
    if (!tape->context->dry)
        to_ranks(ranks, list, shares, rows, bytes);
    mesh_reduce_scatter(mesh, MESH_CONTEXT, ranks, own, rows, columns, dtype);
    return own;
}

/* -- Operations -- */

struct shares_saved {
    struct mesh *mesh;
    const struct shares *shares;
    bool gathered; /* forward was the gather; else the scatter */
};

/* The other way. Every rank takes part, also one whose input needs no gradient. */
static void shares_backward(struct tape *tape, const struct tape_record *record)
{
    const struct shares_saved *saved = record->saved;
    struct tensor *x = record->input[0];
    struct gradient_target target = tape_target(tape, x);
    const void *upstream = tape_gradient(record->output);
    int64_t count = tensor_count(x);
    struct arena_mark mark = arena_mark(tape->work);
    void *gradient;
    if (saved->gathered) {
        gradient = scatter(tape, saved->mesh, saved->shares, upstream, tensor_columns(x), x->dtype);
    } else {
        gradient = arena_allocate(tape->work, (size_t)count * dtype_size(x->dtype));
        if (gradient && !gather(tape, saved->mesh, saved->shares, upstream, gradient, tensor_columns(x), x->dtype))
            gradient = NULL;
    }
    if (gradient && target.data && target.beta != 0.0f)
        accumulate(tape->engine, target.data, gradient, x->dtype, count);
    else if (gradient && target.data)
        copy(tape, target.data, gradient, (size_t)count * dtype_size(x->dtype));
    arena_rewind(tape->work, mark);
}

static struct tensor *push(struct tape *tape, struct mesh *mesh, struct tensor *x, struct tensor *y,
                           const struct shares *shares, bool gathered)
{
    struct shares_saved *saved = tape_save(tape, sizeof *saved);
    if (!saved)
        return NULL;
    *saved = (struct shares_saved){.mesh = mesh, .shares = shares, .gathered = gathered};
    return tape_push(tape,
                     (struct tape_record){.backward = shares_backward, .input = {x}, .output = y, .saved = saved});
}

struct tensor *shares_gather(struct tape *tape, struct mesh *mesh, struct tensor *x, const struct shares *shares)
{
    if (!x || !shares)
        return x;
    struct tensor *y = tape_matrix(tape, x->dtype, shares->total, tensor_columns(x));
    if (!y)
        return NULL;
    struct arena_mark mark = arena_mark(tape->work);
    bool done = gather(tape, mesh, shares, x->data, y->data, tensor_columns(x), x->dtype);
    arena_rewind(tape->work, mark);
    return done ? push(tape, mesh, x, y, shares, true) : NULL;
}

struct tensor *shares_scatter(struct tape *tape, struct mesh *mesh, struct tensor *x, const struct shares *shares)
{
    if (!x || !shares)
        return x;
    struct tensor *y = tape_matrix(tape, x->dtype, shares->count, tensor_columns(x));
    if (!y)
        return NULL;
    struct arena_mark mark = arena_mark(tape->work);
    const void *own = scatter(tape, mesh, shares, x->data, tensor_columns(x), x->dtype);
    if (own)
        copy(tape, y->data, own, (size_t)shares->count * row_bytes(x));
    arena_rewind(tape->work, mark);
    return own ? push(tape, mesh, x, y, shares, false) : NULL;
}

bool shares_collect(struct tape *tape, struct mesh *mesh, const float *own, const struct shares *shares, float *all)
{
    struct arena_mark mark = arena_mark(tape->work);
    bool done = gather(tape, mesh, shares, own, all, 1, DTYPE_F32);
    arena_rewind(tape->work, mark);
    return done;
}
