#include "io/checkpoint/cursor.h"

struct part {
    struct box box;
    float *data;
    int64_t count;
};

static int64_t flat_index(const struct state_array *dataset, const struct box *box, bool last)
{
    int64_t index = 0;
    for (int i = 0; i < dataset->rank; i++)
        index = index * dataset->shape[i] + box->offset[i] + (last ? box->extent[i] - 1 : 0);
    return index;
}

/* The part that begins at the cursor: whole slabs of the first dimension whose slab is small enough, as many as fit;
 * of the dimensions before it one index. */
static struct part part_at(const struct cursor *cursor)
{
    const struct state_piece *piece = &cursor->dataset->pieces[cursor->piece];
    int rank = cursor->dataset->rank;
    struct part part = {.box = piece->box, .data = piece->data + cursor->done};
    int cut = 0;
    int64_t slab = box_count(&piece->box, rank) / piece->box.extent[0];
    while (slab > cursor->limit)
        slab /= piece->box.extent[++cut];
    int64_t left = cursor->done / slab;
    int64_t at = left % piece->box.extent[cut];
    part.box.offset[cut] += at;
    part.box.extent[cut] = integer_min(piece->box.extent[cut] - at, cursor->limit / slab);
    part.count = part.box.extent[cut] * slab;
    left /= piece->box.extent[cut];
    for (int i = cut - 1; i >= 0; i--) {
        part.box.offset[i] += left % piece->box.extent[i];
        part.box.extent[i] = 1;
        left /= piece->box.extent[i];
    }
    return part;
}

bool cursor_settle(struct cursor *cursor)
{
    const struct state_array *dataset = cursor->dataset;
    while (cursor->piece < dataset->piece_count &&
           cursor->done >= box_count(&dataset->pieces[cursor->piece].box, dataset->rank)) {
        cursor->piece++;
        cursor->done = 0;
    }
    return cursor->piece < dataset->piece_count;
}

bool cursor_next(struct cursor *cursor, hid_t space, float **data, int64_t *count)
{
    int64_t last = -1;
    bool done = true;
    *data = NULL;
    *count = 0;
    while (cursor_settle(cursor)) {
        struct part part = part_at(cursor);
        if (*count > 0 && (part.data != *data + *count || flat_index(cursor->dataset, &part.box, false) <= last ||
                           *count + part.count > cursor->limit))
            break;
        if (*count == 0)
            *data = part.data;
        if (space >= 0) {
            hsize_t start[TENSOR_RANK];
            hsize_t extent[TENSOR_RANK];
            static const hsize_t one[TENSOR_RANK] = {1, 1, 1, 1};
            for (int i = 0; i < cursor->dataset->rank; i++) {
                start[i] = (hsize_t)part.box.offset[i];
                extent[i] = (hsize_t)part.box.extent[i];
            }
            if (cursor->dataset->doubles) {
                start[cursor->dataset->rank - 1] /= 2;
                extent[cursor->dataset->rank - 1] /= 2;
            }
            H5S_seloper_t operation = *count ? H5S_SELECT_OR : H5S_SELECT_SET;
            done = done && H5Sselect_hyperslab(space, operation, start, NULL, one, extent) >= 0;
        }
        last = flat_index(cursor->dataset, &part.box, true);
        *count += part.count;
        cursor->done += part.count;
    }
    if (space >= 0 && *count == 0)
        done = H5Sselect_none(space) >= 0;
    return done;
}
