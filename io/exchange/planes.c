/* Which elements of a tensor a box of an array is. */
#include "io/exchange/exchange_private.h"

/* A box with as few dimensions as can say what it is. */
struct shrunk {
    int rank;
    int64_t shape[TENSOR_RANK];
    int64_t offset[TENSOR_RANK];
    int64_t extent[TENSOR_RANK];
};

/* Joins a dimension with the one behind it where one index reaches both: that is whole in the box, or the first has
 * one element. `first` dimensions in front stay apart. */
static struct shrunk shrink(const struct state_array *array, const struct box *box, int first)
{
    struct shrunk s = {0};
    for (int d = 0; d < array->rank; d++) {
        int last = s.rank - 1;
        bool joins = last >= first && (box->extent[d] == array->shape[d] || s.extent[last] == 1);
        if (!joins) {
            s.shape[s.rank] = array->shape[d];
            s.offset[s.rank] = box->offset[d];
            s.extent[s.rank++] = box->extent[d];
            continue;
        }
        s.offset[last] = s.offset[last] * array->shape[d] + box->offset[d];
        s.extent[last] = s.extent[last] == 1 ? box->extent[d] : s.extent[last] * array->shape[d];
        s.shape[last] *= array->shape[d];
    }
    return s;
}

/* Planes of the last two dimensions, for each index of those before. */
static enum status visit_straight(const struct exchange_place *place, const struct state_array *array,
                                  const struct box *box, exchange_visit_plane visit, void *self)
{
    struct shrunk s = shrink(array, box, 0);
    int64_t row = 1; /* elements of a row of the tensor */
    for (int d = 1; d < array->rank; d++)
        row *= array->shape[d];
    int outer = s.rank > 2 ? s.rank - 2 : 0;
    int64_t index[TENSOR_RANK] = {0};
    int64_t length = s.rank > 0 ? s.extent[s.rank - 1] : 1;
    int64_t lines = s.rank > 1 ? s.extent[s.rank - 2] : 1;
    int64_t pitch = s.rank > 0 ? s.shape[s.rank - 1] : 1;
    for (int64_t memory = 0;; memory += lines * length) {
        int64_t begin = 0;
        for (int d = 0; d < s.rank; d++)
            begin = begin * s.shape[d] + s.offset[d] + (d < outer ? index[d] : 0);
        struct exchange_plane plane = {.begin = begin + place->row * row,
                                       .lines = lines,
                                       .length = length,
                                       .pitch = pitch,
                                       .memory = memory,
                                       .line_step = length,
                                       .value_step = 1};
        CHECK(visit(self, &plane));
        int d = outer - 1;
        for (; d >= 0 && ++index[d] == s.extent[d]; d--)
            index[d] = 0;
        if (d < 0)
            return STATUS_OK;
    }
}

enum status exchange_planes(const struct exchange_place *place, const struct state_array *array, const struct box *box,
                            exchange_visit_plane visit, void *self)
{
    if (box_count(box, array->rank) == 0)
        return STATUS_OK;
    if (!place->transposed)
        return visit_straight(place, array, box, visit, self);
    /* Lines of the file are our columns. */
    struct exchange_plane plane = {.begin = box->offset[1] * place->shape[1] + place->row + box->offset[0],
                                   .lines = box->extent[1],
                                   .length = box->extent[0],
                                   .pitch = place->shape[1],
                                   .line_step = 1,
                                   .value_step = box->extent[1]};
    return visit(self, &plane);
}
