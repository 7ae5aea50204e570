/* What a run would take on a mesh, and which meshes there are. Nothing is made but one rank at a time, dry. */
#ifndef CAIRN_PLAN_H
#define CAIRN_PLAN_H

#include <jansson.h>

#include "src/core/notice.h"
#include "src/plan/busy.h"
#include "src/plan/network.h"
#include "src/plan/rates.h"

enum { PLAN_STAGES = 8, PLAN_REASON = 256 };

/* The largest rank of a stage. */
struct plan_stage {
    int stage;
    int64_t memory[MEMORY_KINDS];
    int64_t memory_total; /* the most held at once */
    int64_t parameters;
    struct mesh_traffic traffic[MESH_AXES]; /* of a step */
    double direction_flops;                 /* of a step: products and factors of the optimiser's matrices */
};

struct plan {
    struct mesh_config mesh;
    int ranks;
    char reason[PLAN_REASON]; /* why the mesh cannot split the model; empty where it can */
    int stages;               /* that were counted: all, or of many the first, the last and some between */
    struct plan_stage stage[PLAN_STAGES];
    int largest; /* of them, the one that holds most */
    int64_t micro_batches;
    double compute;       /* seconds of the busiest stage's passes, without communication and waiting */
    double communication; /* seconds that its passes spend in collectives */
    double pipeline;      /* seconds until all passes are done: the schedule, simulated */
    double bubble;        /* share of it in which stages wait for each other */
    double update;        /* seconds behind it: sums of gradients that stay visible, optimiser, parameters gathered */
    double step;          /* seconds of a step */
    double tokens_per_second;
};

/* What plans are made with, and what was measured for them so far. */
struct planner {
    struct context *context;
    const struct team *team; /* that measures; NULL: nothing is measured on a mesh */
    const struct config *config;
    int cores; /* of a host */
    struct network network;
    struct planner_rates *rates; /* by the shapes of layers */
    int rates_count;
    struct busy busy; /* the machine while they were measured */
    struct notice notice;
    double done, all; /* meshes, for the notice */
};

/* config outlives the planner. */
enum status planner_create(struct context *context, const struct config *config, struct planner *planner) MUST_USE;
void planner_destroy(struct planner *planner);

/* Threads of a rank, as a run would choose them. */
int planner_threads(const struct planner *planner, const struct mesh_config *mesh);

/* A mesh that cannot split the model is no failure: it has a reason. `mesh` is resolved. */
enum status plan_make(struct planner *planner, const struct mesh_config *mesh, struct plan *plan) MUST_USE;

/* All meshes of so many ranks. *meshes is freed with memory_free. */
enum status plan_list_meshes(struct planner *planner, int ranks, struct mesh_config **meshes, int *count) MUST_USE;

/* Their plans, fastest first, those with a reason last. *plans is freed with memory_free. */
enum status plan_make_all(struct planner *planner, int ranks, struct plan **plans, int *count) MUST_USE;

/* Prints the parameters by what they are for, beside those of the same model without memories, routers, learned
 * residuals and shared layers, and the operations of a token. */
enum status plan_parameters(struct context *context, const struct config *config, bool json) MUST_USE;

/* Tables for people. */
void plan_print(const struct planner *planner, const struct plan *plan);
void plan_print_all(const struct planner *planner, const struct plan *plans, int count);

/* The same for machines. */
json_t *plan_json(const struct planner *planner, const struct plan *plan);
json_t *plan_basis_json(const struct planner *planner);

/* Writes a job file that trains `path` with these overrides on the plan's mesh. FILE error. */
enum status plan_write_job(const struct planner *planner, const struct plan *plan, const char *path,
                           const char *const *overrides, int override_count, const char *file) MUST_USE;

#endif
