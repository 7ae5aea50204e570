/* SOAP (src/model/README.md section 7): Adam in the eigenbasis of Shampoo's preconditioners, for the matrices inside
 * layers, each slice of a 3-D one by itself; AdamW for the rest. Rotations, preconditioners and bases are in double
 * precision: in fp32 two meshes would not train alike. */
#include <math.h>
#include <string.h>

#include "dist/matrix/matrix.h"
#include "src/ops/operation.h"
#include "src/optim/matrices.h"
#include "src/optim/soap.h"

enum { FIRST_ROUNDS = 10 }; /* of the first refresh */

/* The rows or the columns of a matrix. */
struct side {
    int64_t length;
    bool kept;       /* it has a basis: it is not too long for one */
    double *average; /* L or R [length, length]; NULL if not kept */
    double *basis;
};

/* One matrix of a parameter under way. */
struct soap {
    const struct optimizer_step *step;
    const char *name;
    int64_t rows, columns;
    const float *gradient;
    float *mean, *squares; /* [rows, columns] m in the parameter's own basis, v in the rotated one */
    struct side left, right;
    /* Work. */
    double *matrix[3]; /* [rows, columns] each */
    double *square[2]; /* [longest kept side]^2 each */
    struct soap_place *order;
    double *factors; /* of the orthogonal factor */
};

static const struct optimizer_ops *choose(const struct parameter_spec *spec)
{
    return spec->is_matrix ? &soap_ops : &adamw_ops;
}

static bool is_kept(const struct optimizer_config *config, int64_t length)
{
    return length <= config->max_side;
}

/* An array of the parameter's shape but for its matrices, which are squares. */
static struct optimizer_array square_array(const char *name, bool kept, const struct parameter_spec *spec, int64_t side)
{
    struct optimizer_array array = {.name = kept ? name : NULL, .dtype = DTYPE_F64, .rank = spec->rank};
    memcpy(array.shape, spec->shape, sizeof array.shape);
    array.shape[spec->rank - 2] = array.shape[spec->rank - 1] = side;
    return array;
}

static int arrays(const struct optimizer_config *config, const struct parameter_spec *spec,
                  struct optimizer_array *arrays)
{
    struct matrices m = matrices_of(spec);
    bool left = is_kept(config, m.rows);
    bool right = is_kept(config, m.columns);
    arrays[SOAP_MEAN] = (struct optimizer_array){.name = "m"};
    arrays[SOAP_SQUARES] = (struct optimizer_array){.name = "v"};
    arrays[SOAP_LEFT] = square_array("left", left, spec, m.rows);
    arrays[SOAP_RIGHT] = square_array("right", right, spec, m.columns);
    arrays[SOAP_LEFT_BASIS] = square_array("left_basis", left, spec, m.rows);
    arrays[SOAP_RIGHT_BASIS] = square_array("right_basis", right, spec, m.columns);
    return SOAP_ARRAYS;
}

static int64_t longest_kept(const struct optimizer_config *config, struct matrices m)
{
    return integer_max(is_kept(config, m.rows) ? m.rows : 0, is_kept(config, m.columns) ? m.columns : 0);
}

/* Operations of a step, a refresh spread over the steps between two. */
static double cost(const struct optimizer_config *config, const struct parameter_spec *spec)
{
    struct matrices m = matrices_of(spec);
    double sum = 0.0;
    const int64_t sides[] = {m.rows, m.columns};
    for (int i = 0; i < 2; i++) {
        double n = is_kept(config, sides[i]) ? (double)sides[i] : 0.0;
        sum += 8.0 * n * (double)(m.rows * m.columns) + 5.0 * n * n * n / (double)config->every;
    }
    return (double)m.count * (sum + (double)(m.rows * m.columns));
}

static size_t work(const struct optimizer_config *config, const struct parameter_spec *spec)
{
    struct matrices m = matrices_of(spec);
    int64_t side = longest_kept(config, m);
    size_t doubles = (size_t)(3 * m.rows * m.columns + 2 * side * side) + matrix_orthogonalize_work(side);
    return doubles * sizeof(double) + (size_t)side * sizeof(struct soap_place);
}

/* -- Rotations -- */

static void multiply(const double *a, bool a_transposed, const double *b, bool b_transposed, double *c, int64_t m,
                     int64_t n, int64_t k)
{
    matrix_multiply(&(struct matrix_product){.m = m,
                                             .n = n,
                                             .k = k,
                                             .a = a,
                                             .b = b,
                                             .c = c,
                                             .a_transposed = a_transposed,
                                             .b_transposed = b_transposed,
                                             .alpha = 1.0});
}

/* Q_L^T x Q_R, or back: Q_L x Q_R^T. x is matrix[0], overwritten; returns where the result is, matrix[0] or [1]. */
static double *rotate(const struct soap *soap, bool back)
{
    double *from = soap->matrix[0];
    double *to = soap->matrix[1];
    if (soap->left.kept) {
        multiply(soap->left.basis, !back, from, false, to, soap->rows, soap->columns, soap->rows);
        double *swap = from;
        from = to;
        to = swap;
    }
    if (soap->right.kept) {
        multiply(from, false, soap->right.basis, back, to, soap->rows, soap->columns, soap->columns);
        from = to;
    }
    return from;
}

/* -- The step -- */

/* m goes on, and matrix[0] = G. */
static void advance_mean(const struct soap *soap)
{
    double scale = soap->step->gradient_scale;
    float beta = (float)soap->step->config->beta1;
    int64_t count = soap->rows * soap->columns;
    double *g = soap->matrix[0];
#pragma omp parallel for simd num_threads(operation_threads(soap->step->engine, count))
    for (int64_t i = 0; i < count; i++) {
        g[i] = scale * (double)soap->gradient[i];
        soap->mean[i] = beta * soap->mean[i] + (1.0f - beta) * (float)g[i];
    }
}

/* v goes on by the rotated gradient. */
static void advance_squares(const struct soap *soap, const double *rotated)
{
    double beta = (float)soap->step->config->beta2;
    int64_t count = soap->rows * soap->columns;
#pragma omp parallel for simd num_threads(operation_threads(soap->step->engine, count))
    for (int64_t i = 0; i < count; i++)
        soap->squares[i] = (float)(beta * (double)soap->squares[i] + (1.0 - beta) * rotated[i] * rotated[i]);
}

static void find_direction(const struct soap *soap, float *direction)
{
    const struct optimizer_config *config = soap->step->config;
    int64_t count = soap->rows * soap->columns;
    double t = (double)soap->step->t;
    double correction1 = 1.0 - pow((float)config->beta1, t);
    double correction2 = 1.0 - pow((float)config->beta2, t);
    for (int64_t i = 0; i < count; i++)
        soap->matrix[0][i] = (double)soap->mean[i];
    double *rotated = rotate(soap, false);
#pragma omp parallel for simd num_threads(operation_threads(soap->step->engine, count))
    for (int64_t i = 0; i < count; i++)
        rotated[i] = rotated[i] / correction1 / (sqrt((double)soap->squares[i] / correction2) + config->epsilon);
    if (rotated != soap->matrix[0])
        memcpy(soap->matrix[0], rotated, (size_t)count * sizeof *rotated);
    rotated = rotate(soap, true);
    for (int64_t i = 0; i < count; i++)
        direction[i] = (float)rotated[i];
}

/* -- Preconditioners and bases -- */

static double trace(const double *square, int64_t side)
{
    double sum = 0.0;
    for (int64_t i = 0; i < side; i++)
        sum += square[i * side + i];
    return sum;
}

/* Mostly they are in order, and products cost more than this in any case. */
void soap_sort(struct soap_place *order, int64_t count)
{
    for (int64_t i = 1; i < count; i++) {
        struct soap_place place = order[i];
        int64_t at = i;
        for (; at > 0 && order[at - 1].weight < place.weight; at--)
            order[at] = order[at - 1];
        order[at] = place;
    }
}

/* Columns (or rows) of v follow those of the basis. */
static void reorder_squares(const struct soap *soap, bool of_rows)
{
    int64_t count = soap->rows * soap->columns;
    float *old = (float *)(void *)soap->matrix[2];
    memcpy(old, soap->squares, (size_t)count * sizeof *old);
    for (int64_t row = 0; row < soap->rows; row++)
        for (int64_t column = 0; column < soap->columns; column++)
            soap->squares[row * soap->columns + column] = of_rows
                                                              ? old[soap->order[row].column * soap->columns + column]
                                                              : old[row * soap->columns + soap->order[column].column];
}

/* A round of orthogonal iteration: the columns of Q by how much of the average they carry, and then the orthogonal
 * factor of the average times Q. */
static enum status refresh_round(const struct soap *soap, const struct side *side, bool of_rows)
{
    int64_t n = side->length;
    double *product = soap->square[0];
    double *next = soap->square[1];
    double shift = 1e-6 * trace(side->average, n) / (double)n;
    multiply(side->average, false, side->basis, false, product, n, n, n);
    for (int64_t j = 0; j < n; j++)
        soap->order[j] = (struct soap_place){0.0, j};
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            soap->order[j].weight += side->basis[i * n + j] * product[i * n + j];
    soap_sort(soap->order, n);
    reorder_squares(soap, of_rows);
#pragma omp parallel for num_threads(operation_threads(soap->step->engine, n *n))
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++) {
            int64_t from = i * n + soap->order[j].column;
            next[i * n + j] = product[from] + shift * side->basis[from];
        }
    memcpy(side->basis, next, (size_t)(n * n) * sizeof *next);
    return matrix_orthogonalize(soap->step->engine->context, soap->name, n, side->basis, soap->factors);
}

int soap_rounds(const struct optimizer_config *config, int64_t t, bool had_gradient)
{
    return !had_gradient ? FIRST_ROUNDS : (t - 1) % config->every == 0 ? 1 : 0;
}

/* The average of G G^T, or of G^T G, and what follows from it for the basis. matrix[0] is G. */
static enum status advance_side(const struct soap *soap, const struct side *side, bool of_rows)
{
    const struct optimizer_config *config = soap->step->config;
    if (!side->kept)
        return STATUS_OK;
    int64_t n = side->length;
    bool had_gradient = trace(side->average, n) > 0.0;
    matrix_multiply(&(struct matrix_product){.m = n,
                                             .n = n,
                                             .k = of_rows ? soap->columns : soap->rows,
                                             .a = soap->matrix[0],
                                             .b = soap->matrix[0],
                                             .c = side->average,
                                             .a_transposed = !of_rows,
                                             .b_transposed = of_rows,
                                             .alpha = 1.0 - config->beta3,
                                             .beta = config->beta3});
    if (!(trace(side->average, n) > 0.0))
        return STATUS_OK;
    int rounds = soap_rounds(config, soap->step->t, had_gradient);
    for (int round = 0; round < rounds; round++)
        CHECK(refresh_round(soap, side, of_rows));
    return STATUS_OK;
}

/* A basis that is nothing yet is that of the parameter. */
static void begin_basis(const struct side *side)
{
    if (!side->kept)
        return;
    for (int64_t i = 0; i < side->length; i++)
        if (side->basis[i * side->length] != 0.0)
            return;
    for (int64_t i = 0; i < side->length; i++)
        side->basis[i * side->length + i] = 1.0;
}

/* The step takes the bases of earlier gradients: in those of its own a gradient's noise would be divided by itself. */
static enum status advance_matrix(const struct soap *soap, float *direction)
{
    size_t bytes = (size_t)(soap->rows * soap->columns) * sizeof(double);
    begin_basis(&soap->left);
    begin_basis(&soap->right);
    advance_mean(soap);
    memcpy(soap->matrix[2], soap->matrix[0], bytes);
    advance_squares(soap, rotate(soap, false));
    find_direction(soap, direction);
    memcpy(soap->matrix[0], soap->matrix[2], bytes);
    CHECK(advance_side(soap, &soap->left, true));
    return advance_side(soap, &soap->right, false);
}

static struct side side_at(int64_t length, double *average, double *basis, int64_t index)
{
    struct side side = {.length = length, .kept = average != NULL};
    if (side.kept) {
        side.average = average + index * length * length;
        side.basis = basis + index * length * length;
    }
    return side;
}

static void place_work(struct soap *soap, const struct optimizer_config *config, struct matrices m, double *work)
{
    int64_t elements = m.rows * m.columns;
    int64_t side = longest_kept(config, m);
    for (int i = 0; i < 3; i++)
        soap->matrix[i] = work + i * elements;
    for (int i = 0; i < 2; i++)
        soap->square[i] = work + 3 * elements + i * side * side;
    soap->factors = soap->square[1] + side * side;
    soap->order = (struct soap_place *)(void *)(soap->factors + matrix_orthogonalize_work(side));
}

static enum status advance(const struct optimizer_step *step, const struct parameter_spec *spec, const float *gradient,
                           void *const *state, float *direction)
{
    struct matrices m = matrices_of(spec);
    int64_t elements = m.rows * m.columns;
    struct soap soap = {.step = step, .name = spec->name, .rows = m.rows, .columns = m.columns};
    place_work(&soap, step->config, m, step->work);
    for (int64_t i = 0; i < m.count; i++) {
        soap.gradient = gradient + i * elements;
        soap.mean = (float *)state[SOAP_MEAN] + i * elements;
        soap.squares = (float *)state[SOAP_SQUARES] + i * elements;
        soap.left = side_at(m.rows, state[SOAP_LEFT], state[SOAP_LEFT_BASIS], i);
        soap.right = side_at(m.columns, state[SOAP_RIGHT], state[SOAP_RIGHT_BASIS], i);
        CHECK(advance_matrix(&soap, direction + i * elements));
    }
    return STATUS_OK;
}

static enum status direct(const struct optimizer_step *step, const struct parameter_spec *spec, const float *gradient,
                          void *const *state, float *direction)
{
    struct context *context = step->engine->context;
    int64_t side = longest_kept(step->config, matrices_of(spec));
    CHECK(matrix_check(context, spec->name, side, side));
    context->time.flops[TIME_PRODUCTS] += cost(step->config, spec);
    if (context->dry)
        return STATUS_OK;
    enum time_kind before = time_enter(&context->time, TIME_PRODUCTS);
    enum status status = advance(step, spec, gradient, state, direction);
    time_leave(&context->time, before);
    return status;
}

const struct optimizer_ops soap_ops = {.name = "soap",
                                       .choose = choose,
                                       .arrays = arrays,
                                       .direct = direct,
                                       .grid = &soap_grid_ops,
                                       .cost = cost,
                                       .work = work};
