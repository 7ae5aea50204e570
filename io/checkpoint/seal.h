/* The seal: the first 512 bytes of a checkpoint (the HDF5 user block), a text that covers what the hashes of the
 * datasets do not:
 *
 *     cairn-checkpoint 1
 *     size BYTES                      of the whole file
 *     data BEGIN END                  bytes of the file that hold elements of datasets and nothing else
 *     metadata XXH64                  of the bytes from 512 to BEGIN and from END to the end of the file
 *     (blanks)
 *     seal XXH64                      of all the text before
 *
 * It is checked with plain reads, before HDF5 sees the file. Serial. */
#ifndef CAIRN_IO_CHECKPOINT_SEAL_H
#define CAIRN_IO_CHECKPOINT_SEAL_H

#include <stdint.h>

#include "src/core/context.h"

enum { SEAL_SIZE = 512 };

struct seal {
    int64_t size;
    int64_t data_begin;
    int64_t data_end;
    uint64_t metadata;
};

/* Computes the seal of a file whose data lie from begin to end, writes it and brings the file to disk. */
enum status seal_write(struct context *context, const char *path, int64_t data_begin, int64_t data_end) MUST_USE;

/* FILE error if the file is not a checkpoint, or anything but elements of datasets is damaged. */
enum status seal_check(struct context *context, const char *path, struct seal *seal) MUST_USE;

/* True for a plain HDF5 file, which has no seal. */
bool seal_absent(const char *path);

#endif
