/* The gradients of reading Infini-attention's memory. */
#include "src/ops/infini_read_pass.h"

#include <string.h>

static void backward_begin(const struct read_pass *pass, const struct read_tiles *tiles, const float *state)
{
    int64_t width = pass->shape->width;
    pass->kernels->tile_gather_transposed(tiles->m, pass->ld, state, width, width, width, 1.0f, DTYPE_F32);
    if (pass->divides)
        pass->kernels->tile_gather(tiles->z, pass->ld, state + pass->map, width, 1, width, 1.0f, DTYPE_F32);
    if (pass->norm)
        pass->kernels->tile_gather(tiles->read_m, pass->ld, state, width, width, width, 1.0f, DTYPE_F32);
}

static float *norm_part(const struct read_pass *pass, const struct read_block *block)
{
    const struct infini_read_shape *shape = pass->shape;
    int64_t part = pass->first_part[block->span] + (block->token - shape->span[block->span].query) / TOKEN_BLOCK;
    return pass->norm_parts + (part * shape->heads + block->head) * shape->width;
}

/* Nothing was read: neither the gate nor q had a part in it. */
static void backward_empty(const struct read_pass *pass, const struct read_tiles *tiles, const struct read_block *block)
{
    memset(tiles->derivatives, 0, (size_t)(block->count * pass->ld) * sizeof(float));
    if (pass->dq.data)
        infini_read_scatter(pass, pass->dq, block, tiles->derivatives, NULL);
    infini_read_gather(pass, tiles->derivatives, pass->dy, block, 1.0f);
    if (pass->da_dot.data)
        infini_read_scatter(pass, pass->da_dot, block, tiles->derivatives, NULL);
    for (int64_t r = 0; r < block->count; r++)
        pass->gate_derivatives[(block->token + r) * pass->shape->heads + block->head] = 0.0f;
    if (pass->norm)
        memset(norm_part(pass, block), 0, (size_t)pass->shape->width * sizeof(float));
}

/* With a norm: d loss / d a_mem of the block in `output`, and kept for the states; along = dy norm(a_mem). */
static void read_derive(const struct read_pass *pass, const struct read_tiles *tiles, const struct read_block *block,
                        const float *inverse)
{
    const struct kernels *kernels = pass->kernels;
    int64_t width = pass->shape->width;
    int64_t stride = pass->shape->heads * width;
    float *part = norm_part(pass, block);
    struct norm_rows rows = infini_read_normed(pass, tiles, block, inverse);
    memset(part, 0, (size_t)width * sizeof *part);
    kernels->tile_gather(tiles->slope, width, operation_at(pass->dy, block->at, pass->dtype), stride, block->count,
                         width, 1.0f, pass->dtype);
    kernels->tile_dots(tiles->along, tiles->slope, width, tiles->normed, width, block->count, width);
    for (int64_t r = 0; r < block->count; r++)
        tiles->inverse[r] = block->g;
    kernels->tile_scale(tiles->slope, width, block->count, width, tiles->inverse);
    kernels->norm_backward(&rows, tiles->slope, tiles->normed, 0.0f, part, NULL);
    kernels->tile_gather(tiles->output, pass->ld, tiles->normed, width, block->count, width, 1.0f, DTYPE_F32);
    kernels->tile_scatter(pass->read_derivatives + block->at, stride, tiles->output, pass->ld, block->count, width,
                          NULL, 0.0f, DTYPE_F32);
}

/* With y = dy M^T, which serves twice: dy a_mem = y sigma(q) / d, and d loss / d sigma(q) = (g / d) y + d' z, where
 * d = sigma(q) z + epsilon and d' = d loss / d d = - g (dy a_mem) / d. The gate: g (1 - g) dy (a_mem - a_dot). With a
 * norm d loss / d a_mem stands for g dy, except in the gate's. */
static void backward_block(const struct read_pass *pass, const struct read_tiles *tiles, const struct read_block *block)
{
    const struct kernels *kernels = pass->kernels;
    const struct infini_read_shape *shape = pass->shape;
    int64_t width = shape->width;
    int64_t ld = pass->ld;
    float g = block->g;
    if (infini_read_empty(pass, block->state)) {
        backward_empty(pass, tiles, block);
        return;
    }
    float *inverse = pass->inverse + block->head * pass->tokens + block->token;
    float *divisors = pass->divisors + block->head * pass->tokens + block->token;
    infini_read_features(pass, tiles->features, block);
    infini_read_inverses(pass, inverse, tiles->features, block->count, tiles->z);
    float from_read = g;
    if (pass->norm) {
        read_derive(pass, tiles, block, inverse);
        memcpy(tiles->inverse, tiles->along, (size_t)block->count * sizeof(float));
        from_read = 1.0f;
    } else {
        infini_read_gather(pass, tiles->output, pass->dy, block, 1.0f);
    }
    memset(tiles->derivatives, 0, (size_t)(block->count * ld) * sizeof(float));
    infini_multiply(kernels, tiles->derivatives, tiles->output, tiles->m, block->count, width, width, ld);
    kernels->tile_dots(tiles->along, tiles->derivatives, ld, tiles->features, ld, block->count, width);
    for (int64_t r = 0; r < block->count; r++) {
        int64_t at = block->at + r * shape->heads * width;
        float along_dot = kernels->dot(operation_at(pass->dy, at, pass->dtype),
                                       operation_at(pass->a_dot, at, pass->dtype), width, pass->dtype);
        float along_memory = tiles->along[r] * inverse[r];
        tiles->factor[r] = from_read * inverse[r];
        tiles->rest[r] = 1.0f - g;
        divisors[r] = -from_read * along_memory * inverse[r];
        pass->gate_derivatives[(block->token + r) * shape->heads + block->head] =
            g * (1.0f - g) * ((pass->norm ? tiles->inverse[r] : along_memory) - along_dot);
    }
    if (pass->dq.data) {
        kernels->tile_scale(tiles->derivatives, ld, block->count, ld, tiles->factor);
        if (pass->divides) {
            kernels->tile_multiply(&(struct tile_product){.m = block->count,
                                                          .n = width,
                                                          .k = 1,
                                                          .a = divisors,
                                                          .a_row = 1,
                                                          .b = tiles->z,
                                                          .ldb = ld,
                                                          .c = tiles->derivatives,
                                                          .ldc = ld,
                                                          .beta = 1.0f});
            kernels->feature_scatter(operation_at_mutable(pass->dq.data, block->at, pass->dq.dtype),
                                     shape->heads * width, tiles->derivatives, tiles->features, ld, block->count, width,
                                     pass->dq.beta, pass->dq.dtype);
        } else {
            infini_read_scatter(pass, pass->dq, block, tiles->derivatives, NULL);
        }
    }
    if (!pass->da_dot.data)
        return;
    if (pass->norm)
        infini_read_gather(pass, tiles->output, pass->dy, block, 1.0f);
    infini_read_scatter(pass, pass->da_dot, block, tiles->output, tiles->rest);
}

/* g dy, or with a norm d loss / d a_mem. */
static void read_gather(const struct read_pass *pass, float *tile, const struct read_block *block)
{
    int64_t width = pass->shape->width;
    if (pass->norm)
        pass->kernels->tile_gather(tile, pass->ld, pass->read_derivatives + block->at, pass->shape->heads * width,
                                   block->count, width, 1.0f, DTYPE_F32);
    else
        infini_read_gather(pass, tile, pass->dy, block, block->g);
}

/* Rows of d loss / d M = the sum over heads and queries of sigma(q)^T (g / d) dy, and (with the first rows) d loss / d
 * z = the sum of d' sigma(q). */
static void states_task(const struct read_pass *pass, const struct read_tiles *tiles, int64_t span, int64_t kv_head,
                        struct range rows)
{
    const struct kernels *kernels = pass->kernels;
    const struct infini_read_shape *shape = pass->shape;
    int64_t width = shape->width;
    int64_t ld = pass->ld;
    int64_t state = (span * shape->kv_heads + kv_head) * pass->state;
    bool empty = infini_read_empty(pass, pass->states + state);
    bool of_z = pass->divides && rows.begin == 0;
    memset(tiles->m, 0, (size_t)(rows.count * ld) * sizeof(float));
    memset(tiles->z, 0, (size_t)ld * sizeof(float));
    for (int64_t head = 0; head < shape->heads; head++)
        for (int64_t at = 0; at < shape->span[span].queries; at += TOKEN_BLOCK) {
            if (shape->kv_of_head[head] != kv_head || empty)
                continue;
            struct read_block block = infini_read_block(pass, span, head, at);
            int64_t scalars = head * pass->tokens + block.token;
            infini_read_features(pass, tiles->features, &block);
            read_gather(pass, tiles->output, &block);
            kernels->tile_scale(tiles->output, ld, block.count, ld, pass->inverse + scalars);
            infini_multiply_transposed(kernels, tiles->m, tiles->features + rows.begin, tiles->output, rows.count,
                                       width, block.count, ld);
            if (of_z)
                infini_multiply(kernels, tiles->z, pass->divisors + scalars, tiles->features, 1, width, block.count,
                                ld);
        }
    float *to = (float *)pass->dstates.data + state;
    kernels->tile_scatter(to + rows.begin * width, width, tiles->m, ld, rows.count, width, NULL, pass->dstates.beta,
                          DTYPE_F32);
    if (of_z)
        kernels->tile_scatter(to + pass->map, width, tiles->z, ld, 1, width, NULL, pass->dstates.beta, DTYPE_F32);
}

static void states_backward(struct engine *engine, const struct read_pass *pass)
{
    const struct infini_read_shape *shape = pass->shape;
    int64_t parts =
        infini_parts(engine, shape->spans * shape->kv_heads, integer_divide_up(shape->width, TILE_MULTIPLE));
    int64_t work = pass->tokens * shape->heads * pass->map;
    size_t stride;
    char *scratch = infini_read_scratch(engine, pass, &stride);
    if (!scratch)
        return;
    engine->context->time.flops[TIME_ATTENTION] += 2.0 * (double)work;
#pragma omp parallel for collapse(3) schedule(dynamic) num_threads(operation_threads(engine, work))
    for (int64_t span = 0; span < shape->spans; span++)
        for (int64_t kv_head = 0; kv_head < shape->kv_heads; kv_head++)
            for (int64_t part = 0; part < parts; part++) {
                struct read_tiles tiles =
                    infini_read_carve((float *)(scratch + (size_t)omp_get_thread_num() * stride), pass);
                states_task(pass, &tiles, span, kv_head, range_partition(shape->width, parts, part));
            }
}

/* Room for what a norm's gradient needs; the number of its parts, or -1 when memory is out. */
static int64_t norm_prepare(struct tape *tape, struct read_pass *pass)
{
    const struct infini_read_shape *shape = pass->shape;
    int64_t parts = 0;
    int64_t vector = shape->heads * shape->width;
    pass->first_part = arena_allocate(tape->work, (size_t)shape->spans * sizeof *pass->first_part);
    for (int64_t i = 0; pass->first_part && i < shape->spans; i++) {
        pass->first_part[i] = parts;
        parts += integer_divide_up(shape->span[i].queries, TOKEN_BLOCK);
    }
    pass->norm_parts = arena_allocate(tape->work, (size_t)(parts * vector) * sizeof *pass->norm_parts);
    pass->read_derivatives = arena_allocate(tape->work, (size_t)(pass->tokens * vector) * sizeof(float));
    return pass->first_part && pass->norm_parts && pass->read_derivatives ? parts : -1;
}

void infini_read_backward(struct tape *tape, const struct tape_record *record)
{
    static const struct read_tasks tasks = {.begin = backward_begin, .run = backward_block};
    const struct infini_read_shape *shape = record->saved;
    struct engine *engine = tape->engine;
    const struct tensor *norm = record->input[4];
    enum time_kind before = time_enter(&engine->context->time, TIME_ATTENTION);
    struct arena_mark mark = arena_mark(tape->work);
    struct read_pass pass =
        infini_read_pass(engine, shape, record, operation_floats(tape, record->input[3]), norm ? norm->data : NULL);
    size_t scalars = (size_t)(pass.tokens * shape->heads) * sizeof(float);
    pass.dy = tape_gradient(record->output);
    pass.inverse = arena_allocate(tape->work, scalars);
    pass.divisors = arena_allocate(tape->work, scalars);
    pass.gate_derivatives = arena_allocate(tape->work, scalars);
    int64_t parts = norm ? norm_prepare(tape, &pass) : 0;
    /* In the order in which they are written, should one tensor be more than one of them. */
    pass.dq = tape_target(tape, record->input[0]);
    pass.da_dot = tape_target(tape, record->input[2]);
    pass.dstates = tape_target(tape, record->input[1]);
    bool there = pass.gate && pass.inverse && pass.divisors && pass.gate_derivatives && parts >= 0;
    if (there && infini_read_run(engine, &pass, &tasks)) {
        if (pass.dstates.data)
            states_backward(engine, &pass);
        operation_sum_columns(tape, tape_target(tape, record->input[3]), pass.gate_derivatives, DTYPE_F32, pass.tokens,
                              shape->heads);
        if (norm)
            operation_sum_columns(tape, tape_target(tape, record->input[4]), pass.norm_parts, DTYPE_F32, parts,
                                  shape->heads * shape->width);
    }
    arena_rewind(tape->work, mark);
    time_leave(&engine->context->time, before);
}
