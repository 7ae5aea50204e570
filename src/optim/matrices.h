/* What Muon and SOAP share: the matrices of a parameter, the last two dimensions of each of its slices. */
#ifndef CAIRN_OPTIM_MATRICES_H
#define CAIRN_OPTIM_MATRICES_H

#include "src/core/integer.h"
#include "src/tensor/parameter.h"

struct matrices {
    int64_t count, rows, columns;
};

static inline struct matrices matrices_of(const struct parameter_spec *spec)
{
    int64_t rows = spec->shape[spec->rank - 2];
    int64_t columns = spec->shape[spec->rank - 1];
    return (struct matrices){parameter_elements(spec) / (rows * columns), rows, columns};
}

#endif
