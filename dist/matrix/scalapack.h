/* The routines of BLACS and ScaLAPACK that are called here, in single and in double precision, with their 32-bit
 * integers; for this folder only. Local pieces are column-major. Numbers of the matrix's type are handed over by
 * address, so that one table of functions serves both types. */
#ifndef CAIRN_DIST_MATRIX_SCALAPACK_H
#define CAIRN_DIST_MATRIX_SCALAPACK_H

#include <mpi.h>

int Csys2blacs_handle(MPI_Comm communicator);
void Cfree_blacs_system_handle(int handle);
void Cblacs_gridmap(int *context, int *ranks, int leading, int rows, int columns);
void Cblacs_gridexit(int context);
void pb_topset_(const int *context, const char *operation, const char *scope, const char *topology);

/* A matrix or a part of it: its memory, the first row and column from 1, its descriptor. */
#define AT const void *, const int *, const int *, const int *
#define INTO void *, const int *, const int *, const int *
/* Work and its size. */
#define WORK void *, const int *

typedef void scalapack_gemm(const char *, const char *, const int *, const int *, const int *, const void *, AT, AT,
                            const void *, INTO);
typedef void scalapack_syrk(const char *, const char *, const int *, const int *, const void *, AT, const void *, INTO);
typedef void scalapack_geadd(const char *, const int *, const int *, const void *, AT, const void *, INTO);
typedef void scalapack_trsm(const char *, const char *, const char *, const char *, const int *, const int *,
                            const void *, AT, INTO);
typedef void scalapack_potrf(const char *, const int *, INTO, int *);
typedef void scalapack_geqrf(const int *, const int *, INTO, void *, WORK, int *);
typedef void scalapack_orgqr(const int *, const int *, const int *, INTO, const void *, WORK, int *);
typedef void scalapack_syevd(const char *, const char *, const int *, INTO, void *, INTO, WORK, int *, const int *,
                             int *);
typedef void scalapack_gesvd(const char *, const char *, const int *, const int *, INTO, void *, INTO, INTO, WORK,
                             int *);

scalapack_gemm psgemm_, pdgemm_;
scalapack_syrk pssyrk_, pdsyrk_;
scalapack_geadd psgeadd_, pdgeadd_;
scalapack_trsm pstrsm_, pdtrsm_;
scalapack_potrf pspotrf_, pdpotrf_;
scalapack_geqrf psgeqrf_, pdgeqrf_;
scalapack_orgqr psorgqr_, pdorgqr_;
scalapack_syevd pssyevd_, pdsyevd_;
scalapack_gesvd psgesvd_, pdgesvd_;

#undef AT
#undef INTO
#undef WORK

#endif
