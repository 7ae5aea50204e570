/* The collectives and messages of training over all ranks, by size. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "io/json/json.h"
#include "src/bench/measure.h"
#include "src/core/clock.h"
#include "src/core/notice.h"

enum { SAMPLES = 15, ROWS = 96 };

struct exchange {
    struct mesh *mesh;
    int64_t count; /* fp32 elements of the whole buffer */
    float *a, *b;
};

static void run_all_reduce(const struct exchange *e)
{
    mesh_all_reduce(e->mesh, MESH_TEAM, e->a, e->count, DTYPE_F32, MESH_MAX);
}

static void run_all_gather(const struct exchange *e)
{
    mesh_all_gather(e->mesh, MESH_TEAM, e->b, e->a, e->count, 1, DTYPE_F32);
}

static void run_reduce_scatter(const struct exchange *e)
{
    mesh_reduce_scatter(e->mesh, MESH_TEAM, e->a, e->b, e->count, 1, DTYPE_F32);
}

static int64_t part_of(const struct exchange *e)
{
    return integer_divide_up(e->count, mesh_size(e->mesh, MESH_TEAM));
}

static void run_reduce_scatter_start(const struct exchange *e)
{
    struct mesh_request request;
    mesh_reduce_scatter_start(e->mesh, MESH_TEAM, e->a, e->b, part_of(e), &request);
    while (!mesh_test(&request))
        ;
}

static void run_all_gather_start(const struct exchange *e)
{
    struct mesh_request request;
    mesh_all_gather_start(e->mesh, MESH_TEAM, e->a, part_of(e), DTYPE_F32, &request);
    mesh_wait(&request);
}

static void run_broadcast(const struct exchange *e)
{
    mesh_broadcast(e->mesh, MESH_TEAM, 0, e->a, e->count, DTYPE_F32);
}

/* Each rank to the next and from the one before, all at once, as stages of a pipeline do. */
static void run_send_receive(const struct exchange *e)
{
    struct mesh_request requests[2];
    int size = mesh_size(e->mesh, MESH_TEAM);
    int rank = mesh_rank(e->mesh, MESH_TEAM);
    mesh_receive(e->mesh, MESH_TEAM, (rank + size - 1) % size, 0, e->b, e->count, DTYPE_F32, &requests[0]);
    mesh_send(e->mesh, MESH_TEAM, (rank + 1) % size, 0, e->a, e->count, DTYPE_F32, &requests[1]);
    mesh_wait(&requests[0]);
    mesh_wait(&requests[1]);
}

static const struct collective {
    const char *name;
    void (*run)(const struct exchange *e);
} collectives[] = {
    {"all-reduce", run_all_reduce},
    {"all-gather", run_all_gather},
    {"reduce-scatter", run_reduce_scatter},
    {"reduce-scatter, tested", run_reduce_scatter_start},
    {"all-gather, waited for", run_all_gather_start},
    {"send and receive", run_send_receive},
    {"broadcast", run_broadcast},
};

enum { COLLECTIVES = sizeof collectives / sizeof collectives[0] };

struct collective_row {
    const char *name;
    double bytes;
    double seconds;
};

/* Of one call: the median over samples of the slowest rank's time. Small ones are called often between two looks at
 * the clock. */
static double time_collective(const struct collective *collective, const struct exchange *e, bool quick)
{
    double samples[SAMPLES];
    int count = quick ? 3 : SAMPLES;
    int64_t bytes = e->count * (int64_t)sizeof(float);
    int64_t calls = quick ? 2 : integer_max(1, integer_min(64, ((int64_t)1 << 20) / bytes));
    collective->run(e);
    for (int i = 0; i < count; i++) {
        mesh_barrier(e->mesh, MESH_TEAM);
        double start = clock_seconds();
        for (int64_t call = 0; call < calls; call++)
            collective->run(e);
        samples[i] = (clock_seconds() - start) / (double)calls;
    }
    mesh_all_reduce(e->mesh, MESH_TEAM, samples, count, DTYPE_F64, MESH_MAX);
    return measure_median(samples, count);
}

static void print_rows(const struct mesh *mesh, const struct collective_row *rows, int count)
{
    printf("%d ranks on %s; GB/s are the bytes of the whole buffer by the median of the slowest rank\n\n",
           mesh_size(mesh, MESH_TEAM), mesh_ranks_on_host(mesh) == mesh_size(mesh, MESH_TEAM) ? "one host" : "hosts");
    printf("%-24s %10s %12s %10s\n", "collective", "buffer", "time", "GB/s");
    for (int i = 0; i < count; i++)
        printf("%-24s %10s %12s %10.3f\n", rows[i].name, show_bytes(rows[i].bytes).text,
               show_seconds(rows[i].seconds).text, 1e-9 * rows[i].bytes / rows[i].seconds);
}

static enum status print_rows_json(struct context *context, const struct mesh *mesh, const struct collective_row *rows,
                                   int count)
{
    json_t *list = json_array();
    for (int i = 0; i < count; i++)
        json_array_append_new(list, json_form("{s:s, s:I, s:f, s:f}", "collective", rows[i].name, "bytes",
                                              (json_int_t)rows[i].bytes, "seconds", rows[i].seconds,
                                              "gbytes_per_second", 1e-9 * rows[i].bytes / rows[i].seconds));
    return print_json(context,
                      json_form("{s:s, s:i, s:i, s:o}", "bench", "collectives", "ranks", mesh_size(mesh, MESH_TEAM),
                                "ranks_on_first_host", mesh_ranks_on_host(mesh), "rows", list));
}

enum status bench_collectives(struct context *context, struct mesh *mesh, const struct bench_options *options)
{
    static const int64_t sizes[] = {8, 64, 512, 4096, 32768, 262144, 1 << 20, 4 << 20, 16 << 20, 64 << 20};
    enum { SIZES = sizeof sizes / sizeof sizes[0] };
    if (mesh_size(mesh, MESH_TEAM) < 2)
        return context_fail(context, STATUS_USAGE,
                            "bench collectives: one rank has nobody to talk to; start more, as in `mpirun -n 2 ...`");
    int used = options->quick ? 4 : SIZES;
    /* Parts are rounded up to whole elements. */
    size_t most = (size_t)sizes[used - 1] + (size_t)mesh_size(mesh, MESH_TEAM) * sizeof(float);
    struct exchange e = {.mesh = mesh};
    struct collective_row rows[ROWS];
    int count = 0;
    e.a = memory_allocate(context, most, MEMORY_BUFFERS);
    e.b = memory_allocate(context, most, MEMORY_BUFFERS);
    enum status status = mesh_agree(mesh, context, context->status);
    struct notice notice;
    notice_begin(&notice, context, "measuring", "collectives and sizes");
    for (int c = 0; c < COLLECTIVES && status == STATUS_OK; c++)
        for (int s = 0; s < used; s++) {
            notice_show(&notice, count, COLLECTIVES * used);
            e.count = sizes[s] / (int64_t)sizeof(float);
            rows[count++] = (struct collective_row){collectives[c].name, (double)sizes[s],
                                                    time_collective(&collectives[c], &e, options->quick)};
        }
    notice_end(&notice);
    if (status == STATUS_OK && mesh_rank(mesh, MESH_TEAM) == 0) {
        if (options->json)
            status = print_rows_json(context, mesh, rows, count);
        else
            print_rows(mesh, rows, count);
    }
    memory_free(context, e.a);
    memory_free(context, e.b);
    return status;
}
