/* Convolutions prepared by oneDNN, one plan for each shape and pass; images keep their layout between them. Not safe
 * for several threads. */
#ifndef CAIRN_OPS_CONVOLUTION_PLANS_H
#define CAIRN_OPS_CONVOLUTION_PLANS_H

#include "src/ops/matmul_plans.h"

enum convolution_pass { CONVOLUTION_FORWARD, CONVOLUTION_BACKWARD_DATA, CONVOLUTION_BACKWARD_WEIGHTS };

struct convolution_shape {
    int64_t rows;
    int64_t inputs, height, width; /* of x */
    int64_t outputs, out_height, out_width;
    int64_t kernel, stride, padding;
    int64_t block_in, block_out; /* tensor.block */
    int64_t type;                /* enum dtype of x and y, and of weights that are read */
};

/* x [rows, inputs, height, width], weight [outputs, inputs, kernel, kernel] row-major, y [rows, outputs, out_height,
 * out_width]. The first pass makes y, the second x from the gradient y, the third adds to the fp32 gradient weight. */
struct convolution_operands {
    void *x, *weight, *y;
};

/* *done is false when the library has no way to do it on this machine. */
enum status convolution_plans_run(struct context *context, struct matmul_plans *plans,
                                  const struct convolution_shape *shape, enum convolution_pass pass,
                                  const struct convolution_operands *operands, bool *done) MUST_USE;

/* How many channels the library wants together in images with many, or 0 if it has no blocks. */
int64_t convolution_plans_block(struct matmul_plans *plans);

void convolution_plans_destroy(struct context *context, struct matmul_plans *plans);

#endif
