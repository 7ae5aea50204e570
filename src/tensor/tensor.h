/* Tensors: a type, a shape and data, contiguous and row-major; and parameters, which also know which part of a
 * global tensor they are. Neither owns its data. */
#ifndef CAIRN_TENSOR_TENSOR_H
#define CAIRN_TENSOR_TENSOR_H

#include <stdbool.h>

#include "src/core/dtype.h"
#include "src/core/integer.h"

enum { TENSOR_RANK = 4, PARAMETER_NAME = 96 };

struct parameter;
struct gradient;

struct tensor {
    enum dtype dtype;
    int rank;
    int64_t shape[TENSOR_RANK];
    void *data;
    bool needs_gradient;
    struct parameter *parameter; /* set when this is a parameter's value: its gradient then goes there */
    struct gradient *gradient;   /* owned by the tape; NULL until backward reaches the tensor */
};

int64_t tensor_count(const struct tensor *tensor);

/* The product of all dimensions but the last, and the last. */
int64_t tensor_rows(const struct tensor *tensor);
int64_t tensor_columns(const struct tensor *tensor);

/* The rows of an INITIAL_ORTHOGONAL matrix share no column: element (m, n) is `deviation` where n mod rows is m, else
 * 0. */
enum parameter_initial { INITIAL_ZERO, INITIAL_ONE, INITIAL_NORMAL, INITIAL_ORTHOGONAL };

/* What is the same on every rank of any mesh. */
struct parameter_spec {
    char name[PARAMETER_NAME];
    int rank;
    int64_t shape[TENSOR_RANK];
    enum parameter_initial initial;
    double deviation; /* of INITIAL_NORMAL; see INITIAL_ORTHOGONAL */
    bool decay;
    bool is_gate;     /* its learning rate has the factor optimizer.gate_lr_factor */
    bool keeps_float; /* its values are fp32 whatever the compute type: few numbers, on which much depends */
};

/* A rank's part of a parameter: the range `slice` along `axis`, all of the other axes. Ranks of the tensor axis may
 * hold overlapping slices (or all of it); each element is then owned by one of them, which counts it in norms and
 * writes it to checkpoints, and the gradients of all copies are summed. */
struct parameter {
    struct parameter_spec spec;
    int axis;
    struct range slice;
    struct range owned;  /* global indices along the axis; count 0 when another rank owns what this one holds */
    bool replicated;     /* over tensor ranks: the gradients of all copies need a sum */
    bool overlapping;    /* replicated only in part: tensor ranks hold ranges of the axis 0 that overlap */
    bool tied;           /* a second copy lives on another pipeline stage: both gradients need a sum */
    struct tensor value; /* local shape; of the compute type, or fp32 if it keeps_float */
    float *gradient;     /* local shape, fp32, accumulates */
    int uses;            /* in the forward pass that is the last of the step, still to be seen by backward */
    int bucket;          /* where its gradient is reduced */
};

/* A box of a global tensor: offset and extent in each of its dimensions. */
struct box {
    int64_t offset[TENSOR_RANK];
    int64_t extent[TENSOR_RANK];
};

enum { BOXES_OF_RANGE = 2 * TENSOR_RANK - 1 };

/* The part of the global tensor that a rank's local block covers. */
struct box parameter_box(const struct parameter *parameter);

/* Elements of `flat` (a range of the row-major local block `block`, of `rank` dimensions) as at most BOXES_OF_RANGE
 * boxes of the global tensor, in the order in which the elements lie in memory. Returns their number. */
int box_from_range(const struct box *block, int rank, struct range flat, struct box boxes[BOXES_OF_RANGE]);

int64_t box_count(const struct box *box, int rank);

/* The elements of a parameter's local block that this rank owns, clipped to `flat`, as ranges of the local block.
 * Owned elements are contiguous when the axis is 0, and all of the block otherwise, so one range is enough. */
struct range parameter_owned(const struct parameter *parameter, struct range flat);

/* Initial values of elements `flat` of the local block, by seed, name and global index (src/model/README.md section 2).
 */
void parameter_initialize(const struct parameter *parameter, uint64_t seed, struct range flat, float *values);

#endif
