/* Steps of whole matrices, as Muon and SOAP take them: on each rank one of its own, and over grids of ranks. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "dist/matrix/exchange.h"
#include "dist/matrix/grid.h"
#include "io/json/json.h"
#include "src/bench/measure.h"
#include "src/core/clock.h"
#include "src/core/notice.h"
#include "src/optim/optimizer.h"

enum { ROWS = 256, SAMPLES = 3, SIZES = 4, KINDS = 3, EVERY = 10 };

/* A way to step a matrix, and the sides it is measured with. */
struct kind {
    const char *name;
    const struct optimizer_ops *ops;
    enum polar_kind polar;
    enum dtype dtype;    /* of its products */
    double flops;        /* a step's, by the third power of the side; 0: they are not counted */
    int64_t side[SIZES]; /* rising */
};

/* Of Muon five rounds of three products; of SOAP eight products, and for each of the two bases a product and an
 * orthogonal factor every so many steps. */
static const struct kind kinds[KINDS] = {
    {"muon", &muon_ops, POLAR_NEWTON_SCHULZ, DTYPE_F32, 30.0, {256, 512, 1024, 2048}},
    {"soap", &soap_ops, POLAR_NEWTON_SCHULZ, DTYPE_F64, 16.0 + 2.0 * (2.0 + 8.0 / 3.0) / EVERY, {128, 256, 512, 1024}},
    {"muon, exact", &muon_ops, POLAR_EXACT, DTYPE_F64, 0.0, {64, 128, 256, 512}},
};

struct matrices_row {
    const struct kind *kind;
    int64_t side;
    int rows, columns; /* of the grid; 0 where each rank has its own matrix */
    double seconds;
    double rate;  /* FLOP/s of all ranks of the grid */
    double share; /* of their ceiling */
};

struct matrices_bench {
    struct context *context;
    struct mesh *mesh;
    struct engine *engine;
    bool quick;
    struct ceilings ceilings;
    struct matrices_row rows[ROWS];
    int count;
    struct notice notice;
};

/* -- One way to do it -- */

/* A step of one size, ready to be run. */
struct stepper {
    struct optimizer_config config;
    struct optimizer_step step;
    struct parameter_spec spec;
    const struct kind *kind;
    float *gradient, *direction;
    void *state[OPTIMIZER_ARRAYS];
    void *work;
    struct grid *grid; /* NULL: alone */
    void *made;
    struct exchange *exchange;
    int64_t count; /* elements of this rank */
};

static void *room(const struct matrices_bench *bench, size_t bytes)
{
    return memory_allocate(bench->context, bytes, MEMORY_BUFFERS);
}

/* This rank's part of the arrays: rows where there is a grid. */
static enum status allocate_state(struct matrices_bench *bench, struct stepper *s, int64_t rows)
{
    struct optimizer_array arrays[OPTIMIZER_ARRAYS];
    int count = s->kind->ops->arrays(&s->config, &s->spec, arrays);
    for (int i = 0; i < count; i++) {
        int64_t elements = arrays[i].rank > 0 ? rows * s->spec.shape[1] : s->count;
        s->state[i] = room(bench, (size_t)elements * dtype_size(arrays[i].dtype));
    }
    s->gradient = room(bench, (size_t)s->count * sizeof(float));
    s->direction = room(bench, (size_t)s->count * sizeof(float));
    for (int64_t i = 0; s->gradient && i < s->count; i++)
        s->gradient[i] = (float)((i * 7919 + 13) % 1009) / 1009.0f - 0.5f;
    return bench->context->status;
}

static enum status create_grid(struct matrices_bench *bench, struct stepper *s, int rows, int columns)
{
    struct context *context = bench->context;
    int64_t side = s->spec.shape[0];
    struct range mine = range_partition(side, mesh_size(bench->mesh, MESH_TEAM), mesh_rank(bench->mesh, MESH_TEAM));
    struct matrix_share share = matrix_share_of_block(mine, (struct range){0, side});
    const struct optimizer_grid_ops *ops = s->kind->ops->grid;
    CHECK(grid_create(context, bench->mesh, MESH_TEAM, rows, columns, &s->grid));
    CHECK(ops->create(context, &s->config, s->spec.name, s->grid, side, side, &s->made));
    CHECK(exchange_create(context, s->spec.name, ops->matrix(s->made), &share, &share, 1, DTYPE_F32, &s->exchange));
    s->work = room(bench, exchange_work(s->exchange));
    s->count = mine.count * side;
    return mesh_agree(bench->mesh, context, allocate_state(bench, s, mine.count));
}

static enum status create(struct matrices_bench *bench, const struct kind *kind, int64_t side, int rows, int columns,
                          struct stepper *s)
{
    *s = (struct stepper){.kind = kind,
                          .config = {.kind = OPTIMIZER_MUON,
                                     .polar = kind->polar,
                                     .momentum = 0.95,
                                     .nesterov = true,
                                     .beta1 = 0.95,
                                     .beta2 = 0.95,
                                     .beta3 = 0.95,
                                     .epsilon = 1e-8,
                                     .every = EVERY,
                                     .max_side = side},
                          .spec = {.name = "matrix", .rank = 2, .shape = {side, side}, .is_matrix = true}};
    s->step = (struct optimizer_step){
        .config = &s->config, .engine = bench->engine, .mesh = bench->mesh, .rate = 1.0, .gradient_scale = 1.0};
    if (rows > 0)
        return create_grid(bench, s, rows, columns);
    s->work = room(bench, kind->ops->work(&s->config, &s->spec));
    s->step.work = s->work;
    s->count = side * side;
    return mesh_agree(bench->mesh, bench->context, allocate_state(bench, s, side));
}

static void destroy(struct matrices_bench *bench, struct stepper *s)
{
    void *owned[] = {s->gradient, s->direction, s->work};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        memory_free(bench->context, owned[i]);
    for (int i = 0; i < OPTIMIZER_ARRAYS; i++)
        memory_free(bench->context, s->state[i]);
    exchange_destroy(&s->exchange);
    if (s->grid)
        s->kind->ops->grid->destroy(bench->context, &s->made);
    grid_destroy(&s->grid);
}

/* Seconds of step `t`, of the slowest rank. */
static enum status time_step(struct matrices_bench *bench, struct stepper *s, int64_t t, double *seconds)
{
    const struct grid_share share = {.name = s->spec.name, .count = s->count, .exchange = s->exchange, .work = s->work};
    s->step.t = t;
    mesh_barrier(bench->mesh, MESH_TEAM);
    double start = clock_seconds();
    enum status status = s->grid
                             ? s->kind->ops->grid->step(&s->step, s->made, &share, s->gradient, s->state, s->direction)
                             : s->kind->ops->direct(&s->step, &s->spec, s->gradient, s->state, s->direction);
    *seconds = clock_seconds() - start;
    CHECK(mesh_agree(bench->mesh, bench->context, status));
    mesh_all_reduce(bench->mesh, MESH_TEAM, seconds, 1, DTYPE_F64, MESH_MAX);
    return STATUS_OK;
}

/* The median of ordinary steps, with the share of one that refreshes bases. */
static enum status time_steps(struct matrices_bench *bench, struct stepper *s, double *seconds)
{
    double samples[SAMPLES];
    double refreshed;
    bool refreshes = s->kind->ops == &soap_ops;
    int count = bench->quick ? 1 : SAMPLES;
    CHECK(time_step(bench, s, 1, &refreshed)); /* warms up */
    for (int i = 0; i < count; i++)
        CHECK(time_step(bench, s, 2 + i, &samples[i]));
    *seconds = measure_median(samples, count);
    if (refreshes) {
        CHECK(time_step(bench, s, 1 + EVERY, &refreshed));
        *seconds += (refreshed - *seconds) / EVERY;
    }
    return STATUS_OK;
}

static enum status add_row(struct matrices_bench *bench, const struct kind *kind, int64_t side, int rows, int columns)
{
    struct stepper s;
    if (bench->count == ROWS)
        return STATUS_OK;
    struct matrices_row *row = &bench->rows[bench->count];
    *row = (struct matrices_row){.kind = kind, .side = side, .rows = rows, .columns = columns};
    notice_show(&bench->notice, bench->count, 0.0);
    enum status status = create(bench, kind, side, rows, columns, &s);
    if (status == STATUS_OK)
        status = time_steps(bench, &s, &row->seconds);
    destroy(bench, &s);
    CHECK(status);
    double ranks = rows > 0 ? rows * columns : 1;
    double ceiling = ranks * (kind->dtype == DTYPE_F64 ? 0.5 : 1.0) * bench->ceilings.fp32;
    row->rate = kind->flops * pow((double)side, 3.0) / row->seconds;
    row->share = row->rate / ceiling;
    bench->count++;
    return STATUS_OK;
}

/* Grids of 2, 4, 8, ... and of all ranks that are at most four times as long as wide. */
static enum status add_grids(struct matrices_bench *bench, const struct kind *kind, int64_t side)
{
    int all = mesh_size(bench->mesh, MESH_TEAM);
    for (int ranks = 2; ranks <= all; ranks = 2 * ranks > all && ranks < all ? all : 2 * ranks)
        for (int rows = 1; rows <= ranks; rows++)
            if (ranks % rows == 0 && ranks <= 4 * rows * rows && rows * rows <= 4 * ranks)
                CHECK(add_row(bench, kind, side, rows, ranks / rows));
    return STATUS_OK;
}

static enum status run(struct matrices_bench *bench)
{
    for (int k = 0; k < KINDS; k++)
        for (int i = 0; i < (bench->quick ? 2 : SIZES); i++) {
            int64_t side = bench->quick ? kinds[k].side[i] / 8 : kinds[k].side[i];
            CHECK(add_row(bench, &kinds[k], side, 0, 0));
            CHECK(add_grids(bench, &kinds[k], side));
        }
    return STATUS_OK;
}

/* -- The border -- */

static bool is_faster(const struct matrices_bench *bench, const struct kind *kind, int64_t side)
{
    double alone = INFINITY;
    double together = INFINITY;
    for (int i = 0; i < bench->count; i++) {
        const struct matrices_row *row = &bench->rows[i];
        if (row->kind != kind || row->side != side)
            continue;
        if (row->rows == 0)
            alone = row->seconds;
        else
            together = fmin(together, row->seconds);
    }
    return together < alone;
}

/* The least measured side from which on some grid is always faster than one rank; 0: there is none. */
static int64_t border_of(const struct matrices_bench *bench, const struct kind *kind)
{
    int64_t border = 0;
    for (int i = 0; i < bench->count; i++)
        if (bench->rows[i].kind == kind && bench->rows[i].rows == 0) {
            bool faster = is_faster(bench, kind, bench->rows[i].side);
            border = !faster ? 0 : border > 0 ? border : bench->rows[i].side;
        }
    return border;
}

/* -- Showing -- */

static void print_rows(const struct matrices_bench *bench)
{
    ceilings_print("ceilings of a rank", &bench->ceilings);
    printf("\n%-12s %6s %10s %12s %10s %10s\n", "step", "side", "ranks", "time", "GFLOP/s", "of ceiling");
    for (int i = 0; i < bench->count; i++) {
        const struct matrices_row *row = &bench->rows[i];
        char grid[32] = "one";
        if (row->rows > 0)
            snprintf(grid, sizeof grid, "%d x %d", row->rows, row->columns);
        printf("%-12s %6lld %10s %12s", row->kind->name, (long long)row->side, grid, show_seconds(row->seconds).text);
        if (row->rate > 0.0)
            printf(" %10.1f %8.1f %%", 1e-9 * row->rate, 100.0 * row->share);
        printf("\n");
    }
    printf(
        "\nThe ceiling of products in fp64 is taken as half of that in fp32. With one rank a matrix, each rank steps "
        "one of its own.\n");
    if (mesh_size(bench->mesh, MESH_TEAM) == 1)
        return;
    for (int k = 0; k < KINDS; k++) {
        int64_t border = border_of(bench, &kinds[k]);
        if (border > 0)
            printf("%s: ranks together are faster than one from a side of %lld on: optimizer.matrix_border=%lld\n",
                   kinds[k].name, (long long)border, (long long)border);
        else
            printf("%s: no grid is faster than one rank with the largest matrix here\n", kinds[k].name);
    }
}

static enum status print_rows_json(const struct matrices_bench *bench)
{
    json_t *list = json_array();
    json_t *borders = json_object();
    for (int i = 0; i < bench->count; i++) {
        const struct matrices_row *row = &bench->rows[i];
        json_array_append_new(list,
                              json_form("{s:s, s:I, s:i, s:i, s:f, s:f, s:f}", "step", row->kind->name, "side",
                                        (json_int_t)row->side, "grid_rows", row->rows, "grid_columns", row->columns,
                                        "seconds", row->seconds, "gflops", 1e-9 * row->rate, "share", row->share));
    }
    for (int k = 0; k < KINDS; k++)
        json_object_set_new(borders, kinds[k].name, json_integer((json_int_t)border_of(bench, &kinds[k])));
    return print_json(bench->context, json_form("{s:s, s:i, s:o, s:o, s:o}", "bench", "matrices", "ranks",
                                                mesh_size(bench->mesh, MESH_TEAM), "ceilings",
                                                ceilings_json(&bench->ceilings), "rows", list, "border", borders));
}

enum status bench_matrices(struct context *context, struct mesh *mesh, struct engine *engine,
                           const struct bench_options *options)
{
    struct matrices_bench *bench = memory_allocate(context, sizeof *bench, MEMORY_OTHER);
    CHECK(mesh_agree(mesh, context, context->status));
    *bench = (struct matrices_bench){.context = context, .mesh = mesh, .engine = engine, .quick = options->quick};
    enum status status = ceilings_measure(mesh, engine, engine->threads, options->quick, &bench->ceilings);
    notice_begin(&bench->notice, context, "measuring", "steps");
    if (status == STATUS_OK)
        status = run(bench);
    notice_end(&bench->notice);
    if (status == STATUS_OK && mesh_rank(mesh, MESH_TEAM) == 0) {
        if (options->json)
            status = print_rows_json(bench);
        else
            print_rows(bench);
    }
    memory_free(context, bench);
    return status;
}
