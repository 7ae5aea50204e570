/* The operations on images [rows, channels, height, width], which keep the layout that they are given (tensor.block)
 * and say which one they make. As those of src/ops/ops.h, they compute on this rank alone and take NULL for "an earlier
 * operation failed"; rows may be 0. */
#ifndef CAIRN_OPS_IMAGE_H
#define CAIRN_OPS_IMAGE_H

#include "src/tensor/tape.h"

/* The layout for a network whose images have multiples of `channels`: blocks as this machine's convolutions want them,
 * or 0 where all channels should lie together. */
int64_t image_block(const struct engine *engine, int64_t channels);

/* The block of images with so many channels in a network whose image_block is `block`. */
static inline int64_t image_block_of(int64_t block, int64_t channels)
{
    return block ? block : channels;
}

/* fp32 values [rows, channels, height, width] that live until tape_reset, as images of type `dtype` with that block; a
 * block of 0 or 1 is how they lie. They need no gradient. */
struct tensor *image_input(struct tape *tape, float *values, const int64_t shape[4], enum dtype dtype, int64_t block);

/* y[o, r, c] = sum over i, k, l of weight[o, i, k, l] x[i, stride r + k - padding, stride c + l - padding], 0 outside
 * of x. weight [O, I, kernel, kernel], or [O, I] for a kernel of 1, row-major and of x's type. y has the block `block`,
 * and zeros in channels that fill up its last one; x may have such, too. */
struct tensor *convolution(struct tape *tape, struct tensor *x, struct tensor *weight, int64_t stride, int64_t padding,
                           int64_t block);

/* The largest of each window of 3 x 3, 2 apart, with an edge of 1 that never is. */
struct tensor *max_pooling(struct tape *tape, struct tensor *x);

/* The mean over height and width: [rows, channels], row-major. */
struct tensor *average_pooling(struct tape *tape, struct tensor *x);

/* max(x, 0), elementwise. */
struct tensor *relu(struct tape *tape, struct tensor *x);

/* -- The arithmetic of batch normalisation; dist/parallel/batch_norm.h makes an operation of it -- */

/* Values of a channel in x. */
static inline int64_t channel_values(const struct tensor *x)
{
    return x->shape[0] * x->shape[2] * x->shape[3];
}

/* Of each channel of x: its mean and the sum of squared differences from that, [2, channels]; zeros without rows. False
 * when memory is out. The numbers do not depend on the threads. */
bool batch_moments(struct tape *tape, const struct tensor *x, double *moments);

/* y = scale[c] x + shift[c], plus `shortcut` (or NULL), and of that the positive part if `rectify`. scale, shift
 * [channels]. */
struct batch_affine {
    const float *scale, *shift;
    bool rectify;
};

void batch_apply(struct engine *engine, const struct tensor *x, const struct tensor *shortcut,
                 const struct batch_affine *affine, struct tensor *y);

/* Backward of that: dy = the gradient of y, or 0 where y was cut off. */
struct batch_backward {
    const struct tensor *x, *shortcut, *y;
    const void *dy;
    const struct batch_affine *affine;
    const float *mean; /* [channels] */
};

/* sums [2, channels]: of the gradients, and of dy * (x - mean). False when memory is out. */
bool batch_gradient_sums(struct tape *tape, const struct batch_backward *of, double *sums);

/* dx = beta dx + along[c] dy - tilt[c] (x - mean[c]) - offset[c], and dshortcut = beta dshortcut + dy; either
 * target may be none. */
struct batch_gradient {
    const float *along, *tilt, *offset;
};

void batch_backward_apply(struct engine *engine, const struct batch_backward *of, const struct batch_gradient *gradient,
                          struct gradient_target dx, struct gradient_target dshortcut);

#endif
