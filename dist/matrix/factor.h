/* Factors of matrices over a grid, by ScaLAPACK. A plan is made once for a size and brings all memory; it is then run
 * on any matrix that is laid out alike.
 *
 *   FACTOR_QR      a [m, n] becomes Q [m, k] in its first k = min(m, n) columns, with orthonormal columns; the plan's
 *                  `right` [k, n] is R, upper triangular, Q R = A (signs are the library's)
 *   FACTOR_ORTHOGONAL  the same without R
 *   FACTOR_EIGEN   a [n, n], symmetric, of which the lower triangle is read and destroyed: `values` [n] ascending, the
 *                  columns of `left` [n, n] the vectors
 *   FACTOR_SVD     a [m, n], destroyed: `values` [k] descending, `left` [m, k] = U, `right` [k, n] = V^T; A = U S V^T
 *   FACTOR_POLAR   a becomes its orthogonal polar factor U V^T by the same, without singular values of at most `cutoff`
 *                  times the largest; a zero matrix stays zero
 *   FACTOR_QDWH    the same by the dynamically weighted Halley iteration (Nakatsukasa, Bai, Gygi 2010): six rounds of
 *                  QR or Cholesky factors and products whatever the matrix. It needs full rank: of what is singular to
 *                  rounding it makes some isometry
 *   FACTOR_NEWTON_SCHULZ  about the polar factor by Muon's five rounds of products (src/model/README.md section 7)
 *
 * Values are in double precision, the same on all ranks of the axis. Creating and running are collective over the
 * grid's axis, and agreed over it. Errors: NUMERIC with the routine's name where a matrix is not finite or does not
 * converge, INTERNAL where a routine does not take its arguments, USAGE for work beyond 32-bit integers; the text names
 * the matrix as `what`. */
#ifndef CAIRN_DIST_MATRIX_FACTOR_H
#define CAIRN_DIST_MATRIX_FACTOR_H

#include "dist/matrix/grid.h"

enum factor_kind {
    FACTOR_QR,
    FACTOR_ORTHOGONAL,
    FACTOR_EIGEN,
    FACTOR_SVD,
    FACTOR_POLAR,
    FACTOR_QDWH,
    FACTOR_NEWTON_SCHULZ
};

struct factor {
    struct context *context;
    enum factor_kind kind;
    struct grid_matrix shape;       /* of the matrices it is for */
    double cutoff;                  /* of FACTOR_POLAR; 0 */
    struct grid_matrix left, right; /* see above; without data where there is none */
    double *values;                 /* [k] */
    struct grid_matrix spare[2];    /* of the iterations */
    void *numbers;                  /* values as the library gives them, or its reflectors' factors */
    void *work;
    int *integers;
    int64_t work_count, integer_count;
};

/* For matrices laid out as `shape`, of which the data are not looked at. */
enum status factor_create(struct context *context, const char *what, enum factor_kind kind,
                          const struct grid_matrix *shape, struct factor **factor) MUST_USE;
void factor_destroy(struct factor **factor);

enum status factor_run(struct factor *factor, const char *what, struct grid_matrix *a) MUST_USE;

#endif
