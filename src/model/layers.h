/* Unrolled layers, which tokens pass one after the other; the stored layers whose parameters they use
 * (src/model/README.md section 5); and which chunk of which pipeline stage runs them. Functions of a configuration that
 * was checked; local. */
#ifndef CAIRN_MODEL_LAYERS_H
#define CAIRN_MODEL_LAYERS_H

#include "src/core/config.h"
#include "src/core/context.h"
#include "src/core/integer.h"

/* How many layers have parameters, and whose an unrolled layer uses. */
int64_t layers_stored(const struct model_config *config);
int64_t layers_stored_of(const struct model_config *config, int64_t layer);

/* With sharing `cycle` and `middle_cycle` the shared layers are passed as a whole R times: recursion r is `count`
 * layers from first + r * count on. No layers otherwise (`sequence` repeats each layer at once). */
void layers_shared(const struct model_config *config, int64_t *first, int64_t *count);

/* The recursion, from 0, that an unrolled layer belongs to; -1 for what is outside of them. */
int64_t layers_recursion(const struct model_config *config, int64_t layer);

/* Whether a layer of Mixture-of-Depths has a router. */
bool layers_routed(const struct model_config *config, int64_t layer);

/* Tokens of a sequence of this length that take an unrolled layer in training (src/model/README.md sections 4 and 5);
 * with token choice, when the depths are balanced. Where a router has room for a share c of the tokens, `surplus` makes
 * it c + (1 - c) surplus: 0 is the model's own capacity, 1 is room for all. */
int64_t layers_tokens(const struct model_config *config, int64_t layer, int64_t length, double surplus);

/* USAGE error unless the mesh's pipeline can share the layers. */
enum status layers_check_mesh(struct context *context, const struct mesh_config *mesh,
                              const struct model_config *config) MUST_USE;

/* Whether recursions go around a circular pipeline, each stage having a part of the shared layers. */
bool layers_circular(const struct model_config *config, const struct mesh_config *mesh);

/* Chunks that each stage of a pipeline holds. A circular one has a chunk for each recursion. */
int layers_chunks(const struct model_config *config, const struct mesh_config *mesh);

/* The unrolled layers of a chunk of the model: chunk c of stage s is chunk c * stages + s of all. May be none. `length`
 * is that of the longest sequence, which says what the head costs beside a layer. */
struct range layers_of_chunk(const struct model_config *config, const struct mesh_config *mesh, int64_t chunk,
                             int64_t length);

#endif
