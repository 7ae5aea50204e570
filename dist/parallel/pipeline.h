/* Runs micro-batches through the stages of the pipeline in the order of a schedule. A stage is a callback; what
 * passes between chunks of the model has a form known beforehand, receives are posted as early as their buffer is
 * free, and each rank of the tensor axis exchanges its own part with its counterpart.
 *
 * All chunks of a stage work on one tape per micro-batch: a later one may use tensors that an earlier one of the same
 * stage made or was given. */
#ifndef CAIRN_DIST_PARALLEL_PIPELINE_H
#define CAIRN_DIST_PARALLEL_PIPELINE_H

#include "dist/mesh/mesh.h"
#include "dist/parallel/packet.h"
#include "dist/parallel/schedule.h"
#include "src/tensor/tape.h"

struct pipeline;

/* The same on every rank of the pipeline axis. */
struct pipeline_shape {
    int chunks; /* per stage; the model's chunk is chunk * stages + stage */
    int64_t micro_batches;
    int64_t packet_bytes; /* of the largest packet, by packet_bytes */
    bool forward_only;
};

/* The model. */
struct pipeline_stage {
    void *self;
    /* What enters a chunk of the model (1 .. model chunks - 1) with a micro-batch: on this rank and on its neighbours
     * of the pipeline alike, whatever the data. `form` is zeroed. */
    void (*form)(void *self, int64_t model_chunk, int64_t micro_batch, struct packet_form *form);
    /* Runs a chunk of this stage on a micro-batch. `in` is empty on the model's first chunk; `out` is empty before. On
     * the model's last chunk out->tensor[0] is the loss [1] F32, the only end that the pipeline seeds (count 0 when
     * only forward runs and there is none). False with the context's error. */
    bool (*forward)(void *self, struct tape *tape, int chunk, int64_t micro_batch, const struct packet *in,
                    struct packet *out);
    /* NULL, or told of each action when it is done, and with no action when the first begins. */
    void (*acted)(void *self, const struct pipeline_action *action);
    void *acted_self;
};

enum status pipeline_create(struct context *context, struct mesh *mesh, struct engine *engine, struct arena *work,
                            struct pool *pool, const struct pipeline_shape *shape, struct pipeline **pipeline) MUST_USE;
void pipeline_destroy(struct pipeline **pipeline);

/* The listener (may be NULL) follows the backward passes; a parameter is done after the last over any chunk that uses
 * it. Adds the losses of the last chunk to *loss (elsewhere it stays as it is; may be NULL).
 * Collective over the pipeline axis. On failure the context's error is set, and only team_abort is safe. */
enum status pipeline_run(struct pipeline *pipeline, const struct pipeline_stage *stage,
                         const struct tape_listener *listener, double *loss) MUST_USE;

double pipeline_bubble(const struct pipeline *pipeline);

#endif
