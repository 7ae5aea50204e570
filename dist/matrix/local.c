#include <limits.h>

#include "dist/matrix/lapack.h"
#include "dist/matrix/matrix.h"
#include "src/core/integer.h"

/* LAPACK takes a row-major matrix for its transpose, so an orthogonal factor of columns is one of rows to it. */

enum status matrix_check(struct context *context, const char *what, int64_t rows, int64_t columns)
{
    int64_t small = integer_min(rows, columns);
    int64_t large = integer_max(rows, columns);
    /* The largest work that is asked for below is 4 small^2 + large + some blocks. */
    if (large <= INT_MAX / 128 && 5 * small * small <= INT_MAX - 256 * large)
        return STATUS_OK;
    return context_fail(context, STATUS_USAGE, "%s: a matrix of %lld x %lld is too large for LAPACK's 32-bit integers",
                        what, (long long)rows, (long long)columns);
}

static enum status lapack_fail(struct context *context, const char *what, const char *routine, int info)
{
    if (info < 0)
        return context_fail(context, STATUS_INTERNAL, "%s: %s does not take its argument %d (is the matrix finite?)",
                            what, routine, -info);
    return context_fail(context, STATUS_INTERNAL, "%s: %s did not converge (info %d)", what, routine, info);
}

void matrix_multiply(const struct matrix_product *p)
{
    int m = (int)p->m;
    int n = (int)p->n;
    int k = (int)p->k;
    int lda = p->a_transposed ? m : k;
    int ldb = p->b_transposed ? k : n;
    if (m == 0 || n == 0)
        return;
    /* C^T = B^T A^T. */
    dgemm_(p->b_transposed ? "T" : "N", p->a_transposed ? "T" : "N", &n, &m, &k, &p->alpha, p->b,
           &(int){ldb > 0 ? ldb : 1}, p->a, &(int){lda > 0 ? lda : 1}, &p->beta, p->c, &n);
}

/* -- Orthogonal factor -- */

/* Room for what dgelqf and dorglq ask: their blocks of rows. */
enum { BLOCK = 64 };

size_t matrix_orthogonalize_work(int64_t n)
{
    return (size_t)(n + BLOCK * integer_max(n, 1));
}

enum status matrix_orthogonalize(struct context *context, const char *what, int64_t n, double *a, double *work)
{
    int side = (int)n;
    int size = BLOCK * side;
    int info = 0;
    if (n == 0)
        return STATUS_OK;
    dgelqf_(&side, &side, a, &side, work, work + n, &size, &info);
    if (info != 0)
        return lapack_fail(context, what, "dgelqf", info);
    dorglq_(&side, &side, &side, a, &side, work, work + n, &size, &info);
    return info == 0 ? STATUS_OK : lapack_fail(context, what, "dorglq", info);
}

/* -- Polar factor -- */

/* What dgesdd asks for; in double precision the answer is exact. */
static int64_t svd_work(int64_t rows, int64_t columns)
{
    int m = (int)columns;
    int n = (int)rows;
    int small = m < n ? m : n;
    int query = -1;
    int info = 0;
    double wanted = 0.0;
    double none = 0.0;
    int count = 0;
    dgesdd_("S", &m, &n, &none, &m, &none, &none, &m, &none, &small, &wanted, &query, &count, &info);
    int64_t least = 4 * (int64_t)small * small + 7 * (int64_t)small + (m > n ? m : n);
    return info == 0 ? integer_max((int64_t)wanted, least) : least;
}

/* The integers that dgesdd works in, counted in doubles. */
static int64_t svd_integers(int64_t small)
{
    return integer_divide_up(8 * small * (int64_t)sizeof(int), (int64_t)sizeof(double));
}

size_t matrix_polar_work(int64_t rows, int64_t columns)
{
    int64_t small = integer_min(rows, columns);
    return (size_t)(small + rows * small + small * columns + svd_integers(small) + svd_work(rows, columns));
}

enum status matrix_polar(struct context *context, const char *what, int64_t rows, int64_t columns, double cutoff,
                         double *a, double *work)
{
    int m = (int)columns;
    int n = (int)rows;
    int small = m < n ? m : n;
    double *values = work;
    double *left = values + small; /* of the transpose: [small, columns] */
    double *right = left + (int64_t)small * columns;
    int *integers = (int *)(void *)(right + (int64_t)small * rows);
    double *rest = right + (int64_t)small * rows + svd_integers(small);
    int64_t wanted = svd_work(rows, columns);
    int size = (int)integer_min(wanted, INT_MAX);
    int info = 0;
    int rank = 0;
    if (small == 0)
        return STATUS_OK;
    dgesdd_("S", &m, &n, a, &m, values, left, &m, right, &small, rest, &size, integers, &info);
    if (info != 0)
        return lapack_fail(context, what, "dgesdd", info);
    while (rank < small && values[rank] > cutoff * values[0])
        rank++;
    dgemm_("N", "N", &m, &n, &rank, &(double){1.0}, left, &m, right, &small, &(double){0.0}, a, &m);
    return STATUS_OK;
}
