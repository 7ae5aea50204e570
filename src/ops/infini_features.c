/* What the gated delta rule's memory sees of queries, keys and values: short convolutions along the tokens of a
 * segment.
 */
#include "src/ops/infini_tiles.h"

#include <math.h>
#include <string.h>

enum { CONVOLVED_ROWS = 32 }; /* at a time: what is made of them stays in the cache */

#define LENGTH_EPSILON 1e-6f /* beside the square of a vector's length */

struct features_saved {
    struct infini_features_shape shape;
    const float *filter; /* [CONVOLUTION_TAPS, heads * width] */
};

struct features_pass {
    const struct kernels *kernels;
    const struct infini_features_shape *shape;
    const float *filter;
    int64_t columns;
    enum dtype dtype;
    const void *x;
    float *y;
    /* backward */
    const float *dy;
    float *derivatives; /* [N, columns], d loss / d convolution */
};

struct features_tiles {
    float *convolved, *activated; /* [CONVOLVED_ROWS, columns] */
    float *inverse, *along;       /* [CONVOLVED_ROWS * heads] */
};

static struct features_tiles features_carve(float *scratch, const struct features_pass *pass)
{
    struct features_tiles tiles;
    tiles.convolved = floats_take(&scratch, CONVOLVED_ROWS * pass->columns);
    tiles.activated = floats_take(&scratch, CONVOLVED_ROWS * pass->columns);
    tiles.inverse = floats_take(&scratch, CONVOLVED_ROWS * pass->shape->heads);
    tiles.along = floats_take(&scratch, CONVOLVED_ROWS * pass->shape->heads);
    return tiles;
}

static int64_t spans_tokens(const struct infini_features_shape *shape)
{
    int64_t tokens = 0;
    for (int64_t i = 0; i < shape->spans; i++)
        tokens += shape->span[i].keys;
    return tokens;
}

/* Some tokens of a span, the first of them `at` behind its beginning. */
typedef void (*features_task)(const struct features_pass *pass, const struct features_tiles *tiles,
                              const struct attention_span *span, int64_t at, int64_t count);

static bool features_run(struct engine *engine, const struct features_pass *pass, features_task task)
{
    const struct infini_features_shape *shape = pass->shape;
    int64_t work = spans_tokens(shape) * pass->columns * CONVOLUTION_TAPS;
    int64_t blocks = CONVOLVED_ROWS * (2 * pass->columns + 2 * shape->heads);
    int64_t parts = infini_parts(engine, shape->spans, infini_token_blocks(shape->span, shape->spans, true));
    size_t stride;
    char *scratch = infini_scratch(engine, blocks, 4, &stride);
    if (!scratch)
        return false;
#pragma omp parallel for collapse(2) schedule(dynamic) num_threads(operation_threads(engine, work))
    for (int64_t i = 0; i < shape->spans; i++)
        for (int64_t part = 0; part < parts; part++) {
            struct features_tiles tiles =
                features_carve((float *)(scratch + (size_t)omp_get_thread_num() * stride), pass);
            const struct attention_span *span = &shape->span[i];
            struct range units = range_partition(integer_divide_up(span->keys, CONVOLVED_ROWS), parts, part);
            for (int64_t unit = units.begin; unit < units.begin + units.count; unit++) {
                int64_t at = unit * CONVOLVED_ROWS;
                task(pass, &tiles, span, at, integer_min(CONVOLVED_ROWS, span->keys - at));
            }
        }
    return true;
}

static void convolve_rows(const struct features_pass *pass, float *to, const struct attention_span *span, int64_t at,
                          int64_t count)
{
    pass->kernels->convolve(to, operation_at(pass->x, (span->key + at) * pass->columns, pass->dtype), pass->filter, at,
                            count, pass->columns, pass->dtype);
}

/* inverse = 1 / sqrt(|s|^2 + epsilon) for the vectors of each head. */
static void lengths_invert(const struct features_pass *pass, float *inverse, const float *s, int64_t vectors)
{
    int64_t width = pass->shape->width;
    pass->kernels->tile_dots(inverse, s, width, s, width, vectors, width);
    for (int64_t i = 0; i < vectors; i++)
        inverse[i] = 1.0f / sqrtf(inverse[i] + LENGTH_EPSILON);
}

static void forward_rows(const struct features_pass *pass, const struct features_tiles *tiles,
                         const struct attention_span *span, int64_t at, int64_t count)
{
    float *y = pass->y + (span->key + at) * pass->columns;
    int64_t vectors = count * pass->shape->heads;
    int64_t width = pass->shape->width;
    convolve_rows(pass, tiles->convolved, span, at, count);
    pass->kernels->silu_forward(y, tiles->convolved, count * pass->columns, DTYPE_F32);
    if (!pass->shape->unit)
        return;
    lengths_invert(pass, tiles->inverse, y, vectors);
    pass->kernels->tile_scale(y, width, vectors, width, tiles->inverse);
}

/* Through the length: with y = s / l the derivative of s is (dy - (dy y) y) / l. */
static void backward_rows(const struct features_pass *pass, const struct features_tiles *tiles,
                          const struct attention_span *span, int64_t at, int64_t count)
{
    const struct kernels *kernels = pass->kernels;
    int64_t first = (span->key + at) * pass->columns;
    int64_t elements = count * pass->columns;
    int64_t vectors = count * pass->shape->heads;
    int64_t width = pass->shape->width;
    const float *ds = pass->dy + first;
    convolve_rows(pass, tiles->convolved, span, at, count);
    if (pass->shape->unit) {
        const float *y = pass->y + first;
        kernels->silu_forward(tiles->activated, tiles->convolved, elements, DTYPE_F32);
        lengths_invert(pass, tiles->inverse, tiles->activated, vectors);
        kernels->tile_dots(tiles->along, ds, width, y, width, vectors, width);
        for (int64_t i = 0; i < vectors; i++)
            kernels->add_scaled(tiles->activated + i * width, tiles->inverse[i], ds + i * width,
                                -tiles->inverse[i] * tiles->along[i], y + i * width, width, DTYPE_F32);
        ds = tiles->activated;
    }
    kernels->silu_backward(pass->derivatives + first, 0.0f, ds, tiles->convolved, elements, DTYPE_F32);
}

static void inputs_backward(struct engine *engine, const struct features_pass *pass, struct gradient_target dx,
                            int64_t tokens)
{
    const struct infini_features_shape *shape = pass->shape;
    if (!dx.data)
        return;
    if (dx.beta == 0.0f && spans_tokens(shape) < tokens)
        memset(dx.data, 0, (size_t)(tokens * pass->columns) * dtype_size(dx.dtype));
    int64_t work = spans_tokens(shape) * pass->columns * CONVOLUTION_TAPS;
    int64_t parts = infini_parts(engine, shape->spans, infini_token_blocks(shape->span, shape->spans, true));
#pragma omp parallel for collapse(2) schedule(dynamic) num_threads(operation_threads(engine, work))
    for (int64_t i = 0; i < shape->spans; i++)
        for (int64_t part = 0; part < parts; part++) {
            const struct attention_span *span = &shape->span[i];
            struct range rows = range_partition(span->keys, parts, part);
            int64_t first = (span->key + rows.begin) * pass->columns;
            pass->kernels->convolve_backward(operation_at_mutable(dx.data, first, dx.dtype), dx.beta,
                                             pass->derivatives + first, pass->filter,
                                             span->keys - rows.begin - rows.count, rows.count, pass->columns, dx.dtype);
        }
}

/* Each column on one thread, so that the order of its sum is always the same. */
static void filter_backward(struct tape *tape, const struct features_pass *pass, struct gradient_target target)
{
    const struct infini_features_shape *shape = pass->shape;
    int64_t columns = pass->columns;
    float *sums = arena_allocate(tape->work, (size_t)(CONVOLUTION_TAPS * columns) * sizeof *sums);
    if (!sums || !target.data)
        return;
    float *filter = target.data;
    int64_t work = spans_tokens(shape) * columns * CONVOLUTION_TAPS;
#pragma omp parallel num_threads(operation_threads(tape->engine, work))
    {
        struct range range = operation_range(columns, LINE_ELEMENTS);
        for (int64_t i = 0; i < CONVOLUTION_TAPS; i++)
            memset(sums + i * columns + range.begin, 0, (size_t)range.count * sizeof *sums);
        for (int64_t s = 0; s < shape->spans; s++) {
            int64_t first = shape->span[s].key * columns + range.begin;
            pass->kernels->convolve_filter(sums + range.begin, columns, pass->derivatives + first,
                                           operation_at(pass->x, first, pass->dtype), columns, shape->span[s].keys,
                                           range.count, pass->dtype);
        }
        for (int64_t c = range.begin; c < range.begin + range.count; c++)
            for (int64_t i = 0; i < CONVOLUTION_TAPS; i++) {
                float *to = &filter[c * CONVOLUTION_TAPS + i];
                *to = (target.beta != 0.0f ? *to : 0.0f) + sums[i * columns + c];
            }
    }
}

static void features_backward(struct tape *tape, const struct tape_record *record)
{
    const struct features_saved *saved = record->saved;
    const struct tensor *x = record->input[0];
    struct arena_mark mark = arena_mark(tape->work);
    struct features_pass pass = {.kernels = tape->engine->kernels,
                                 .shape = &saved->shape,
                                 .filter = saved->filter,
                                 .columns = tensor_columns(x),
                                 .dtype = x->dtype,
                                 .x = x->data,
                                 .y = record->output->data,
                                 .dy = tape_gradient(record->output)};
    pass.derivatives = arena_allocate(tape->work, (size_t)tensor_count(x) * sizeof *pass.derivatives);
    struct gradient_target dx = tape_target(tape, record->input[0]);
    struct gradient_target dfilter = tape_target(tape, record->input[1]);
    enum time_kind before = time_enter(&tape->context->time, TIME_ATTENTION);
    if (pass.derivatives && features_run(tape->engine, &pass, backward_rows)) {
        inputs_backward(tape->engine, &pass, dx, tensor_rows(x));
        filter_backward(tape, &pass, dfilter);
    }
    time_leave(&tape->context->time, before);
    arena_rewind(tape->work, mark);
}

static const char *features_mistake(const struct tensor *x, const struct tensor *filter,
                                    const struct infini_features_shape *shape)
{
    int64_t columns = shape->heads * shape->width;
    if (!operation_is_floating(x) || filter->dtype != DTYPE_F32)
        return "x must be of a floating type, and the filter fp32";
    if (tensor_columns(x) != columns || tensor_count(filter) != columns * CONVOLUTION_TAPS)
        return "there must be a column of x, and a filter, for each element of the heads";
    for (int64_t i = 0; i < shape->spans; i++)
        if (shape->span[i].key < 0 || shape->span[i].keys < 0 ||
            shape->span[i].key + shape->span[i].keys > tensor_rows(x))
            return "a span has tokens that are not there";
    return NULL;
}

/* Filters by tap, as the loops want them. */
static const float *filter_turn(struct tape *tape, const struct tensor *filter, int64_t columns)
{
    float *turned = tape_save(tape, (size_t)(CONVOLUTION_TAPS * columns) * sizeof *turned);
    for (int64_t c = 0; turned && c < columns; c++)
        for (int64_t i = 0; i < CONVOLUTION_TAPS; i++)
            turned[i * columns + c] = ((const float *)filter->data)[c * CONVOLUTION_TAPS + i];
    return turned;
}

struct tensor *infini_features(struct tape *tape, struct tensor *x, struct tensor *filter,
                               const struct infini_features_shape *shape)
{
    if (!x || !filter)
        return NULL;
    const char *mistake = features_mistake(x, filter, shape);
    if (mistake)
        return operation_refuse(tape, "infini_features", mistake);
    struct features_saved *saved = tape_save(tape, sizeof *saved);
    struct tensor *y = tape_matrix(tape, DTYPE_F32, tensor_rows(x), tensor_columns(x));
    if (!saved || !y)
        return NULL;
    *saved = (struct features_saved){.shape = *shape, .filter = filter_turn(tape, filter, tensor_columns(x))};
    if (!saved->filter)
        return NULL;
    struct features_pass pass = {.kernels = tape->engine->kernels,
                                 .shape = &saved->shape,
                                 .filter = saved->filter,
                                 .columns = tensor_columns(x),
                                 .dtype = x->dtype,
                                 .x = x->data,
                                 .y = y->data};
    enum time_kind before = time_enter(&tape->context->time, TIME_ATTENTION);
    if (spans_tokens(shape) < tensor_rows(x) && !tape->context->dry)
        memset(y->data, 0, (size_t)tensor_count(y) * sizeof(float));
    bool done = features_run(tape->engine, &pass, forward_rows);
    time_leave(&tape->context->time, before);
    return done ? tape_push(tape,
                            (struct tape_record){
                                .backward = features_backward, .input = {x, filter}, .output = y, .saved = saved})
                : NULL;
}
