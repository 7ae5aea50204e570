/* Values of components: RUN/components/ID.h5, written once, as a checkpoint of their parameters and momentum. */
#ifndef CAIRN_EVOLVE_STORE_H
#define CAIRN_EVOLVE_STORE_H

#include "io/checkpoint/checkpoint.h"
#include "src/evolve/system.h"
#include "src/session/session.h"
#include "src/session/state_list.h"

/* The part of a model that a parameter belongs to, by its name; false for one of no part. */
bool store_part(const char *parameter, enum part *part, int *layer);

/* The arrays of a component in a session, behind those that the list has: parameters, buffers, and unless it is NULL
 * those of an optimiser. */
enum status store_list(const struct session *session, const struct optimizer *momentum,
                       const struct component *component, bool writes, struct state_list *list) MUST_USE;

/* Its path in the folder of a run. */
void store_path(const char *folder, int64_t id, char path[CHECKPOINT_PATH]);

/* Reads component `id` of the folder in the place of `component` of the session's model, which shows in its values
 * after replica_gather_all. momentum: as above. Collective; agreed status. */
enum status store_read(struct session *session, const struct optimizer *momentum, const char *folder, int64_t id,
                       const struct component *component) MUST_USE;

/* Writes it; `group` keeps what different groups write apart. A file that is there already is written again with what
 * is the same. Collective; agreed status. */
enum status store_write(const struct session *session, const struct optimizer *momentum, const char *folder, int group,
                        const struct component *component) MUST_USE;

#endif
