/* Inside of grids; for this folder only. */
#ifndef CAIRN_DIST_MATRIX_GRID_PRIVATE_H
#define CAIRN_DIST_MATRIX_GRID_PRIVATE_H

#include "dist/matrix/factor.h"
#include "dist/matrix/scalapack.h"

/* A number of a matrix's type, to be handed over by address. */
union number {
    float single;
    double full;
};

static inline union number number_of(enum dtype dtype, double value)
{
    union number number = {.full = value};
    if (dtype == DTYPE_F32)
        number.single = (float)value;
    return number;
}

static inline double number_value(enum dtype dtype, const union number *number)
{
    return dtype == DTYPE_F32 ? (double)number->single : number->full;
}

struct scalapack {
    scalapack_gemm *gemm;
    scalapack_syrk *syrk;
    scalapack_geadd *geadd;
    scalapack_trsm *trsm;
    scalapack_potrf *potrf;
    scalapack_geqrf *geqrf;
    scalapack_orgqr *orgqr;
    scalapack_syevd *syevd;
    scalapack_gesvd *gesvd;
    const char *letter; /* of its routines' names: "ps" or "pd" */
};

/* The routines of a type. */
const struct scalapack *scalapack_of(enum dtype dtype);

/* Whether this rank calls ScaLAPACK for it: it is in the grid, and the mesh is not dry. */
bool grid_calls(const struct grid *grid);

/* Around a call of the library, by all ranks of the axis; returns what leaving needs. */
uint64_t grid_enter(const struct grid *grid);
void grid_leave(const struct grid *grid, uint64_t event);

/* C = alpha op(A) + beta C of parts [m, n]. Collective. */
void grid_add(double alpha, struct grid_part a, bool a_transposed, double beta, struct grid_part c, int64_t m,
              int64_t n);

/* Counts executed floating-point operations of a call over all ranks of the grid, of which each does its share. */
void grid_count_flops(const struct grid *grid, double flops);

/* -- For factors -- */

/* What all ranks of the axis say about the library's info of a call. Collective. */
enum status factor_settle(const struct factor *factor, const char *what, const char *routine, int info) MUST_USE;

/* Q of the QR decomposition of the first k = min(m, n) columns of a [m, n], in its place. R goes to `triangle` unless
 * that is NULL. Collective. */
enum status factor_orthogonalize(struct factor *factor, const char *what, const struct grid_matrix *a,
                                 const struct grid_matrix *triangle) MUST_USE;

/* `a` is finite and not zero; `norm` is Frobenius'. Collective. */
enum status polar_qdwh(struct factor *factor, const char *what, struct grid_matrix *a, double norm) MUST_USE;
void polar_newton_schulz(struct factor *factor, struct grid_matrix *a, double norm);

#endif
