#include "src/model/resnet.h"

#include <string.h>

#include "src/ops/image.h"
#include "src/ops/ops.h"

/* How units run in the pass under way. */
struct pass {
    struct resnet *resnet;
    bool training;
};

static struct tensor *run_unit(struct tape *tape, const struct pass *pass, int index, struct tensor *x,
                               struct tensor *shortcut, bool rectify)
{
    struct resnet *resnet = pass->resnet;
    const struct resnet_unit_shape *shape = &resnet->shape.unit[index];
    struct resnet_unit *unit = &resnet->unit[index];
    bool group = resnet->model->config->model.batch_statistics == STATISTICS_GROUP;
    struct batch_norm_use use = {.trains = pass->training, .group = group, .rectify = rectify};
    x = convolution(tape, x, &unit->convolution->value, shape->stride, shape->kernel / 2,
                    image_block_of(resnet->block, shape->outputs));
    return batch_norm(tape, resnet->model->mesh, x, shortcut, &unit->norm, &use);
}

/* -- A block; its inputs are x and the inputs of the blocks before, the last one first -- */

struct block_call {
    struct pass pass;
    int block;
    int states;
};

/* B A x */
static struct tensor *low_rank(struct tape *tape, const struct resnet *resnet, struct tensor *down, struct tensor *up,
                               struct tensor *x)
{
    if (!x || !down || !up)
        return NULL;
    struct tensor *few = convolution(tape, x, down, 1, 0, image_block_of(resnet->block, down->shape[0]));
    return convolution(tape, few, up, 1, 0, x->block);
}

/* g_i of section 6. */
static struct tensor *shortcut_of(struct tape *tape, const struct block_call *call, struct tensor *const *inputs)
{
    const struct resnet *resnet = call->pass.resnet;
    const struct resnet_connection *connection = &resnet->connection[call->block];
    struct tensor *g = inputs[0];
    int64_t previous = resnet->model->config->model.residual.previous;
    if (connection->down && previous == 0)
        g = add(tape, g, low_rank(tape, resnet, &connection->down->value, &connection->up->value, g));
    for (int j = 0; j < previous && j <= call->states; j++) {
        struct tensor *y = inputs[j];
        if (connection->down)
            y = low_rank(tape, resnet, tape_slice(tape, &connection->down->value, j),
                         tape_slice(tape, &connection->up->value, j), y);
        g = residual_term(tape, g, y, &connection->gamma->value, j);
    }
    return g;
}

static bool run_block(struct tape *tape, void *argument, struct tensor *const *inputs, struct tensor **outputs)
{
    const struct block_call *call = argument;
    const struct pass *pass = &call->pass;
    const struct resnet_block_shape *shape = &pass->resnet->shape.block[call->block];
    const struct resnet_connection *connection = &pass->resnet->connection[call->block];
    struct tensor *f = inputs[0];
    int last = shape->first + shape->units - 1;
    for (int u = shape->first; u < last; u++)
        f = run_unit(tape, pass, u, f, NULL, true);
    struct tensor *g =
        shape->identity ? shortcut_of(tape, call, inputs) : run_unit(tape, pass, last + 1, inputs[0], NULL, false);
    if (!g)
        return false;
    if (connection->weights)
        outputs[0] =
            relu(tape, residual_sum(tape, run_unit(tape, pass, last, f, NULL, false), g, &connection->weights->value));
    else
        outputs[0] = run_unit(tape, pass, last, f, g, true);
    return outputs[0] != NULL;
}

/* -- The network -- */

/* Inputs of the identity blocks of a stage, this block's first. */
struct history {
    struct tensor *state[1 + RESNET_HISTORY];
};

static struct tensor *next_block(struct tape *tape, struct block_call *call, struct tensor *x, struct history *history)
{
    const struct resnet *resnet = call->pass.resnet;
    const struct resnet_block_shape *shape = &resnet->shape.block[call->block];
    struct tensor *output = NULL;
    memmove(history->state + 1, history->state, RESNET_HISTORY * sizeof *history->state);
    history->state[0] = x;
    call->states = shape->identity && resnet->connection[call->block].gamma ? shape->connection : 0;
    if (resnet->model->config->compute.recompute == RECOMPUTE_LAYER) {
        (void)tape_recompute(tape, run_block, call, sizeof *call, history->state, 1 + call->states, &output, 1);
        return output;
    }
    (void)run_block(tape, call, history->state, &output);
    return output;
}

struct tensor *resnet_logits(struct tape *tape, struct resnet *resnet, float *images, int64_t rows, bool training)
{
    const struct model_config *config = &resnet->model->config->model;
    struct pass pass = {.resnet = resnet, .training = training};
    struct history history = {{NULL}};
    int64_t channels = config->image.channels;
    int64_t shape[4] = {rows, channels, config->image.size, config->image.size};
    struct location_mark *location = &tape->context->location;
    struct tensor *x = image_input(tape, images, shape, resnet->model->dtype, resnet->block ? 0 : channels);
    x = run_unit(tape, &pass, 0, x, NULL, true);
    if (resnet->shape.pools)
        x = max_pooling(tape, x);
    for (int b = 0; b < resnet->shape.blocks && x; b++) {
        struct block_call call = {.pass = pass, .block = b};
        location_enter_layer(location, b);
        x = next_block(tape, &call, x, &history);
    }
    location_enter_layer(location, -1);
    return linear(tape, average_pooling(tape, x), &resnet->classifier->value, &resnet->classifier_bias->value,
                  DTYPE_F32);
}
