#include "dist/matrix/svd.h"

#include <limits.h>
#include <math.h>

#include "dist/matrix/lapack.h"
#include "dist/matrix/matrix.h"
#include "src/core/integer.h"

/* LAPACK takes a row-major matrix for its transpose, whose left factor is V and whose right one is U^T. */

/* What dgesdd asks for, as a double, in which a 32-bit count is exact; and never less than its documentation says. */
static int64_t floats_wanted(int64_t rows, int64_t columns, bool vectors)
{
    int m = (int)columns;
    int n = (int)rows;
    int small = m < n ? m : n;
    int large = m < n ? n : m;
    int query = -1;
    int info = 0;
    int integers = 0;
    double none = 0.0;
    double wanted = 0.0;
    dgesdd_(vectors ? "S" : "N", &m, &n, &none, &m, &none, &none, &m, &none, &small, &wanted, &query, &integers, &info);
    int64_t least = vectors ? 4 * (int64_t)small * small + 7 * (int64_t)small + large
                            : 3 * (int64_t)small + integer_max(large, 7 * (int64_t)small);
    return info == 0 ? integer_max((int64_t)wanted, least) : least;
}

/* The integers that dgesdd works in, counted in doubles. */
static int64_t integers_wanted(int64_t small)
{
    return integer_divide_up(8 * small * (int64_t)sizeof(int), (int64_t)sizeof(double));
}

size_t matrix_svd_work(int64_t rows, int64_t columns, bool vectors)
{
    int64_t small = integer_min(rows, columns);
    if (small == 0)
        return 1;
    return (size_t)(integers_wanted(small) + floats_wanted(rows, columns, vectors));
}

enum status matrix_svd(struct context *context, const char *what, int64_t rows, int64_t columns, double *a,
                       double *values, double *left, double *right, double *work)
{
    int64_t small = integer_min(rows, columns);
    CHECK(matrix_check(context, what, rows, columns));
    for (int64_t i = 0; i < rows * columns; i++)
        if (!isfinite(a[i]))
            return context_fail(context, STATUS_NUMERIC, "%s: element [%lld, %lld] is %s", what,
                                (long long)(i / columns), (long long)(i % columns),
                                isnan(a[i]) ? "not a number" : "infinite");
    if (small == 0)
        return STATUS_OK;
    int m = (int)columns;
    int n = (int)rows;
    int side = (int)small;
    int size = (int)integer_min(floats_wanted(rows, columns, left != NULL), INT_MAX);
    int info = 0;
    double none = 0.0;
    int *integers = (int *)(void *)work;
    dgesdd_(left ? "S" : "N", &m, &n, a, &m, values, left ? right : &none, &m, left ? left : &none, &side,
            work + integers_wanted(small), &size, integers, &info);
    if (info < 0)
        return context_fail(context, STATUS_INTERNAL, "%s: dgesdd does not take its argument %d", what, -info);
    if (info > 0)
        return context_fail(context, STATUS_NUMERIC, "%s: its singular values do not converge (dgesdd, info %d)", what,
                            info);
    return STATUS_OK;
}
