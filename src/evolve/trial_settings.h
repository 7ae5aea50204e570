/* Settings of a path's model and its training: those of the run, with what the path says. */
#ifndef CAIRN_EVOLVE_TRIAL_SETTINGS_H
#define CAIRN_EVOLVE_TRIAL_SETTINGS_H

#include "src/evolve/trial.h"

struct trial_wishes {
    const char *validation; /* set of images to be evaluated on */
    bool trains;
    uint64_t seed; /* of new components */
    uint64_t data_seed;
    int64_t batch; /* 0: the run's */
};

/* Steps of an interval of a child of the task. */
int64_t trial_interval(const struct trial *trial, const struct path *path);

/* Local. USAGE error for settings that do not go together. */
enum status trial_settings(const struct trial *trial, const struct path *path, const struct trial_wishes *wishes,
                           struct config *config) MUST_USE;

#endif
