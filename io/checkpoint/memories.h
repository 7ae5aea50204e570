/* What Infini-attention's memories in a checkpoint hold, for checkpoint_inspect. */
#ifndef CAIRN_IO_CHECKPOINT_MEMORIES_H
#define CAIRN_IO_CHECKPOINT_MEMORIES_H

#include "io/checkpoint/layout.h"

/* A line for each layer: mean of z, share of z above 0, Frobenius norm and effective rank of M, each as the smallest,
 * the median and the largest over streams and heads; with `verbose` a line for each of these, too. Nothing for files
 * without memories of the shapes in io/README.md, Checkpoint. */
enum status memories_print(struct context *context, const char *path, const struct layout_entry *entries, int count,
                           bool verbose) MUST_USE;

#endif
