#include "src/tensor/box.h"

int64_t box_count(const struct box *box, int rank)
{
    int64_t count = 1;
    for (int i = 0; i < rank; i++)
        count *= box->extent[i];
    return count;
}

/* The boxes of `flat` within dimensions axis.. of the block, whose earlier dimensions are fixed by `prefix`: a partial
 * first slab, the whole slabs between, a partial last slab. */
static int boxes_below(const struct box *block, int rank, int axis, struct range flat, struct box prefix,
                       struct box *boxes)
{
    if (flat.count == 0)
        return 0;
    int64_t slab = 1;
    for (int i = axis + 1; i < rank; i++)
        slab *= block->extent[i];
    int64_t first = flat.begin / slab;
    int64_t end = flat.begin + flat.count;
    int count = 0;
    if (axis == rank - 1) {
        prefix.offset[axis] = block->offset[axis] + flat.begin;
        prefix.extent[axis] = flat.count;
        boxes[0] = prefix;
        return 1;
    }
    prefix.extent[axis] = 1;
    if (flat.begin % slab || end < (first + 1) * slab) {
        int64_t stop = integer_min(end, (first + 1) * slab);
        prefix.offset[axis] = block->offset[axis] + first;
        struct range part = {.begin = flat.begin - first * slab, .count = stop - flat.begin};
        count += boxes_below(block, rank, axis + 1, part, prefix, boxes);
        first++;
    }
    int64_t last = end / slab;
    if (last > first) {
        struct box whole = prefix;
        whole.offset[axis] = block->offset[axis] + first;
        whole.extent[axis] = last - first;
        for (int i = axis + 1; i < rank; i++) {
            whole.offset[i] = block->offset[i];
            whole.extent[i] = block->extent[i];
        }
        boxes[count++] = whole;
    }
    if (last >= first && end > last * slab) {
        prefix.offset[axis] = block->offset[axis] + last;
        struct range part = {.begin = 0, .count = end - last * slab};
        count += boxes_below(block, rank, axis + 1, part, prefix, boxes + count);
    }
    return count;
}

int box_from_range(const struct box *block, int rank, struct range flat, struct box boxes[BOXES_OF_RANGE])
{
    struct box prefix = {0};
    return boxes_below(block, rank, 0, flat, prefix, boxes);
}
