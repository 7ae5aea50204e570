/* A model with its optimiser on a mesh: steps over batches that are given, evaluation of batches, and the state that
 * a checkpoint holds. Knows nothing of corpora and folders. */
#ifndef CAIRN_TRAIN_TRAINER_H
#define CAIRN_TRAIN_TRAINER_H

#include "dist/parallel/compare.h"
#include "src/evaluate/evaluator.h"
#include "src/optim/average.h"
#include "src/optim/optimizer.h"
#include "src/session/session.h"
#include "src/watch/spike.h"

/* Told before master weights and moments change, for one that still reads them. Local, allocates nothing. */
struct update_listener {
    void *self;
    void (*before)(void *self); /* NULL: nobody listens */
};

struct trainer {
    struct context *context;
    struct mesh *mesh;
    struct engine *engine;
    const struct config *config;
    struct session session;
    struct model *model; /* the session's */
    struct optimizer optimizer;
    struct average *average; /* of the parameters; NULL: off */
    struct batch batch;
    struct evaluator evaluator; /* of that batch; its votes are those of steps, too */
    struct pipeline *forward_backward;
    struct tape_listener listener;
    struct comparison *comparison; /* of the parameters' copies; NULL: off */
    struct spike_watch spikes;     /* of the losses of steps; kept with the state */
    const char *data_lines;        /* comments for the settings in checkpoints: what the data held; NULL: nothing */
    const char *data_facts;        /* for checkpoints: what a model has to know of its data; NULL: nothing */
    /* Follows the pipeline of a step (struct pipeline_stage), for plans; NULL unless somebody wants to know. */
    void (*acted)(void *self, const struct pipeline_action *action);
    void *acted_self;
    struct update_listener update_listener;

    int64_t step;    /* finished */
    int64_t updates; /* of the parameters: steps that were neither skipped nor without a target */
    int64_t tokens;  /* read, without padding */
    int64_t sequences;
    /* A loss above twice the first one of the run, or twice that of even guesses if that is more, says that the
     * parameters are ruined, finite as they may be. 0: to be found with the next loss. */
    double loss_limit;
    bool sound; /* the last step with targets was: finite, and not above the limit */
    int64_t skipped;
    int64_t skipped_in_row;
};

struct step_result {
    double loss;        /* of the language model, the mean over the targets; not a number without any */
    double router_loss; /* of the routers, weighted */
    double gradient_norm;
    double rate;
    double executed;     /* floating-point operations of the forward and backward passes, on all ranks */
    double surplus;      /* of the routers' capacity: how far its warm-up is from its end */
    bool skipped;        /* the loss or the norm was not finite */
    bool no_target;      /* in the whole batch: nothing was learned */
    double votes[VOTES]; /* the sum over all ranks; the same on each of them */
};

/* Collective, agreed status. config and engine must outlive the trainer, and it may not move. */
enum status trainer_create(struct context *context, struct mesh *mesh, struct engine *engine,
                           const struct config *config, struct trainer *trainer) MUST_USE;

/* The same with a model and an optimiser of the caller's; NULL: those that the configuration names. */
enum status trainer_create_with(struct context *context, struct mesh *mesh, struct engine *engine,
                                const struct config *config, const struct model_ops *model,
                                const struct optimizer_ops *optimizer, struct trainer *trainer) MUST_USE;
void trainer_destroy(struct trainer *trainer);

/* Forward and backward over trainer->batch: gradients are summed over the mesh and wait in the shards. The losses,
 * the norm, what was executed and the votes are the same on all ranks; the rest of the result stays as it is.
 * Collective. On failure only team_abort is safe. */
enum status trainer_gradients(struct trainer *trainer, struct step_result *result) MUST_USE;

/* One step: gradients, and the update unless the loss or the norm is not finite (then all ranks skip it). A batch
 * without targets only passes forward, for the memories that it leaves; parameters and moments stay as they are.
 * Collective. STATUS_AGAIN, agreed, if a comparison of the copies was due and one was wrong. */
enum status trainer_step(struct trainer *trainer, struct step_result *result) MUST_USE;

/* Puts the averages of the parameters in their place, and the second time the parameters back: what lies between
 * computes with the averages. Does nothing where there are none. Collective. */
void trainer_swap_average(struct trainer *trainer);

/* The root mean square of all parameters; not finite if one is not. Collective. */
double trainer_parameter_size(struct trainer *trainer);

/* Compares the copies of the parameters, as before a checkpoint. Collective; agreed status. */
enum status trainer_compare(struct trainer *trainer) MUST_USE;

/* The mean losses over trainer->batch without gradients (not a number without targets), and the votes. Collective. */
enum status trainer_loss(struct trainer *trainer, struct step_result *result) MUST_USE;

#endif
