/* `cairn evolve`: the run. Groups of ranks train children; every rank knows the whole system (README.md). */
#ifndef CAIRN_EVOLVE_EVOLVE_H
#define CAIRN_EVOLVE_EVOLVE_H

#include "dist/mesh/counter.h"
#include "io/checkpoint/checkpoint.h"
#include "io/lock/lock.h"
#include "io/metrics/metrics.h"
#include "io/tasks/tasks.h"
#include "src/evolve/record.h"
#include "src/evolve/trial.h"

struct evolve {
    struct context *context;
    struct mesh *world; /* all ranks, side by side */
    struct team *team;  /* of this group */
    struct mesh *mesh;  /* of this group */
    struct engine *engine;
    struct counter *counter;
    struct config *config;
    char *settings; /* the same as YAML, as the state has it */
    struct system system;
    struct trial trial;
    json_t *history; /* on every rank */
    int groups, group;
    int agent;               /* the task that this group visits on its own (agents.h); -1: all visit one together */
    bool first;              /* the rank that writes and tells */
    struct lock *lock;       /* of the folder, on that rank */
    struct metrics *metrics; /* on that rank; a line a child, whose step is its path */
    double begin;
};

/* Divides the ranks into groups of config->mesh (a data axis of auto is 1) and takes up the folder's state, or begins
 * one; one that does not `write` only looks at what is there. `world` spans all ranks of the job one by one. Config and
 * engine must outlive it. To be closed whatever comes back. Collective, agreed status, as are the rest. */
enum status evolve_open(struct context *context, struct team *job, struct mesh *world, struct engine *engine,
                        struct config *config, bool writes, struct evolve *evolve) MUST_USE;
void evolve_close(struct evolve *evolve);

/* Adds tasks that the system does not have yet. USAGE error if it has one of that name with other images. */
enum status evolve_add(struct evolve *evolve, const struct task_row *rows, int count) MUST_USE;

/* Visits until every task has had evolve.iterations of them. */
enum status evolve_run(struct evolve *evolve) MUST_USE;

/* Takes a task out; what others hold of it stays. */
enum status evolve_remove(struct evolve *evolve, const char *name) MUST_USE;

/* The path that a task keeps. USAGE error if there is none. */
enum status evolve_find(struct evolve *evolve, const char *name, const struct path **path) MUST_USE;

/* A task's path as a checkpoint in a folder, as of a run. */
enum status evolve_export(struct evolve *evolve, const char *name, const char *folder) MUST_USE;

/* A visit, from its children to the state behind it. `children` and `results` are room for a generation. */
enum status evolve_visit(struct evolve *evolve, int task, struct child *children,
                         struct trial_result *results) MUST_USE;

/* The first rank's text on all of world; NULL stays NULL. */
enum status evolve_share_text(struct evolve *evolve, char **text) MUST_USE;

/* The system as the newest state has it. */
enum status evolve_read_again(struct evolve *evolve) MUST_USE;

/* The generation of a visit: trains what is not finished yet. */
enum status evolve_generation(struct evolve *evolve, struct visit *visit, struct child *children,
                              struct trial_result *results) MUST_USE;

/* Writes the state, and removes what it no longer names. */
enum status evolve_publish(struct evolve *evolve) MUST_USE;

/* Tables and graphs of a state, to standard output; for one rank. */
enum status evolve_show_status(const struct system *system) MUST_USE;
/* Writes RUN/report/index.html. */
enum status evolve_show_page(const struct evolve *evolve) MUST_USE;
enum status evolve_show_lineage(const struct system *system, const char *path) MUST_USE;

#endif
