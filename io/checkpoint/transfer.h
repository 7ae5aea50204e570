/* Moving a rank's pieces of datasets between memory and the file, all ranks together. */
#ifndef CAIRN_IO_CHECKPOINT_TRANSFER_H
#define CAIRN_IO_CHECKPOINT_TRANSFER_H

#include <hdf5.h>

#include "io/checkpoint/checkpoint.h"

/* Bytes a rank moves in one call: MPI-IO implementations fail from 2 GiB on. */
enum { TRANSFER_BYTES = 1 << 30 };

/* INTERNAL error unless every piece lies inside its dataset. */
enum status transfer_check(struct context *context, const struct state_array *datasets, int count) MUST_USE;

/* Of all ranks together. */
int64_t dataset_elements(const struct state_array *dataset);

/* INTERNAL error unless `elements`, what all ranks together hold of each dataset, is all that it has. */
enum status transfer_complete(struct context *context, const struct state_array *datasets, int count,
                              const int64_t *elements) MUST_USE;

/* From what each rank contributes to the hashes of datasets to the hashes. Collective over the team. */
void hashes_join(struct mesh *mesh, const struct state_array *datasets, int count, uint64_t *hashes);

/* For each dataset the number of transfers of at most `limit` bytes that the rank with most of them needs. Collective
 * over the team; `rounds` has `count` elements. */
void transfer_plan(struct mesh *mesh, const struct state_array *datasets, int count, int64_t limit, int64_t *rounds);

/* INTERNAL or FILE error unless every rank sees the file with this size: their folders may not be the same one.
 * Collective over the team; agreed status. */
enum status transfer_visible(struct context *context, struct mesh *mesh, const char *path, bool write,
                             int64_t size) MUST_USE;

/* Moves the pieces in one of two ways, and, if writing, brings them to disk. Collective over the team; agreed status.
 *
 * collective: by HDF5 and MPI-IO, all ranks in every round, those without work with nothing. If a write fails on some
 * ranks only, MPI-IO may leave the others waiting for ever; so it is used where the disk space has been reserved.
 * Otherwise every rank reads by itself through HDF5, or writes by itself at `offsets`, where the datasets begin in the
 * file: nobody waits, and every error comes out. */
struct transfer {
    const char *path;
    const struct state_array *datasets;
    int count;
    bool write;
    bool collective;
    int64_t limit;         /* bytes a rank moves in one collective call */
    const int64_t *rounds; /* of transfer_plan */
    const int64_t *offsets;
    struct reading *reading; /* if reading: says how far this rank is */
};

enum status transfer_run(struct context *context, struct mesh *mesh, const struct transfer *transfer) MUST_USE;

#endif
