#include "src/bench/measure.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "io/json/json.h"
#include "src/ops/peak.h"

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

double measure_median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, compare_doubles);
    return 0.5 * (values[(count - 1) / 2] + values[count / 2]);
}

double measure_quantile(double *values, int count, double share)
{
    qsort(values, (size_t)count, sizeof *values, compare_doubles);
    double place = share * (double)(count - 1);
    int below = (int)place;
    int above = below + 1 < count ? below + 1 : below;
    return values[below] + (place - (double)below) * (values[above] - values[below]);
}

enum status ceilings_measure(struct mesh *mesh, struct engine *engine, int threads, bool quick,
                             struct ceilings *ceilings)
{
    enum { TIMES_CACHE = 4, LOOKS = 10 };
    const size_t small = (size_t)1 << 20;
    const size_t large = (size_t)512 << 20;
    size_t bytes = quick ? small : TIMES_CACHE * peak_cache();
    double seconds = quick ? 0.001 : 0.03;
    mesh_barrier(mesh, MESH_TEAM);
    ceilings->fp32 = peak_flops(engine, DTYPE_F32, threads, seconds, &ceilings->fp32_instruction);
    mesh_barrier(mesh, MESH_TEAM);
    ceilings->bf16 = peak_flops(engine, DTYPE_BF16, threads, seconds, &ceilings->bf16_instruction);
    mesh_barrier(mesh, MESH_TEAM);
    int64_t count = (int64_t)((bytes < large ? bytes : large) / sizeof(float));
    float *y = memory_allocate(engine->context, (size_t)count * sizeof *y, MEMORY_OTHER);
    float *x = memory_allocate(engine->context, (size_t)count * sizeof *x, MEMORY_OTHER);
    ceilings->bandwidth = x && y ? peak_bandwidth(engine, threads, y, x, count, LOOKS) : 0.0;
    memory_free(engine->context, x);
    memory_free(engine->context, y);
    return mesh_agree(mesh, engine->context, engine->context->status);
}

double ceilings_flops(const struct ceilings *ceilings, enum dtype dtype)
{
    return dtype == DTYPE_BF16 ? ceilings->bf16 : ceilings->fp32;
}

struct ceilings ceilings_best(const struct ceilings *a, const struct ceilings *b)
{
    struct ceilings best = *a;
    best.fp32 = fmax(a->fp32, b->fp32);
    best.bf16 = fmax(a->bf16, b->bf16);
    best.bandwidth = fmax(a->bandwidth, b->bandwidth);
    return best;
}

void ceilings_print(const char *label, const struct ceilings *ceilings)
{
    printf("%-22s %8.1f GFLOP/s %-14s %8.1f GFLOP/s %-14s %6.1f GB/s\n", label, 1e-9 * ceilings->fp32,
           ceilings->fp32_instruction, 1e-9 * ceilings->bf16, ceilings->bf16_instruction, 1e-9 * ceilings->bandwidth);
}

json_t *ceilings_json(const struct ceilings *ceilings)
{
    return json_form("{s:f, s:s, s:f, s:s, s:f}", "fp32_gflops", 1e-9 * ceilings->fp32, "fp32_instruction",
                     ceilings->fp32_instruction, "bf16_gflops", 1e-9 * ceilings->bf16, "bf16_instruction",
                     ceilings->bf16_instruction, "memory_gbytes", 1e-9 * ceilings->bandwidth);
}

const struct time_row time_rows[TIME_KINDS] = {
    {"matrix products", "products", TIME_PRODUCTS}, {"attention", "attention", TIME_ATTENTION},
    {"other compute", "compute", TIME_COMPUTE},     {"exposed communication", "communication", TIME_COMMUNICATION},
    {"optimiser", "optimizer", TIME_OPTIMIZER},     {"other", "other", TIME_OTHER},
};

json_t *time_json(const double part[TIME_KINDS])
{
    json_t *object = json_object();
    for (int i = 0; i < TIME_KINDS; i++)
        json_set_number(object, time_rows[i].key, part[time_rows[i].kind]);
    return object;
}

struct shown show_seconds(double seconds)
{
    struct shown shown;
    if (seconds < 1e-3)
        snprintf(shown.text, sizeof shown.text, "%.4g us", 1e6 * seconds);
    else if (seconds < 1.0)
        snprintf(shown.text, sizeof shown.text, "%.4g ms", 1e3 * seconds);
    else
        snprintf(shown.text, sizeof shown.text, "%.4g s", seconds);
    return shown;
}

struct shown show_bytes(double bytes)
{
    static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    struct shown shown;
    int i = 0;
    for (; bytes >= 1024.0 && i < 4; i++)
        bytes /= 1024.0;
    snprintf(shown.text, sizeof shown.text, "%.4g %s", bytes, unit[i]);
    return shown;
}

enum status print_json(struct context *context, json_t *object)
{
    char *text = json_dumps(object, JSON_REAL_PRECISION(9));
    json_decref(object);
    if (!text)
        return context_fail(context, STATUS_MEMORY, "out of memory for the result as JSON");
    puts(text);
    free(text);
    return STATUS_OK;
}
