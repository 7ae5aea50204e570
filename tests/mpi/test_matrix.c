/* Matrices over grids of ranks against LAPACK on one rank: what moves onto a grid and back, and factors by what is
 * always true of them. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dist/matrix/exchange.h"
#include "dist/matrix/factor.h"
#include "dist/matrix/lapack.h"
#include "tests/support/mpi_main.h"

void dgeqrf_(const int *m, const int *n, double *a, const int *lda, double *factors, double *work, const int *size,
             int *info);
void dsyev_(const char *job, const char *triangle, const int *n, double *a, const int *lda, double *values,
            double *work, const int *size, int *info);

enum { MOST = 104, ELEMENTS = MOST * MOST };

/* -- Matrices that every rank knows -- */

enum special { ANY, DEFICIENT, REPEATED, ZERO };

struct shape {
    int64_t rows, columns;
    enum special special;
};

static const struct shape shapes[] = {
    {1, 1, ANY},   {1, 17, ANY},        {17, 1, ANY},        {2, 3, ANY},        {7, 7, ANY},
    {13, 5, ANY},  {5, 13, ANY},        {31, 29, ANY},       {29, 31, ANY},      {37, 37, ANY},
    {64, 64, ANY}, {65, 63, ANY},       {101, 7, ANY},       {7, 101, ANY},      {61, 47, ANY},
    {2, 97, ANY},  {40, 40, DEFICIENT}, {23, 41, DEFICIENT}, {24, 24, REPEATED}, {33, 21, REPEATED},
};

enum { SHAPES = sizeof shapes / sizeof *shapes };

static double *allocate(int64_t count)
{
    double *values = calloc((size_t)count + 1, sizeof *values);
    assert_non_null(values);
    return values;
}

static void random_matrix(double *a, int64_t count, const char *name)
{
    float single[ELEMENTS];
    fill_random(single, count, name);
    for (int64_t i = 0; i < count; i++)
        a[i] = (double)single[i];
}

/* a [rows, columns], row-major, exact in fp32 but for repeated singular values, which are those of a reflection. */
static void fill(struct shape shape, double *a)
{
    int64_t m = shape.rows;
    int64_t n = shape.columns;
    double left[3 * MOST];
    double right[3 * MOST];
    random_matrix(a, m * n, "a");
    if (shape.special == DEFICIENT) {
        random_matrix(left, 3 * m, "left");
        random_matrix(right, 3 * n, "right");
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < n; j++) {
                a[i * n + j] = 0.0;
                for (int k = 0; k < 3; k++)
                    a[i * n + j] += left[3 * i + k] * right[3 * j + k];
            }
    }
    if (shape.special == REPEATED) { /* H = 2 (I - 2 v v^T / v^T v), without its last columns */
        double square = 0.0;
        random_matrix(left, m, "left");
        for (int64_t i = 0; i < m; i++)
            square += left[i] * left[i];
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < n; j++)
                a[i * n + j] = 2.0 * ((i == j) - 2.0 * left[i] * left[j] / square);
    }
    if (shape.special == ZERO)
        memset(a, 0, (size_t)(m * n) * sizeof *a);
}

/* -- Shares -- */

enum division { BY_ROWS, BY_COLUMNS, BY_RANGE, BY_RANGE_OF_COLUMNS, BY_ONE, WHOLE, DIVISIONS = WHOLE };

/* What a rank has: rows, columns, a range of all elements, a range of its half of the columns (as ZeRO and tensor ranks
 * together divide), the whole on the last rank, or on every rank. */
static struct matrix_share share_of(enum division division, int64_t rows, int64_t columns, int ranks, int rank)
{
    struct range all_rows = {0, rows};
    struct range all_columns = {0, columns};
    switch (division) {
    case BY_ROWS:
        return matrix_share_of_block(range_partition(rows, ranks, rank), all_columns);
    case BY_COLUMNS:
        return matrix_share_of_block(all_rows, range_partition(columns, ranks, rank));
    case BY_RANGE:
        return matrix_share_of_range(all_rows, all_columns, range_partition(rows * columns, ranks, rank));
    case BY_RANGE_OF_COLUMNS: {
        int halves = ranks > 1 ? 2 : 1;
        int half = rank % halves;
        struct range mine = range_partition(columns, halves, half);
        int sharers = ranks / halves + (ranks % halves > half);
        return matrix_share_of_range(all_rows, mine, range_partition(rows * mine.count, sharers, rank / halves));
    }
    case BY_ONE:
        if (rank != ranks - 1)
            return (struct matrix_share){0};
        return matrix_share_of_block(all_rows, all_columns);
    default:
        return matrix_share_of_block(all_rows, all_columns);
    }
}

static void *element_at(void *data, enum dtype dtype, int64_t index)
{
    return (char *)data + (size_t)index * dtype_size(dtype);
}

static double get(const void *data, enum dtype dtype, int64_t index)
{
    return dtype == DTYPE_F32 ? (double)((const float *)data)[index] : ((const double *)data)[index];
}

static void put(void *data, enum dtype dtype, int64_t index, double value)
{
    if (dtype == DTYPE_F32)
        *(float *)element_at(data, dtype, index) = (float)value;
    else
        *(double *)element_at(data, dtype, index) = value;
}

typedef void visit(void *self, int64_t row, int64_t column, int64_t index);

static void each_element(const struct matrix_share *share, visit *function, void *self)
{
    for (int i = 0; i < share->count; i++) {
        const struct matrix_part *part = &share->part[i];
        for (int64_t r = 0; r < part->rows.count; r++)
            for (int64_t c = 0; c < part->columns.count; c++)
                function(self, part->rows.begin + r, part->columns.begin + c, part->begin + r * part->stride + c);
    }
}

struct buffer {
    const double *whole;
    int64_t columns;
    enum dtype dtype;
    void *data;
    const struct grid_matrix *matrix;
    int rank;
    int64_t count; /* of what others own */
};

static void write_element(void *self, int64_t row, int64_t column, int64_t index)
{
    struct buffer *b = self;
    put(b->data, b->dtype, index, b->whole[row * b->columns + column]);
}

static void check_element(void *self, int64_t row, int64_t column, int64_t index)
{
    struct buffer *b = self;
    double expected = b->whole[row * b->columns + column];
    if (b->dtype == DTYPE_F32 || b->matrix->dtype == DTYPE_F32)
        expected = (double)(float)expected;
    assert_true(get(b->data, b->dtype, index) == expected);
}

static int owner_of(const struct grid_matrix *matrix, int64_t row, int64_t column)
{
    const struct grid *grid = matrix->grid;
    return (int)(row / matrix->block % grid->rows) * grid->columns + (int)(column / matrix->block % grid->columns);
}

static void count_element(void *self, int64_t row, int64_t column, int64_t index)
{
    struct buffer *b = self;
    (void)index;
    b->count += owner_of(b->matrix, row, column) != b->rank;
}

/* -- Onto a grid and back -- */

static void check_blocks(const struct grid_matrix *matrix, const double *whole)
{
    const struct grid *grid = matrix->grid;
    int64_t seen = 0;
    for (int64_t row = 0; row < matrix->rows; row++)
        for (int64_t column = 0; column < matrix->columns; column++) {
            if (!grid_has_rank(grid) || owner_of(matrix, row, column) != grid->row * grid->columns + grid->column)
                continue;
            int64_t b = matrix->block;
            int64_t i = row / (b * grid->rows) * b + row % b;
            int64_t j = column / (b * grid->columns) * b + column % b;
            double expected = whole[row * matrix->columns + column];
            if (matrix->dtype == DTYPE_F32)
                expected = (double)(float)expected;
            assert_true(get(matrix->data, matrix->dtype, j * matrix->local_rows + i) == expected);
            seen++;
        }
    assert_int_equal(seen, grid_matrix_count(matrix));
}

static void check_exchange(struct mpi_fixture *fixture, struct mesh *mesh, const struct grid *grid, struct shape shape,
                           enum division division, int64_t block, enum dtype dtype, enum dtype shared)
{
    struct context *context = &fixture->context;
    int ranks = fixture->ranks;
    double whole[ELEMENTS];
    struct grid_matrix matrix;
    struct exchange *exchange;
    int64_t count = shape.rows * shape.columns;
    /* What comes back is divided in another way. */
    struct matrix_share brings = share_of(division, shape.rows, shape.columns, ranks, fixture->rank);
    struct matrix_share wants = share_of((division + 1) % DIVISIONS, shape.rows, shape.columns, ranks, fixture->rank);
    random_matrix(whole, count, "a");
    for (int64_t i = 0; shared == DTYPE_F64 && i < count; i++)
        whole[i] += 1e-12;
    assert_ok(context, grid_matrix_allocate(context, "a", grid, dtype, shape.rows, shape.columns, block, &matrix));
    assert_ok(context, exchange_create(context, "a", &matrix, &brings, &wants, 1, shared, &exchange));
    void *data = allocate(count);
    void *work = allocate((int64_t)exchange_work(exchange) / 8);
    struct buffer buffer = {.whole = whole,
                            .columns = shape.columns,
                            .dtype = shared,
                            .data = data,
                            .matrix = &matrix,
                            .rank = fixture->rank};
    each_element(&brings, write_element, &buffer);
    struct mesh_traffic before = mesh_traffic(mesh, MESH_TEAM);
    exchange_into_grid(exchange, data, &matrix, work);
    struct mesh_traffic after = mesh_traffic(mesh, MESH_TEAM);
    each_element(&brings, count_element, &buffer);
    assert_int_equal(after.bytes - before.bytes, buffer.count * (int64_t)dtype_size(shared));
    assert_int_equal(after.calls - before.calls, ranks > 1);
    check_blocks(&matrix, whole);
    memset(data, 0xff, (size_t)count * sizeof(double));
    exchange_from_grid(exchange, &matrix, data, work);
    each_element(&wants, check_element, &buffer);
    free(work);
    free(data);
    exchange_destroy(&exchange);
    memory_free(context, matrix.data);
}

/* The grids that are tried: the squarest one, a row, a column, and one that leaves a rank out. */
enum { GRIDS = 4 };

static struct grid *make_grid(struct mpi_fixture *fixture, struct mesh *mesh, int number)
{
    int rows;
    int columns;
    int ranks = fixture->ranks;
    struct grid *grid;
    grid_shape(number == 3 && ranks > 1 ? ranks - 1 : ranks, &rows, &columns);
    if (number == 1 || number == 2) {
        rows = number == 1 ? 1 : ranks;
        columns = number == 1 ? ranks : 1;
    }
    assert_ok(&fixture->context, grid_create(&fixture->context, mesh, MESH_TEAM, rows, columns, &grid));
    return grid;
}

static void shares_reach_the_grid_and_come_back(void **state)
{
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    static const int64_t blocks[] = {1, 3, 8, 64};
    static const struct shape few[] = {{1, 1, ANY}, {1, 19, ANY}, {17, 1, ANY}, {13, 29, ANY}, {64, 31, ANY}};
    struct mesh *mesh = mpi_mesh(fixture, (struct mesh_config){0, 1, 1, 1, 1});
    int64_t held = fixture->context.memory.bytes_total;
    for (int number = 0; number < GRIDS; number++) {
        struct grid *grid = make_grid(fixture, mesh, number);
        for (size_t s = 0; s < sizeof few / sizeof *few; s++)
            for (int division = 0; division < DIVISIONS; division++)
                for (size_t b = 0; b < sizeof blocks / sizeof *blocks; b++)
                    for (int type = 0; type < 4; type++)
                        check_exchange(fixture, mesh, grid, few[s], (enum division)division, blocks[b],
                                       type & 1 ? DTYPE_F64 : DTYPE_F32, type & 2 ? DTYPE_F64 : DTYPE_F32);
        grid_destroy(&grid);
    }
    assert_int_equal(fixture->context.memory.bytes_total, held);
    mesh_destroy(&mesh);
}

/* -- Factors -- */

/* A matrix on a grid with the exchange that brings it there from rows and back whole to every rank. */
struct spread {
    struct grid_matrix matrix;
    struct exchange *exchange;
    struct matrix_share brings;
    void *share, *work;
};

struct world {
    struct mpi_fixture *fixture;
    struct mesh *mesh;
    struct grid *grid;
    enum dtype dtype;
    int64_t block;
};

static void spread_plan(const struct world *world, struct spread *spread)
{
    struct context *context = &world->fixture->context;
    int ranks = world->fixture->ranks;
    int rank = world->fixture->rank;
    struct grid_matrix *m = &spread->matrix;
    struct matrix_share wants = share_of(WHOLE, m->rows, m->columns, ranks, rank);
    spread->brings = share_of(BY_ROWS, m->rows, m->columns, ranks, rank);
    assert_ok(context,
              exchange_create(context, "a", m, &spread->brings, &wants, ranks, world->dtype, &spread->exchange));
    spread->share = allocate(m->rows * m->columns);
    spread->work = allocate((int64_t)exchange_work(spread->exchange) / 8);
}

static void spread_forget(struct spread *spread)
{
    exchange_destroy(&spread->exchange);
    free(spread->share);
    free(spread->work);
}

/* The same whole matrix from every rank onto the grid. */
static struct grid_matrix to_grid(const struct world *world, const double *whole, int64_t rows, int64_t columns)
{
    struct context *context = &world->fixture->context;
    struct spread spread = {0};
    assert_ok(context, grid_matrix_allocate(context, "a", world->grid, world->dtype, rows, columns, world->block,
                                            &spread.matrix));
    spread_plan(world, &spread);
    struct buffer buffer = {.whole = whole, .columns = columns, .dtype = world->dtype, .data = spread.share};
    each_element(&spread.brings, write_element, &buffer);
    exchange_into_grid(spread.exchange, spread.share, &spread.matrix, spread.work);
    spread_forget(&spread);
    return spread.matrix;
}

/* And back: [rows, columns] on every rank. */
static double *to_whole(const struct world *world, const struct grid_matrix *matrix)
{
    struct spread spread = {.matrix = *matrix};
    double *whole = allocate(matrix->rows * matrix->columns);
    spread_plan(world, &spread);
    exchange_from_grid(spread.exchange, matrix, spread.share, spread.work);
    for (int64_t i = 0; i < matrix->rows * matrix->columns; i++)
        whole[i] = get(spread.share, world->dtype, i);
    spread_forget(&spread);
    return whole;
}

static double tolerance_of(const struct world *world)
{
    return world->dtype == DTYPE_F32 ? 1e-5 : 1e-12;
}

/* The largest difference between A B (or A^T B) [m, n] and expected (NULL: I). */
static double difference(const double *a, bool transposed, const double *b, bool b_transposed, const double *expected,
                         int64_t m, int64_t n, int64_t k)
{
    double most = 0.0;
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double sum = expected ? -expected[i * n + j] : -(double)(i == j);
            for (int64_t l = 0; l < k; l++)
                sum += a[transposed ? l * m + i : i * k + l] * b[b_transposed ? j * k + l : l * n + j];
            most = fmax(most, fabs(sum));
        }
    return most;
}

static void within(const struct world *world, struct shape shape, const char *what, double found, double scale)
{
    if (!(found <= tolerance_of(world) * fmax(1.0, scale)))
        fail_msg("%s of %d x %d (%d) in %s, block %d, on a grid of %d x %d: wrong by %.3g", what, (int)shape.rows,
                 (int)shape.columns, (int)shape.special, world->dtype == DTYPE_F32 ? "fp32" : "fp64", (int)world->block,
                 world->grid->rows, world->grid->columns, found);
}

/* Singular values of LAPACK, largest first, and optionally the polar factor without those at most `cutoff` times the
 * largest. Row-major is the transpose to LAPACK. */
static void lapack_svd(const double *a, int64_t rows, int64_t columns, double *values, double cutoff, double *polar)
{
    int m = (int)columns;
    int n = (int)rows;
    int k = m < n ? m : n;
    int size = 64 * ELEMENTS / 4;
    int info;
    int integers[8 * MOST];
    double *copy = allocate(rows * columns);
    double *left = allocate(columns * k);
    double *right = allocate(k * rows);
    double *work = allocate(size);
    memcpy(copy, a, (size_t)(rows * columns) * sizeof *a);
    dgesdd_("S", &m, &n, copy, &m, values, left, &m, right, &k, work, &size, integers, &info);
    assert_int_equal(info, 0);
    for (int64_t i = 0; polar && i < rows; i++)
        for (int64_t j = 0; j < columns; j++) {
            polar[i * columns + j] = 0.0;
            for (int l = 0; l < k && values[l] > cutoff * values[0]; l++)
                polar[i * columns + j] += left[l * m + j] * right[i * k + l];
        }
    free(work);
    free(right);
    free(left);
    free(copy);
}

static struct factor *run(const struct world *world, enum factor_kind kind, struct grid_matrix *a)
{
    struct context *context = &world->fixture->context;
    struct factor *factor;
    assert_ok(context, factor_create(context, "a", kind, a, &factor));
    factor->cutoff = 1e-6;
    assert_ok(context, factor_run(factor, "a", a));
    return factor;
}

static void check_qr(const struct world *world, struct shape shape, const double *a)
{
    int m = (int)shape.rows;
    int n = (int)shape.columns;
    int64_t k = integer_min(m, n);
    struct grid_matrix matrix = to_grid(world, a, m, n);
    struct factor *factor = run(world, FACTOR_QR, &matrix);
    double *whole = to_whole(world, &matrix);
    double *r = to_whole(world, &factor->right);
    double *q = allocate(m * k);
    for (int64_t i = 0; i < m; i++)
        memcpy(q + i * k, whole + i * n, (size_t)k * sizeof *q);
    within(world, shape, "Q R", difference(q, false, r, false, a, m, n, k), sqrt((double)m));
    within(world, shape, "Q^T Q", difference(q, true, q, false, NULL, k, k, m), 1.0);
    for (int64_t i = 0; i < k; i++)
        for (int64_t j = 0; j < i; j++)
            assert_true(r[i * n + j] == 0.0);
    if (shape.special == ANY) { /* otherwise R is not unique */
        double *columns = allocate(m * n);
        double factors[MOST];
        double work[64 * MOST];
        double most = 0.0;
        int info;
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < n; j++)
                columns[j * m + i] = a[i * n + j];
        dgeqrf_(&m, &n, columns, &m, factors, work, &(int){64 * MOST}, &info);
        for (int64_t i = 0; i < k; i++)
            for (int64_t j = i; j < n; j++)
                most = fmax(most, fabs(fabs(r[i * n + j]) - fabs(columns[j * m + i])));
        within(world, shape, "|R|", most, 100.0 * (m == n)); /* the last of a square one is small */
        free(columns);
    }
    free(q);
    free(r);
    free(whole);
    factor_destroy(&factor);
    memory_free(&world->fixture->context, matrix.data);
}

static void check_svd(const struct world *world, struct shape shape, const double *a)
{
    int64_t m = shape.rows;
    int64_t n = shape.columns;
    int64_t k = integer_min(m, n);
    double values[MOST];
    struct grid_matrix matrix = to_grid(world, a, m, n);
    struct factor *factor = run(world, FACTOR_SVD, &matrix);
    double *u = to_whole(world, &factor->left);
    double *v = to_whole(world, &factor->right);
    double *scaled = allocate(m * k);
    double most = 0.0;
    lapack_svd(a, m, n, values, 0.0, NULL);
    for (int64_t i = 0; i < k; i++)
        most = fmax(most, fabs(values[i] - factor->values[i]));
    within(world, shape, "singular values", most, values[0]);
    for (int64_t i = 0; i < m; i++)
        for (int64_t l = 0; l < k; l++)
            scaled[i * k + l] = u[i * k + l] * factor->values[l];
    within(world, shape, "U S V^T", difference(scaled, false, v, false, a, m, n, k), values[0]);
    within(world, shape, "U^T U", difference(u, true, u, false, NULL, k, k, m), 1.0);
    within(world, shape, "V^T V", difference(v, false, v, true, NULL, k, k, n), 1.0);
    free(scaled);
    free(v);
    free(u);
    factor_destroy(&factor);
    memory_free(&world->fixture->context, matrix.data);
}

static void check_polar(const struct world *world, struct shape shape, const double *a, enum factor_kind kind)
{
    int64_t m = shape.rows;
    int64_t n = shape.columns;
    double values[MOST];
    double *expected = allocate(m * n);
    struct grid_matrix matrix = to_grid(world, a, m, n);
    struct factor *factor = run(world, kind, &matrix);
    double *found = to_whole(world, &matrix);
    double most = 0.0;
    lapack_svd(a, m, n, values, 1e-6, expected);
    for (int64_t i = 0; i < m * n; i++)
        most = fmax(most, fabs(found[i] - expected[i]));
    /* Errors are as large as the smallest singular value makes them. */
    double condition = shape.special == ANY ? values[0] / values[integer_min(m, n) - 1] : 10.0;
    within(world, shape, kind == FACTOR_QDWH ? "QDWH" : "U V^T", most, condition);
    free(found);
    free(expected);
    factor_destroy(&factor);
    memory_free(&world->fixture->context, matrix.data);
}

/* S = A + A^T, or A A^T where A has few ranks. */
static void check_eigen(const struct world *world, struct shape shape, const double *a)
{
    int n = (int)integer_min(shape.rows, shape.columns);
    double *s = allocate((int64_t)n * n);
    double *copy = allocate((int64_t)n * n);
    double *scaled = allocate((int64_t)n * n);
    double values[MOST];
    double work[64 * MOST];
    double most = 0.0;
    double largest = 0.0;
    int info;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++)
            s[i * n + j] = (double)(float)(a[i * shape.columns + j] + a[j * shape.columns + i]);
    struct grid_matrix matrix = to_grid(world, s, n, n);
    struct factor *factor = run(world, FACTOR_EIGEN, &matrix);
    double *v = to_whole(world, &factor->left);
    memcpy(copy, s, (size_t)(n * n) * sizeof *s);
    dsyev_("N", "L", &n, copy, &n, values, work, &(int){64 * MOST}, &info);
    for (int i = 0; i < n; i++) {
        most = fmax(most, fabs(values[i] - factor->values[i]));
        largest = fmax(largest, fabs(values[i]));
    }
    within(world, shape, "eigenvalues", most, largest);
    for (int i = 0; i < n; i++)
        for (int l = 0; l < n; l++)
            scaled[i * n + l] = v[i * n + l] * factor->values[l];
    within(world, shape, "V D V^T", difference(scaled, false, v, true, s, n, n, n), largest);
    within(world, shape, "eigenvectors", difference(v, true, v, false, NULL, n, n, n), 1.0);
    free(v);
    free(scaled);
    free(copy);
    free(s);
    factor_destroy(&factor);
    memory_free(&world->fixture->context, matrix.data);
}

/* The rounds by plain sums, in double precision. */
static void check_newton_schulz(const struct world *world, struct shape shape, const double *a)
{
    int64_t m = shape.rows;
    int64_t n = shape.columns;
    double *x = allocate(m * n);
    double *s = allocate(m * m);
    double *p = allocate(m * m);
    double *y = allocate(m * n);
    double norm = 0.0;
    double most = 0.0;
    for (int64_t i = 0; i < m * n; i++)
        norm += a[i] * a[i];
    for (int64_t i = 0; i < m * n; i++)
        x[i] = a[i] / sqrt(norm);
    for (int round = 0; round < 5; round++) {
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < m; j++) {
                s[i * m + j] = 0.0;
                for (int64_t l = 0; l < n; l++)
                    s[i * m + j] += x[i * n + l] * x[j * n + l];
            }
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < m; j++) {
                p[i * m + j] = 3.4445 * (i == j) - 4.7750 * s[i * m + j];
                for (int64_t l = 0; l < m; l++)
                    p[i * m + j] += 2.0315 * s[i * m + l] * s[l * m + j];
            }
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < n; j++) {
                y[i * n + j] = 0.0;
                for (int64_t l = 0; l < m; l++)
                    y[i * n + j] += p[i * m + l] * x[l * n + j];
            }
        memcpy(x, y, (size_t)(m * n) * sizeof *x);
    }
    struct grid_matrix matrix = to_grid(world, a, m, n);
    struct factor *factor = run(world, FACTOR_NEWTON_SCHULZ, &matrix);
    double *found = to_whole(world, &matrix);
    for (int64_t i = 0; i < m * n; i++)
        most = fmax(most, fabs(found[i] - x[i]));
    within(world, shape, "Newton-Schulz", most, 10.0);
    free(found);
    free(y);
    free(p);
    free(s);
    free(x);
    factor_destroy(&factor);
    memory_free(&world->fixture->context, matrix.data);
}

static void check_shape(const struct world *world, struct shape shape)
{
    double a[ELEMENTS];
    fill(shape, a);
    check_qr(world, shape, a);
    check_svd(world, shape, a);
    check_eigen(world, shape, a);
    check_polar(world, shape, a, FACTOR_POLAR);
    if (shape.special != DEFICIENT)
        check_polar(world, shape, a, FACTOR_QDWH);
    check_newton_schulz(world, shape, a);
}

static void factors_are_those_of_one_rank(void **state)
{
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    struct world world = {.fixture = fixture, .mesh = mpi_mesh(fixture, (struct mesh_config){0, 1, 1, 1, 1})};
    static const int64_t blocks[] = {8, 5, 1, 16};
    /* First the one that leaves a rank out, which then must be able to join the others. */
    for (int turn = 0; turn < GRIDS; turn++) {
        int number = (turn + GRIDS - 1) % GRIDS;
        world.grid = make_grid(fixture, world.mesh, number);
        for (int s = 0; s < SHAPES; s++) {
            /* Many ranks take long. */
            if ((number > 0 && s % 3 != number - 1) || (fixture->ranks > 4 && s % 4 != number))
                continue;
            world.dtype = (s + number) % 2 ? DTYPE_F32 : DTYPE_F64;
            world.block = s % 5 == 4 ? grid_block(world.grid, shapes[s].rows, shapes[s].columns) : blocks[s % 4];
            check_shape(&world, shapes[s]);
            if (number == 0) {
                world.dtype = world.dtype == DTYPE_F32 ? DTYPE_F64 : DTYPE_F32;
                check_shape(&world, shapes[s]);
            }
        }
        grid_destroy(&world.grid);
    }
    mesh_destroy(&world.mesh);
}

/* Some ranks have nothing of the vectors that others rotate. */
static void fewer_values_than_ranks(void **state)
{
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    struct world world = {.fixture = fixture, .mesh = mpi_mesh(fixture, (struct mesh_config){0, 1, 1, 1, 1})};
    static const struct shape few[] = {{2, 2, ANY}, {3, 2, ANY}, {2, 9, ANY}, {1, 3, ANY}};
    for (int number = 0; number < GRIDS; number++)
        for (int s = 0; s < 4; s++) {
            world.grid = make_grid(fixture, world.mesh, number);
            world.block = s % 2 ? 1 : 8;
            world.dtype = s < 2 ? DTYPE_F64 : DTYPE_F32;
            check_shape(&world, few[s]);
            grid_destroy(&world.grid);
        }
    mesh_destroy(&world.mesh);
}

static void nothing_and_zeros_stay(void **state)
{
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    struct context *context = &fixture->context;
    struct world world = {.fixture = fixture, .mesh = mpi_mesh(fixture, (struct mesh_config){0, 1, 1, 1, 1})};
    double zeros[35] = {0};
    world.dtype = DTYPE_F64;
    world.block = 4;
    world.grid = make_grid(fixture, world.mesh, 0);
    for (int kind = FACTOR_POLAR; kind <= FACTOR_NEWTON_SCHULZ; kind++) {
        struct grid_matrix a = to_grid(&world, zeros, 5, 7);
        struct factor *factor = run(&world, (enum factor_kind)kind, &a);
        double *found = to_whole(&world, &a);
        for (int i = 0; i < 35; i++)
            assert_true(found[i] == 0.0);
        free(found);
        factor_destroy(&factor);
        memory_free(context, a.data);
    }
    for (int kind = FACTOR_QR; kind <= FACTOR_NEWTON_SCHULZ; kind++) {
        struct grid_matrix a = to_grid(&world, zeros, 0, kind == FACTOR_EIGEN ? 0 : 7);
        struct factor *factor = run(&world, (enum factor_kind)kind, &a);
        factor_destroy(&factor);
        memory_free(context, a.data);
    }
    grid_destroy(&world.grid);
    mesh_destroy(&world.mesh);
}

/* -- Teams and axes -- */

/* The two halves of the ranks, each with a grid of its own, factor other matrices at the same time. */
static void teams_do_not_meet(void **state)
{
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    struct context *context = &fixture->context;
    struct mpi_fixture half = {0};
    struct world world = {.fixture = &half, .dtype = DTYPE_F64, .block = 4};
    int color = fixture->rank % 2;
    context_create(&half.context);
    half.context.quiet = true;
    assert_ok(context, team_create(context, fixture->team, color, &half.team));
    half.rank = team_rank(half.team);
    half.ranks = team_size(half.team);
    world.mesh = mpi_mesh(&half, (struct mesh_config){0, 1, 1, 1, 1});
    for (int i = 0; i < 3 + 2 * color; i++) {
        world.grid = make_grid(&half, world.mesh, i % 3);
        check_shape(&world, shapes[5 + 3 * color]);
        grid_destroy(&world.grid);
    }
    mesh_destroy(&world.mesh);
    team_destroy(&half.team);
}

static void grids_come_and_go(void **state)
{
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    struct mesh *mesh = mpi_mesh(fixture, (struct mesh_config){0, 1, 1, 1, 1});
    int64_t held = fixture->context.memory.bytes_total;
    for (int i = 0; i < 100; i++) {
        struct grid *grid = make_grid(fixture, mesh, i % GRIDS);
        grid_destroy(&grid);
    }
    assert_int_equal(fixture->context.memory.bytes_total, held);
    mesh_destroy(&mesh);
}

void pb_topget_(const int *context, const char *operation, const char *scope, char *topology);

/* Ranks that took part in a call must not wait for one that did not in another way than it waits for them. */
static void nothing_is_kept_from_call_to_call(void **state)
{
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    static const char *const operations[] = {"Broadcast", "Combine"};
    static const char *const scopes[] = {"Rowwise", "Columnwise", "All"};
    struct world world = {.fixture = fixture,
                          .mesh = mpi_mesh(fixture, (struct mesh_config){0, 1, 1, 1, 1}),
                          .dtype = DTYPE_F64,
                          .block = 8};
    double a[24 * 24];
    random_matrix(a, 24 * 24, "a");
    world.grid = make_grid(fixture, world.mesh, 3);
    for (int kind = FACTOR_QR; kind <= FACTOR_NEWTON_SCHULZ; kind++) {
        struct grid_matrix x = to_grid(&world, a, 24, 24);
        struct factor *factor = run(&world, (enum factor_kind)kind, &x);
        for (int i = 0; i < 6 && world.grid->blacs >= 0; i++) {
            char topology = 0;
            pb_topget_(&world.grid->blacs, operations[i / 3], scopes[i % 3], &topology);
            assert_int_equal(topology, ' ');
        }
        factor_destroy(&factor);
        memory_free(&fixture->context, x.data);
    }
    grid_destroy(&world.grid);
    mesh_destroy(&world.mesh);
}

/* -- What cannot be -- */

static void shapes_of_grids_are_square(void **state)
{
    static const int expected[][3] = {{1, 1, 1}, {2, 1, 2},  {3, 1, 3},  {4, 2, 2},  {5, 2, 2},  {6, 2, 3},
                                      {7, 2, 3}, {12, 3, 4}, {13, 3, 4}, {16, 4, 4}, {17, 4, 4}, {128, 8, 16}};
    (void)state;
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        int rows;
        int columns;
        grid_shape(expected[i][0], &rows, &columns);
        assert_int_equal(rows, expected[i][1]);
        assert_int_equal(columns, expected[i][2]);
    }
}

static void what_cannot_be_is_said(void **state)
{
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    struct context *context = &fixture->context;
    struct mesh *mesh = mpi_mesh(fixture, (struct mesh_config){0, 1, 1, 1, 1});
    struct grid *grid;
    struct grid_matrix a;
    struct factor *factor;
    struct exchange *exchange;
    char text[128];
    snprintf(text, sizeof text, "a grid of %d x 2 ranks does not fit the %d of the team axis", fixture->ranks,
             fixture->ranks);
    assert_fails(context, grid_create(context, mesh, MESH_TEAM, fixture->ranks, 2, &grid), STATUS_USAGE, text);
    grid_destroy(&grid);
    assert_fails(context, grid_create(context, mesh, MESH_TEAM, 0, 1, &grid), STATUS_USAGE, "a grid of 0 x 1 ranks");
    grid = make_grid(fixture, mesh, 0);
    assert_fails(context, grid_matrix_describe(context, "w", grid, DTYPE_F64, 200000, 200000, 64, &a), STATUS_USAGE,
                 "w: a matrix of 200000 x 200000 is too large for ScaLAPACK's 32-bit integers on a grid of");
    assert_fails(context, grid_matrix_describe(context, "w", grid, DTYPE_F64, INT64_C(1) << 31, 1, 64, &a),
                 STATUS_USAGE, "w: a matrix of 2147483648 x 1 is too large");
    if (fixture->ranks == 1) { /* it fits as a matrix, but not as the work of its factors */
        assert_ok(context, grid_matrix_describe(context, "w", grid, DTYPE_F64, 40000, 40000, 64, &a));
        assert_fails(context, factor_create(context, "w", FACTOR_SVD, &a, &factor), STATUS_USAGE,
                     "w: factors of a matrix of 40000 x 40000 on a grid of 1 x 1 ranks take more work");
        factor_destroy(&factor);
    }
    assert_ok(context, grid_matrix_allocate(context, "w", grid, DTYPE_F64, 9, 6, 4, &a));
    assert_fails(context, factor_create(context, "w", FACTOR_EIGEN, &a, &factor), STATUS_USAGE,
                 "w: a matrix of 9 x 6 is not symmetric");
    for (int kind = FACTOR_QR; kind <= FACTOR_NEWTON_SCHULZ; kind++) {
        if (kind == FACTOR_EIGEN)
            continue;
        assert_ok(context, factor_create(context, "w", (enum factor_kind)kind, &a, &factor));
        /* On one rank of them; the others have to know. */
        if (fixture->rank == 0)
            ((double *)a.data)[0] = NAN;
        assert_fails(context, factor_run(factor, "model.w", &a), STATUS_NUMERIC,
                     "model.w: the matrix has elements that are not finite");
        factor_destroy(&factor);
    }
    /* Everybody brings everything, or nobody anything. */
    struct matrix_share all = share_of(WHOLE, 9, 6, fixture->ranks, fixture->rank);
    struct matrix_share none = {0};
    assert_fails(context, exchange_create(context, "w", &a, &none, &all, 1, DTYPE_F64, &exchange), STATUS_USAGE,
                 "w: the ranks of the team axis bring 0 elements of a matrix of 9 x 6");
    exchange_destroy(&exchange);
    if (fixture->ranks > 1) {
        assert_fails(context, exchange_create(context, "w", &a, &all, &all, 1, DTYPE_F64, &exchange), STATUS_USAGE,
                     "elements, some of them twice, of a matrix of 9 x 6");
        exchange_destroy(&exchange);
    }
    memory_free(context, a.data);
    grid_destroy(&grid);
    mesh_destroy(&mesh);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(shapes_of_grids_are_square),
    cmocka_unit_test(shares_reach_the_grid_and_come_back),
    cmocka_unit_test(factors_are_those_of_one_rank),
    cmocka_unit_test(fewer_values_than_ranks),
    cmocka_unit_test(nothing_and_zeros_stay),
    cmocka_unit_test(teams_do_not_meet),
    cmocka_unit_test(grids_come_and_go),
    cmocka_unit_test(nothing_is_kept_from_call_to_call),
    cmocka_unit_test(what_cannot_be_is_said),
};

MPI_MAIN(tests)
