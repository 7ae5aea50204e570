#include "src/ops/image.h"
#include "src/ops/operation.h"

/* A row's channels, from one behind the other to all together. */
static void turn_row(const float *from, int64_t channels, int64_t positions, void *to, enum dtype dtype)
{
    for (int64_t p = 0; p < positions; p++)
        for (int64_t c = 0; c < channels; c++) {
            float value = from[c * positions + p];
            if (dtype == DTYPE_BF16)
                ((bf16 *)to)[p * channels + c] = bf16_from_float(value);
            else
                ((float *)to)[p * channels + c] = value;
        }
}

struct tensor *image_input(struct tape *tape, float *values, const int64_t shape[4], enum dtype dtype, int64_t block)
{
    bool as_it_lies = block <= 1;
    if (as_it_lies && dtype == DTYPE_F32)
        return tape_leaf(tape, dtype, 4, shape, values, false);
    if (!as_it_lies && block != shape[1])
        return operation_refuse(tape, "image_input", "channels must lie one behind the other, or all together");
    struct tensor *x = tape_images(tape, dtype, shape, as_it_lies ? 0 : block);
    if (!x)
        return NULL;
    int64_t each = shape[1] * shape[2] * shape[3];
    if (as_it_lies) {
        convert(tape->engine, x->data, dtype, values, DTYPE_F32, shape[0] * each);
        return x;
    }
    int64_t rows = tape->context->dry ? 0 : shape[0];
#pragma omp parallel for schedule(static) num_threads(operation_threads(tape->engine, tensor_count(x)))
    for (int64_t n = 0; n < rows; n++)
        turn_row(values + n * each, shape[1], shape[2] * shape[3], operation_at_mutable(x->data, n * each, dtype),
                 dtype);
    return x;
}
