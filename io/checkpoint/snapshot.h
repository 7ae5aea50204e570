/* A copy in memory of this rank's pieces of datasets, from which they are hashed and written to the file's bytes with
 * plain system calls while the pieces themselves change. Knows neither MPI nor HDF5, so that another thread than the
 * one that speaks with those can do it.
 *
 * The copy is laid out like the file where pieces follow each other there, and at the same distance from a whole page:
 * so most of it goes from memory to disk without passing through the system's cache of files (O_DIRECT), which costs
 * hardly any of the processor's time. What lies across pages, and all on file systems that know no such access, takes
 * the usual way. */
#ifndef CAIRN_IO_CHECKPOINT_SNAPSHOT_H
#define CAIRN_IO_CHECKPOINT_SNAPSHOT_H

#include <stdatomic.h>

#include "io/checkpoint/checkpoint.h"

struct snapshot {
    const struct state_array *datasets; /* must outlive the snapshot */
    int count;
    char *memory;
    char *begin;    /* of the copy in it, at a page */
    int64_t *place; /* bytes from there for each piece, dataset after dataset */
    int64_t bytes;  /* of elements */
};

/* Takes the memory for it. Local. */
enum status snapshot_create(struct context *context, const struct state_array *datasets, int count,
                            struct snapshot *snapshot) MUST_USE;
void snapshot_destroy(struct context *context, struct snapshot *snapshot);

void snapshot_take(struct snapshot *snapshot);

/* hashes[count]: what this rank contributes to the hash of each dataset. */
void snapshot_hash(const struct snapshot *snapshot, uint64_t *hashes);

/* Writes the elements of dataset i from byte offsets[i] of the file on, and brings them to disk; not `direct` is the
 * usual way for all. FILE error; INTERNAL when *cancel. */
enum status snapshot_write(struct context *context, const struct snapshot *snapshot, const char *path,
                           const int64_t *offsets, bool direct, const atomic_bool *cancel) MUST_USE;

#endif
