/* Hashes of what stands in a file against the hashes it stores. Serial. */
#ifndef CAIRN_IO_CHECKPOINT_VERIFY_H
#define CAIRN_IO_CHECKPOINT_VERIFY_H

#include "io/checkpoint/layout.h"

/* Joins to joined[i] what the elements of dataset i that lie in `part` contribute to its hash; `part` counts elements
 * through all datasets, one after the other. */
enum status verify_part(struct context *context, const char *path, const struct layout_entry *entries, int count,
                        struct range part, uint64_t *joined) MUST_USE;

/* FILE error that names the datasets whose contributions do not join to the stored hash. */
enum status verify_hashes(struct context *context, const char *path, const struct layout_entry *entries, int count,
                          const uint64_t *joined) MUST_USE;

/* checkpoint_verify by one rank alone. */
enum status verify_file(struct context *context, const char *path) MUST_USE;

#endif
