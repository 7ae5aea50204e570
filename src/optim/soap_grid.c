/* SOAP's step of a matrix over a grid: as soap.c has it, with block-cyclic matrices in double precision. Ranks keep
 * rows of the averages and bases between steps. */
#include "src/optim/soap.h"

#include <math.h>
#include <string.h>

#include "dist/matrix/exchange.h"
#include "dist/matrix/factor.h"
#include "src/ops/operation.h"

/* The rows or the columns of the matrices of a size; without data if it is too long for a basis. */
struct grid_side {
    int64_t length;
    bool kept;
    struct grid_matrix average, basis, product, order;
    struct exchange *rows; /* of a square, to and from the ranks' rows */
    struct factor *factor;
};

struct soap_grid {
    const struct grid *grid;
    struct grid_matrix gradient, squares, matrix[2]; /* [rows, columns] */
    struct grid_side left, right;
    struct soap_place *places; /* [longest kept side] */
    double *weights;           /* [longest kept side] */
    void *work;                /* of exchanges of squares */
};

static struct grid_part all_of(const struct grid_matrix *matrix)
{
    return (struct grid_part){matrix, 0};
}

/* -- Creation -- */

static enum status create_side(struct context *context, const char *what, const struct grid *grid, int64_t length,
                               int64_t block, bool kept, struct grid_side *side)
{
    struct grid_matrix *squares[] = {&side->average, &side->basis, &side->product, &side->order};
    enum status status = STATUS_OK;
    side->length = length;
    side->kept = kept;
    if (!kept)
        return STATUS_OK;
    for (int i = 0; i < 4; i++) {
        enum status found = grid_matrix_allocate(context, what, grid, DTYPE_F64, length, length, block, squares[i]);
        status = status == STATUS_OK ? found : status;
    }
    CHECK(grid_agree(grid, status));
    struct range mine = range_partition(length, mesh_size(grid->mesh, grid->axis), mesh_rank(grid->mesh, grid->axis));
    struct matrix_share rows = matrix_share_of_block(mine, (struct range){0, length});
    CHECK(exchange_create(context, what, &side->average, &rows, &rows, 1, DTYPE_F64, &side->rows));
    return factor_create(context, what, FACTOR_ORTHOGONAL, &side->basis, &side->factor);
}

static enum status create(struct context *context, const struct optimizer_config *config, const char *what,
                          const struct grid *grid, int64_t rows, int64_t columns, void **made)
{
    struct soap_grid *soap = memory_allocate(context, sizeof *soap, MEMORY_OTHER);
    int64_t block = grid_block(grid, rows, columns);
    enum status status = soap ? STATUS_OK : STATUS_MEMORY;
    *made = soap;
    CHECK(grid_agree(grid, status));
    soap->grid = grid;
    struct grid_matrix *matrices[] = {&soap->gradient, &soap->squares, &soap->matrix[0], &soap->matrix[1]};
    for (int i = 0; i < 4; i++) {
        enum status found = grid_matrix_allocate(context, what, grid, DTYPE_F64, rows, columns, block, matrices[i]);
        status = status == STATUS_OK ? found : status;
    }
    CHECK(grid_agree(grid, status));
    CHECK(create_side(context, what, grid, rows, block, rows <= config->max_side, &soap->left));
    CHECK(create_side(context, what, grid, columns, block, columns <= config->max_side, &soap->right));
    size_t work = 0;
    size_t longest = 0;
    for (int i = 0; i < 2; i++) {
        const struct grid_side *side = i ? &soap->right : &soap->left;
        size_t needed = side->kept ? exchange_work(side->rows) : 0;
        work = needed > work ? needed : work;
        longest = side->kept && (size_t)side->length > longest ? (size_t)side->length : longest;
    }
    soap->places = memory_allocate(context, longest * sizeof *soap->places, MEMORY_BUFFERS);
    soap->weights = memory_allocate(context, longest * sizeof *soap->weights, MEMORY_BUFFERS);
    soap->work = memory_allocate(context, work, MEMORY_BUFFERS);
    return grid_agree(grid, context->status);
}

static void destroy(struct context *context, void **made)
{
    struct soap_grid *soap = *made;
    if (!soap)
        return;
    void *owned[] = {soap->gradient.data, soap->squares.data, soap->matrix[0].data, soap->matrix[1].data, soap->places,
                     soap->weights,       soap->work};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        memory_free(context, owned[i]);
    for (int i = 0; i < 2; i++) {
        struct grid_side *side = i ? &soap->right : &soap->left;
        void *squares[] = {side->average.data, side->basis.data, side->product.data, side->order.data};
        for (int s = 0; s < 4; s++)
            memory_free(context, squares[s]);
        exchange_destroy(&side->rows);
        factor_destroy(&side->factor);
    }
    memory_free(context, soap);
    *made = NULL;
}

static const struct grid_matrix *matrix(const void *made)
{
    const struct soap_grid *soap = made;
    return &soap->gradient;
}

/* -- Elements -- */

/* Of this rank's piece of a matrix; none in a dry run. */
static int64_t elements_of(const struct grid_matrix *matrix)
{
    return matrix->grid->context->dry ? 0 : grid_matrix_count(matrix);
}

/* Q_L^T x Q_R, or back: Q_L x Q_R^T. x is matrix[0], overwritten; returns where the result is, matrix[0] or [1]. */
static struct grid_matrix *rotate(struct soap_grid *soap, const struct grid_matrix *x, bool back)
{
    int64_t rows = soap->gradient.rows;
    int64_t columns = soap->gradient.columns;
    struct grid_matrix *to = x == &soap->matrix[0] ? &soap->matrix[1] : &soap->matrix[0];
    const struct grid_matrix *from = x;
    if (soap->left.kept) {
        grid_multiply(1.0, all_of(&soap->left.basis), !back, all_of(from), false, 0.0, all_of(to), rows, columns, rows);
        from = to;
        to = from == &soap->matrix[0] ? &soap->matrix[1] : &soap->matrix[0];
    }
    if (soap->right.kept) {
        grid_multiply(1.0, all_of(from), false, all_of(&soap->right.basis), back, 0.0, all_of(to), rows, columns,
                      columns);
        from = to;
    }
    if (from == &soap->gradient) { /* which has to stay */
        memcpy(to->data, from->data, (size_t)elements_of(from) * sizeof(double));
        from = to;
    }
    return from == &soap->matrix[0] ? &soap->matrix[0] : &soap->matrix[1];
}

/* v goes on by the rotated gradient; it is kept in fp32. */
static void advance_squares(const struct soap_grid *soap, const struct optimizer_config *config,
                            const struct grid_matrix *rotated)
{
    double beta = (float)config->beta2;
    double *v = soap->squares.data;
    const double *g = rotated->data;
    for (int64_t i = 0; i < elements_of(rotated); i++)
        v[i] = (double)(float)(beta * v[i] + (1.0 - beta) * g[i] * g[i]);
}

static void divide(const struct soap_grid *soap, const struct optimizer_step *step, const struct grid_matrix *rotated)
{
    double correction1 = 1.0 - pow((float)step->config->beta1, (double)step->t);
    double correction2 = 1.0 - pow((float)step->config->beta2, (double)step->t);
    const double *v = soap->squares.data;
    double *m = rotated->data;
    for (int64_t i = 0; i < elements_of(rotated); i++)
        m[i] = m[i] / correction1 / (sqrt(v[i] / correction2) + step->config->epsilon);
}

/* -- Preconditioners and bases -- */

/* The diagonal of A^T B of squares on all ranks; of A itself without B, which then is one number, the trace. */
static void sum_columns(const struct soap_grid *soap, const struct grid_side *side, const struct grid_matrix *a,
                        const struct grid_matrix *b, double *sums)
{
    const struct grid *grid = soap->grid;
    int64_t count = b ? side->length : 1;
    memset(sums, 0, (size_t)count * sizeof *sums);
    for (int64_t j = 0; j < a->local_columns && elements_of(a) > 0; j++) {
        int64_t column = cyclic_global(j, a->block, grid->column, grid->columns);
        for (int64_t i = 0; i < a->local_rows; i++) {
            int64_t at = j * a->local_rows + i;
            if (b)
                sums[column] += ((double *)a->data)[at] * ((double *)b->data)[at];
            else if (cyclic_global(i, a->block, grid->row, grid->rows) == column)
                sums[0] += ((double *)a->data)[at];
        }
    }
    mesh_all_reduce(grid->mesh, grid->axis, sums, count, DTYPE_F64, MESH_SUM);
}

static double trace(const struct soap_grid *soap, const struct grid_side *side)
{
    double sum;
    sum_columns(soap, side, &side->average, NULL, &sum);
    return sum;
}

/* Columns of the basis, and rows or columns of v, in the order of the places: products with a matrix of ones, exact. */
static void reorder(struct soap_grid *soap, struct grid_side *side, bool of_rows)
{
    int64_t n = side->length;
    int64_t rows = soap->squares.rows;
    int64_t columns = soap->squares.columns;
    const struct grid *grid = soap->grid;
    struct grid_matrix *order = &side->order;
    struct grid_matrix *spare = &soap->matrix[0];
    double *ones = order->data;
    for (int64_t j = 0; j < order->local_columns && elements_of(order) > 0; j++) {
        int64_t from = soap->places[cyclic_global(j, order->block, grid->column, grid->columns)].column;
        for (int64_t i = 0; i < order->local_rows; i++)
            ones[j * order->local_rows + i] = cyclic_global(i, order->block, grid->row, grid->rows) == from;
    }
    grid_multiply(1.0, all_of(&side->product), false, all_of(order), false, 0.0, all_of(&side->basis), n, n, n);
    grid_multiply(1.0, all_of(of_rows ? order : &soap->squares), of_rows, all_of(of_rows ? &soap->squares : order),
                  false, 0.0, all_of(spare), rows, columns, n);
    memcpy(soap->squares.data, spare->data, (size_t)elements_of(spare) * sizeof(double));
}

static enum status refresh_round(struct soap_grid *soap, const char *name, struct grid_side *side, bool of_rows)
{
    int64_t n = side->length;
    double shift = 1e-6 * trace(soap, side) / (double)n;
    double *product = side->product.data;
    const double *basis = side->basis.data;
    bool in_order = true;
    grid_multiply(1.0, all_of(&side->average), false, all_of(&side->basis), false, 0.0, all_of(&side->product), n, n,
                  n);
    sum_columns(soap, side, &side->basis, &side->product, soap->weights);
    for (int64_t j = 0; j < n; j++)
        soap->places[j] = (struct soap_place){soap->weights[j], j};
    soap_sort(soap->places, n);
    for (int64_t j = 0; j < n; j++)
        in_order &= soap->places[j].column == j;
    for (int64_t i = 0; i < elements_of(&side->product); i++)
        product[i] += shift * basis[i];
    /* All ranks have the same weights, to the bit. */
    if (in_order)
        memcpy(side->basis.data, product, (size_t)elements_of(&side->basis) * sizeof *product);
    else
        reorder(soap, side, of_rows);
    return factor_run(side->factor, name, &side->basis);
}

static enum status advance_side(struct soap_grid *soap, const struct optimizer_step *step, const char *name,
                                struct grid_side *side, bool of_rows)
{
    const struct optimizer_config *config = step->config;
    const struct grid_matrix *g = &soap->gradient;
    bool dry = soap->grid->context->dry;
    if (!side->kept)
        return STATUS_OK;
    bool had_gradient = trace(soap, side) > 0.0 || dry;
    grid_multiply(1.0 - config->beta3, all_of(g), !of_rows, all_of(g), of_rows, config->beta3, all_of(&side->average),
                  side->length, side->length, of_rows ? g->columns : g->rows);
    if (!(trace(soap, side) > 0.0) && !dry)
        return STATUS_OK;
    int rounds = soap_rounds(config, step->t, had_gradient);
    for (int round = 0; round < rounds; round++)
        CHECK(refresh_round(soap, name, side, of_rows));
    return STATUS_OK;
}

/* -- The step -- */

/* Averages and bases from the rows that the ranks keep; a basis that is nothing yet is that of the parameter. */
static void take_side(struct soap_grid *soap, struct grid_side *side, const double *average, const double *basis)
{
    if (!side->kept)
        return;
    exchange_into_grid(side->rows, average, &side->average, soap->work);
    exchange_into_grid(side->rows, basis, &side->basis, soap->work);
    if (grid_sum_of_squares(&side->basis) == 0.0)
        grid_add_identity(&side->basis, 1.0);
}

static void give_side(struct soap_grid *soap, struct grid_side *side, double *average, double *basis)
{
    if (!side->kept)
        return;
    exchange_from_grid(side->rows, &side->average, average, soap->work);
    exchange_from_grid(side->rows, &side->basis, basis, soap->work);
}

static void advance_mean(const struct optimizer_step *step, int64_t count, const float *gradient, float *mean)
{
    double scale = step->gradient_scale;
    float beta = (float)step->config->beta1;
    int64_t last = step->engine->context->dry ? 0 : count;
#pragma omp parallel for simd num_threads(operation_threads(step->engine, count))
    for (int64_t i = 0; i < last; i++)
        mean[i] = beta * mean[i] + (1.0f - beta) * (float)(scale * (double)gradient[i]);
}

static enum status step_over_grid(const struct optimizer_step *step, void *made, const struct grid_share *share,
                                  const float *gradient, void *const *state, float *direction)
{
    struct soap_grid *soap = made;
    take_side(soap, &soap->left, state[SOAP_LEFT], state[SOAP_LEFT_BASIS]);
    take_side(soap, &soap->right, state[SOAP_RIGHT], state[SOAP_RIGHT_BASIS]);
    advance_mean(step, share->count, gradient, state[SOAP_MEAN]);
    exchange_into_grid(share->exchange, gradient, &soap->gradient, share->work);
    exchange_into_grid(share->exchange, state[SOAP_SQUARES], &soap->squares, share->work);
    grid_scale(&soap->gradient, step->gradient_scale);
    advance_squares(soap, step->config, rotate(soap, &soap->gradient, false));
    exchange_into_grid(share->exchange, state[SOAP_MEAN], &soap->matrix[0], share->work);
    struct grid_matrix *rotated = rotate(soap, &soap->matrix[0], false);
    divide(soap, step, rotated);
    exchange_from_grid(share->exchange, rotate(soap, rotated, true), direction, share->work);
    CHECK(advance_side(soap, step, share->name, &soap->left, true));
    CHECK(advance_side(soap, step, share->name, &soap->right, false));
    exchange_from_grid(share->exchange, &soap->squares, state[SOAP_SQUARES], share->work);
    give_side(soap, &soap->left, state[SOAP_LEFT], state[SOAP_LEFT_BASIS]);
    give_side(soap, &soap->right, state[SOAP_RIGHT], state[SOAP_RIGHT_BASIS]);
    return STATUS_OK;
}

const struct optimizer_grid_ops soap_grid_ops = {
    .create = create, .destroy = destroy, .matrix = matrix, .step = step_over_grid};
