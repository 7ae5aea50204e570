/* Reading Infini-attention's memory, and its mixture with what attention inside the segment found. */
#include "src/ops/infini_read_pass.h"

#include <math.h>
#include <string.h>

struct read_pass infini_read_pass(const struct engine *engine, const struct infini_read_shape *shape,
                                  const struct tape_record *record, const float *gate, const float *norm)
{
    return (struct read_pass){.kernels = engine->kernels,
                              .shape = shape,
                              .dtype = record->input[2]->dtype,
                              .query_dtype = record->input[0]->dtype,
                              .ld = integer_round_up(shape->width, TILE_MULTIPLE),
                              .tokens = tensor_count(record->input[0]) / integer_max(1, shape->heads * shape->width),
                              .state = infini_elements(shape->update, shape->width),
                              .map = shape->width * shape->width,
                              .divides = shape->update != MEMORY_UPDATE_GATED_DELTA,
                              .q = record->input[0]->data,
                              .states = record->input[1]->data,
                              .a_dot = record->input[2]->data,
                              .gate = gate,
                              .norm = norm};
}

struct read_tiles infini_read_carve(float *scratch, const struct read_pass *pass)
{
    struct read_tiles tiles = {0};
    int64_t width = pass->shape->width;
    tiles.features = floats_take(&scratch, TOKEN_BLOCK * pass->ld);
    tiles.derivatives = floats_take(&scratch, TOKEN_BLOCK * pass->ld);
    tiles.output = floats_take(&scratch, TOKEN_BLOCK * pass->ld);
    tiles.m = floats_take(&scratch, width * pass->ld);
    tiles.z = floats_take(&scratch, pass->ld);
    tiles.inverse = floats_take(&scratch, TOKEN_BLOCK);
    tiles.factor = floats_take(&scratch, TOKEN_BLOCK);
    tiles.along = floats_take(&scratch, TOKEN_BLOCK);
    tiles.rest = floats_take(&scratch, TOKEN_BLOCK);
    if (!pass->norm)
        return tiles;
    tiles.read_m = floats_take(&scratch, width * pass->ld);
    tiles.read = floats_take(&scratch, TOKEN_BLOCK * width);
    tiles.normed = floats_take(&scratch, TOKEN_BLOCK * width);
    tiles.slope = floats_take(&scratch, TOKEN_BLOCK * width);
    return tiles;
}

char *infini_read_scratch(struct engine *engine, const struct read_pass *pass, size_t *stride)
{
    int64_t width = pass->shape->width;
    int64_t floats = (3 * TOKEN_BLOCK + width + 1) * pass->ld + 4 * TOKEN_BLOCK;
    if (pass->norm)
        floats += width * pass->ld + 3 * TOKEN_BLOCK * width;
    return infini_scratch(engine, floats, 13, stride);
}

struct read_block infini_read_block(const struct read_pass *pass, int64_t span, int64_t head, int64_t begin)
{
    const struct infini_read_shape *shape = pass->shape;
    int64_t token = shape->span[span].query + begin;
    return (struct read_block){
        .state = pass->states + (span * shape->kv_heads + shape->kv_of_head[head]) * pass->state,
        .span = span,
        .head = head,
        .token = token,
        .count = integer_min(TOKEN_BLOCK, shape->span[span].queries - begin),
        .at = (token * shape->heads + head) * shape->width,
        .g = 1.0f / (1.0f + expf(-pass->gate[head])),
    };
}

void infini_read_gather(const struct read_pass *pass, float *tile, const void *from, const struct read_block *block,
                        float factor)
{
    pass->kernels->tile_gather(tile, pass->ld, operation_at(from, block->at, pass->dtype),
                               pass->shape->heads * pass->shape->width, block->count, pass->shape->width, factor,
                               pass->dtype);
}

void infini_read_features(const struct read_pass *pass, float *tile, const struct read_block *block)
{
    int64_t stride = pass->shape->heads * pass->shape->width;
    const void *q = operation_at(pass->q, block->at, pass->query_dtype);
    if (pass->divides)
        pass->kernels->feature_gather(tile, pass->ld, q, stride, block->count, pass->shape->width, pass->query_dtype);
    else
        pass->kernels->tile_gather(tile, pass->ld, q, stride, block->count, pass->shape->width, 1.0f,
                                   pass->query_dtype);
}

void infini_read_scatter(const struct read_pass *pass, struct gradient_target target, const struct read_block *block,
                         const float *tile, const float *factor)
{
    pass->kernels->tile_scatter(operation_at_mutable(target.data, block->at, target.dtype),
                                pass->shape->heads * pass->shape->width, tile, pass->ld, block->count,
                                pass->shape->width, factor, target.beta, target.dtype);
}

void infini_read_inverses(const struct read_pass *pass, float *inverse, const float *features, int64_t rows,
                          const float *z)
{
    if (pass->divides) {
        infini_inverses(pass->kernels, inverse, features, pass->ld, rows, z, pass->shape->width);
        return;
    }
    for (int64_t r = 0; r < rows; r++)
        inverse[r] = 1.0f;
}

bool infini_read_empty(const struct read_pass *pass, const float *state)
{
    return pass->divides ? infini_is_empty(state + pass->map, pass->shape->width) : infini_is_empty(state, pass->map);
}

struct norm_rows infini_read_normed(const struct read_pass *pass, const struct read_tiles *tiles,
                                    const struct read_block *block, const float *inverse)
{
    const struct kernels *kernels = pass->kernels;
    int64_t width = pass->shape->width;
    struct norm_rows rows = {.rows = block->count,
                             .columns = width,
                             .kind = NORM_RMS,
                             .dtype = DTYPE_F32,
                             .epsilon = READOUT_EPSILON,
                             .x = tiles->read,
                             .weight = pass->norm + block->head * width,
                             .mean = tiles->factor,
                             .inverse = tiles->rest};
    memset(tiles->output, 0, (size_t)(block->count * pass->ld) * sizeof(float));
    infini_multiply(kernels, tiles->output, tiles->features, tiles->read_m, block->count, width, width, pass->ld);
    kernels->tile_scatter(tiles->read, width, tiles->output, pass->ld, block->count, width, inverse, 0.0f, DTYPE_F32);
    kernels->norm_forward(&rows, tiles->normed);
    return rows;
}

bool infini_read_run(struct engine *engine, const struct read_pass *pass, const struct read_tasks *tasks)
{
    const struct infini_read_shape *shape = pass->shape;
    int64_t parts =
        infini_parts(engine, shape->spans * shape->heads, infini_token_blocks(shape->span, shape->spans, false));
    int64_t work = pass->tokens * shape->heads * pass->map;
    size_t stride;
    char *scratch = infini_read_scratch(engine, pass, &stride);
    if (!scratch)
        return false;
    engine->context->time.flops[TIME_ATTENTION] += 2.0 * (double)work;
#pragma omp parallel for collapse(3) schedule(dynamic) num_threads(operation_threads(engine, work))
    for (int64_t span = 0; span < shape->spans; span++)
        for (int64_t head = 0; head < shape->heads; head++)
            for (int64_t part = 0; part < parts; part++) {
                struct read_tiles tiles =
                    infini_read_carve((float *)(scratch + (size_t)omp_get_thread_num() * stride), pass);
                int64_t queries = shape->span[span].queries;
                for (int64_t begin = part * TOKEN_BLOCK; begin < queries; begin += parts * TOKEN_BLOCK) {
                    struct read_block block = infini_read_block(pass, span, head, begin);
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
    pass->kernels->tile_gather(pass->norm ? tiles->read_m : tiles->m, pass->ld, state, width, width, width, 1.0f,
                               DTYPE_F32);
}

/* a = (1 - g) a_dot + g norm(a_mem) */
static void forward_normed(const struct read_pass *pass, const struct read_tiles *tiles, const struct read_block *block)
{
    const struct kernels *kernels = pass->kernels;
    int64_t width = pass->shape->width;
    (void)infini_read_normed(pass, tiles, block, tiles->inverse);
    infini_read_gather(pass, tiles->output, pass->a_dot, block, 1.0f - block->g);
    kernels->tile_gather(tiles->features, pass->ld, tiles->normed, width, block->count, width, block->g, DTYPE_F32);
    kernels->accumulate(tiles->output, DTYPE_F32, tiles->features, DTYPE_F32, 1.0f, block->count * pass->ld);
}

/* a = (1 - g) a_dot + (g D^-1 sigma(q)) M */
static void forward_block(const struct read_pass *pass, const struct read_tiles *tiles, const struct read_block *block)
{
    const struct kernels *kernels = pass->kernels;
    int64_t width = pass->shape->width;
    struct gradient_target output = {.data = pass->output, .dtype = pass->dtype};
    if (infini_read_empty(pass, block->state)) {
        infini_read_gather(pass, tiles->output, pass->a_dot, block, 1.0f);
        infini_read_scatter(pass, output, block, tiles->output, NULL);
        return;
    }
    infini_read_features(pass, tiles->features, block);
    infini_read_inverses(pass, tiles->inverse, tiles->features, block->count, block->state + pass->map);
    if (pass->norm) {
        forward_normed(pass, tiles, block);
    } else {
        for (int64_t r = 0; r < block->count; r++)
            tiles->factor[r] = block->g * tiles->inverse[r];
        kernels->tile_scale(tiles->features, pass->ld, block->count, pass->ld, tiles->factor);
        infini_read_gather(pass, tiles->output, pass->a_dot, block, 1.0f - block->g);
        infini_multiply(kernels, tiles->output, tiles->features, tiles->m, block->count, width, width, pass->ld);
    }
    infini_read_scatter(pass, output, block, tiles->output, NULL);
}

static const char *read_mistake(const struct tensor *q, const struct tensor *states, const struct tensor *a_dot,
                                const struct tensor *gate, const struct tensor *norm,
                                const struct infini_read_shape *shape)
{
    int64_t queries = 0;
    for (int64_t i = 0; i < shape->spans; i++)
        queries += shape->span[i].queries;
    enum dtype query_dtype = shape->update == MEMORY_UPDATE_GATED_DELTA ? DTYPE_F32 : a_dot->dtype;
    if (!operation_is_floating(a_dot) || q->dtype != query_dtype || states->dtype != DTYPE_F32 ||
        !operation_is_floating(gate) || (norm && norm->dtype != DTYPE_F32))
        return "q and a_dot must share a floating type (gated delta: q is fp32), and states and norm must be fp32";
    if (tensor_count(q) != queries * shape->heads * shape->width || tensor_count(a_dot) != tensor_count(q))
        return "q and a_dot must hold the queries of all spans";
    if (tensor_count(states) != shape->spans * shape->kv_heads * infini_elements(shape->update, shape->width) ||
        tensor_count(gate) != shape->heads || (norm && tensor_count(norm) != shape->heads * shape->width))
        return "there must be a state for each span and kv head, and a gate (and a row of the norm) for each head";
    for (int64_t head = 0; head < shape->heads; head++)
        if (shape->kv_of_head[head] < 0 || shape->kv_of_head[head] >= shape->kv_heads)
            return "a query head uses a memory that is not there";
    return NULL;
}

struct tensor *infini_read(struct tape *tape, struct tensor *q, struct tensor *states, struct tensor *a_dot,
                           struct tensor *gate, struct tensor *norm, const struct infini_read_shape *shape)
{
    static const struct read_tasks tasks = {.begin = forward_begin, .run = forward_block};
    if (!q || !states || !a_dot || !gate)
        return NULL;
    const char *mistake = read_mistake(q, states, a_dot, gate, norm, shape);
    if (mistake)
        return operation_refuse(tape, "infini_read", mistake);
    struct engine *engine = tape->engine;
    struct tape_record record = {.backward = infini_read_backward, .input = {q, states, a_dot, gate, norm}};
    struct infini_read_shape *saved = tape_save(tape, sizeof *saved);
    record.output = tape_tensor_like(tape, a_dot);
    if (!saved || !record.output)
        return NULL;
    *saved = *shape;
    record.saved = saved;
    enum time_kind before = time_enter(&engine->context->time, TIME_ATTENTION);
    struct arena_mark mark = arena_mark(tape->work);
    struct read_pass pass =
        infini_read_pass(engine, shape, &record, operation_floats(tape, gate), norm ? norm->data : NULL);
    pass.output = record.output->data;
    bool done = pass.gate && infini_read_run(engine, &pass, &tasks);
    arena_rewind(tape->work, mark);
    time_leave(&engine->context->time, before);
    return done ? tape_push(tape, record) : NULL;
}
