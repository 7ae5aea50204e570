/* Reading Infini-attention's memory, and its mixture with what attention inside the segment found. */
#include "src/ops/memory_tiles.h"

#include <math.h>
#include <string.h>

struct read_pass {
    const struct kernels *kernels;
    const struct memory_read_shape *shape;
    enum dtype dtype;
    int64_t ld;         /* of tiles whose columns are the width of a head */
    int64_t tokens;     /* queries in all */
    int64_t state, map; /* floats of a state, and of its M */
    const void *q, *a_dot;
    const float *states, *gate;
    /* forward */
    void *output;
    /* backward */
    const void *dy;
    float *inverse, *divisors; /* [heads, tokens]: 1 / (sigma(q) z + epsilon), d loss / d (sigma(q) z) */
    float *gate_derivatives;   /* [tokens, heads] */
    struct gradient_target dq, da_dot, dstates;
};

static struct read_pass pass_create(const struct engine *engine, const struct memory_read_shape *shape,
                                    const struct tape_record *record, const float *gate)
{
    return (struct read_pass){.kernels = engine->kernels,
                              .shape = shape,
                              .dtype = record->input[0]->dtype,
                              .ld = integer_round_up(shape->width, TILE_MULTIPLE),
                              .tokens = tensor_count(record->input[0]) / integer_max(1, shape->heads * shape->width),
                              .state = memory_elements(shape->width),
                              .map = shape->width * shape->width,
                              .q = record->input[0]->data,
                              .states = record->input[1]->data,
                              .a_dot = record->input[2]->data,
                              .gate = gate};
}

struct read_tiles {
    float *features, *derivatives, *output; /* [TOKEN_BLOCK, ld] */
    float *m;                               /* M, or its transpose [E, ld] */
    float *z;                               /* [ld] */
    float *inverse, *factor, *along, *rest; /* [TOKEN_BLOCK] */
};

static struct read_tiles tiles_carve(float *scratch, const struct read_pass *pass)
{
    struct read_tiles tiles;
    tiles.features = memory_take(&scratch, TOKEN_BLOCK * pass->ld);
    tiles.derivatives = memory_take(&scratch, TOKEN_BLOCK * pass->ld);
    tiles.output = memory_take(&scratch, TOKEN_BLOCK * pass->ld);
    tiles.m = memory_take(&scratch, pass->shape->width * pass->ld);
    tiles.z = memory_take(&scratch, pass->ld);
    tiles.inverse = memory_take(&scratch, TOKEN_BLOCK);
    tiles.factor = memory_take(&scratch, TOKEN_BLOCK);
    tiles.along = memory_take(&scratch, TOKEN_BLOCK);
    tiles.rest = memory_take(&scratch, TOKEN_BLOCK);
    return tiles;
}

static char *tiles_scratch(struct engine *engine, const struct read_pass *pass, size_t *stride)
{
    int64_t rows = 3 * TOKEN_BLOCK + pass->shape->width + 1;
    return memory_scratch(engine, rows * pass->ld + 4 * TOKEN_BLOCK, 9, stride);
}

/* Some queries of one head and span. */
struct read_block {
    const float *state;
    int64_t head;
    int64_t token; /* the first */
    int64_t count;
    int64_t at; /* where its vector lies */
    float g;
};

static struct read_block block_create(const struct read_pass *pass, int64_t span, int64_t head, int64_t begin)
{
    const struct memory_read_shape *shape = pass->shape;
    int64_t token = shape->span[span].query + begin;
    return (struct read_block){
        .state = pass->states + (span * shape->kv_heads + shape->kv_of_head[head]) * pass->state,
        .head = head,
        .token = token,
        .count = integer_min(TOKEN_BLOCK, shape->span[span].queries - begin),
        .at = (token * shape->heads + head) * shape->width,
        .g = 1.0f / (1.0f + expf(-pass->gate[head])),
    };
}

static void block_gather(const struct read_pass *pass, float *tile, const void *from, const struct read_block *block,
                         float factor)
{
    pass->kernels->tile_gather(tile, pass->ld, operation_at(from, block->at, pass->dtype),
                               pass->shape->heads * pass->shape->width, block->count, pass->shape->width, factor,
                               pass->dtype);
}

static void block_features(const struct read_pass *pass, float *tile, const struct read_block *block)
{
    pass->kernels->feature_gather(tile, pass->ld, operation_at(pass->q, block->at, pass->dtype),
                                  pass->shape->heads * pass->shape->width, block->count, pass->shape->width,
                                  pass->dtype);
}

static void block_scatter(const struct read_pass *pass, struct gradient_target target, const struct read_block *block,
                          const float *tile, const float *factor)
{
    pass->kernels->tile_scatter(operation_at_mutable(target.data, block->at, target.dtype),
                                pass->shape->heads * pass->shape->width, tile, pass->ld, block->count,
                                pass->shape->width, factor, target.beta, target.dtype);
}

/* Runs for the blocks of queries of every head and span; begin prepares what the blocks of a head and span share. */
struct read_tasks {
    void (*begin)(const struct read_pass *pass, const struct read_tiles *tiles, const float *state);
    void (*run)(const struct read_pass *pass, const struct read_tiles *tiles, const struct read_block *block);
};

static bool tasks_run(struct engine *engine, const struct read_pass *pass, const struct read_tasks *tasks)
{
    const struct memory_read_shape *shape = pass->shape;
    int64_t parts =
        memory_parts(engine, shape->spans * shape->heads, memory_token_blocks(shape->span, shape->spans, false));
    int64_t work = pass->tokens * shape->heads * pass->map;
    size_t stride;
    char *scratch = tiles_scratch(engine, pass, &stride);
    if (!scratch)
        return false;
    engine->context->time.flops[TIME_ATTENTION] += 2.0 * (double)work;
#pragma omp parallel for collapse(3) schedule(dynamic) num_threads(operation_threads(engine, work))
    for (int64_t span = 0; span < shape->spans; span++)
        for (int64_t head = 0; head < shape->heads; head++)
            for (int64_t part = 0; part < parts; part++) {
                struct read_tiles tiles = tiles_carve((float *)(scratch + (size_t)omp_get_thread_num() * stride), pass);
                int64_t queries = shape->span[span].queries;
                for (int64_t begin = part * TOKEN_BLOCK; begin < queries; begin += parts * TOKEN_BLOCK) {
                    struct read_block block = block_create(pass, span, head, begin);
                    if (begin == part * TOKEN_BLOCK)
                        tasks->begin(pass, &tiles, block.state);
                    tasks->run(pass, &tiles, &block);
                }
            }
    return true;
}

/* -- Forward -- */

static void forward_begin(const struct read_pass *pass, const struct read_tiles *tiles, const float *state)
{
    int64_t width = pass->shape->width;
    pass->kernels->tile_gather(tiles->m, pass->ld, state, width, width, width, 1.0f, DTYPE_F32);
}

/* a = (1 - g) a_dot + (g D^-1 sigma(q)) M */
static void forward_block(const struct read_pass *pass, const struct read_tiles *tiles, const struct read_block *block)
{
    const struct kernels *kernels = pass->kernels;
    int64_t width = pass->shape->width;
    struct gradient_target output = {.data = pass->output, .dtype = pass->dtype};
    const float *z = block->state + pass->map;
    if (memory_is_empty(z, width)) {
        block_gather(pass, tiles->output, pass->a_dot, block, 1.0f);
        block_scatter(pass, output, block, tiles->output, NULL);
        return;
    }
    block_features(pass, tiles->features, block);
    memory_inverses(kernels, tiles->inverse, tiles->features, pass->ld, block->count, z, width);
    for (int64_t r = 0; r < block->count; r++)
        tiles->factor[r] = block->g * tiles->inverse[r];
    kernels->tile_scale(tiles->features, pass->ld, block->count, pass->ld, tiles->factor);
    block_gather(pass, tiles->output, pass->a_dot, block, 1.0f - block->g);
    memory_multiply(kernels, tiles->output, tiles->features, tiles->m, block->count, width, width, pass->ld);
    block_scatter(pass, output, block, tiles->output, NULL);
}

/* -- Backward -- */

static void backward_begin(const struct read_pass *pass, const struct read_tiles *tiles, const float *state)
{
    int64_t width = pass->shape->width;
    pass->kernels->tile_gather_transposed(tiles->m, pass->ld, state, width, width, width, 1.0f, DTYPE_F32);
    pass->kernels->tile_gather(tiles->z, pass->ld, state + pass->map, width, 1, width, 1.0f, DTYPE_F32);
}

/* Nothing was read: neither the gate nor q had a part in it. */
static void backward_empty(const struct read_pass *pass, const struct read_tiles *tiles, const struct read_block *block)
{
    memset(tiles->derivatives, 0, (size_t)(block->count * pass->ld) * sizeof(float));
    if (pass->dq.data)
        block_scatter(pass, pass->dq, block, tiles->derivatives, NULL);
    block_gather(pass, tiles->derivatives, pass->dy, block, 1.0f);
    if (pass->da_dot.data)
        block_scatter(pass, pass->da_dot, block, tiles->derivatives, NULL);
    for (int64_t r = 0; r < block->count; r++)
        pass->gate_derivatives[(block->token + r) * pass->shape->heads + block->head] = 0.0f;
}

/* With y = dy M^T, which serves twice: dy a_mem = y sigma(q) / d, and d loss / d sigma(q) = (g / d) y + d' z, where
 * d = sigma(q) z + epsilon and d' = d loss / d d = - g (dy a_mem) / d. The gate: g (1 - g) dy (a_mem - a_dot). */
static void backward_block(const struct read_pass *pass, const struct read_tiles *tiles, const struct read_block *block)
{
    const struct kernels *kernels = pass->kernels;
    const struct memory_read_shape *shape = pass->shape;
    int64_t width = shape->width;
    int64_t ld = pass->ld;
    float g = block->g;
    if (memory_is_empty(tiles->z, width)) {
        backward_empty(pass, tiles, block);
        return;
    }
    float *inverse = pass->inverse + block->head * pass->tokens + block->token;
    float *divisors = pass->divisors + block->head * pass->tokens + block->token;
    block_features(pass, tiles->features, block);
    block_gather(pass, tiles->output, pass->dy, block, 1.0f);
    memory_inverses(kernels, inverse, tiles->features, ld, block->count, tiles->z, width);
    memset(tiles->derivatives, 0, (size_t)(block->count * ld) * sizeof(float));
    memory_multiply(kernels, tiles->derivatives, tiles->output, tiles->m, block->count, width, width, ld);
    kernels->tile_dots(tiles->along, tiles->derivatives, ld, tiles->features, ld, block->count, width);
    for (int64_t r = 0; r < block->count; r++) {
        int64_t at = block->at + r * shape->heads * width;
        float along_dot = kernels->dot(operation_at(pass->dy, at, pass->dtype),
                                       operation_at(pass->a_dot, at, pass->dtype), width, pass->dtype);
        float along_memory = tiles->along[r] * inverse[r];
        tiles->factor[r] = g * inverse[r];
        tiles->rest[r] = 1.0f - g;
        divisors[r] = -g * along_memory * inverse[r];
        pass->gate_derivatives[(block->token + r) * shape->heads + block->head] =
            g * (1.0f - g) * (along_memory - along_dot);
    }
    if (pass->dq.data) {
        kernels->tile_scale(tiles->derivatives, ld, block->count, ld, tiles->factor);
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
        kernels->feature_scatter(operation_at_mutable(pass->dq.data, block->at, pass->dq.dtype), shape->heads * width,
                                 tiles->derivatives, tiles->features, ld, block->count, width, pass->dq.beta,
                                 pass->dq.dtype);
    }
    if (pass->da_dot.data)
        block_scatter(pass, pass->da_dot, block, tiles->output, tiles->rest);
}

/* Rows of d loss / d M = the sum over heads and queries of sigma(q)^T (g / d) dy, and (with the first rows) d loss / d
 * z = the sum of d' sigma(q). */
static void states_task(const struct read_pass *pass, const struct read_tiles *tiles, int64_t span, int64_t kv_head,
                        struct range rows)
{
    const struct kernels *kernels = pass->kernels;
    const struct memory_read_shape *shape = pass->shape;
    int64_t width = shape->width;
    int64_t ld = pass->ld;
    int64_t state = (span * shape->kv_heads + kv_head) * pass->state;
    bool empty = memory_is_empty(pass->states + state + pass->map, width);
    memset(tiles->m, 0, (size_t)(rows.count * ld) * sizeof(float));
    memset(tiles->z, 0, (size_t)ld * sizeof(float));
    for (int64_t head = 0; head < shape->heads; head++)
        for (int64_t at = 0; at < shape->span[span].queries; at += TOKEN_BLOCK) {
            if (shape->kv_of_head[head] != kv_head || empty)
                continue;
            struct read_block block = block_create(pass, span, head, at);
            int64_t scalars = head * pass->tokens + block.token;
            block_features(pass, tiles->features, &block);
            block_gather(pass, tiles->output, pass->dy, &block, block.g);
            kernels->tile_scale(tiles->output, ld, block.count, ld, pass->inverse + scalars);
            memory_multiply_transposed(kernels, tiles->m, tiles->features + rows.begin, tiles->output, rows.count,
                                       width, block.count, ld);
            if (rows.begin == 0)
                memory_multiply(kernels, tiles->z, pass->divisors + scalars, tiles->features, 1, width, block.count,
                                ld);
        }
    float *to = (float *)pass->dstates.data + state;
    kernels->tile_scatter(to + rows.begin * width, width, tiles->m, ld, rows.count, width, NULL, pass->dstates.beta,
                          DTYPE_F32);
    if (rows.begin == 0)
        kernels->tile_scatter(to + pass->map, width, tiles->z, ld, 1, width, NULL, pass->dstates.beta, DTYPE_F32);
}

static void states_backward(struct engine *engine, const struct read_pass *pass)
{
    const struct memory_read_shape *shape = pass->shape;
    int64_t parts =
        memory_parts(engine, shape->spans * shape->kv_heads, integer_divide_up(shape->width, TILE_MULTIPLE));
    int64_t work = pass->tokens * shape->heads * pass->map;
    size_t stride;
    char *scratch = tiles_scratch(engine, pass, &stride);
    if (!scratch)
        return;
    engine->context->time.flops[TIME_ATTENTION] += 2.0 * (double)work;
#pragma omp parallel for collapse(3) schedule(dynamic) num_threads(operation_threads(engine, work))
    for (int64_t span = 0; span < shape->spans; span++)
        for (int64_t kv_head = 0; kv_head < shape->kv_heads; kv_head++)
            for (int64_t part = 0; part < parts; part++) {
                struct read_tiles tiles = tiles_carve((float *)(scratch + (size_t)omp_get_thread_num() * stride), pass);
                states_task(pass, &tiles, span, kv_head, range_partition(shape->width, parts, part));
            }
}

static void memory_read_backward(struct tape *tape, const struct tape_record *record)
{
    static const struct read_tasks tasks = {.begin = backward_begin, .run = backward_block};
    const struct memory_read_shape *shape = record->saved;
    struct engine *engine = tape->engine;
    enum time_kind before = time_enter(&engine->context->time, TIME_ATTENTION);
    struct arena_mark mark = arena_mark(tape->work);
    struct read_pass pass = pass_create(engine, shape, record, operation_floats(tape, record->input[3]));
    size_t scalars = (size_t)(pass.tokens * shape->heads) * sizeof(float);
    pass.dy = tape_gradient(record->output);
    pass.inverse = arena_allocate(tape->work, scalars);
    pass.divisors = arena_allocate(tape->work, scalars);
    pass.gate_derivatives = arena_allocate(tape->work, scalars);
    /* In the order in which they are written, should one tensor be more than one of them. */
    pass.dq = tape_target(tape, record->input[0]);
    pass.da_dot = tape_target(tape, record->input[2]);
    pass.dstates = tape_target(tape, record->input[1]);
    if (pass.gate && pass.inverse && pass.divisors && pass.gate_derivatives && tasks_run(engine, &pass, &tasks)) {
        if (pass.dstates.data)
            states_backward(engine, &pass);
        operation_sum_columns(tape, tape_target(tape, record->input[3]), pass.gate_derivatives, DTYPE_F32, pass.tokens,
                              shape->heads);
    }
    arena_rewind(tape->work, mark);
    time_leave(&engine->context->time, before);
}

static const char *read_mistake(const struct tensor *q, const struct tensor *states, const struct tensor *a_dot,
                                const struct tensor *gate, const struct memory_read_shape *shape)
{
    int64_t queries = 0;
    for (int64_t i = 0; i < shape->spans; i++)
        queries += shape->span[i].queries;
    if (!operation_is_floating(q) || q->dtype != a_dot->dtype || states->dtype != DTYPE_F32 ||
        !operation_is_floating(gate))
        return "q and a_dot must share a floating type, and states must be fp32";
    if (tensor_count(q) != queries * shape->heads * shape->width || tensor_count(a_dot) != tensor_count(q))
        return "q and a_dot must hold the queries of all spans";
    if (tensor_count(states) != shape->spans * shape->kv_heads * memory_elements(shape->width) ||
        tensor_count(gate) != shape->heads)
        return "there must be a state for each span and kv head, and a gate for each head";
    for (int64_t head = 0; head < shape->heads; head++)
        if (shape->kv_of_head[head] < 0 || shape->kv_of_head[head] >= shape->kv_heads)
            return "a query head uses a memory that is not there";
    return NULL;
}

struct tensor *memory_read(struct tape *tape, struct tensor *q, struct tensor *states, struct tensor *a_dot,
                           struct tensor *gate, const struct memory_read_shape *shape)
{
    static const struct read_tasks tasks = {.begin = forward_begin, .run = forward_block};
    if (!q || !states || !a_dot || !gate)
        return NULL;
    const char *mistake = read_mistake(q, states, a_dot, gate, shape);
    if (mistake)
        return operation_refuse(tape, "memory_read", mistake);
    struct engine *engine = tape->engine;
    struct tape_record record = {.backward = memory_read_backward, .input = {q, states, a_dot, gate}};
    struct memory_read_shape *saved = tape_save(tape, sizeof *saved);
    record.output = tape_tensor_like(tape, q);
    if (!saved || !record.output)
        return NULL;
    *saved = *shape;
    record.saved = saved;
    enum time_kind before = time_enter(&engine->context->time, TIME_ATTENTION);
    struct arena_mark mark = arena_mark(tape->work);
    struct read_pass pass = pass_create(engine, shape, &record, operation_floats(tape, gate));
    pass.output = record.output->data;
    bool done = pass.gate && tasks_run(engine, &pass, &tasks);
    arena_rewind(tape->work, mark);
    time_leave(&engine->context->time, before);
    return done ? tape_push(tape, record) : NULL;
}
