/* Passes batches forward through the model of a session, for their losses: no gradients, no optimiser, no trainer. */
#ifndef CAIRN_EVALUATE_EVALUATOR_H
#define CAIRN_EVALUATE_EVALUATOR_H

#include "dist/parallel/pipeline.h"
#include "src/session/session.h"

/* What a rank may want all ranks to do after a pass. Its wishes travel with the sum of the losses, so that all ranks
 * know the sum over the mesh after the same pass, and no collective is added. */
enum vote {
    VOTE_STOP,    /* save this step and end, to be started again */
    VOTE_SAVE,    /* save this step and go on */
    VOTE_LOST,    /* the run's folder belongs to another job now: end without saving */
    VOTE_WRITING, /* a checkpoint behind the training has to go on before its next part begins */
    VOTES,
};

/* Asked on every rank when losses are about to be summed, so that a wish that comes up during a pass counts with it.
 * Adds to the votes, which are zero. Local, allocates nothing. */
struct voter {
    void *self;
    void (*cast)(void *self, double votes[VOTES]); /* NULL: no wishes */
};

struct evaluator {
    struct session *session;
    struct batch *batch;
    struct batch own; /* what batch points to, unless it is the caller's */
    struct pipeline *forward;
    struct voter voter;
};

struct pass_result {
    double loss;         /* the mean over the targets, without the routers'; not a number without any */
    double router_loss;  /* weighted */
    double executed;     /* floating-point operations */
    double norm_squares; /* of gradients; 0 where there are none */
    double votes[VOTES];
};

/* batch: the caller's, for the session's model; NULL: one of its own, as the configuration says. Session and batch must
 * outlive it, and neither it nor they may move. To be destroyed whatever comes back. Collective; agreed status. */
enum status evaluator_create(struct session *session, struct batch *batch, struct evaluator *evaluator) MUST_USE;
void evaluator_destroy(struct evaluator *evaluator);

/* The losses of the batch, and the votes: the same on all ranks. Collective. On failure only team_abort is safe. */
enum status evaluator_pass(struct evaluator *evaluator, struct pass_result *result) MUST_USE;

/* -- For those who pass the batch backward, too -- */

/* A pipeline of the session for passes of the batch. Local. */
enum status evaluator_pipeline(const struct evaluator *evaluator, bool forward_only,
                               struct pipeline **pipeline) MUST_USE;

/* The model's stage, for its runs. */
struct pipeline_stage evaluator_stage(struct evaluator *evaluator);

/* Sums a pass over the mesh. `loss` is this rank's own, as are executed and norm_squares before. Collective. */
void evaluator_sum(const struct evaluator *evaluator, double loss, struct pass_result *result);

#endif
