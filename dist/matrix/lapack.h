/* The routines of BLAS and LAPACK that are called here, with their 32-bit integers; column-major. */
#ifndef CAIRN_DIST_MATRIX_LAPACK_H
#define CAIRN_DIST_MATRIX_LAPACK_H

void dgemm_(const char *a_form, const char *b_form, const int *m, const int *n, const int *k, const double *alpha,
            const double *a, const int *lda, const double *b, const int *ldb, const double *beta, double *c,
            const int *ldc);
void dgelqf_(const int *m, const int *n, double *a, const int *lda, double *factors, double *work, const int *size,
             int *info);
void dorglq_(const int *m, const int *n, const int *k, double *a, const int *lda, const double *factors, double *work,
             const int *size, int *info);
void dgesdd_(const char *job, const int *m, const int *n, double *a, const int *lda, double *values, double *u,
             const int *ldu, double *vt, const int *ldvt, double *work, const int *size, int *integers, int *info);

#endif
