#include "src/ops/operation.h"

static void copy_patch(const struct patches *patches, int64_t index, float *to)
{
    int64_t side = patches->size / patches->patch;
    int64_t row = index / side % side * patches->patch;
    int64_t column = index % side * patches->patch;
    const float *image = patches->images + index / (side * side) * patches->channels * patches->size * patches->size;
    for (int64_t c = 0; c < patches->channels; c++)
        for (int64_t r = 0; r < patches->patch; r++)
            for (int64_t i = 0; i < patches->patch; i++)
                *to++ = image[(c * patches->size + row + r) * patches->size + column + i];
}

struct tensor *patch_rows(struct tape *tape, const struct patches *patches, int64_t count, enum dtype out)
{
    int64_t columns = patches->channels * patches->patch * patches->patch;
    struct tensor *y = tape_matrix(tape, out, count, columns);
    struct arena_mark mark = arena_mark(tape->work);
    float *rows = y && out != DTYPE_F32 ? arena_allocate(tape->work, (size_t)(count * columns) * sizeof *rows)
                  : y                   ? y->data
                                        : NULL;
    if (!rows)
        return NULL;
    int64_t copied = tape->context->dry ? 0 : count;
#pragma omp parallel for schedule(static) num_threads(operation_threads(tape->engine, count *columns))
    for (int64_t n = 0; n < copied; n++)
        copy_patch(patches, patches->index[n], rows + n * columns);
    if (out != DTYPE_F32)
        convert(tape->engine, y->data, out, rows, DTYPE_F32, count * columns);
    arena_rewind(tape->work, mark);
    return y;
}
