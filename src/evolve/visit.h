/* A visit of a task: its population, where children come from, how they differ from their parents, and which stay
 * (README.md). Every rank runs the same; nothing here depends on ranks or on time. */
#ifndef CAIRN_EVOLVE_VISIT_H
#define CAIRN_EVOLVE_VISIT_H

#include "src/evolve/system.h"

enum { VISIT_NOTES = 512 };

/* Of one generation, shared by its children. */
struct shared_values {
    int value[HYPERS]; /* of which those of the data count */
    signed char act[HYPERS];
};

struct child {
    struct path path;
    double bar;              /* score from which on values are kept */
    char notes[VISIT_NOTES]; /* how it differs from its parent: "lr 0.01 -> 0.02, copies layers.1" */
};

struct visit {
    struct system *system;
    int task;
    int64_t iteration; /* from 1 */
    int generation;    /* from 1; 0 before the first */
    struct shared_values shared;
    int64_t *seeds; /* [seed_count] ids of paths, in their order */
    int seed_count;
};

/* The task's own locks are off for its length. */
enum status visit_begin(struct system *system, int task, int64_t iteration, struct visit *visit) MUST_USE;
void visit_destroy(struct visit *visit);

/* The next generation: what its children share. */
void visit_generation(struct visit *visit);

/* Child `index` (from 1) of it, after those before it. Its new components are in the system. */
enum status visit_sample(struct visit *visit, int index, struct child *child) MUST_USE;

/* A child of which values were kept, at this quality. */
enum status visit_accept(struct visit *visit, struct child *child, double quality) MUST_USE;

/* The best path; NULL if the task has none. */
const struct path *visit_best(const struct visit *visit);

/* Keeps the best path, forgets the rest, scores all tasks anew. */
enum status visit_end(struct visit *visit) MUST_USE;

/* The key of random numbers: by seed, iteration, task, generation, child and purpose. */
uint64_t visit_key(const struct visit *visit, int child, const char *purpose);

#endif
