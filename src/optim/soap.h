/* What SOAP's steps on one rank and over a grid share; for soap.c and soap_grid.c. */
#ifndef CAIRN_OPTIM_SOAP_H
#define CAIRN_OPTIM_SOAP_H

#include "src/optim/optimizer.h"

enum soap_array { SOAP_MEAN, SOAP_SQUARES, SOAP_LEFT, SOAP_RIGHT, SOAP_LEFT_BASIS, SOAP_RIGHT_BASIS, SOAP_ARRAYS };

/* A column of a basis by how much of the average it carries. */
struct soap_place {
    double weight;
    int64_t column;
};

/* Largest first, equal ones as they were. */
void soap_sort(struct soap_place *order, int64_t count);

/* Rounds of a refresh of the bases in step t. */
int soap_rounds(const struct optimizer_config *config, int64_t t, bool had_gradient);

extern const struct optimizer_grid_ops soap_grid_ops;

#endif
