/* Optimisers: what they keep for each parameter, and how they step it. Each is one file that defines its operations and
 * stands in the table of optimizer.c. Optimisers chain: one may leave parameters that are not for it to another. Beside
 * them the gradient norm and the learning rate's schedule. */
#ifndef CAIRN_OPTIM_OPTIMIZER_H
#define CAIRN_OPTIM_OPTIMIZER_H

#include "dist/parallel/replica.h"
#include "src/core/config.h"
#include "src/tensor/state.h"

enum { OPTIMIZER_ARRAYS = 6 };

/* An array that is kept for a parameter, by its name in checkpoints. */
struct optimizer_array {
    const char *name; /* NULL: it is not kept for this parameter */
    enum dtype dtype; /* F32, or F64 of an array of its own shape that `direct` keeps */
    int rank;         /* 0: it has the parameter's shape */
    int64_t shape[TENSOR_RANK];
};

/* The update under way. */
struct optimizer_step {
    const struct optimizer_config *config;
    struct engine *engine;
    struct mesh *mesh;     /* NULL in tests of one rank */
    int64_t t;             /* its number, from 1 */
    double rate;           /* of the parameters that an optimiser steps */
    double gradient_scale; /* gradients are to be scaled by it first */
    void *work;            /* the bytes that the optimiser has asked for */
};

/* What a rank has of a matrix that several step together. */
struct grid_share {
    const char *name;          /* of the parameter */
    int64_t count;             /* elements of this rank, some of which others may have, too */
    struct exchange *exchange; /* of fp32, to and from the matrix */
    void *work;                /* for it */
};

struct exchange;
struct grid;
struct grid_matrix;

/* Steps of matrices of one size over a grid, with what is `made` for them once. All are collective over the grid's axis
 * and agreed over it. */
struct optimizer_grid_ops {
    enum status (*create)(struct context *context, const struct optimizer_config *config, const char *what,
                          const struct grid *grid, int64_t rows, int64_t columns, void **made) MUST_USE;
    void (*destroy)(struct context *context, void **made);

    /* How a matrix of the size is laid out. */
    const struct grid_matrix *(*matrix)(const void *made);

    /* As `direct` does, from this rank's elements: state[i] is its elements of an array of the parameter's shape, and
     * its rows (by range_partition over the axis) of a square array. */
    enum status (*step)(const struct optimizer_step *step, void *made, const struct grid_share *share,
                        const float *gradient, void *const *state, float *direction) MUST_USE;
};

/* Steps any range of a parameter's elements (`step`), or needs its gradient whole (`direct`): exactly one of the two is
 * there. Neither allocates anything. */
struct optimizer_ops {
    const char *name; /* optimizer.kind */

    /* The optimiser that steps a parameter; NULL: this one steps all. */
    const struct optimizer_ops *(*choose)(const struct parameter_spec *spec);

    /* What is kept for a parameter that it steps, at most OPTIMIZER_ARRAYS; returns their number. With `step` all have
     * the parameter's shape. */
    int (*arrays)(const struct optimizer_config *config, const struct parameter_spec *spec,
                  struct optimizer_array *arrays);

    /* Steps a shard's masters, and its values where these are apart; state[i] is array i of the shard's elements. */
    enum status (*step)(const struct optimizer_step *step, const struct shard *shard, void *const *state) MUST_USE;

    /* From the gradient of a whole parameter, what is to be subtracted from it at a rate of 1, decay apart. One rank of
     * those that hold the parameter is called, and has the arrays whole. */
    enum status (*direct)(const struct optimizer_step *step, const struct parameter_spec *spec, const float *gradient,
                          void *const *state, float *direction) MUST_USE;

    const struct optimizer_grid_ops *grid; /* NULL: one rank steps a whole parameter */

    /* What `direct` costs, in any unit, and the bytes that it works in; NULL: its elements, nothing. */
    double (*cost)(const struct optimizer_config *config, const struct parameter_spec *spec);
    size_t (*work)(const struct optimizer_config *config, const struct parameter_spec *spec);
};

extern const struct optimizer_ops adamw_ops;
extern const struct optimizer_ops sgd_ops;
extern const struct optimizer_ops muon_ops;
extern const struct optimizer_ops soap_ops;

/* Of all that a rank steps. */
struct optimizer {
    struct context *context;
    struct mesh *mesh; /* NULL for one rank alone */
    struct optimizer_config config;
    const struct optimizer_ops *ops;
    const struct shard *shards;
    int count;
    char *memory;                            /* of all arrays, a kind of array after the other */
    void **state;                            /* [count, OPTIMIZER_ARRAYS] into it; NULL: not kept here */
    const struct optimizer_ops **stepped_by; /* [count] */
    struct whole *whole;                     /* parameters that are stepped whole (src/optim/whole.h) */
    struct spread *spread;                   /* parameters that ranks step together (src/optim/spread.h) */
};

/* Leaves out the decay of what optimizer.no_decay names, and says in the parameters which are to be dealt whole and
 * which several ranks step together; before the replica is made; `mesh` is NULL for one rank alone, and where nothing
 * is stepped. `ops` NULL: those of config->kind. USAGE error. Local.
 */
enum status optimizer_prepare(struct context *context, const struct mesh *mesh, const struct optimizer_config *config,
                              const struct optimizer_ops *ops, const struct parameter_list *list) MUST_USE;

/* State for the replica's shards, all zeros. `ops` NULL: those of config->kind. `mesh` is NULL for one rank alone. To
 * be destroyed whatever comes back. Collective over the team. */
enum status optimizer_create(struct context *context, struct mesh *mesh, const struct optimizer_config *config,
                             const struct optimizer_ops *ops, const struct shard *shards, int count,
                             struct optimizer *optimizer) MUST_USE;
void optimizer_destroy(struct optimizer *optimizer);

/* Names /optimizer/ARRAY/PARAMETER of all parameters that learn. */
enum status optimizer_visit(const struct optimizer *optimizer, const struct parameter_list *list,
                            const struct state_visitor *visitor) MUST_USE;

/* Update number t (from 1) of every shard, gradients scaled first. Collective over the pipeline stage; a failure is
 * this rank's own. */
enum status optimizer_update(struct optimizer *optimizer, struct engine *engine, struct mesh *mesh, int64_t t,
                             double rate, double gradient_scale) MUST_USE;

/* p -= rate (direction + decay p) for elements `within` of a shard's; direction [within.count]. */
void optimizer_apply(const struct optimizer_step *step, const struct shard *shard, struct range within,
                     const float *direction);

/* The rate of a parameter at a rate of the schedule, and its decay. */
float optimizer_rate(const struct optimizer_step *step, const struct shard *shard);
float optimizer_decay(const struct optimizer_step *step, const struct shard *shard);

/* This rank's share of the squared gradient norm: every element of the model is counted by one rank. Local. */
double optimizer_norm_squares(struct engine *engine, const struct shard *shards, int count);

/* min(1, clip / (norm + 1e-6)); 1 when clip is 0. */
double optimizer_clip_scale(const struct optimizer_config *config, double norm);

/* The learning rate of step (from 1) of `steps`: linear warm-up from warmup_start of the rate, then constant, cosine or
 * linear decay to minimum_ratio over the remaining steps, or (wsd) constant until the last decay_steps and linear from
 * there. */
double schedule_rate(const struct optimizer_config *config, int64_t steps, int64_t step);

#endif
