/* Parameters that are stepped whole. The replica has dealt them to data and context ranks; of those that tensor ranks
 * hold in slices, one tensor rank, the home, gets the gradient of all slices, computes the direction of the step, and
 * gives each rank its slice of that. Homes are dealt by cost. What all tensor ranks hold has one home, too: copies then
 * stay equal to the bit. */
#ifndef CAIRN_OPTIM_WHOLE_H
#define CAIRN_OPTIM_WHOLE_H

#include "src/optim/optimizer.h"

struct whole;

/* For the optimiser's shards that are stepped whole. Collective over the team of the mesh, and agreed but for what the
 * rank finds last. */
enum status whole_create(struct context *context, struct mesh *mesh, const struct optimizer *optimizer,
                         struct whole **whole) MUST_USE;
void whole_destroy(struct whole **whole);

/* Whether this rank is the home of shard `index`. */
bool whole_is_home(const struct whole *whole, int index);

/* Steps them all. Collective over the tensor axis; a failure is this rank's own. */
enum status whole_update(struct whole *whole, const struct optimizer *optimizer,
                         const struct optimizer_step *step) MUST_USE;

#endif
