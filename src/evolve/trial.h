/* Models of paths on the mesh of a group: a child that is trained, a kept path that is tested or exported, the root.
 * Collective over the group's mesh, agreed status. */
#ifndef CAIRN_EVOLVE_TRIAL_H
#define CAIRN_EVOLVE_TRIAL_H

#include "src/evolve/visit.h"
#include "src/train/trainer.h"

/* What a group has to know. */
struct trial {
    struct context *context;
    struct mesh *mesh; /* of the group */
    struct engine *engine;
    const struct system *system;
    const struct config *config; /* of the run */
    const char *settings;        /* the same as YAML */
    int group;
};

struct trial_result {
    double quality; /* accuracy on the validation set, the best of those whose values were kept, or of all */
    bool kept;
    bool finite;
    int64_t steps;
    double seconds;
    double processor_seconds; /* of the group's first rank */
    int group;
};

/* Trains child `index` of the visit's generation, and if values were kept writes its components. */
enum status trial_run(const struct trial *trial, const struct visit *visit, int index, const struct child *child,
                      struct trial_result *result) MUST_USE;

/* The accuracy of a path on a set of images. */
enum status trial_measure(const struct trial *trial, const struct path *path, const char *images,
                          double *accuracy) MUST_USE;

/* Writes the root's components: random ones, or those of evolve.root. */
enum status trial_root(const struct trial *trial) MUST_USE;

/* Writes a path as a checkpoint of its own into a folder, as of a run. */
enum status trial_export(const struct trial *trial, const struct path *path, const char *folder) MUST_USE;

/* Sizes of models like the run's; self is the trial. */
int64_t trial_elements(void *self, enum part part, int64_t extent);
double trial_flops(void *self, int64_t layers, int64_t adapters, int64_t classes);

#endif
