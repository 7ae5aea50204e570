/* Runs micro-batches through the stages of the pipeline in the order of a schedule. A stage is a callback; what
 * passes between stages has a shape known beforehand, receives are posted as early as their buffer is free, and each
 * rank of the tensor axis exchanges its own part of the tokens with its counterpart. */
#ifndef CAIRN_DIST_PARALLEL_PIPELINE_H
#define CAIRN_DIST_PARALLEL_PIPELINE_H

#include "dist/mesh/mesh.h"
#include "dist/parallel/schedule.h"
#include "src/tensor/tape.h"

struct pipeline;

struct pipeline_shape {
    int64_t micro_batches; /* the same on every rank */
    int64_t tokens;        /* of the largest micro-batch */
    int64_t columns;       /* width of the activations between stages */
    enum dtype dtype;
    bool forward_only;
};

/* The model. */
struct pipeline_stage {
    void *self;
    /* Runs a chunk of this stage on a micro-batch. `input` is [part of tokens, columns], NULL on the model's first
     * chunk. Returns the activations for the next chunk, or on the model's last chunk the loss [1] F32 (when only
     * forward runs, NULL with no error set is allowed there: nothing to return). */
    struct tensor *(*forward)(void *self, struct tape *tape, int chunk, int64_t micro_batch, struct tensor *input);
};

enum status pipeline_create(struct context *context, struct mesh *mesh, struct engine *engine, struct arena *work,
                            struct pool *pool, const struct pipeline_shape *shape, struct pipeline **pipeline) MUST_USE;
void pipeline_destroy(struct pipeline **pipeline);

/* tokens[i]: of micro-batch i, over all tensor ranks, at most shape.tokens. The listener (may be NULL) follows the
 * last backward over each chunk. Adds the losses of the last chunk to *loss (elsewhere it stays as it is).
 * Collective over the pipeline axis. On failure the context's error is set, and only mesh_abort is safe. */
enum status pipeline_run(struct pipeline *pipeline, const struct pipeline_stage *stage, const int64_t *tokens,
                         const struct tape_listener *listener, double *loss) MUST_USE;

double pipeline_bubble(const struct pipeline *pipeline);

#endif
