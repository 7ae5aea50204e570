#include "src/core/effective_rank.h"

#include <math.h>

double effective_rank(const double *values, int64_t n)
{
    double sum = 0.0;
    double entropy = 0.0;
    for (int64_t i = 0; i < n; i++)
        sum += values[i];
    if (sum == 0.0)
        return 0.0;
    for (int64_t i = 0; i < n; i++)
        if (values[i] != 0.0)
            entropy -= values[i] / sum * log(values[i] / sum);
    return exp(entropy);
}
