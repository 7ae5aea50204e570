/* Tensors: a type, a shape and data, contiguous and row-major unless they are images in blocks of channels. They do not
 * own their data. */
#ifndef CAIRN_TENSOR_TENSOR_H
#define CAIRN_TENSOR_TENSOR_H

#include <stdbool.h>

#include "src/core/dtype.h"
#include "src/core/integer.h"

enum { TENSOR_RANK = 4 };

struct parameter;
struct gradient;

struct tensor {
    enum dtype dtype;
    int rank;
    int64_t shape[TENSOR_RANK];
    /* Of images [rows, channels, height, width]: so many channels lie together, which divide all channels. The data is
     * then [rows, channels / block, height, width, block]; 0 is row-major, as 1 would be. */
    int64_t block;
    void *data;
    bool needs_gradient;
    struct parameter *parameter; /* set when this is a parameter's value: its gradient then goes there */
    struct gradient *gradient;   /* owned by the tape; NULL until backward reaches the tensor */
};

int64_t tensor_count(const struct tensor *tensor);

/* The product of all dimensions but the last, and the last. */
int64_t tensor_rows(const struct tensor *tensor);
int64_t tensor_columns(const struct tensor *tensor);

#endif
