#include "dist/parallel/split.h"

#include "src/ops/ops.h"

struct range sequence_part(const struct mesh *mesh, int64_t tokens)
{
    return range_partition(tokens, mesh_size(mesh, MESH_TENSOR), mesh_rank(mesh, MESH_TENSOR));
}

struct sequence_saved {
    struct mesh *mesh;
    int64_t tokens;
    bool gathered; /* forward was the gather; else the scatter */
};

static struct sequence_saved *save_sequence(struct tape *tape, struct mesh *mesh, int64_t tokens, bool gathered)
{
    struct sequence_saved *saved = tape_save(tape, sizeof *saved);
    if (saved)
        *saved = (struct sequence_saved){.mesh = mesh, .tokens = tokens, .gathered = gathered};
    return saved;
}

/* The other collective, straight into the gradient of the input, or by way of the work arena when that has something to
 * add to. Every rank takes part, also one whose input needs no gradient. */
static void sequence_backward(struct tape *tape, const struct tape_record *record)
{
    const struct sequence_saved *saved = record->saved;
    struct tensor *x = record->input[0];
    struct gradient_target target = tape_target(tape, x);
    struct arena_mark mark = arena_mark(tape->work);
    int64_t count = tensor_count(x);
    bool direct = target.data && target.beta == 0.0f;
    void *into = direct ? target.data : arena_allocate(tape->work, (size_t)count * dtype_size(x->dtype));
    const void *upstream = tape_gradient(record->output);
    if (into && saved->gathered)
        mesh_reduce_scatter(saved->mesh, MESH_TENSOR, upstream, into, saved->tokens, tensor_columns(x), x->dtype);
    else if (into)
        mesh_all_gather(saved->mesh, MESH_TENSOR, upstream, into, saved->tokens, tensor_columns(x), x->dtype);
    if (into && target.data && !direct)
        accumulate(tape->engine, target.data, into, x->dtype, count);
    arena_rewind(tape->work, mark);
}

struct tensor *sequence_gather(struct tape *tape, struct mesh *mesh, struct tensor *x, int64_t tokens)
{
    if (!x || mesh_size(mesh, MESH_TENSOR) == 1)
        return x;
    struct tensor *y = tape_matrix(tape, x->dtype, tokens, tensor_columns(x));
    struct sequence_saved *saved = save_sequence(tape, mesh, tokens, true);
    if (!y || !saved)
        return NULL;
    mesh_all_gather(mesh, MESH_TENSOR, x->data, y->data, tokens, tensor_columns(x), x->dtype);
    return tape_push(tape,
                     (struct tape_record){.backward = sequence_backward, .input = {x}, .output = y, .saved = saved});
}

struct tensor *sequence_scatter(struct tape *tape, struct mesh *mesh, struct tensor *x)
{
    if (!x || mesh_size(mesh, MESH_TENSOR) == 1)
        return x;
    int64_t tokens = tensor_rows(x);
    struct tensor *y = tape_matrix(tape, x->dtype, sequence_part(mesh, tokens).count, tensor_columns(x));
    struct sequence_saved *saved = save_sequence(tape, mesh, tokens, false);
    if (!y || !saved)
        return NULL;
    mesh_reduce_scatter(mesh, MESH_TENSOR, x->data, y->data, tokens, tensor_columns(x), x->dtype);
    return tape_push(tape,
                     (struct tape_record){.backward = sequence_backward, .input = {x}, .output = y, .saved = saved});
}
