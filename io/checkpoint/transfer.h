/* Moving a rank's pieces of datasets between memory and the file, all ranks together. */
#ifndef CAIRN_IO_CHECKPOINT_TRANSFER_H
#define CAIRN_IO_CHECKPOINT_TRANSFER_H

#include <hdf5.h>

#include "io/checkpoint/checkpoint.h"

/* Bytes a rank moves in one call: MPI-IO implementations fail from 2 GiB on. */
enum { TRANSFER_BYTES = 1 << 30 };

/* INTERNAL error unless every piece lies inside its dataset. */
enum status transfer_check(struct context *context, const struct checkpoint_dataset *datasets, int count) MUST_USE;

/* For each dataset the number of transfers of at most `limit` bytes that the rank with most of them needs. Collective
 * over the world; `rounds` has `count` elements. */
void transfer_plan(struct mesh *mesh, const struct checkpoint_dataset *datasets, int count, int64_t limit,
                   int64_t *rounds);

/* INTERNAL or FILE error unless every rank sees the file with this size: their folders may not be the same one.
 * Collective over the world; agreed status. */
enum status transfer_visible(struct context *context, struct mesh *mesh, const char *path, bool write,
                             int64_t size) MUST_USE;

/* Opens the file on all ranks, moves all pieces, and, if writing, brings them to disk. Ranks without work in a round
 * take part in it with nothing. Collective over the world; agreed status. */
enum status transfer_run(struct context *context, struct mesh *mesh, const char *path, bool write,
                         const struct checkpoint_dataset *datasets, int count, int64_t limit,
                         const int64_t *rounds) MUST_USE;

#endif
