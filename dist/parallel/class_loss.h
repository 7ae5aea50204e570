/* The cross entropy of a classifier whose classes tensor ranks divide. */
#ifndef CAIRN_DIST_PARALLEL_CLASS_LOSS_H
#define CAIRN_DIST_PARALLEL_CLASS_LOSS_H

#include "dist/mesh/mesh.h"
#include "src/tensor/tape.h"

/* The target of a row is (1 - mixing) of its label and mixing of another, and of both a share `smoothing` goes to all
 * classes alike (src/model/README.md section 8). */
struct class_targets {
    const int32_t *labels;       /* [rows], negative: the row does not count */
    const int32_t *mixed_labels; /* [rows], of rows with mixing; NULL: no row has any */
    const float *mixing;         /* [rows] */
    int64_t classes;             /* of all tensor ranks, divided by range_partition */
    int64_t first;               /* of this rank's part of them */
    float smoothing;
    float scale; /* of the loss */
};

/* logits [rows, classes local] F32 -> loss [1] F32: scale * sum over rows of - sum over classes of target log softmax,
 * the same on all tensor ranks. What targets points to lives as long as the tape's records. Collective over the tensor
 * axis. */
struct tensor *class_loss(struct tape *tape, struct mesh *mesh, struct tensor *logits,
                          const struct class_targets *targets);

#endif
