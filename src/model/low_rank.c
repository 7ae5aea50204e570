#include "src/model/low_rank.h"

#include <string.h>

#include "src/core/integer.h"
#include "src/model/decoder_private.h"

typedef struct tensor *(*low_rank_side)(const struct low_rank *low_rank);

static struct tensor *side_down(const struct low_rank *low_rank)
{
    return parameter_value(low_rank->down);
}

static struct tensor *side_up(const struct low_rank *low_rank)
{
    return parameter_value(low_rank->up);
}

static char *row_at(const struct tensor *x, int64_t row)
{
    return (char *)x->data + (size_t)(row * tensor_columns(x)) * dtype_size(x->dtype);
}

/* Row after row of each recursion, zeros behind them and where a recursion has no such map. */
static struct tensor *multiply_several(struct tape *tape, const struct block_call *call,
                                       const struct linear_parameters *parameters, low_rank_side side, struct tensor *x,
                                       int64_t first)
{
    int64_t columns = tensor_rows(side(&parameters->low_rank[0]));
    struct range rows = {.begin = first, .count = tensor_rows(x)};
    struct tensor *all = tape_matrix(tape, x->dtype, rows.count, columns);
    if (!all)
        return NULL;
    memset(all->data, 0, (size_t)tensor_count(all) * dtype_size(x->dtype));
    for (int64_t use = 0; use < call->decoder->config.depth.recursions; use++) {
        struct range own = {.begin = call->use_begin[use], .count = call->use_begin[use + 1] - call->use_begin[use]};
        struct range part = range_intersect(own, rows);
        struct tensor *weight = side(&parameters->low_rank[use]);
        if (part.count <= 0 || !weight)
            continue;
        int64_t shape[2] = {part.count, tensor_columns(x)};
        struct tensor *some = tape_leaf(tape, x->dtype, 2, shape, row_at(x, part.begin - first), false);
        const struct tensor *product = linear(tape, some, weight, NULL, x->dtype);
        if (!product)
            return NULL;
        memcpy(row_at(all, part.begin - first), product->data, (size_t)tensor_count(product) * dtype_size(x->dtype));
    }
    return all;
}

/* LoRA maps of a layer are the same in all its uses. */
static const struct low_rank *low_rank_of(const struct block_call *call, const struct linear_parameters *parameters)
{
    return &parameters->low_rank[call->decoder->config.lora.rank > 0 ? 0 : call->use];
}

static struct tensor *multiply(struct tape *tape, const struct block_call *call,
                               const struct linear_parameters *parameters, low_rank_side side, struct tensor *x,
                               int64_t first)
{
    if (!x)
        return NULL;
    if (call->use_begin && call->decoder->config.lora.rank == 0)
        return multiply_several(tape, call, parameters, side, x, first);
    return linear(tape, x, side(low_rank_of(call, parameters)), NULL, x->dtype);
}

struct tensor *low_rank_down(struct tape *tape, const struct block_call *call,
                             const struct linear_parameters *parameters, struct tensor *x, int64_t first)
{
    return multiply(tape, call, parameters, side_down, x, first);
}

struct tensor *low_rank_up(struct tape *tape, const struct block_call *call, const struct linear_parameters *parameters,
                           struct tensor *x, int64_t first)
{
    const struct model_config *config = &call->decoder->config;
    float factor = config->lora.rank > 0 ? (float)(config->lora.alpha / (double)config->lora.rank) : 1.0f;
    return multiply(tape, call, parameters, side_up, factor == 1.0f ? x : scaled(tape, x, factor), first);
}

struct tensor *low_rank_down_weight(const struct block_call *call, const struct linear_parameters *parameters)
{
    return side_down(low_rank_of(call, parameters));
}

struct tensor *low_rank_apply(struct tape *tape, const struct block_call *call,
                              const struct linear_parameters *parameters, struct tensor *x)
{
    struct tensor *y = block_apply(tape, parameters, x);
    if (!y || !parameters->low_rank)
        return y;
    return add(tape, y, low_rank_up(tape, call, parameters, low_rank_down(tape, call, parameters, x, 0), 0));
}
