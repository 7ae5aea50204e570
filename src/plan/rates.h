/* How fast this machine does a rank's work, from steps of a model as narrow as a rank's part of it. */
#ifndef CAIRN_PLAN_RATES_H
#define CAIRN_PLAN_RATES_H

#include "src/plan/rehearsal.h"

/* Seconds, by enum pipeline_pass where work differs between the passes. */
struct rates {
    double product[2];   /* a FLOP of matrix products */
    double attention[2]; /* a FLOP of attention */
    double element[2];   /* an element of all other operations */
    double spread;       /* of the repeated steps: the distance of their quartiles by their median */
    double direction;    /* a FLOP of the optimiser's matrices: products and factors */
    double update;       /* an element of the work beside the passes: gradients cleared, their norm, the optimiser */
};

/* Measures with `ranks` ranks side by side, each of `threads` threads: the machine gives less to each when all its
 * cores are busy. The model has the layers' shapes that the ranks of `mesh` have, but where a step would take long
 * fewer layers or tokens. */
enum status rates_measure(struct context *context, const struct config *config, const struct mesh_config *mesh,
                          int ranks, int threads, struct rates *rates) MUST_USE;

/* The time of counted work, without communication; `pass` is an enum pipeline_pass. */
double rates_pass(const struct rates *rates, int pass, const struct rehearsal_work *work);
double rates_rest(const struct rates *rates, const struct rehearsal_work *work);

#endif
