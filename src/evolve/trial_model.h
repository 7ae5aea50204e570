/* A path as a model in memory, on the mesh of a group. Collective over it, agreed status. */
#ifndef CAIRN_EVOLVE_TRIAL_MODEL_H
#define CAIRN_EVOLVE_TRIAL_MODEL_H

#include "src/evolve/trial_settings.h"
#include "src/train/source.h"
#include "src/train/trainer.h"

struct trial_model {
    const struct trial *trial;
    const struct path *path;
    struct config *config;
    bool has_source;
    struct source source;
    struct session *session; /* `own`, or of the trainer if it trains */
    struct session own;
    struct evaluator evaluator; /* of `own`, for who makes it */
    struct trainer trainer;
};

/* With the values of its components. trial, path must outlive it. To be closed whatever comes back. */
enum status trial_model_open(const struct trial *trial, const struct path *path, const struct trial_wishes *wishes,
                             struct trial_model *model) MUST_USE;
void trial_model_close(struct trial_model *model);

/* The optimiser of one that trains; NULL otherwise. */
struct optimizer *trial_model_momentum(struct trial_model *model);

#endif
