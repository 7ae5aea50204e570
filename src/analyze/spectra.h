/* One matrix on this rank. For this folder only. */
#ifndef CAIRN_ANALYZE_SPECTRA_H
#define CAIRN_ANALYZE_SPECTRA_H

#include "src/analyze/analysis.h"

/* What the values [small] of a matrix say, into measure[MEASURES_ALONE]. */
void spectra_measure(const double *values, int64_t rows, int64_t columns, double *measure);

/* Measures of a [stack, rows, columns], and beside b of the same shape unless that is NULL, as means over the stack;
 * and the means of the singular values, added to what is in `measure` and `values`. `what` names a and b. Local. */
enum status spectra_of_stack(struct context *context, const char *const what[2], const struct analyzed *matrix,
                             int64_t directions, const float *a, const float *b, double *measure,
                             double *values) MUST_USE;

/* The principal angles between the columns of a and those of b, both [n, k] and orthonormal: the largest and the mean,
 * in degrees; not a number for k 0. Bjorck and Golub 1973: small ones by their sines, large ones by their cosines.
 */
enum status spectra_angles(struct context *context, const char *what, int64_t n, int64_t k, const double *a,
                           const double *b, double *largest, double *mean) MUST_USE;

#endif
