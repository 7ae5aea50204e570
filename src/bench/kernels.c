#include <math.h>
#include <stdio.h>
#include <string.h>

#include "io/json/json.h"
#include "src/bench/kernels_private.h"
#include "src/core/clock.h"
#include "src/ops/peak.h"

enum { SAMPLES = 25, SAMPLES_LEAST = 5, SAMPLES_QUICK = 3, WARM_UPS = 2 };

struct tensor *kernel_leaf(struct kernel_bench *bench, void *data, int64_t rows, int64_t columns, bool needs_gradient)
{
    return tape_leaf(&bench->tape, bench->dtype, 2, (int64_t[]){rows, columns}, data, needs_gradient);
}

/* -- Timing -- */

static bool enough(const struct kernel_bench *bench, int samples, double begin)
{
    const double patience = 1.0; /* seconds for one operation */
    if (bench->context->status != STATUS_OK)
        return true;
    if (bench->quick)
        return samples >= SAMPLES_QUICK;
    return samples >= SAMPLES || (samples >= SAMPLES_LEAST && clock_seconds() - begin > patience);
}

static void add_row(struct kernel_bench *bench, const struct kernel_row *row, double *samples, int count,
                    double bandwidth)
{
    if (!row || bench->count == KERNEL_ROWS)
        return;
    notice_show(&bench->notice, bench->count, 0.0);
    struct kernel_row *added = &bench->rows[bench->count++];
    *added = *row;
    added->seconds = measure_median(samples, count);
    added->dtype = bench->dtype;
    added->bandwidth = bandwidth;
}

/* What memory gives at the moment, over two of the operands. Where a virtual machine's cores lie may change from one
 * second to the next, and with them the share of the memory that they reach. */
static double look_at_memory(struct kernel_bench *bench)
{
    enum { LOOKS = 4 };
    int64_t count = bench->sizes.large_bytes / (int64_t)sizeof(float);
    mesh_barrier(bench->mesh, MESH_TEAM);
    return peak_bandwidth(bench->engine, bench->engine->threads, bench->floats[0], bench->floats[3], count, LOOKS);
}

void kernel_measure(struct kernel_bench *bench, kernel_build build, int64_t rows, int64_t columns,
                    const struct kernel_row *forward, const struct kernel_row *backward)
{
    double forward_samples[SAMPLES];
    double backward_samples[SAMPLES];
    struct tape *tape = &bench->tape;
    bool memory_limits = forward && forward->flops == 0.0;
    double bandwidth = memory_limits ? look_at_memory(bench) : 0.0;
    mesh_barrier(bench->mesh, MESH_TEAM);
    double begin = clock_seconds();
    int samples = 0;
    for (int i = -WARM_UPS; !enough(bench, samples, begin); i++) {
        tape_reset(tape);
        double start = clock_seconds();
        struct tensor *y = build(bench, rows, columns);
        double middle = clock_seconds();
        double backward_start = middle;
        if (y && backward) {
            tape_seed(tape, y, NULL);
            backward_start = clock_seconds();
            tape_backward(tape);
        }
        double end = clock_seconds();
        if (i < 0)
            continue;
        forward_samples[samples] = middle - start;
        backward_samples[samples++] = end - backward_start;
    }
    tape_reset(tape);
    if (bench->context->status != STATUS_OK)
        return;
    if (memory_limits)
        bandwidth = fmax(bandwidth, look_at_memory(bench));
    add_row(bench, forward, forward_samples, samples, bandwidth);
    add_row(bench, backward, backward_samples, samples, bandwidth);
}

void kernel_measure_call(struct kernel_bench *bench, void (*call)(struct kernel_bench *bench, int64_t count),
                         int64_t count, const struct kernel_row *row)
{
    double samples[SAMPLES];
    double bandwidth = look_at_memory(bench);
    mesh_barrier(bench->mesh, MESH_TEAM);
    double begin = clock_seconds();
    int taken = 0;
    for (int i = -WARM_UPS; !enough(bench, taken, begin); i++) {
        double start = clock_seconds();
        call(bench, count);
        if (i >= 0)
            samples[taken++] = clock_seconds() - start;
    }
    bandwidth = fmax(bandwidth, look_at_memory(bench));
    if (bench->context->status == STATUS_OK)
        add_row(bench, row, samples, taken, bandwidth);
}

/* -- What is measured -- */

static struct kernel_sizes choose_sizes(bool quick)
{
    if (quick)
        return (struct kernel_sizes){.tokens = 64,
                                     .width = 64,
                                     .hidden = 128,
                                     .vocabulary = 512,
                                     .heads = 2,
                                     .lengths = {32, 64},
                                     .images = 2,
                                     .image_channels = 16,
                                     .image_side = 8,
                                     .large_bytes = 1 << 16};
    const size_t most = (size_t)256 << 20;
    size_t large = 2 * peak_cache();
    return (struct kernel_sizes){.tokens = 1024,
                                 .width = 768,
                                 .hidden = 3072,
                                 .vocabulary = 50257,
                                 .heads = 12,
                                 .lengths = {1024, 4096},
                                 .images = 32,
                                 .image_channels = 64,
                                 .image_side = 32,
                                 .large_bytes = (int64_t)(large < most ? large : most)};
}

/* Small numbers that differ: 0 or the like could be multiplied faster. */
static void fill(struct kernel_bench *bench, void *data, enum dtype dtype, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        bench->floats[0][i] = (float)(i * 7919 % 1021 - 510) * 0.001f;
    if (data != bench->floats[0])
        convert(bench->engine, data, dtype, bench->floats[0], DTYPE_F32, count);
}

static enum status allocate_operands(struct kernel_bench *bench)
{
    struct context *context = bench->context;
    const struct kernel_sizes *sizes = &bench->sizes;
    int64_t longest = integer_max(sizes->tokens, sizes->lengths[1]);
    int64_t elements = integer_max(longest * integer_max(3 * sizes->width, sizes->hidden),
                                   sizes->large_bytes / (int64_t)dtype_size(bench->dtype));
    elements = integer_max(elements, sizes->vocabulary * sizes->width);
    elements = integer_max(elements, sizes->tokens * sizes->vocabulary);
    int64_t most_channels = 8 * sizes->image_channels;
    int64_t kernels = 9 * most_channels * most_channels;
    elements = integer_max(elements, kernels);
    elements = integer_max(elements, sizes->images * sizes->image_channels * sizes->image_side * sizes->image_side);
    int64_t gradients = integer_max(kernels, sizes->vocabulary * sizes->width);
    size_t bytes = (size_t)elements * dtype_size(bench->dtype);
    bench->x = memory_allocate(context, bytes, MEMORY_OTHER);
    bench->y = memory_allocate(context, bytes, MEMORY_OTHER);
    bench->z = memory_allocate(context, bytes, MEMORY_OTHER);
    for (int i = 0; i < 4; i++)
        bench->floats[i] = memory_allocate(context, (size_t)elements * sizeof(float), MEMORY_OTHER);
    bench->gradient = memory_allocate(context, (size_t)gradients * sizeof(float), MEMORY_OTHER);
    bench->indices = memory_allocate(context, (size_t)elements * sizeof(int32_t), MEMORY_OTHER);
    int64_t most_rows = elements / sizes->width;
    bench->positions = memory_allocate(context, (size_t)most_rows * sizeof(int32_t), MEMORY_OTHER);
    if (context->status != STATUS_OK)
        return context->status;
    for (int64_t i = 0; i < most_rows; i++)
        bench->positions[i] = (int32_t)(i % sizes->lengths[0]);
    for (int i = 1; i < 4; i++)
        fill(bench, bench->floats[i], DTYPE_F32, elements);
    fill(bench, bench->x, bench->dtype, elements);
    fill(bench, bench->y, bench->dtype, elements);
    fill(bench, bench->z, bench->dtype, elements);
    for (int64_t i = 0; i < elements; i++)
        bench->indices[i] = (int32_t)(i * 7919 % sizes->vocabulary);
    return STATUS_OK;
}

static void free_operands(struct kernel_bench *bench)
{
    void *owned[] = {bench->x,         bench->y,         bench->z,        bench->floats[0], bench->floats[1],
                     bench->floats[2], bench->floats[3], bench->gradient, bench->indices,   bench->positions};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        memory_free(bench->context, owned[i]);
}

static enum status run_all(struct kernel_bench *bench)
{
    CHECK(mesh_agree(bench->mesh, bench->context, allocate_operands(bench)));
    notice_begin(&bench->notice, bench->context, "measuring", "operations");
    kernel_products(bench);
    kernel_attentions(bench);
    kernel_elementwise(bench);
    kernel_arrays(bench);
    kernel_images(bench);
    notice_end(&bench->notice);
    return mesh_agree(bench->mesh, bench->context, bench->context->status);
}

/* -- Showing it -- */

static double share_of(const struct kernel_row *row, const struct ceilings *best)
{
    double ceiling = row->flops > 0.0 ? ceilings_flops(best, row->dtype) : row->bandwidth;
    double work = row->flops > 0.0 ? row->flops : row->bytes;
    return ceiling > 0.0 ? work / row->seconds / ceiling : 0.0;
}

static void print_rows(const struct kernel_bench *bench, const struct ceilings *best)
{
    printf("\n%-26s %-18s %10s %15s %8s  %s\n", "operation", "shape", "median", "rate", "ceiling", "counted");
    for (int i = 0; i < bench->count; i++) {
        const struct kernel_row *row = &bench->rows[i];
        bool arithmetic = row->flops > 0.0;
        double rate = (arithmetic ? row->flops : row->bytes) / row->seconds;
        printf("%-26s %-18s %10s %7.1f %-7s %6.1f %%  %s\n", row->operation, row->shape,
               show_seconds(row->seconds).text, 1e-9 * rate, arithmetic ? "GFLOP/s" : "GB/s",
               100.0 * share_of(row, best), row->counted);
    }
    printf(
        "\nShares are of the best of both looks at the arithmetic, and of what memory gave right before and after the\n"
        "operation, for y = y / 2 + x in place or for a copy around the caches, whichever was faster. Tensors of\n"
        "operations that memory limits are larger than the last cache; those of products are not. T tokens,\n"
        "I inputs, O outputs, V vocabulary; N images of H x W, I and O channels, kernels of K x K,\n"
        "of which the parts beyond an edge are counted though nobody computes them.\n");
}

static json_t *rows_json(const struct kernel_bench *bench, const struct ceilings *best)
{
    json_t *list = json_array();
    for (int i = 0; i < bench->count; i++) {
        const struct kernel_row *row = &bench->rows[i];
        json_array_append_new(
            list, json_form("{s:s, s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:s}", "operation", row->operation, "shape",
                            row->shape, "seconds", row->seconds, "flops", row->flops, "bytes", row->bytes,
                            "gflops_per_second", 1e-9 * row->flops / row->seconds, "gbytes_per_second",
                            1e-9 * row->bytes / row->seconds, "share", share_of(row, best), "counted", row->counted));
    }
    return list;
}

static enum status show(const struct kernel_bench *bench, const struct bench_options *options,
                        const struct ceilings *one, const struct ceilings looks[2])
{
    struct ceilings best = ceilings_best(&looks[0], &looks[1]);
    const char *type = bench->dtype == DTYPE_BF16 ? "bf16" : "fp32";
    int threads = bench->engine->threads;
    if (options->json)
        return print_json(bench->context,
                          json_form("{s:s, s:s, s:s, s:i, s:i, s:{s:o, s:o, s:o}, s:o}", "bench", "kernels", "type",
                                    type, "isa", bench->engine->isa, "ranks", mesh_size(bench->mesh, MESH_TEAM),
                                    "threads", threads, "ceilings", "one_thread", ceilings_json(one), "before",
                                    ceilings_json(&looks[0]), "after", ceilings_json(&looks[1]), "rows",
                                    rows_json(bench, &best)));
    printf("GPT-2 124M shapes%s in %s; %s kernels, %d thread%s; the first of %d rank%s while all are busy\n\n",
           bench->quick ? " made tiny" : "", type, bench->engine->isa, threads, threads == 1 ? "" : "s",
           mesh_size(bench->mesh, MESH_TEAM), mesh_size(bench->mesh, MESH_TEAM) == 1 ? "" : "s");
    printf("%-22s %-31s %-31s %s\n", "ceilings", "fp32 products", "bf16 products", "memory");
    ceilings_print("one thread", one);
    ceilings_print("the rank's, before", &looks[0]);
    ceilings_print("the rank's, after", &looks[1]);
    print_rows(bench, &best);
    return STATUS_OK;
}

enum status bench_kernels(struct context *context, struct mesh *mesh, struct engine *engine,
                          const struct bench_options *options)
{
    struct ceilings one;
    struct ceilings looks[2];
    struct kernel_bench *bench = memory_allocate(context, sizeof *bench, MEMORY_OTHER);
    if (!bench)
        return STATUS_MEMORY;
    bench->context = context;
    bench->mesh = mesh;
    bench->engine = engine;
    bench->quick = options->quick;
    bench->dtype = options->type == COMPUTE_BF16 ? DTYPE_BF16 : DTYPE_F32;
    bench->sizes = choose_sizes(options->quick);
    arena_create(&bench->work, context, MEMORY_ACTIVATIONS);
    pool_create(&bench->pool, context, MEMORY_ACTIVATIONS);
    tape_create(&bench->tape, context, engine, &bench->work, &bench->pool);
    bench->tape.recording = true;
    enum status status;
    TRY(ceilings_measure(mesh, engine, 1, options->quick, &one));
    TRY(ceilings_measure(mesh, engine, engine->threads, options->quick, &looks[0]));
    TRY(run_all(bench));
    TRY(ceilings_measure(mesh, engine, engine->threads, options->quick, &looks[1]));
    if (mesh_rank(mesh, MESH_TEAM) == 0)
        status = show(bench, options, &one, looks);
done:
    tape_destroy(&bench->tape);
    arena_destroy(&bench->work);
    pool_destroy(&bench->pool);
    engine_forget(engine);
    free_operands(bench);
    memory_free(context, bench);
    return status;
}
