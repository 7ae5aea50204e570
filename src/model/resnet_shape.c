/* Where a residual network has which convolutions: torchvision's names and sizes. */
#include <stdio.h>
#include <string.h>

#include "src/model/resnet.h"

int64_t resnet_unit_output(const struct resnet_unit_shape *unit)
{
    return (unit->size + 2 * (unit->kernel / 2) - unit->kernel) / unit->stride + 1;
}

static struct resnet_unit_shape *add_unit(struct resnet_shape *shape, const char *prefix, const char *convolution,
                                          const char *norm, struct resnet_unit_shape sizes)
{
    struct resnet_unit_shape *unit = &shape->unit[shape->units++];
    *unit = sizes;
    snprintf(unit->convolution, sizeof unit->convolution, "%.48s%s", prefix, convolution);
    snprintf(unit->norm, sizeof unit->norm, "%.48s%s", prefix, norm);
    return unit;
}

/* Basic blocks have two convolutions of 3 x 3. Bottlenecks have one between two of 1 x 1, the last of which has four
 * times its channels. The 3 x 3 has the stride: in a basic block the first one. */
static void add_way(struct resnet_shape *shape, const char *prefix, bool bottleneck, int64_t inputs, int64_t width,
                    int64_t stride, int64_t size)
{
    struct resnet_unit_shape sizes = {.inputs = inputs, .outputs = width, .kernel = 1, .stride = 1, .size = size};
    if (bottleneck)
        sizes.inputs = add_unit(shape, prefix, "conv1", "bn1", sizes)->outputs;
    sizes.kernel = 3;
    sizes.stride = stride;
    const struct resnet_unit_shape *middle =
        add_unit(shape, prefix, bottleneck ? "conv2" : "conv1", bottleneck ? "bn2" : "bn1", sizes);
    sizes = (struct resnet_unit_shape){.inputs = width,
                                       .outputs = bottleneck ? 4 * width : width,
                                       .kernel = bottleneck ? 1 : 3,
                                       .stride = 1,
                                       .size = resnet_unit_output(middle)};
    add_unit(shape, prefix, bottleneck ? "conv3" : "conv2", bottleneck ? "bn3" : "bn2", sizes);
}

static void add_block(struct resnet_shape *shape, int stage, int index, bool bottleneck, int64_t width, int64_t *inputs,
                      int64_t *size)
{
    char prefix[RESNET_NAME];
    struct resnet_block_shape *block = &shape->block[shape->blocks];
    const struct resnet_block_shape *before = index > 0 ? &block[-1] : NULL;
    int64_t stride = stage > 1 && index == 0 ? 2 : 1;
    int64_t outputs = bottleneck ? 4 * width : width;
    *block = (struct resnet_block_shape){.first = shape->units,
                                         .units = bottleneck ? 3 : 2,
                                         .identity = stride == 1 && *inputs == outputs,
                                         .channels = outputs};
    snprintf(prefix, sizeof prefix, "layer%d.%d.", stage, index);
    memcpy(block->prefix, prefix, sizeof prefix);
    block->connection = before && before->identity ? before->connection + 1 : 0;
    add_way(shape, prefix, bottleneck, *inputs, width, stride, *size);
    if (!block->identity)
        add_unit(shape, prefix, "downsample.0", "downsample.1",
                 (struct resnet_unit_shape){
                     .inputs = *inputs, .outputs = outputs, .kernel = 1, .stride = stride, .size = *size});
    block->size = resnet_unit_output(&shape->unit[block->first + block->units - 1]);
    *inputs = outputs;
    *size = block->size;
    shape->blocks++;
}

void resnet_shape_create(const struct model_config *config, struct resnet_shape *shape)
{
    static const int blocks[][RESNET_STAGES] = {
        [RESNET_18] = {2, 2, 2, 2}, [RESNET_34] = {3, 4, 6, 3}, [RESNET_50] = {3, 4, 6, 3}};
    bool small = config->stem == STEM_SMALL;
    bool bottleneck = config->depth_preset == RESNET_50;
    *shape = (struct resnet_shape){.pools = !small};
    const struct resnet_unit_shape *stem = add_unit(shape, "", "conv1", "bn1",
                                                    (struct resnet_unit_shape){.inputs = config->image.channels,
                                                                               .outputs = config->width,
                                                                               .kernel = small ? 3 : 7,
                                                                               .stride = small ? 1 : 2,
                                                                               .size = config->image.size});
    int64_t channels = config->width;
    int64_t size = resnet_unit_output(stem);
    if (shape->pools)
        size = (size - 1) / 2 + 1;
    for (int stage = 1; stage <= RESNET_STAGES; stage++) {
        int count = blocks[config->depth_preset][stage - 1] + (stage == 3 ? (int)config->extra_blocks : 0);
        for (int index = 0; index < count; index++)
            add_block(shape, stage, index, bottleneck, config->width << (stage - 1), &channels, &size);
    }
    shape->features = channels;
}
