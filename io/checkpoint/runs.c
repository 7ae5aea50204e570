#include "io/checkpoint/runs.h"

struct runs runs_of_box(const struct box *box, int rank, const int64_t *shape)
{
    struct runs runs = {.outer = rank - 1, .length = box->extent[rank - 1], .count = 1};
    while (runs.outer > 0 && box->extent[runs.outer] == shape[runs.outer])
        runs.length *= box->extent[--runs.outer];
    for (int i = 0; i < runs.outer; i++)
        runs.count *= box->extent[i];
    if (runs.length == 0)
        runs.count = 0;
    return runs;
}

int64_t runs_begin(const struct runs *runs, const struct box *box, int rank, const int64_t *shape, int64_t index)
{
    int64_t begin = 0;
    int64_t scale = 1;
    for (int i = rank - 1; i >= 0; i--) {
        int64_t at = box->offset[i];
        if (i < runs->outer) {
            at += index % box->extent[i];
            index /= box->extent[i];
        }
        begin += at * scale;
        scale *= shape[i];
    }
    return begin;
}
