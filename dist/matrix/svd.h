/* Singular value decomposition of a whole matrix in double precision, on this rank alone. As dist/matrix/matrix.h:
 * row-major and dense, nothing is collective, nothing allocates. Over the ranks of an axis the same is FACTOR_SVD of
 * dist/matrix/factor.h, with `left`, `right` and `values` as here: collective, on matrices that exchange.h brings from
 * the ranks' rows or ranges and back. */
#ifndef CAIRN_DIST_MATRIX_SVD_H
#define CAIRN_DIST_MATRIX_SVD_H

#include "src/core/context.h"

/* A = U S V^T, with small the shorter side: a [rows, columns], which is overwritten; values [small], falling; left U
 * [rows, small] and right V^T [small, columns], both NULL where only the values are wanted; work of as many doubles as
 * matrix_svd_work says. Signs are as LAPACK has them. Errors: USAGE for sides that LAPACK's 32-bit integers cannot
 * count, NUMERIC for an element that is not a finite number or a decomposition that does not converge; `what` names the
 * matrix. */
enum status matrix_svd(struct context *context, const char *what, int64_t rows, int64_t columns, double *a,
                       double *values, double *left, double *right, double *work) MUST_USE;
size_t matrix_svd_work(int64_t rows, int64_t columns, bool vectors);

#endif
