/* How ranks divide a dataset, for tests of checkpoints. */
#ifndef CAIRN_TESTS_CHECKPOINT_DIVISION_H
#define CAIRN_TESTS_CHECKPOINT_DIVISION_H

#include "io/checkpoint/checkpoint.h"
#include "src/core/integer.h"

enum { PIECES = 8 };

enum division { BY_ROWS, BY_COLUMNS, BY_FLAT_RANGE, BY_ONE_RANK, BY_STRIPES, DIVISIONS };

/* The boxes that rank `me` of `ranks` holds, in no particular order; returns how many. */
static inline int divide(const struct state_array *dataset, enum division division, int owner, int ranks, int me,
                         struct box boxes[PIECES])
{
    int rank = dataset->rank;
    int axis = division == BY_ROWS ? 0 : rank - 1;
    struct box whole = {0};
    for (int i = 0; i < rank; i++)
        whole.extent[i] = dataset->shape[i];
    boxes[0] = boxes[1] = whole;
    if (division == BY_FLAT_RANGE)
        return box_from_range(&whole, rank, range_partition(box_count(&whole, rank), ranks, me), boxes);
    if (division == BY_ONE_RANK)
        return me == owner % ranks;
    /* Stripes of columns interleave in the file; the later one comes first. */
    int stripes = division == BY_STRIPES ? 2 : 1;
    for (int i = 0; i < stripes; i++) {
        struct range part = range_partition(dataset->shape[axis], stripes * ranks, (stripes - 1 - i) * ranks + me);
        boxes[i].offset[axis] = part.begin;
        boxes[i].extent[axis] = part.count;
    }
    return stripes;
}

#endif
