/* A walk over this rank's pieces of an array, in transfers of bounded size. */
#ifndef CAIRN_IO_CHECKPOINT_CURSOR_H
#define CAIRN_IO_CHECKPOINT_CURSOR_H

#include <hdf5.h>

#include "src/tensor/state.h"

/* Where it stands: every piece is cut in parts of at most `limit` elements, one after the other in memory. `limit` is
 * even, as pieces of doubles are, so that none is cut apart. */
struct cursor {
    const struct state_array *dataset;
    int64_t limit;
    int piece;
    int64_t done; /* elements of that piece */
};

/* Moves past empty pieces; false at the end. */
bool cursor_settle(struct cursor *cursor);

/* Takes the next transfer: parts that follow each other both in memory and in the order of the dataset, so that one
 * selection of the file matches one block of memory. Selects them in `space` unless that is negative. */
bool cursor_next(struct cursor *cursor, hid_t space, float **data, int64_t *count);

#endif
