/* How many directions a matrix really uses. Serial, without memory of its own. */
#ifndef CAIRN_IO_CHECKPOINT_SPECTRUM_H
#define CAIRN_IO_CHECKPOINT_SPECTRUM_H

#include <stdint.h>

/* Singular values [n], in no order, of a matrix [n, n], which is overwritten. Those of less than about 1e-8 of the
 * largest are noise. One-sided Jacobi: Golub and Van Loan, Matrix Computations, section 8.6.3. */
void spectrum_singular_values(double *matrix, int64_t n, double *values);

/* exp of the entropy of values / sum (Roy and Vetterli 2007): n when all are equal, 1 when one stands alone; 0 when all
 * are 0, not a number when one is not finite. */
double spectrum_effective_rank(const double *values, int64_t n);

#endif
