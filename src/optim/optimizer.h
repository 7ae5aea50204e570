/* Optimisers: what they keep for each parameter, and how they step the shards of a rank. Each is one file that defines
 * its operations and stands in the table of optimizer.c. Beside them the gradient norm and the learning rate's
 * schedule. */
#ifndef CAIRN_OPTIM_OPTIMIZER_H
#define CAIRN_OPTIM_OPTIMIZER_H

#include "dist/parallel/replica.h"
#include "src/core/config.h"
#include "src/tensor/state.h"

enum { OPTIMIZER_ARRAYS = 6 };

/* What of a parameter a rank may be given to step. */
enum optimizer_layout {
    LAYOUT_FLAT,  /* any range of its elements */
    LAYOUT_WHOLE, /* all that the tensor rank has of it, or nothing */
};

/* An array that is kept for a parameter, by its name in checkpoints. */
struct optimizer_array {
    const char *name;
    int rank; /* 0: it has the parameter's shape */
    int64_t shape[TENSOR_RANK];
};

/* The update under way. */
struct optimizer_step {
    const struct optimizer_config *config;
    struct engine *engine;
    struct mesh *mesh; /* NULL in tests of one rank */
    int64_t t;         /* its number, from 1 */
    double rate;
    double gradient_scale; /* gradients are to be scaled by it first */
};

struct optimizer_ops {
    const char *name; /* optimizer.kind */
    enum optimizer_layout layout;
    /* What is kept for a parameter, at most OPTIMIZER_ARRAYS; returns their number. With LAYOUT_FLAT all have the
     * parameter's shape, and are as many for every parameter. */
    int (*arrays)(const struct optimizer_config *config, const struct parameter_spec *spec,
                  struct optimizer_array *arrays);
    /* Steps a shard's masters, and its values where these are apart; state[i] is array i of it: of the shard's
     * elements, or whole. Collective where it communicates; allocates nothing. */
    enum status (*step)(const struct optimizer_step *step, const struct shard *shard, float *const *state) MUST_USE;
};

extern const struct optimizer_ops adamw_ops;
extern const struct optimizer_ops sgd_ops;

/* The operations of a kind. */
const struct optimizer_ops *optimizer_find(enum optimizer_kind kind);

/* Of all that a rank steps. */
struct optimizer {
    struct context *context;
    struct optimizer_config config;
    const struct optimizer_ops *ops;
    const struct shard *shards;
    int count;
    float *memory; /* of all arrays, a kind of array after the other */
    float **state; /* [count, OPTIMIZER_ARRAYS] into it */
};

/* Says in the parameters which layout they need; before the replica is made. Local. */
void optimizer_prepare(const struct optimizer_ops *ops, const struct parameter_list *list);

/* State for the replica's shards, all zeros. `ops` NULL: those of config->kind. Local. */
enum status optimizer_create(struct context *context, const struct optimizer_config *config,
                             const struct optimizer_ops *ops, const struct shard *shards, int count,
                             int64_t state_count, struct optimizer *optimizer) MUST_USE;
void optimizer_destroy(struct optimizer *optimizer);

/* Names /optimizer/ARRAY/PARAMETER of all parameters that learn. */
enum status optimizer_visit(const struct optimizer *optimizer, const struct parameter_list *list,
                            const struct state_visitor *visitor) MUST_USE;

/* Update number t (from 1) of every shard, gradients scaled first. Collective over the team with optimisers that
 * communicate; agreed then. */
enum status optimizer_update(struct optimizer *optimizer, struct engine *engine, struct mesh *mesh, int64_t t,
                             double rate, double gradient_scale) MUST_USE;

/* The rate of a parameter at a rate of the schedule, and its decay. */
float optimizer_rate(const struct optimizer_step *step, const struct shard *shard);
float optimizer_decay(const struct optimizer_step *step, const struct shard *shard);

/* This rank's share of the squared gradient norm: every element of the model is counted by one rank. Local. */
double optimizer_norm_squares(struct engine *engine, const struct shard *shards, int count);

/* min(1, clip / (norm + 1e-6)); 1 when clip is 0. */
double optimizer_clip_scale(const struct optimizer_config *config, double norm);

/* The learning rate of step (from 1) of `steps`: linear warm-up, then constant, cosine or linear decay to
 * minimum_ratio over the remaining steps, or (wsd) constant until the last decay_steps and linear from there. */
double schedule_rate(const struct optimizer_config *config, int64_t steps, int64_t step);

#endif
