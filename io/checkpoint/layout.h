/* The HDF5 side of a checkpoint, serial: its groups, attributes and datasets, but not their elements. */
#ifndef CAIRN_IO_CHECKPOINT_LAYOUT_H
#define CAIRN_IO_CHECKPOINT_LAYOUT_H

#include <hdf5.h>

#include "io/checkpoint/checkpoint.h"
#include "io/checkpoint/seal.h"

/* What a file says about a dataset of its own. */
struct layout_entry {
    char name[PARAMETER_NAME + 32];
    int rank;
    int64_t shape[TENSOR_RANK];
    bool doubles;   /* as in struct state_array: shape and count are those of pairs of fp32 */
    int64_t count;  /* of elements */
    int64_t offset; /* of the first byte in the file */
    uint64_t hash;
};

/* Fails with the innermost reason that HDF5 gives: "PATH: cannot be ACTION: reason". */
enum status layout_fail(struct context *context, const char *path, const char *action) MUST_USE;

/* Opens a file for reading by this rank alone. */
hid_t layout_open(const char *path);

/* Stops HDF5 from printing; the errors go into the context's text. */
void layout_quiet(void);

/* Releases any handle, keeping the errors so far; a negative one is none. */
void layout_release(hid_t handle);

/* More than enough bytes for what is in the file besides the elements. */
int64_t layout_overhead(const struct checkpoint_header *header, int count);

/* Creates the file with everything but the elements, for which it leaves the bytes from begin to end; `offsets` are
 * those of the datasets in the file. */
enum status layout_create(struct context *context, const char *path, const struct checkpoint_header *header,
                          const struct state_array *datasets, int count, const uint64_t *hashes, int64_t *offsets,
                          int64_t *begin, int64_t *end) MUST_USE;

/* Replaces the hashes of a file that was created with others; the elements stay where they are. */
enum status layout_hashes(struct context *context, const char *path, const struct state_array *datasets, int count,
                          const uint64_t *hashes) MUST_USE;

/* All three: of a file whose seal has been checked. */
enum status layout_header(struct context *context, const char *path, struct checkpoint_header *header) MUST_USE;

/* The datasets in the order in which they were written; free the list with memory_free. USAGE error if they are hashed
 * in another way. */
enum status layout_list(struct context *context, const char *path, const struct seal *seal,
                        struct layout_entry **entries, int *count) MUST_USE;

/* Fills in rank (-1: there is none of this name) and shape of the named datasets. */
enum status layout_shapes(struct context *context, const char *path, const struct state_array *datasets, int count,
                          struct layout_entry *entries) MUST_USE;

/* "[12, 34]", of doubles "[12, 17] float64" */
enum { LAYOUT_SHAPE = 112 };
const char *layout_shape_text(int rank, const int64_t *shape, bool doubles, char text[LAYOUT_SHAPE]);

#endif
