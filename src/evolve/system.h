/* A system of tasks that share components: tasks, paths, components, who holds what, and what a path scores. Knows
 * nothing of ranks, files and training. Every rank has it whole. */
#ifndef CAIRN_EVOLVE_SYSTEM_H
#define CAIRN_EVOLVE_SYSTEM_H

#include "src/evolve/space.h"

enum { EVOLVE_NAME = 48, PLACE_NAME = EVOLVE_NAME + 16, PATH_COMPONENTS = 2 * SPACE_LAYERS + 4 };

enum part { PART_PATCHES, PART_POSITIONS, PART_LAYER, PART_NORM, PART_HEAD, PART_ADAPTER };

/* Parameters that are used as one. Never changes once a path that holds it is kept; an id is never used again. */
struct component {
    int64_t id;
    int64_t origin; /* whose values it began with; -1: random ones */
    enum part part;
    int layer;        /* of PART_LAYER and PART_ADAPTER */
    int task;         /* that it was made for; -1: the root */
    int64_t width;    /* inner one of an adapter */
    int64_t elements; /* numbers that learn */
};

/* Actions whose probabilities a path may hold: a step of each hyperparameter, a copy of each component, a new adapter
 * of each layer. */
enum {
    ACTION_PATCHES = HYPERS,
    ACTION_POSITIONS,
    ACTION_LAYER,
    ACTION_ADAPTER = ACTION_LAYER + SPACE_LAYERS,
    ACTION_ADD = ACTION_ADAPTER + SPACE_LAYERS,
    ACTIONS = ACTION_ADD + SPACE_LAYERS
};

struct path {
    int64_t id;
    int64_t parent;           /* -1: of the root */
    int task;                 /* -1: the root */
    int value[HYPERS];        /* places in the space's lists */
    signed char act[ACTIONS]; /* places in space.actions; -1: none yet */
    int count;
    int64_t
        component[PATH_COMPONENTS]; /* ids: patches, positions, layers with their adapters before them, norm, head */
    double quality;
    double score;
    int clones; /* children that it had in this visit */
};

struct task {
    char name[EVOLVE_NAME];
    char train[TEXT_LENGTH], validation[TEXT_LENGTH], test[TEXT_LENGTH];
    int64_t classes;
    int64_t samples; /* of the training set */
    bool private;
    bool removed;    /* its name and place stay */
    int64_t kept;    /* id of its path; -1: none */
    int64_t visits;  /* finished */
    double accuracy; /* of the kept path on the test set; not a number before there is one */
};

/* What the system has to know of models. */
struct sizes {
    void *self;
    /* `extent`: classes of a head, inner width of an adapter. */
    int64_t (*elements)(void *self, enum part part, int64_t extent);
    /* Of one sample's forward pass; `adapters`: inner widths of all of them together. */
    double (*flops)(void *self, int64_t layers, int64_t adapters, int64_t classes);
};

/* score = quality * size_base ^ (accounted / size_unit) * flops_base ^ (flops / flops_unit) */
struct scoring {
    double size_base, size_unit;
    double flops_base, flops_unit;
};

enum mutation { MUTATION_PATH, MUTATION_ACTIONS };

struct system {
    struct context *context;
    struct space space;
    struct sizes sizes;
    struct scoring scoring;
    enum mutation mutation;
    bool adapters; /* layers may get some */
    bool of_texts; /* not of images */
    uint64_t seed;
    int64_t next_component, next_path;
    int64_t visits; /* finished, of all tasks */
    struct task *tasks;
    int task_count;
    struct path *paths; /* the root first; kept ones; in a visit those accepted so far */
    int path_count;
    struct component *components;
    int component_count;
};

void system_create(struct context *context, struct system *system);
void system_destroy(struct system *system);

/* Appends; NULL when memory is out. What was returned before may move. */
struct task *system_add_task(struct system *system, const struct task *task);
struct path *system_add_path(struct system *system, const struct path *path);
struct component *system_add_component(struct system *system, const struct component *component);

/* The root: a path of standard hyperparameters with components of its own, all of them locked for good. */
enum status system_add_root(struct system *system) MUST_USE;

/* NULL where there is none. */
struct path *system_path(const struct system *system, int64_t id);
struct component *system_component(const struct system *system, int64_t id);
int system_task(const struct system *system, const char *name); /* -1 */

double path_value(const struct system *system, const struct path *path, enum hyper hyper);
int path_layers(const struct system *system, const struct path *path);

/* Its component of a part, and of a layer where there are several; NULL: it has none. */
const struct component *path_component(const struct system *system, const struct path *path, enum part part, int layer);

/* "patches" (or "tokens"), "positions", "layers.3", "adapters.3", "norm", "head.TASK". */
void component_place(const struct system *system, const struct component *component, char text[PLACE_NAME]);

/* The kept paths of other tasks than `task` that hold it. */
int component_users(const struct system *system, int64_t id, int task);

/* Whether a child of the task may not change it: another task's kept path holds it, or it is the root's. */
bool component_locked(const struct system *system, int64_t id, int task);

/* Sum over the components of size / tasks that hold it, this one counted whether it does or not; and the numbers that
 * the path has. */
double path_accounted(const struct system *system, const struct path *path);
int64_t path_elements(const struct system *system, const struct path *path);

/* Those of them that no other task's path holds, nor the root. */
int64_t path_own(const struct system *system, const struct path *path);

/* score / quality, for the sharing as it is now. */
double path_factor(const struct system *system, const struct path *path);

/* Numbers in components that kept paths hold. */
int64_t system_elements(const struct system *system);

/* Forgets the paths that are neither the root nor kept, and then the components that no path holds; parents become the
 * nearest ancestors that are left. Scores of what is kept are computed anew. */
void system_prune(struct system *system);

/* INTERNAL error that says which rule is broken: every component and parent that a path names is there, sizes add up,
 * heads are their task's. */
enum status system_check(const struct system *system) MUST_USE;

#endif
