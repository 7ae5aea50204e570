#include "src/ops/peak.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "src/ops/operation.h"
#include "src/ops/peak_loops.h"

enum { LOOKS = 15, PORTABLE_SUMS = 64 };

/* Independent sums that the compiler may put into whatever vectors it was allowed to use. */
static float run_portable(int64_t rounds)
{
    float sum[PORTABLE_SUMS];
    float x = 1.0f / (1.0f + (float)rounds);
    for (int i = 0; i < PORTABLE_SUMS; i++)
        sum[i] = (float)i;
    for (int64_t round = 0; round < rounds; round++)
#pragma omp simd
        for (int i = 0; i < PORTABLE_SUMS; i++)
            sum[i] = sum[i] * x + 0.5f;
    for (int i = 1; i < PORTABLE_SUMS; i++)
        sum[0] += sum[i];
    return sum[0];
}

static const struct peak_loop portable = {"compiled multiply-add", run_portable, 2.0 * PORTABLE_SUMS, NULL, NULL};

/* Seconds that `rounds` take on all threads at once, and *failed if a thread may not run the loop. */
static double time_rounds(const struct peak_loop *loop, int threads, int64_t rounds, bool *failed)
{
    double begin = INFINITY;
    double end = 0.0;
    float kept = 0.0f;
    bool refused = false;
#pragma omp parallel num_threads(threads) reduction(min : begin) reduction(max : end) reduction(+ : kept) \
    reduction(|| : refused)
    {
        refused = loop->prepare && !loop->prepare();
#pragma omp barrier
        if (!refused) {
            begin = clock_seconds();
            kept = loop->run(rounds);
            end = clock_seconds();
            if (loop->release)
                loop->release();
        }
    }
    *failed = refused || isnan(kept);
    return end - begin;
}

double peak_flops(struct engine *engine, enum dtype dtype, int threads, double seconds, const char **instruction)
{
    const struct peak_loop *loop = peak_loop_x86(engine->isa, dtype == DTYPE_BF16);
    if (!loop)
        loop = &portable;
    bool failed = false;
    int64_t rounds = 1024;
    while (!failed && time_rounds(loop, threads, rounds, &failed) < 0.5 * seconds)
        rounds *= 2;
    double best = 0.0;
    for (int look = 0; look < LOOKS && !failed; look++) {
        double elapsed = time_rounds(loop, threads, rounds, &failed);
        best = fmax(best, loop->flops * (double)rounds * threads / elapsed);
    }
    *instruction = loop->instruction;
    return best;
}

static void update(const struct engine *engine, float *y, const float *x, int64_t count)
{
    if (peak_update_x86(engine->isa, y, x, count))
        return;
#pragma omp simd
    for (int64_t i = 0; i < count; i++)
        y[i] = 0.5f * y[i] + x[i];
}

static void copy(const struct engine *engine, float *y, const float *x, int64_t count)
{
    if (!peak_copy_x86(engine->isa, y, x, count))
        memcpy(y, x, (size_t)count * sizeof *y);
}

/* Seconds of one pass over the arrays. */
static double time_pass(const struct engine *engine, int threads, float *y, const float *x, int64_t count,
                        void (*pass)(const struct engine *engine, float *y, const float *x, int64_t count))
{
    double start = clock_seconds();
#pragma omp parallel num_threads(threads)
    {
        struct range range = operation_range(count, LINE_ELEMENTS);
        pass(engine, y + range.begin, x + range.begin, range.count);
    }
    return clock_seconds() - start;
}

double peak_bandwidth(struct engine *engine, int threads, float *y, const float *x, int64_t count, int looks)
{
    double bytes = (double)count * sizeof *y;
    double best = 0.0;
    for (int look = 0; look < looks; look++) {
        best = fmax(best, 3.0 * bytes / time_pass(engine, threads, y, x, count, update));
        best = fmax(best, 2.0 * bytes / time_pass(engine, threads, y, x, count, copy));
    }
    return best;
}

/* Virtual machines report the cache of the whole host to sysconf and their part of it in the file. */
size_t peak_cache(void)
{
    const size_t unknown = (size_t)32 << 20;
    long kibibytes = 0;
    FILE *file = fopen("/sys/devices/system/cpu/cpu0/cache/index3/size", "r");
    if (!file)
        return unknown;
    bool read = fscanf(file, "%ldK", &kibibytes) == 1 && kibibytes > 0;
    fclose(file);
    return read ? (size_t)kibibytes * 1024 : unknown;
}
