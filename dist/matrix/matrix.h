/* Products and factors of whole matrices in double precision, on this rank alone: what optimisers need of LAPACK. The
 * only place that knows it. Matrices are row-major and dense. Nothing here is collective, nothing allocates: callers
 * bring the work, of as many doubles as the function beside says. Threads are those that OpenMP gives.
 *
 * Errors: USAGE for sides that LAPACK's 32-bit integers cannot count, INTERNAL with the routine's name and what it says
 * where a factorization fails; `what` names the matrix. */
#ifndef CAIRN_DIST_MATRIX_H
#define CAIRN_DIST_MATRIX_H

#include "src/core/context.h"

/* C = A B + beta C: C [m, n], A [m, k], B [k, n]; a transposed operand is stored as its transpose. */
struct matrix_product {
    int64_t m, n, k;
    const double *a, *b;
    double *c;
    bool a_transposed, b_transposed;
    double alpha, beta;
};

/* Whether the sides can be counted. */
enum status matrix_check(struct context *context, const char *what, int64_t rows, int64_t columns) MUST_USE;

void matrix_multiply(const struct matrix_product *product);

/* a [n, n] becomes Q of its QR decomposition. */
enum status matrix_orthogonalize(struct context *context, const char *what, int64_t n, double *a,
                                 double *work) MUST_USE;
size_t matrix_orthogonalize_work(int64_t n);

/* a [rows, columns] becomes its orthogonal polar factor, U V^T of its singular value decomposition, without the
 * singular values that are at most `cutoff` times the largest; zeros stay zeros. */
enum status matrix_polar(struct context *context, const char *what, int64_t rows, int64_t columns, double cutoff,
                         double *a, double *work) MUST_USE;
size_t matrix_polar_work(int64_t rows, int64_t columns);

#endif
