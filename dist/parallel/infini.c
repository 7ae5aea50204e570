#include "dist/parallel/infini.h"

#include <string.h>

#include "src/ops/engine.h"
#include "src/ops/infini.h"

struct states_saved {
    struct mesh *mesh;
    struct infini_keys keys;
    enum memory_update update;
    float *maps; /* of the delta rules, else NULL */
};

static int64_t blocks_of(const struct infini_keys *keys)
{
    return keys->rows * keys->segments * keys->kv_heads;
}

/* -- Along the segments of all ranks -- */

/* In blocks of states: a chain of M with the delta rules' maps, */
static struct infini_chain chain_of_m(const struct states_saved *saved, float *states, bool reverse)
{
    const struct infini_keys *keys = &saved->keys;
    return (struct infini_chain){.rows = keys->rows,
                                 .segments = keys->segments,
                                 .kv_heads = keys->kv_heads,
                                 .height = keys->width,
                                 .columns = keys->width,
                                 .terms = states,
                                 .stride = infini_elements(saved->update, keys->width),
                                 .maps = saved->maps,
                                 .reverse = reverse};
}

/* or a running sum of `columns` elements from the element `at` on. */
static struct infini_chain chain_of_sums(const struct states_saved *saved, float *states, int64_t at, int64_t columns,
                                         bool reverse)
{
    struct infini_chain chain = chain_of_m(saved, states + at, reverse);
    chain.maps = NULL;
    chain.height = 1;
    chain.columns = columns;
    return chain;
}

struct total_join {
    struct engine *engine;
    const struct infini_chain *chain;
};

static void join(void *self, const float *earlier, float *later)
{
    const struct total_join *total = self;
    infini_chain_join(total->engine, total->chain, earlier, later);
}

/* Runs a chain that begins at the start of the first rank (the last if reverse), and fills the end of every rank with
 * what stands behind its segments. The first rank carries its start along in its total, so that what the others
 * receive is where they begin. */
static bool chain_scan(struct tape *tape, struct mesh *mesh, const struct infini_chain *chain, struct infini_ends ends)
{
    struct engine *engine = tape->engine;
    int ranks = mesh ? mesh_size(mesh, MESH_CONTEXT) : 1;
    if (ranks == 1)
        return infini_chain_run(engine, chain, &ends);
    bool first = mesh_rank(mesh, MESH_CONTEXT) == (chain->reverse ? ranks - 1 : 0);
    int64_t elements = infini_chain_elements(chain);
    int64_t count = chain->rows * chain->kv_heads * elements;
    struct arena_mark mark = arena_mark(tape->work);
    struct total_join total_join = {.engine = engine, .chain = chain};
    struct mesh_scan scan = {.reverse = chain->reverse, .count = count, .self = &total_join};
    float *total = arena_allocate(tape->work, (size_t)count * sizeof *total);
    bool done = total != NULL;
    if (done && chain->maps) {
        scan.join = join;
        scan.spare = arena_allocate(tape->work, (size_t)count * sizeof *total);
        done = scan.spare != NULL;
    }
    if (!first)
        ends.start = NULL;
    done = done && infini_chain_total(engine, chain, &ends, total);
    if (done) {
        mesh_exclusive_scan(mesh, MESH_CONTEXT, total, &scan);
        if (!first) {
            ends.start = total + (chain->maps ? chain->height * chain->height : 0);
            ends.start_stride = elements;
        }
        done = infini_chain_run(engine, chain, &ends);
    }
    arena_rewind(tape->work, mark);
    return done;
}

/* -- The operation -- */

/* d loss / d state behind each segment comes from all that read later. The delta rule's divisors need M's, and add to
 * z's before each segment, which goes the same way after. */
static bool derivatives_scan(struct tape *tape, const struct states_saved *saved,
                             const struct infini_derivatives *derivatives)
{
    const struct infini_keys *keys = &saved->keys;
    int64_t at_z = keys->width * keys->width;
    struct infini_ends zero = {.start = NULL, .end = NULL};
    struct infini_chain m = chain_of_m(saved, derivatives->behind, true);
    struct infini_chain z = chain_of_sums(saved, derivatives->behind, at_z, keys->width, true);
    struct infini_chain both = chain_of_sums(saved, derivatives->behind, 0, at_z + keys->width, true);
    if (!saved->maps)
        return chain_scan(tape, saved->mesh, &both, zero);
    if (saved->update == MEMORY_UPDATE_GATED_DELTA) {
        infini_maps_transpose(keys, saved->maps); /* nobody needs them any more as they were */
        return chain_scan(tape, saved->mesh, &m, zero);
    }
    return chain_scan(tape, saved->mesh, &m, zero) && infini_divisors_backward(tape->engine, keys, derivatives) &&
           chain_scan(tape, saved->mesh, &z, zero);
}

static void states_backward(struct tape *tape, const struct tape_record *record)
{
    const struct states_saved *saved = record->saved;
    const struct infini_keys *keys = &saved->keys;
    struct time_account *time = &tape->context->time;
    enum time_kind before = time_enter(time, TIME_ATTENTION);
    struct arena_mark mark = arena_mark(tape->work);
    int64_t count = tensor_count(record->output);
    struct infini_derivatives derivatives = {.states = record->output->data};
    derivatives.behind = arena_allocate(tape->work, (size_t)count * sizeof(float));
    bool done = derivatives.behind != NULL;
    if (done && saved->update == MEMORY_UPDATE_DELTA) {
        size_t squares = (size_t)(blocks_of(keys) * keys->width * keys->width);
        derivatives.joint = arena_allocate(tape->work, squares * sizeof(float));
        derivatives.divisors = arena_allocate(tape->work, (size_t)(keys->kv_heads * keys->tokens) * sizeof(float));
        done = derivatives.joint && derivatives.divisors;
    }
    if (done) {
        convert(tape->engine, derivatives.behind, DTYPE_F32, tape_gradient(record->output), DTYPE_F32, count);
        done = derivatives_scan(tape, saved, &derivatives);
    }
    if (done) {
        /* In the order in which they are written, should one tensor be both. */
        struct gradient_target dk = tape_target(tape, record->input[0]);
        struct gradient_target dv = tape_target(tape, record->input[1]);
        struct gradient_target dstrength = tape_target(tape, record->input[2]);
        /* A failure stands in the context. */
        if (saved->update == MEMORY_UPDATE_GATED_DELTA)
            (void)infini_gated_backward(tape->engine, keys, &derivatives, dk, dv, dstrength);
        else
            (void)infini_keys_backward(tape->engine, keys, &derivatives, dk, dv);
    }
    arena_rewind(tape->work, mark);
    time_leave(time, before);
}

static const char *states_mistake(const struct tensor *k, const struct tensor *v, const struct tensor *strength,
                                  const struct infini_shape *shape)
{
    int64_t vector = shape->kv_heads * shape->width;
    if ((k->dtype != DTYPE_F32 && k->dtype != DTYPE_BF16) || k->dtype != v->dtype)
        return "k and v must share a floating type";
    if (tensor_columns(k) != vector || tensor_columns(v) != vector || tensor_rows(k) != tensor_rows(v))
        return "k and v must have a vector of each kv head for each token";
    if ((strength != NULL) != (shape->update == MEMORY_UPDATE_GATED_DELTA) ||
        (strength && tensor_count(strength) != tensor_rows(k) * shape->kv_heads))
        return "the gated delta rule, and no other, needs a strength of each kv head for each token";
    for (int64_t i = 0; i < shape->rows * shape->segments; i++)
        if (shape->written[i].key < 0 || shape->written[i].keys < 0 ||
            shape->written[i].key + shape->written[i].keys > tensor_rows(k))
            return "a segment writes tokens that are not there";
    return NULL;
}

/* Where the last rank's chains end, to all. */
static void after_share(struct mesh *mesh, const struct infini_shape *shape)
{
    int64_t count = shape->rows * shape->kv_heads * infini_elements(shape->update, shape->width);
    if (mesh && shape->after)
        mesh_broadcast(mesh, MESH_CONTEXT, mesh_size(mesh, MESH_CONTEXT) - 1, shape->after, count, DTYPE_F32);
}

/* The delta rule needs z before each segment for its maps of M; the linear update sums up both alike. */
static bool states_compute(struct tape *tape, const struct states_saved *saved, const struct infini_shape *shape,
                           float *states)
{
    const struct infini_keys *keys = &saved->keys;
    float *maps = saved->maps;
    int64_t stride = infini_elements(shape->update, shape->width);
    int64_t at_z = shape->width * shape->width;
    struct infini_chain m = chain_of_m(saved, states, false);
    struct infini_chain z = chain_of_sums(saved, states, at_z, shape->width, false);
    struct infini_chain both = chain_of_sums(saved, states, 0, stride, false);
    struct infini_ends ends = {
        .start = shape->before, .start_stride = stride, .end = shape->after, .end_stride = stride};
    struct infini_ends z_ends = ends;
    z_ends.start = shape->before ? shape->before + at_z : NULL;
    z_ends.end = shape->after ? shape->after + at_z : NULL;
    if (!maps)
        return infini_maps(tape->engine, keys, states, NULL) && chain_scan(tape, saved->mesh, &both, ends);
    if (shape->update == MEMORY_UPDATE_GATED_DELTA)
        return infini_gated_maps(tape->engine, keys, states, maps) && chain_scan(tape, saved->mesh, &m, ends);
    return infini_sums(tape->engine, keys, states) && chain_scan(tape, saved->mesh, &z, z_ends) &&
           infini_maps(tape->engine, keys, states, maps) && chain_scan(tape, saved->mesh, &m, ends);
}

struct tensor *infini_states(struct tape *tape, struct mesh *mesh, struct tensor *k, struct tensor *v,
                             struct tensor *strength, const struct infini_shape *shape)
{
    if (!k || !v || (!strength && shape->update == MEMORY_UPDATE_GATED_DELTA))
        return NULL;
    const char *mistake = states_mistake(k, v, strength, shape);
    if (mistake) {
        context_fail(tape->context, STATUS_INTERNAL, "operation infini_states: %s", mistake);
        return NULL;
    }
    bool delta = shape->update != MEMORY_UPDATE_LINEAR;
    bool keeps = delta && (tape_needs(tape, k, v) || tape_needs(tape, strength, NULL));
    int64_t blocks = shape->rows * shape->segments * shape->kv_heads;
    size_t maps_bytes = (size_t)(blocks * shape->width * shape->width) * sizeof(float);
    struct states_saved *saved = tape_save(tape, sizeof *saved);
    struct tensor *states = tape_matrix(tape, DTYPE_F32, blocks, infini_elements(shape->update, shape->width));
    float *maps = keeps ? tape_save(tape, maps_bytes) : NULL;
    struct arena_mark mark = arena_mark(tape->work);
    if (delta && !keeps)
        maps = arena_allocate(tape->work, maps_bytes);
    bool done = saved && states && (maps || !delta);
    if (done) {
        *saved = (struct states_saved){.mesh = mesh,
                                       .keys = {.rows = shape->rows,
                                                .segments = shape->segments,
                                                .kv_heads = shape->kv_heads,
                                                .width = shape->width,
                                                .written = shape->written,
                                                .dtype = k->dtype,
                                                .k = k->data,
                                                .v = v->data,
                                                .tokens = tensor_rows(k),
                                                .strength = strength ? strength->data : NULL,
                                                .strength_type = strength ? strength->dtype : DTYPE_F32},
                                       .update = shape->update,
                                       .maps = maps};
        struct time_account *time = &tape->context->time;
        enum time_kind before = time_enter(time, TIME_ATTENTION);
        done = states_compute(tape, saved, shape, states->data);
        if (done)
            after_share(mesh, shape);
        time_leave(time, before);
    }
    arena_rewind(tape->work, mark);
    return done ? tape_push(tape, (struct tape_record){.backward = states_backward,
                                                       .input = {k, v, strength},
                                                       .output = states,
                                                       .saved = saved})
                : NULL;
}
