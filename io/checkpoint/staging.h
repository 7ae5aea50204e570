/* Arrays as files have them, all fp32: pieces of which there is only bf16 get a copy while they are read or written. */
#ifndef CAIRN_IO_CHECKPOINT_STAGING_H
#define CAIRN_IO_CHECKPOINT_STAGING_H

#include "src/tensor/state.h"

struct staging {
    struct state_array *arrays; /* [count] */
    struct state_piece *pieces;
    float *values;
    int count;
};

/* `left_out` (may be NULL) says which arrays to leave out. To be destroyed whatever comes back. Local. */
enum status staging_create(struct context *context, const struct state_array *arrays, int count, const bool *left_out,
                           struct staging *staging) MUST_USE;
void staging_destroy(struct context *context, struct staging *staging);

/* Fills the copies before they are written, and takes what was read from them. */
void staging_fill(const struct staging *staging);
void staging_take(const struct staging *staging);

#endif
