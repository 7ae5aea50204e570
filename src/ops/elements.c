/* Functions of plain arrays. */
#include "src/ops/operation.h"

void convert(struct engine *engine, void *to, enum dtype to_type, const void *from, enum dtype from_type, int64_t count)
{
    bool uncached = operation_bypasses_cache(engine, count, to_type);
#pragma omp parallel num_threads(operation_threads(engine, count))
    {
        struct range range = operation_range(count, LINE_ELEMENTS);
        engine->kernels->convert(operation_at_mutable(to, range.begin, to_type), to_type,
                                 operation_at(from, range.begin, from_type), from_type, range.count, uncached);
    }
}

void accumulate(struct engine *engine, void *to, const void *from, enum dtype dtype, int64_t count)
{
#pragma omp parallel num_threads(operation_threads(engine, count))
    {
        struct range range = operation_range(count, LINE_ELEMENTS);
        engine->kernels->accumulate(operation_at_mutable(to, range.begin, dtype), dtype,
                                    operation_at(from, range.begin, dtype), dtype, 1.0f, range.count);
    }
}

/* Chunks of fixed size are summed alone and then in their order: the result does not depend on the threads. */
double sum_of_squares(struct engine *engine, const float *values, int64_t count)
{
    enum { CHUNK = 4096, CHUNKS = 1024 };
    double partial[CHUNKS];
    double sum = 0.0;
    for (int64_t begin = 0; begin < count; begin += (int64_t)CHUNK * CHUNKS) {
        int64_t part = integer_min(count - begin, (int64_t)CHUNK * CHUNKS);
        int64_t chunks = integer_divide_up(part, CHUNK);
#pragma omp parallel for schedule(static) num_threads(operation_threads(engine, part))
        for (int64_t c = 0; c < chunks; c++)
            partial[c] =
                engine->kernels->sum_of_squares(values + begin + c * CHUNK, integer_min(part - c * CHUNK, CHUNK));
        for (int64_t c = 0; c < chunks; c++)
            sum += partial[c];
    }
    return sum;
}
