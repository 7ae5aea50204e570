/* The operations of residual networks at the sizes of the stages of ResNet-18 on images of 32 x 32, and of ResNet-50's
 * bottlenecks. */
#include <stdio.h>
#include <string.h>

#include "dist/parallel/batch_norm.h"
#include "src/bench/kernels_private.h"
#include "src/ops/image.h"

static int64_t network_block(const struct kernel_bench *bench)
{
    return image_block(bench->engine, bench->sizes.image_channels);
}

/* Images of square planes, laid out as a network of such widths has them. */
static struct tensor *leaf(struct kernel_bench *bench, void *data, int64_t images, int64_t channels, int64_t size)
{
    struct tensor *x = tape_leaf(&bench->tape, bench->dtype, 4, (int64_t[]){images, channels, size, size}, data, true);
    if (x)
        x->block = image_block_of(network_block(bench), channels);
    return x;
}

/* Planes get smaller as channels get more: side * channels stays what it is in the first stage. */
static int64_t side_of(const struct kernel_bench *bench, int64_t channels)
{
    return bench->sizes.image_channels * bench->sizes.image_side / channels;
}

static struct tensor *build_convolution(struct kernel_bench *bench, int64_t channels, int64_t outputs, int64_t kernel)
{
    bench->weight = (struct parameter){.gradient = bench->gradient};
    bench->weight.value = (struct tensor){.dtype = bench->dtype,
                                          .rank = 4,
                                          .shape = {outputs, channels, kernel, kernel},
                                          .data = bench->y,
                                          .needs_gradient = true,
                                          .parameter = &bench->weight};
    struct tensor *x = leaf(bench, bench->x, bench->sizes.images, channels, side_of(bench, channels));
    return convolution(&bench->tape, x, &bench->weight.value, 1, kernel / 2,
                       image_block_of(network_block(bench), outputs));
}

static struct tensor *build_wide(struct kernel_bench *bench, int64_t channels, int64_t outputs)
{
    return build_convolution(bench, channels, outputs, 3);
}

static struct tensor *build_narrow(struct kernel_bench *bench, int64_t channels, int64_t outputs)
{
    return build_convolution(bench, channels, outputs, 1);
}

static void measure_convolutions(struct kernel_bench *bench, kernel_build build, int64_t kernel, int64_t widening)
{
    const struct kernel_sizes *s = &bench->sizes;
    for (int stage = 0; stage < 4; stage++) {
        int64_t channels = s->image_channels << stage;
        int64_t outputs = widening * channels;
        int64_t side = side_of(bench, channels);
        double each =
            2.0 * (double)(s->images * side * side) * (double)(channels * outputs) * (double)(kernel * kernel);
        struct kernel_row forward = {.operation = kernel == 3 ? "convolution 3x3 forward" : "convolution 1x1 forward",
                                     .flops = each,
                                     .counted = "2 N H W I O K K"};
        snprintf(forward.shape, sizeof forward.shape, "%lldx%lldx%lldx%lld", (long long)s->images, (long long)channels,
                 (long long)side, (long long)outputs);
        struct kernel_row backward = forward;
        backward.operation = kernel == 3 ? "convolution 3x3 backward" : "convolution 1x1 backward";
        backward.flops = 2.0 * each;
        backward.counted = "4 N H W I O K K";
        kernel_measure(bench, build, channels, outputs, &forward, &backward);
    }
}

/* With its rectifier, of images that no cache holds. */
static struct tensor *build_batch_norm(struct kernel_bench *bench, int64_t images, int64_t channels)
{
    float *const values[] = {bench->floats[0], bench->floats[1], bench->floats[2], bench->floats[3]};
    struct parameter *const parameters[] = {&bench->weight, &bench->bias, &bench->running_mean,
                                            &bench->running_variance};
    for (int i = 0; i < 4; i++) {
        *parameters[i] = (struct parameter){.gradient = bench->gradient + i * channels};
        parameters[i]->value = (struct tensor){.dtype = DTYPE_F32,
                                               .rank = 1,
                                               .shape = {channels},
                                               .data = values[i],
                                               .needs_gradient = i < 2,
                                               .parameter = parameters[i]};
    }
    struct batch_norm norm = {.weight = &bench->weight.value,
                              .bias = &bench->bias.value,
                              .mean = &bench->running_mean,
                              .variance = &bench->running_variance,
                              .epsilon = 1e-5,
                              .momentum = 0.1};
    struct batch_norm_use use = {.trains = true, .rectify = true};
    struct tensor *x = leaf(bench, bench->x, images, channels, bench->sizes.image_side);
    return batch_norm(&bench->tape, NULL, x, NULL, &norm, &use);
}

void kernel_images(struct kernel_bench *bench)
{
    const struct kernel_sizes *s = &bench->sizes;
    measure_convolutions(bench, build_wide, 3, 1);
    measure_convolutions(bench, build_narrow, 1, 2);
    double e = (double)dtype_size(bench->dtype);
    int64_t plane = s->image_channels * s->image_side * s->image_side;
    int64_t images = integer_max(1, s->large_bytes / (int64_t)e / plane);
    double elements = (double)(images * plane);
    struct kernel_row forward = {
        .operation = "batch norm, relu forward", .bytes = 3 * e * elements, .counted = "x twice, y"};
    struct kernel_row backward = {
        .operation = "batch norm, relu backward", .bytes = 7 * e * elements, .counted = "dy, x, y twice, dx"};
    snprintf(forward.shape, sizeof forward.shape, "%lldx%lldx%lldx%lld", (long long)images,
             (long long)s->image_channels, (long long)s->image_side, (long long)s->image_side);
    memcpy(backward.shape, forward.shape, sizeof backward.shape);
    kernel_measure(bench, build_batch_norm, images, s->image_channels, &forward, &backward);
}
