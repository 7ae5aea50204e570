#include "dist/parallel/split.h"

#include <string.h>

#include "src/ops/ops.h"

struct range sequence_part(const struct mesh *mesh, int64_t tokens)
{
    return range_partition(tokens, mesh_size(mesh, MESH_TENSOR), mesh_rank(mesh, MESH_TENSOR));
}

struct sequence_saved {
    struct mesh *mesh;
    int64_t tokens;
};

static struct sequence_saved *save_sequence(struct tape *tape, struct mesh *mesh, int64_t tokens)
{
    struct sequence_saved *saved = tape_save(tape, sizeof *saved);
    if (saved)
        *saved = (struct sequence_saved){.mesh = mesh, .tokens = tokens};
    return saved;
}

static void add_to(const struct gradient_target *target, const void *values, int64_t count, struct tape *tape)
{
    if (target->beta == 0.0f) {
        memcpy(target->data, values, (size_t)count * dtype_size(target->dtype));
        return;
    }
    accumulate(tape->engine, target->data, values, target->dtype, count);
}

/* Runs a collective into the gradient of the input, by way of the work arena when there is something to add to. */
static void gather_backward(struct tape *tape, const struct tape_record *record)
{
    const struct sequence_saved *saved = record->saved;
    struct tensor *x = record->input[0];
    struct gradient_target target = tape_target(tape, x);
    struct arena_mark mark = arena_mark(tape->work);
    int64_t count = tensor_count(x);
    void *part = arena_allocate(tape->work, (size_t)count * dtype_size(x->dtype));
    if (part) {
        mesh_reduce_scatter(saved->mesh, MESH_TENSOR, tape_gradient(record->output), part, saved->tokens,
                            tensor_columns(x), x->dtype);
        if (target.data)
            add_to(&target, part, count, tape);
    }
    arena_rewind(tape->work, mark);
}

struct tensor *sequence_gather(struct tape *tape, struct mesh *mesh, struct tensor *x, int64_t tokens)
{
    if (!x || mesh_size(mesh, MESH_TENSOR) == 1)
        return x;
    struct tensor *y = tape_matrix(tape, x->dtype, tokens, tensor_columns(x));
    struct sequence_saved *saved = save_sequence(tape, mesh, tokens);
    if (!y || !saved)
        return NULL;
    mesh_all_gather(mesh, MESH_TENSOR, x->data, y->data, tokens, tensor_columns(x), x->dtype);
    return tape_push(tape,
                     (struct tape_record){.backward = gather_backward, .input = {x}, .output = y, .saved = saved});
}

static void scatter_backward(struct tape *tape, const struct tape_record *record)
{
    const struct sequence_saved *saved = record->saved;
    struct tensor *x = record->input[0];
    struct gradient_target target = tape_target(tape, x);
    struct arena_mark mark = arena_mark(tape->work);
    int64_t count = tensor_count(x);
    void *all = arena_allocate(tape->work, (size_t)count * dtype_size(x->dtype));
    if (all) {
        mesh_all_gather(saved->mesh, MESH_TENSOR, tape_gradient(record->output), all, saved->tokens, tensor_columns(x),
                        x->dtype);
        if (target.data)
            add_to(&target, all, count, tape);
    }
    arena_rewind(tape->work, mark);
}

struct tensor *sequence_scatter(struct tape *tape, struct mesh *mesh, struct tensor *x)
{
    if (!x || mesh_size(mesh, MESH_TENSOR) == 1)
        return x;
    int64_t tokens = tensor_rows(x);
    struct tensor *y = tape_matrix(tape, x->dtype, sequence_part(mesh, tokens).count, tensor_columns(x));
    struct sequence_saved *saved = save_sequence(tape, mesh, tokens);
    if (!y || !saved)
        return NULL;
    mesh_reduce_scatter(mesh, MESH_TENSOR, x->data, y->data, tokens, tensor_columns(x), x->dtype);
    return tape_push(tape,
                     (struct tape_record){.backward = scatter_backward, .input = {x}, .output = y, .saved = saved});
}
