/* The arithmetic of batch normalisation: moments and gradients by channel, and what is made of them. */
#include <string.h>

#include "src/ops/image.h"
#include "src/ops/operation.h"

/* Images as pieces of one row's blocks of channels, no larger than a cache that a thread has for itself, so that a
 * second look at one costs little. A channel's sums are taken over pieces in fp32 and then over all of them in double:
 * in the order of the pieces, which the threads do not change. */
enum { PIECE_BYTES = 128 << 10 };

struct pieces {
    int64_t parts;     /* blocks of channels, of all rows */
    int64_t groups;    /* of a row */
    int64_t positions; /* of a part */
    int64_t lanes;
    int64_t each; /* positions of a piece */
    int64_t of_part;
    int64_t channels;
};

static struct pieces pieces_of(const struct tensor *x)
{
    int64_t lanes = integer_max(1, x->block);
    int64_t positions = x->shape[2] * x->shape[3];
    int64_t each = integer_min(positions, integer_max(1, PIECE_BYTES / (lanes * (int64_t)dtype_size(x->dtype))));
    return (struct pieces){.parts = x->shape[0] * (x->shape[1] / lanes),
                           .groups = x->shape[1] / lanes,
                           .positions = positions,
                           .lanes = lanes,
                           .each = each,
                           .of_part = integer_divide_up(positions, integer_max(1, each)),
                           .channels = x->shape[1]};
}

static const void *at(const void *data, int64_t element, enum dtype dtype)
{
    return data ? operation_at(data, element, dtype) : NULL;
}

/* Piece `index`; *element is where it begins, *channel its first channel. */
static struct channel_part piece_at(const struct pieces *pieces, const struct batch_backward *of, int64_t index,
                                    int64_t *element, int64_t *channel)
{
    int64_t part = index / pieces->of_part;
    int64_t first = index % pieces->of_part * pieces->each;
    enum dtype dtype = of->x->dtype;
    *channel = part % pieces->groups * pieces->lanes;
    *element = (part * pieces->positions + first) * pieces->lanes;
    return (struct channel_part){.positions = integer_min(pieces->each, pieces->positions - first),
                                 .lanes = pieces->lanes,
                                 .dtype = dtype,
                                 .rectify = of->affine && of->affine->rectify,
                                 .x = operation_at(of->x->data, *element, dtype),
                                 .shortcut = of->shortcut ? at(of->shortcut->data, *element, dtype) : NULL,
                                 .scale = of->affine ? of->affine->scale + *channel : NULL,
                                 .shift = of->affine ? of->affine->shift + *channel : NULL,
                                 .y = of->y ? at(of->y->data, *element, dtype) : NULL,
                                 .dy = at(of->dy, *element, dtype),
                                 .mean = of->mean ? of->mean + *channel : NULL};
}

/* Where the two numbers of a piece's channels lie: all channels of a row's piece behind each other. */
static float *numbers_at(float *numbers, const struct pieces *pieces, int64_t index, int64_t channel)
{
    int64_t part = index / pieces->of_part;
    int64_t row_piece = part / pieces->groups * pieces->of_part + index % pieces->of_part;
    return numbers + row_piece * 2 * pieces->channels + channel;
}

static int64_t positions_at(const struct pieces *pieces, int64_t row_piece)
{
    return integer_min(pieces->each, pieces->positions - row_piece % pieces->of_part * pieces->each);
}

bool batch_moments(struct tape *tape, const struct tensor *x, double *moments)
{
    struct pieces pieces = pieces_of(x);
    struct batch_backward of = {.x = x};
    int64_t channels = pieces.channels;
    int64_t count = pieces.parts * pieces.of_part;
    int64_t row_pieces = x->shape[0] * pieces.of_part;
    struct arena_mark mark = arena_mark(tape->work);
    float *numbers = arena_allocate(tape->work, (size_t)(row_pieces * 2 * channels) * sizeof *numbers);
    if (!numbers)
        return false;
    double total = (double)channel_values(x);
    memset(moments, 0, 2 * (size_t)channels * sizeof *moments);
#pragma omp parallel num_threads(operation_threads(tape->engine, tensor_count(x)))
    {
        struct range mine = operation_range(count, 1);
        for (int64_t i = mine.begin; i < mine.begin + mine.count; i++) {
            int64_t element, channel;
            struct channel_part part = piece_at(&pieces, &of, i, &element, &channel);
            float *to = numbers_at(numbers, &pieces, i, channel);
            tape->engine->kernels->channel_moments(&part, to, to + channels);
        }
#pragma omp barrier
        struct range own = operation_range(tape->context->dry ? 0 : channels, LINE_ELEMENTS);
        int64_t end = own.begin + own.count;
        for (int64_t i = 0; i < row_pieces; i++) {
            double share = (double)positions_at(&pieces, i) / total;
            for (int64_t c = own.begin; c < end; c++)
                moments[c] += share * (double)numbers[i * 2 * channels + c];
        }
        for (int64_t i = 0; i < row_pieces; i++) {
            double weight = (double)positions_at(&pieces, i);
            for (int64_t c = own.begin; c < end; c++) {
                double off = (double)numbers[i * 2 * channels + c] - moments[c];
                moments[channels + c] += (double)numbers[(i * 2 + 1) * channels + c] + weight * off * off;
            }
        }
    }
    arena_rewind(tape->work, mark);
    return true;
}

void batch_apply(struct engine *engine, const struct tensor *x, const struct tensor *shortcut,
                 const struct batch_affine *affine, struct tensor *y)
{
    struct pieces pieces = pieces_of(x);
    struct batch_backward of = {.x = x, .shortcut = shortcut, .affine = affine};
    int64_t count = pieces.parts * pieces.of_part;
#pragma omp parallel num_threads(operation_threads(engine, tensor_count(x)))
    {
        struct range mine = operation_range(count, 1);
        for (int64_t i = mine.begin; i < mine.begin + mine.count; i++) {
            int64_t element, channel;
            struct channel_part part = piece_at(&pieces, &of, i, &element, &channel);
            engine->kernels->channel_apply(&part, operation_at_mutable(y->data, element, y->dtype));
        }
    }
}

bool batch_gradient_sums(struct tape *tape, const struct batch_backward *of, double *sums)
{
    struct pieces pieces = pieces_of(of->x);
    int64_t channels = pieces.channels;
    int64_t count = pieces.parts * pieces.of_part;
    int64_t row_pieces = of->x->shape[0] * pieces.of_part;
    struct arena_mark mark = arena_mark(tape->work);
    float *numbers = arena_allocate(tape->work, (size_t)(row_pieces * 2 * channels) * sizeof *numbers);
    if (!numbers)
        return false;
    memset(sums, 0, 2 * (size_t)channels * sizeof *sums);
#pragma omp parallel num_threads(operation_threads(tape->engine, tensor_count(of->x)))
    {
        struct range mine = operation_range(count, 1);
        for (int64_t i = mine.begin; i < mine.begin + mine.count; i++) {
            int64_t element, channel;
            struct channel_part part = piece_at(&pieces, of, i, &element, &channel);
            float *to = numbers_at(numbers, &pieces, i, channel);
            tape->engine->kernels->channel_gradient_sums(&part, to, to + channels);
        }
#pragma omp barrier
        struct range own = operation_range(tape->context->dry ? 0 : 2 * channels, LINE_ELEMENTS);
        for (int64_t i = 0; i < row_pieces; i++)
            for (int64_t c = own.begin; c < own.begin + own.count; c++)
                sums[c] += (double)numbers[i * 2 * channels + c];
    }
    arena_rewind(tape->work, mark);
    return true;
}

void batch_backward_apply(struct engine *engine, const struct batch_backward *of, const struct batch_gradient *gradient,
                          struct gradient_target dx, struct gradient_target dshortcut)
{
    struct pieces pieces = pieces_of(of->x);
    int64_t count = pieces.parts * pieces.of_part;
#pragma omp parallel num_threads(operation_threads(engine, tensor_count(of->x)))
    {
        struct range mine = operation_range(count, 1);
        for (int64_t i = mine.begin; i < mine.begin + mine.count; i++) {
            int64_t element, channel;
            struct channel_part part = piece_at(&pieces, of, i, &element, &channel);
            struct channel_backward to = {
                .along = gradient->along + channel,
                .tilt = gradient->tilt + channel,
                .offset = gradient->offset + channel,
                .dx = dx.data ? operation_at_mutable(dx.data, element, dx.dtype) : NULL,
                .dshortcut = dshortcut.data ? operation_at_mutable(dshortcut.data, element, dshortcut.dtype) : NULL,
                .dx_beta = dx.beta,
                .dshortcut_beta = dshortcut.beta};
            engine->kernels->channel_backward(&part, &to);
        }
    }
}
