/* Singular values of a small matrix. Serial, without memory of its own. */
#ifndef CAIRN_IO_CHECKPOINT_SPECTRUM_H
#define CAIRN_IO_CHECKPOINT_SPECTRUM_H

#include <stdint.h>

/* Singular values [n], in no order, of a matrix [n, n], which is overwritten. Those of less than about 1e-8 of the
 * largest are noise. One-sided Jacobi: Golub and Van Loan, Matrix Computations, section 8.6.3. */
void spectrum_singular_values(double *matrix, int64_t n, double *values);

#endif
