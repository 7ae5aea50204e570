/* What the files of the operations share: dividing work among threads, and access to tensors of either type. */
#ifndef CAIRN_OPS_OPERATION_H
#define CAIRN_OPS_OPERATION_H

#include <omp.h>

#include "src/ops/engine.h"
#include "src/ops/kernels/kernels.h"
#include "src/ops/ops.h"

/* Below this many elements a thread costs more than it brings. */
enum { ELEMENTS_PER_THREAD = 8192, LINE_ELEMENTS = 64 };

/* What an exponential of the C library costs, counted in such elements. */
enum { EXPONENTIAL_COST = 32 };

/* How many threads to use on so many elements. */
static inline int operation_threads(const struct engine *engine, int64_t elements)
{
    if (engine->context->dry) {
        struct time_account *time = &engine->context->time;
        time->elements[time->kind] += (double)elements;
        return 1;
    }
    int64_t wanted = integer_divide_up(elements, ELEMENTS_PER_THREAD);
    return (int)integer_max(1, integer_min(wanted, engine->threads));
}

/* Inside a parallel region: this thread's part of `total` things, in multiples of `multiple` so that threads do not
 * share lines of the cache. */
static inline struct range operation_range(int64_t total, int64_t multiple)
{
    struct range blocks =
        range_partition(integer_divide_up(total, multiple), omp_get_num_threads(), omp_get_thread_num());
    struct range elements = {.begin = blocks.begin * multiple, .count = blocks.count * multiple};
    return range_intersect(elements, (struct range){.begin = 0, .count = total});
}

/* The next `count` floats of a thread's scratch, which begin a line. */
static inline float *floats_take(float **scratch, int64_t count)
{
    float *taken = *scratch;
    *scratch += integer_round_up(count, LINE_ELEMENTS);
    return taken;
}

/* Whether so many elements of output should go around the caches. What is larger than they are has left them before it
 * is read; what is smaller is best read from there. */
static inline bool operation_bypasses_cache(const struct engine *engine, int64_t elements, enum dtype dtype)
{
    return (uint64_t)elements * dtype_size(dtype) > engine->cache;
}

static inline const void *operation_at(const void *data, int64_t index, enum dtype dtype)
{
    return (const char *)data + index * (int64_t)dtype_size(dtype);
}

static inline void *operation_at_mutable(void *data, int64_t index, enum dtype dtype)
{
    return (char *)data + index * (int64_t)dtype_size(dtype);
}

static inline bool operation_is_floating(const struct tensor *tensor)
{
    return tensor->dtype == DTYPE_F32 || tensor->dtype == DTYPE_BF16;
}

/* A small tensor (a norm's weight, a bias) as fp32: its own data, or a copy in the work arena that the caller rewinds.
 * NULL when the tensor is, or with the context's error when memory is out. */
const float *operation_floats(struct tape *tape, const struct tensor *tensor);

/* Records a mistake of the calling code about shapes or types and returns NULL. */
struct tensor *operation_refuse(struct tape *tape, const char *operation, const char *what);

/* target = beta * target + column sums of x [rows, columns]; the order of the sums does not depend on the threads. */
void operation_sum_columns(struct tape *tape, struct gradient_target target, const void *x, enum dtype dtype,
                           int64_t rows, int64_t columns);

/* x += bias in each row; false when memory is out. */
bool bias_add_in_place(struct tape *tape, struct tensor *x, const struct tensor *bias);

#endif
