#include "dist/matrix/factor.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "dist/matrix/grid_private.h"

static int64_t short_side(const struct grid_matrix *matrix)
{
    return integer_min(matrix->rows, matrix->columns);
}

/* -- Work -- */

/* Sizes of work that the library's documentation gives, from above: in elements of the matrix's type. */
static int64_t qr_work(const struct grid_matrix *m)
{
    return m->block * (m->local_rows + m->local_columns + 2 * m->block);
}

static int64_t eigen_work(const struct grid_matrix *m)
{
    int64_t n = m->rows;
    int64_t rows = m->local_rows + m->block;
    return integer_max(1 + 6 * n + 2 * rows * (m->local_columns + m->block), 3 * n + m->block * (rows + 3)) + 2 * n;
}

static int64_t eigen_integers(const struct grid_matrix *m)
{
    return 7 * m->rows + 8 * m->grid->columns + 2;
}

static int64_t svd_work(const struct grid_matrix *m)
{
    int64_t large = integer_max(m->rows, m->columns);
    int64_t small = short_side(m);
    int64_t block = m->block;
    /* The bidiagonal's vectors lie on the ranks one behind the other. */
    int64_t each = integer_divide_up(small, m->grid->rows * m->grid->columns) + block;
    int64_t local = m->local_rows + m->local_columns + 2 * block;
    int64_t reduce = block * (local + 1) + local;
    int64_t apply = integer_max(4 * small, block * (2 * local + block));
    return 1 + 6 * large + integer_max(reduce, 2 * small * each + apply);
}

/* What the library asks for, where it can be asked: work that is given back as a number of the matrix's type, which in
 * single precision may have been rounded down. */
static int64_t query(const struct factor *factor)
{
    const struct grid_matrix *m = &factor->shape;
    const struct scalapack *call = scalapack_of(m->dtype);
    const int one = 1;
    const int less = -1;
    int rows = (int)m->rows;
    int columns = (int)m->columns;
    int info = 0;
    int integer = 0;
    union number none = {.full = 0.0};
    union number wanted = {.full = 0.0};
    if (factor->kind == FACTOR_EIGEN)
        call->syevd("V", "L", &rows, &none, &one, &one, m->descriptor, &none, &none, &one, &one,
                    factor->left.descriptor, &wanted, &less, &integer, &less, &info);
    else
        call->gesvd("V", "V", &rows, &columns, &none, &one, &one, m->descriptor, &none, &none, &one, &one,
                    factor->left.descriptor, &none, &one, &one, factor->right.descriptor, &wanted, &less, &info);
    double size = info == 0 ? number_value(m->dtype, &wanted) : 0.0;
    return size < 0.0 ? INT64_MAX : (int64_t)ceil(size * (1.0 + 1.0 / (1 << 20))) + 1;
}

static enum status size_work(struct factor *factor, const char *what)
{
    const struct grid_matrix *m = &factor->shape;
    const struct grid *grid = m->grid;
    bool queried = factor->kind == FACTOR_EIGEN || factor->kind == FACTOR_SVD || factor->kind == FACTOR_POLAR;
    int64_t count = factor->kind == FACTOR_NEWTON_SCHULZ ? 0
                    : factor->kind == FACTOR_EIGEN       ? eigen_work(m)
                    : queried                            ? svd_work(m)
                    : factor->kind == FACTOR_QDWH        ? qr_work(&factor->spare[0])
                                                         : qr_work(m);
    /* Whether a query is safe is known beforehand, and to all: the first rank has the most. */
    int64_t most = count;
    mesh_all_reduce(grid->mesh, grid->axis, &most, 1, DTYPE_I64, MESH_MAX);
    if (queried && most <= INT_MAX) {
        uint64_t event = grid_enter(grid);
        if (grid_calls(grid))
            count = integer_max(count, query(factor));
        grid_leave(grid, event);
        most = count;
        mesh_all_reduce(grid->mesh, grid->axis, &most, 1, DTYPE_I64, MESH_MAX);
    }
    if (most > INT_MAX)
        return context_fail(factor->context, STATUS_USAGE,
                            "%s: factors of a matrix of %lld x %lld on a grid of %d x %d ranks take more work than "
                            "ScaLAPACK's 32-bit integers count; take more ranks",
                            what, (long long)m->rows, (long long)m->columns, grid->rows, grid->columns);
    factor->work_count = grid_has_rank(grid) ? count : 0;
    factor->integer_count = factor->kind == FACTOR_EIGEN && grid_has_rank(grid) ? eigen_integers(m) : 0;
    return STATUS_OK;
}

/* -- Plans -- */

/* The matrices beside the one that is factored, without data. */
static enum status describe_matrices(struct factor *factor, const char *what)
{
    const struct grid_matrix *m = &factor->shape;
    int64_t small = short_side(m);
    int64_t large = integer_max(m->rows, m->columns);
    enum factor_kind kind = factor->kind;
    const struct {
        struct grid_matrix *matrix;
        bool wanted;
        int64_t rows, columns;
    } list[] = {
        {&factor->left, kind == FACTOR_EIGEN || kind == FACTOR_SVD || kind == FACTOR_POLAR, m->rows, small},
        {&factor->right, kind == FACTOR_QR || kind == FACTOR_SVD || kind == FACTOR_POLAR, small, m->columns},
        {&factor->left, kind == FACTOR_QDWH && m->rows < m->columns, large, small},
        {&factor->left, kind == FACTOR_NEWTON_SCHULZ, m->rows, m->columns},
        {&factor->spare[0], kind == FACTOR_QDWH, large + small, small},
        {&factor->spare[0], kind == FACTOR_NEWTON_SCHULZ, small, small},
        {&factor->spare[1], kind == FACTOR_QDWH || kind == FACTOR_NEWTON_SCHULZ, small, small},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (list[i].wanted)
            CHECK(grid_matrix_describe(factor->context, what, m->grid, m->dtype, list[i].rows, list[i].columns,
                                       m->block, list[i].matrix));
    return STATUS_OK;
}

static enum status allocate_all(struct factor *factor)
{
    struct context *context = factor->context;
    const struct grid_matrix *m = &factor->shape;
    size_t size = dtype_size(m->dtype);
    size_t numbers = (size_t)(integer_max(m->rows, m->columns) + factor->spare[0].local_columns);
    factor->values = memory_allocate(context, (size_t)short_side(m) * sizeof *factor->values, MEMORY_BUFFERS);
    factor->numbers = memory_allocate(context, numbers * size, MEMORY_BUFFERS);
    factor->work = memory_allocate(context, (size_t)factor->work_count * size, MEMORY_BUFFERS);
    struct grid_matrix *matrices[] = {&factor->left, &factor->right, &factor->spare[0], &factor->spare[1]};
    for (size_t i = 0; i < sizeof matrices / sizeof *matrices; i++)
        if (matrices[i]->grid)
            matrices[i]->data = memory_allocate(context, grid_matrix_bytes(matrices[i]), MEMORY_BUFFERS);
    factor->integers =
        memory_allocate(context, (size_t)factor->integer_count * sizeof *factor->integers, MEMORY_BUFFERS);
    return context->status;
}

enum status factor_create(struct context *context, const char *what, enum factor_kind kind,
                          const struct grid_matrix *shape, struct factor **factor)
{
    const struct grid *grid = shape->grid;
    *factor = NULL;
    if (kind == FACTOR_EIGEN && shape->rows != shape->columns)
        return context_fail(context, STATUS_USAGE, "%s: a matrix of %lld x %lld is not symmetric", what,
                            (long long)shape->rows, (long long)shape->columns);
    struct factor *f = memory_allocate(context, sizeof *f, MEMORY_OTHER);
    CHECK(grid_agree(grid, f ? STATUS_OK : STATUS_MEMORY));
    *f = (struct factor){.context = context, .kind = kind, .shape = *shape};
    f->shape.data = NULL;
    *factor = f;
    CHECK(describe_matrices(f, what));
    CHECK(size_work(f, what));
    return grid_agree(grid, allocate_all(f));
}

void factor_destroy(struct factor **factor)
{
    struct factor *f = *factor;
    if (!f)
        return;
    void *owned[] = {f->left.data, f->right.data, f->spare[0].data, f->spare[1].data,
                     f->values,    f->numbers,    f->work,          f->integers};
    struct context *context = f->context;
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        memory_free(context, owned[i]);
    memory_free(context, f);
    *factor = NULL;
}

/* -- Info -- */

enum status factor_settle(const struct factor *factor, const char *what, const char *routine, int info)
{
    const struct grid_matrix *m = &factor->shape;
    const struct grid *grid = m->grid;
    struct context *context = factor->context;
    int32_t worst[2] = {info > 0 ? info : 0, info < 0 ? -info : 0};
    const char *letter = scalapack_of(m->dtype)->letter;
    mesh_all_reduce(grid->mesh, grid->axis, worst, 2, DTYPE_I32, MESH_MAX);
    if (worst[1] > 0)
        return context_fail(context, STATUS_INTERNAL, "%s: %s%s does not take its argument %d", what, letter, routine,
                            worst[1] >= 100 ? worst[1] / 100 : worst[1]);
    if (worst[0] == 0)
        return STATUS_OK;
    if (strcmp(routine, "gesvd") == 0 && worst[0] == short_side(m) + 1)
        return context_fail(context, STATUS_NUMERIC,
                            "%s: %sgesvd: the ranks of the grid came to different singular values; they need "
                            "processors of one kind",
                            what, letter);
    if (strcmp(routine, "potrf") == 0)
        return context_fail(context, STATUS_NUMERIC, "%s: %spotrf: the leading %d rows are not positive definite", what,
                            letter, worst[0]);
    return context_fail(context, STATUS_NUMERIC, "%s: %s%s did not converge (info %d)", what, letter, routine,
                        worst[0]);
}

/* -- QR -- */

/* The upper triangle of A; rows and columns lie on the same ranks. */
static void copy_triangle(const struct grid_matrix *a, const struct grid_matrix *triangle)
{
    const struct grid *grid = a->grid;
    size_t size = dtype_size(a->dtype);
    if (grid->context->dry)
        return;
    for (int64_t j = 0; j < triangle->local_columns; j++) {
        int64_t column = cyclic_global(j, a->block, grid->column, grid->columns);
        for (int64_t i = 0; i < triangle->local_rows; i++) {
            char *to = (char *)triangle->data + (size_t)(j * triangle->local_rows + i) * size;
            if (cyclic_global(i, a->block, grid->row, grid->rows) <= column)
                memcpy(to, (const char *)a->data + (size_t)(j * a->local_rows + i) * size, size);
            else
                memset(to, 0, size);
        }
    }
}

enum status factor_orthogonalize(struct factor *factor, const char *what, const struct grid_matrix *a,
                                 const struct grid_matrix *triangle)
{
    const struct grid *grid = a->grid;
    const struct scalapack *call = scalapack_of(a->dtype);
    const int one = 1;
    int rows = (int)a->rows;
    int columns = (int)a->columns;
    int small = (int)short_side(a);
    int size = (int)factor->work_count;
    int info = 0;
    double s = (double)small;
    grid_count_flops(grid, 2.0 * s * s * (2.0 * (double)integer_max(rows, columns) + (double)rows - s));
    uint64_t event = grid_enter(grid);
    if (grid_calls(grid))
        call->geqrf(&rows, &columns, a->data, &one, &one, a->descriptor, factor->numbers, factor->work, &size, &info);
    grid_leave(grid, event);
    CHECK(factor_settle(factor, what, "geqrf", info));
    if (triangle)
        copy_triangle(a, triangle);
    event = grid_enter(grid);
    if (grid_calls(grid))
        call->orgqr(&rows, &small, &small, a->data, &one, &one, a->descriptor, factor->numbers, factor->work, &size,
                    &info);
    grid_leave(grid, event);
    return factor_settle(factor, what, "orgqr", info);
}

/* -- Values -- */

/* From the library's numbers to all ranks of the axis, to the bit the same. */
static void share_values(struct factor *factor)
{
    const struct grid_matrix *m = &factor->shape;
    const struct grid *grid = m->grid;
    int64_t count = short_side(m);
    const float *single = factor->numbers;
    const double *full = factor->numbers;
    for (int64_t i = 0; i < count && grid_calls(grid); i++)
        factor->values[i] = m->dtype == DTYPE_F32 ? (double)single[i] : full[i];
    mesh_broadcast(grid->mesh, grid->axis, 0, factor->values, count, DTYPE_F64);
}

static enum status run_eigen(struct factor *factor, const char *what, const struct grid_matrix *a)
{
    const struct grid *grid = a->grid;
    const int one = 1;
    int n = (int)a->rows;
    int size = (int)factor->work_count;
    int integers = (int)factor->integer_count;
    int info = 0;
    grid_count_flops(grid, 9.0 * (double)n * (double)n * (double)n);
    uint64_t event = grid_enter(grid);
    if (grid_calls(grid))
        scalapack_of(a->dtype)->syevd("V", "L", &n, a->data, &one, &one, a->descriptor, factor->numbers,
                                      factor->left.data, &one, &one, factor->left.descriptor, factor->work, &size,
                                      factor->integers, &integers, &info);
    grid_leave(grid, event);
    CHECK(factor_settle(factor, what, "syevd", info));
    share_values(factor);
    return STATUS_OK;
}

static enum status run_svd(struct factor *factor, const char *what, const struct grid_matrix *a)
{
    const struct grid *grid = a->grid;
    const int one = 1;
    int rows = (int)a->rows;
    int columns = (int)a->columns;
    int size = (int)factor->work_count;
    int info = 0;
    double small = (double)short_side(a);
    double large = (double)integer_max(rows, columns);
    grid_count_flops(grid, 6.0 * large * small * small + 16.0 * small * small * small);
    uint64_t event = grid_enter(grid);
    if (grid_calls(grid))
        scalapack_of(a->dtype)->gesvd("V", "V", &rows, &columns, a->data, &one, &one, a->descriptor, factor->numbers,
                                      factor->left.data, &one, &one, factor->left.descriptor, factor->right.data, &one,
                                      &one, factor->right.descriptor, factor->work, &size, &info);
    grid_leave(grid, event);
    /* Ranks that get no rows of the bidiagonal's vectors find the values by another algorithm; those of the first
     * count. */
    if (info == (int)small + 1 && (int)small < grid->rows * grid->columns)
        info = 0;
    CHECK(factor_settle(factor, what, "gesvd", info));
    share_values(factor);
    return STATUS_OK;
}

static enum status run_polar(struct factor *factor, const char *what, const struct grid_matrix *a)
{
    int64_t small = short_side(a);
    int64_t rank = 0;
    CHECK(run_svd(factor, what, a));
    while (rank < small && (factor->context->dry || factor->values[rank] > factor->cutoff * factor->values[0]))
        rank++;
    grid_multiply(1.0, (struct grid_part){&factor->left, 0}, false, (struct grid_part){&factor->right, 0}, false, 0.0,
                  (struct grid_part){a, 0}, a->rows, a->columns, rank);
    return STATUS_OK;
}

enum status factor_run(struct factor *factor, const char *what, struct grid_matrix *a)
{
    if (short_side(a) == 0)
        return STATUS_OK;
    double squares = grid_sum_of_squares(a);
    if (!isfinite(squares))
        return context_fail(factor->context, STATUS_NUMERIC,
                            "%s: the matrix has elements that are not finite, or too large to square", what);
    bool polar = factor->kind == FACTOR_POLAR || factor->kind == FACTOR_QDWH || factor->kind == FACTOR_NEWTON_SCHULZ;
    if (polar && squares == 0.0 && !factor->context->dry)
        return STATUS_OK;
    switch (factor->kind) {
    case FACTOR_QR:
        return factor_orthogonalize(factor, what, a, &factor->right);
    case FACTOR_ORTHOGONAL:
        return factor_orthogonalize(factor, what, a, NULL);
    case FACTOR_EIGEN:
        return run_eigen(factor, what, a);
    case FACTOR_SVD:
        return run_svd(factor, what, a);
    case FACTOR_POLAR:
        return run_polar(factor, what, a);
    case FACTOR_QDWH:
        return polar_qdwh(factor, what, a, sqrt(squares));
    case FACTOR_NEWTON_SCHULZ:
        polar_newton_schulz(factor, a, sqrt(squares));
    }
    return STATUS_OK;
}
