/* A number that all ranks of a team share, from which each takes the next whenever it likes: how groups of ranks divide
 * tasks of unequal length. Nobody has to wait for it on the rank that holds it. */
#ifndef CAIRN_DIST_MESH_COUNTER_H
#define CAIRN_DIST_MESH_COUNTER_H

#include "dist/mesh/team.h"

struct counter;

/* Begins at 0. Collective over the team, which must outlive it; agreed. */
enum status counter_create(struct context *context, const struct team *team, struct counter **counter) MUST_USE;

/* Collective over the team. */
void counter_destroy(struct counter **counter);

/* Adds to the number and returns what it was. Local. */
int64_t counter_add(struct counter *counter, int64_t amount);

/* Sets it to 0; collective over the team. */
void counter_reset(struct counter *counter);

#endif
