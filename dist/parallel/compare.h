/* Silent corruption: whether the copies of the parameters that several ranks hold are still equal to the bit, and the
 * values still those of their fp32 masters. A memory or a message that changed a bit shows here and nowhere else.
 *
 * Values are hashed (XXH3, 64 bits), and one small reduction on each axis finds whether any copies differ. Whose is
 * wrong is known where the rank itself sees that what nobody should have touched has changed (its values since
 * comparison_note, or the master that they are the rounding of), and by majority otherwise. */
#ifndef CAIRN_DIST_PARALLEL_COMPARE_H
#define CAIRN_DIST_PARALLEL_COMPARE_H

#include "dist/parallel/replica.h"

struct comparison;

/* Of the list's parameters without buffers, which passes change on each replica, and which are in an order that is the
 * same on all ranks that hold copies. Local. */
enum status comparison_create(struct context *context, struct mesh *mesh, struct engine *engine,
                              const struct parameter_list *list, const struct replica *replica,
                              struct comparison **comparison) MUST_USE;
void comparison_destroy(struct comparison **comparison);

/* From now on nothing changes the values until the next comparison_run. Local; as much time as that takes. */
void comparison_note(struct comparison *comparison);

/* They change now. Local. */
void comparison_forget(struct comparison *comparison);

/* Collective over the team. STATUS_AGAIN, agreed, with rank, host and parameter, if a copy is wrong. */
enum status comparison_run(struct comparison *comparison) MUST_USE;

#endif
