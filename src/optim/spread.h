/* Parameters whose matrices several ranks step together, over a grid (dist/matrix/grid.h): the tensor ranks of the
 * replica that a parameter is dealt to, or ranks of its pipeline stage, which then have ranges of it as of what is not
 * a matrix (parameter->grid_ranks). What each has of the gradient goes to the grid, and the direction comes back, by
 * one exchange each way; no rank sees a whole matrix. */
#ifndef CAIRN_OPTIM_SPREAD_H
#define CAIRN_OPTIM_SPREAD_H

#include "src/optim/optimizer.h"

struct spread;

/* How many ranks are to step a parameter together, 0 for one, and over which axis: tensor ranks if they are enough. */
int spread_ranks(const struct mesh *mesh, const struct optimizer_config *config, const struct parameter *parameter,
                 double all_costs);
enum mesh_axis spread_axis(const struct mesh *mesh, int ranks);

/* Whether optimizer.matrix_ranks fits the mesh. USAGE error. Local, the same on all ranks. */
enum status spread_check(struct context *context, const struct mesh *mesh,
                         const struct optimizer_config *config) MUST_USE;

/* For the optimiser's shards with grid_ranks. Collective over the pipeline stage; agreed over it but for what a rank
 * finds last. `mesh` may be NULL where there are none. */
enum status spread_create(struct context *context, struct mesh *mesh, const struct optimizer *optimizer,
                          struct spread **spread) MUST_USE;

/* Collective like its creation. */
void spread_destroy(struct spread **spread);

/* The rows that this rank keeps of a square array of a parameter of that many ranks. */
struct range spread_rows(const struct mesh *mesh, const struct parameter *parameter, int64_t side);

/* Steps them all. Collective over the pipeline stage; failures are the same on all ranks that stepped together. */
enum status spread_update(struct spread *spread, const struct optimizer *optimizer,
                          const struct optimizer_step *step) MUST_USE;

#endif
