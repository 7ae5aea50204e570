/* How many directions a matrix really uses. */
#ifndef CAIRN_CORE_EFFECTIVE_RANK_H
#define CAIRN_CORE_EFFECTIVE_RANK_H

#include <stdint.h>

/* Of singular values [n], in any order: exp of the entropy of values / sum (Roy and Vetterli 2007). n when all are
 * equal, 1 when one stands alone; 0 when all are 0, not a number when one is not finite. */
double effective_rank(const double *values, int64_t n);

#endif
