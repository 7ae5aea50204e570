/* A model on a mesh: its parameters, where they lie in memory, and what passes through it need. All that computes with
 * a model begins with one: training, evaluation, generation, plans, benches. */
#ifndef CAIRN_SESSION_H
#define CAIRN_SESSION_H

#include "dist/parallel/replica.h"
#include "src/core/config.h"
#include "src/model/model.h"
#include "src/optim/optimizer.h"

struct session {
    struct context *context;
    struct mesh *mesh;
    struct engine *engine;
    const struct config *config;
    bool trains;
    struct parameter_list parameters;
    struct model model;
    struct replica *replica;
    struct arena work;
    struct pool pool;
};

/* Declares the model's parameters, freezes what training.freeze and training.train_only say, lays all out and gives
 * initial values. `ops` and `optimizer` NULL: those that the configuration names. One that does not `train` has values
 * only. config and engine must outlive it. To be destroyed whatever comes back. Collective; agreed status. */
enum status session_create(struct context *context, struct mesh *mesh, struct engine *engine,
                           const struct config *config, const struct model_ops *ops,
                           const struct optimizer_ops *optimizer, bool trains, struct session *session) MUST_USE;
void session_destroy(struct session *session);

#endif
