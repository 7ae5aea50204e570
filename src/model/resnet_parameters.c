/* Names, shapes, initial values and decay of a residual network's parameters and buffers. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "src/model/resnet.h"

static struct parameter *declare(struct parameter_list *list, enum parameter_group group, const char *prefix,
                                 const char *name, struct parameter_spec spec)
{
    snprintf(spec.name, sizeof spec.name, "%s%s", prefix, name);
    spec.group = (int)group;
    spec.repeats = 1;
    const struct range all = {.begin = 0, .count = spec.shape[0]};
    return parameter_declare(list, &spec, &(struct parameter_division){.slice = all, .owned = all}, true, 0);
}

static struct parameter_spec vector_spec(int64_t length, enum parameter_initial initial)
{
    return (struct parameter_spec){.rank = 1, .shape = {length}, .initial = initial};
}

static struct parameter_spec buffer_spec(int64_t length, enum parameter_initial initial)
{
    struct parameter_spec spec = vector_spec(length, initial);
    spec.is_buffer = true;
    return spec;
}

static struct tensor *value_of(struct parameter *parameter)
{
    return parameter ? &parameter->value : NULL;
}

static void declare_unit(struct parameter_list *list, const struct resnet_unit_shape *shape, struct resnet_unit *unit)
{
    struct parameter_spec kernel = {.rank = 4,
                                    .shape = {shape->outputs, shape->inputs, shape->kernel, shape->kernel},
                                    .initial = INITIAL_NORMAL,
                                    .decay = true};
    kernel.deviation = sqrt(2.0 / (double)(shape->outputs * shape->kernel * shape->kernel));
    unit->convolution = declare(list, GROUP_CONVOLUTIONS, shape->convolution, ".weight", kernel);
    struct batch_norm *norm = &unit->norm;
    int64_t channels = shape->outputs;
    *norm = (struct batch_norm){.epsilon = 1e-5, .momentum = 0.1};
    norm->weight = value_of(declare(list, GROUP_NORMS, shape->norm, ".weight", vector_spec(channels, INITIAL_ONE)));
    norm->bias = value_of(declare(list, GROUP_NORMS, shape->norm, ".bias", vector_spec(channels, INITIAL_ZERO)));
    norm->mean = declare(list, GROUP_NORMS, shape->norm, ".running_mean", buffer_spec(channels, INITIAL_ZERO));
    norm->variance = declare(list, GROUP_NORMS, shape->norm, ".running_var", buffer_spec(channels, INITIAL_ONE));
    struct parameter_spec tracked = buffer_spec(2, INITIAL_ZERO);
    tracked.is_count = true;
    norm->tracked = declare(list, GROUP_NORMS, shape->norm, ".num_batches_tracked", tracked);
}

/* One matrix for each previous state, if there are such. */
static struct parameter_spec matrices_spec(int64_t previous, int64_t rows, int64_t columns)
{
    if (previous > 0)
        return (struct parameter_spec){.rank = 3, .shape = {previous, rows, columns}, .decay = true};
    return (struct parameter_spec){.rank = 2, .shape = {rows, columns}, .decay = true};
}

/* Section 6 over the channels; starts as the plain sum, whatever its form. */
static void declare_connection(struct parameter_list *list, const struct model_config *config,
                               const struct resnet_block_shape *block, struct resnet_connection *connection)
{
    int64_t rank = config->residual.rank;
    int64_t previous = config->residual.previous;
    if (config->residual.weights) {
        struct parameter_spec spec = vector_spec(2, INITIAL_ZERO);
        spec.keeps_float = true;
        connection->weights = declare(list, GROUP_RESIDUAL, block->prefix, "residual.weights", spec);
    }
    if (rank > 0) {
        struct parameter_spec down = matrices_spec(previous, rank, block->channels);
        struct parameter_spec up = matrices_spec(previous, block->channels, rank);
        down.initial = INITIAL_NORMAL;
        down.deviation = sqrt(2.0 / (double)(rank + block->channels));
        connection->down = declare(list, GROUP_RESIDUAL, block->prefix, "residual.down.weight", down);
        connection->up = declare(list, GROUP_RESIDUAL, block->prefix, "residual.up.weight", up);
    }
    if (previous > 0) {
        struct parameter_spec spec = vector_spec(previous, rank > 0 ? INITIAL_ONE : INITIAL_ZERO);
        spec.keeps_float = true;
        connection->gamma = declare(list, GROUP_RESIDUAL, block->prefix, "residual.gamma", spec);
    }
}

enum status resnet_declare(struct resnet *resnet, const struct model_config *config, struct parameter_list *list)
{
    const struct resnet_shape *shape = &resnet->shape;
    declare_unit(list, &shape->unit[0], &resnet->unit[0]);
    for (int b = 0; b < shape->blocks; b++) {
        const struct resnet_block_shape *block = &shape->block[b];
        int end = block->first + block->units + !block->identity;
        for (int u = block->first; u < end; u++)
            declare_unit(list, &shape->unit[u], &resnet->unit[u]);
        if (block->identity && config->residual.kind == RESIDUAL_LAUREL)
            declare_connection(list, config, block, &resnet->connection[b]);
    }
    double bound = 1.0 / sqrt((double)shape->features);
    struct parameter_spec weight = {.rank = 2,
                                    .shape = {config->image.classes, shape->features},
                                    .initial = INITIAL_UNIFORM,
                                    .deviation = bound,
                                    .decay = true};
    struct parameter_spec bias = vector_spec(config->image.classes, INITIAL_UNIFORM);
    bias.deviation = bound;
    resnet->classifier = declare(list, GROUP_HEAD, "fc", ".weight", weight);
    resnet->classifier_bias = declare(list, GROUP_HEAD, "fc", ".bias", bias);
    return list->context->status;
}
