/* Which unrolled layers a chunk of a pipeline stage runs. Functions of a configuration that was checked; local. */
#ifndef CAIRN_MODEL_STAGES_H
#define CAIRN_MODEL_STAGES_H

#include "src/core/context.h"
#include "src/model/layers.h"

/* USAGE error unless the mesh's pipeline can share the layers. */
enum status stages_check(struct context *context, const struct mesh_config *mesh,
                         const struct model_config *config) MUST_USE;

/* Whether recursions go around a circular pipeline, each stage having a part of the shared layers. */
bool stages_circular(const struct model_config *config, const struct mesh_config *mesh);

/* Chunks that each stage of a pipeline holds. A circular one has a chunk for each recursion. */
int stages_chunks(const struct model_config *config, const struct mesh_config *mesh);

/* The unrolled layers of a chunk of the model: chunk c of stage s is chunk c * stages + s of all. May be none. `length`
 * is that of the longest sequence, which says what the head costs beside a layer. */
struct range stages_layers(const struct model_config *config, const struct mesh_config *mesh, int64_t chunk,
                           int64_t length);

#endif
