/* Muon (src/model/README.md section 7): momentum whose matrices are made orthogonal, for the matrices inside layers;
 * AdamW for the rest.
 *
 *   B = momentum B + (1 - momentum) G;   U = (1 - momentum) G + momentum B with nesterov, B without
 *   p -= rate decay p;   p -= rate 0.2 sqrt(max(rows, columns)) polar(U), each slice of a 3-D one by itself */
#include <math.h>

#include "dist/matrix/exchange.h"
#include "dist/matrix/factor.h"
#include "dist/matrix/matrix.h"
#include "src/ops/operation.h"
#include "src/optim/matrices.h"
#include "src/optim/optimizer.h"

static const struct optimizer_ops *choose(const struct parameter_spec *spec)
{
    return spec->is_matrix ? &muon_ops : &adamw_ops;
}

static int arrays(const struct optimizer_config *config, const struct parameter_spec *spec,
                  struct optimizer_array *arrays)
{
    (void)config;
    (void)spec;
    arrays[0] = (struct optimizer_array){.name = "momentum"};
    return 1;
}

static double cost(const struct optimizer_config *config, const struct parameter_spec *spec)
{
    struct matrices m = matrices_of(spec);
    (void)config;
    double small = (double)integer_min(m.rows, m.columns);
    return (double)m.count * (double)integer_max(m.rows, m.columns) * small * small;
}

/* -- Newton-Schulz -- */

enum { ROUNDS = 5 };

/* What the iteration works in: a matrix of the parameter's shape, and two squares of its smaller side. */
static size_t newton_schulz_floats(int64_t rows, int64_t columns)
{
    int64_t small = integer_min(rows, columns);
    return (size_t)(rows * columns + 2 * small * small);
}

/* to = factor from. */
static void scale(struct engine *engine, float *to, const float *from, float factor, int64_t count)
{
    int threads = operation_threads(engine, count);
    if (engine->context->dry)
        return;
#pragma omp parallel num_threads(threads)
    {
        struct range range = operation_range(count, LINE_ELEMENTS);
#pragma omp simd
        for (int64_t i = range.begin; i < range.begin + range.count; i++)
            to[i] = factor * from[i];
    }
}

/* square = b s + c square + a I, all [side, side]. */
static void combine(struct engine *engine, float *square, const float *s, int64_t side)
{
    static const float a = 3.4445f, b = -4.7750f, c = 2.0315f;
    int threads = operation_threads(engine, side * side);
    if (engine->context->dry)
        return;
#pragma omp parallel for num_threads(threads)
    for (int64_t row = 0; row < side; row++) {
        for (int64_t i = row * side; i < (row + 1) * side; i++)
            square[i] = b * s[i] + c * square[i];
        square[row * side + row] += a;
    }
}

/* x becomes about its orthogonal polar factor. Of the two squares X X^T and X^T X the smaller one is taken, which is
 * what transposing a tall matrix comes to. */
static enum status newton_schulz(struct engine *engine, int64_t rows, int64_t columns, float *x, float *work)
{
    int64_t count = rows * columns;
    bool tall = rows > columns;
    int64_t side = tall ? columns : rows;
    float *s = work + count;
    float *square = s + side * side;
    double norm = engine->context->dry ? 1.0 : sqrt(sum_of_squares(engine, x, count));
    scale(engine, work, x, (float)(1.0 / fmax(norm, 1e-7)), count);
    float *from = work; /* after an odd number of rounds the result is in x */
    float *to = x;
    for (int round = 0; round < ROUNDS; round++) {
        CHECK(matmul_run(engine, &(struct matmul){.m = side,
                                                  .n = side,
                                                  .k = tall ? rows : columns,
                                                  .a = from,
                                                  .b = from,
                                                  .c = s,
                                                  .lda = columns,
                                                  .ldb = columns,
                                                  .ldc = side,
                                                  .a_transposed = tall,
                                                  .b_transposed = !tall}));
        CHECK(matmul_run(
            engine,
            &(struct matmul){
                .m = side, .n = side, .k = side, .a = s, .b = s, .c = square, .lda = side, .ldb = side, .ldc = side}));
        combine(engine, square, s, side);
        CHECK(matmul_run(engine, &(struct matmul){.m = rows,
                                                  .n = columns,
                                                  .k = side,
                                                  .a = tall ? from : square,
                                                  .b = tall ? square : from,
                                                  .c = to,
                                                  .lda = tall ? columns : side,
                                                  .ldb = columns,
                                                  .ldc = columns}));
        float *swap = from;
        from = to;
        to = swap;
    }
    return STATUS_OK;
}

/* -- Steps -- */

/* The momentum goes on; direction = U. */
static void advance(const struct optimizer_step *step, const float *restrict gradient, float *restrict momentum,
                    float *restrict direction, int64_t count)
{
    float mu = (float)step->config->momentum;
    float share = (1.0f - mu) * (float)step->gradient_scale;
    bool nesterov = step->config->nesterov;
    int threads = operation_threads(step->engine, count);
    if (step->engine->context->dry)
        return;
#pragma omp parallel num_threads(threads)
    {
        struct range range = operation_range(count, LINE_ELEMENTS);
#pragma omp simd
        for (int64_t i = range.begin; i < range.begin + range.count; i++) {
            float g = share * gradient[i];
            momentum[i] = mu * momentum[i] + g;
            direction[i] = nesterov ? g + mu * momentum[i] : momentum[i];
        }
    }
}

static size_t work(const struct optimizer_config *config, const struct parameter_spec *spec)
{
    struct matrices m = matrices_of(spec);
    if (config->polar == POLAR_NEWTON_SCHULZ)
        return newton_schulz_floats(m.rows, m.columns) * sizeof(float);
    return ((size_t)(m.rows * m.columns) + matrix_polar_work(m.rows, m.columns)) * sizeof(double);
}

/* The share of the largest singular value below which others are only rounding of the gradient's fp32. */
static double cutoff_of(int64_t rows, int64_t columns)
{
    return 1.2e-7 * (double)integer_max(rows, columns);
}

/* The same by the singular value decomposition, in double precision. */
static enum status exact(struct engine *engine, const char *name, int64_t rows, int64_t columns, float *x, double *work)
{
    int64_t count = rows * columns;
    struct time_account *time = &engine->context->time;
    double small = (double)integer_min(rows, columns);
    CHECK(matrix_check(engine->context, name, rows, columns));
    time->flops[TIME_PRODUCTS] += (6.0 * (double)integer_max(rows, columns) + 16.0 * small) * small * small;
    if (engine->context->dry)
        return STATUS_OK;
    enum time_kind before = time_enter(time, TIME_PRODUCTS);
    for (int64_t i = 0; i < count; i++)
        work[i] = x[i];
    enum status status =
        matrix_polar(engine->context, name, rows, columns, cutoff_of(rows, columns), work, work + count);
    for (int64_t i = 0; i < count && status == STATUS_OK; i++)
        x[i] = (float)work[i];
    time_leave(time, before);
    return status;
}

/* The length of the step along a direction whose singular values are 1. */
static float length_of(int64_t rows, int64_t columns)
{
    return 0.2f * sqrtf((float)integer_max(rows, columns));
}

static enum status direct(const struct optimizer_step *step, const struct parameter_spec *spec, const float *gradient,
                          void *const *state, float *direction)
{
    struct matrices m = matrices_of(spec);
    int64_t elements = m.rows * m.columns;
    advance(step, gradient, state[0], direction, m.count * elements);
    for (int64_t i = 0; i < m.count; i++) {
        float *x = direction + i * elements;
        if (step->config->polar == POLAR_EXACT)
            CHECK(exact(step->engine, spec->name, m.rows, m.columns, x, step->work));
        else
            CHECK(newton_schulz(step->engine, m.rows, m.columns, x, step->work));
        scale(step->engine, x, x, length_of(m.rows, m.columns), elements);
    }
    return STATUS_OK;
}

/* -- Over a grid -- */

struct muon_grid {
    struct grid_matrix matrix;
    struct factor *factor;
};

static enum status grid_make(struct context *context, const struct optimizer_config *config, const char *what,
                             const struct grid *grid, int64_t rows, int64_t columns, void **made)
{
    bool exactly = config->polar == POLAR_EXACT;
    struct muon_grid *muon = memory_allocate(context, sizeof *muon, MEMORY_OTHER);
    *made = muon;
    CHECK(grid_agree(grid, muon ? STATUS_OK : STATUS_MEMORY));
    CHECK(grid_agree(grid, grid_matrix_allocate(context, what, grid, exactly ? DTYPE_F64 : DTYPE_F32, rows, columns,
                                                grid_block(grid, rows, columns), &muon->matrix)));
    CHECK(factor_create(context, what, exactly ? FACTOR_POLAR : FACTOR_NEWTON_SCHULZ, &muon->matrix, &muon->factor));
    muon->factor->cutoff = cutoff_of(rows, columns);
    return STATUS_OK;
}

static void grid_unmake(struct context *context, void **made)
{
    struct muon_grid *muon = *made;
    if (!muon)
        return;
    factor_destroy(&muon->factor);
    memory_free(context, muon->matrix.data);
    memory_free(context, muon);
    *made = NULL;
}

static const struct grid_matrix *grid_layout(const void *made)
{
    const struct muon_grid *muon = made;
    return &muon->matrix;
}

static enum status grid_step(const struct optimizer_step *step, void *made, const struct grid_share *share,
                             const float *gradient, void *const *state, float *direction)
{
    struct muon_grid *muon = made;
    advance(step, gradient, state[0], direction, share->count);
    exchange_into_grid(share->exchange, direction, &muon->matrix, share->work);
    CHECK(factor_run(muon->factor, share->name, &muon->matrix));
    exchange_from_grid(share->exchange, &muon->matrix, direction, share->work);
    scale(step->engine, direction, direction, length_of(muon->matrix.rows, muon->matrix.columns), share->count);
    return STATUS_OK;
}

static const struct optimizer_grid_ops grid_ops = {
    .create = grid_make, .destroy = grid_unmake, .matrix = grid_layout, .step = grid_step};

const struct optimizer_ops muon_ops = {.name = "muon",
                                       .choose = choose,
                                       .arrays = arrays,
                                       .direct = direct,
                                       .grid = &grid_ops,
                                       .cost = cost,
                                       .work = work};
