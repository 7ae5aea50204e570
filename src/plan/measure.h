/* Plans beside what real steps on their meshes hold, send and take. */
#ifndef CAIRN_PLAN_MEASURE_H
#define CAIRN_PLAN_MEASURE_H

#include "src/plan/plan.h"

struct plan_measured {
    int64_t planned_memory, held_memory; /* of the rank whose account differs most from its plan */
    int64_t held_most;                   /* of any rank */
    int traffic_differs;                 /* ranks whose counters do not say what was planned */
    double seconds, least, most;         /* of steps: the median and the extremes; each the slowest rank's */
};

/* Collective over the team, of as many ranks as the mesh has. Measures messages on the mesh, makes the plan on rank 0
 * while the others rest, and runs `steps` steps after two that do not count; measures and plans again behind them, and
 * takes the mean of both plans' times. Meshes that cannot split the model have a
 * reason and nothing else. plan and measured are meant for rank 0. */
enum status plan_measure(struct planner *planner, const struct mesh_config *mesh, int steps, struct plan *plan,
                         struct plan_measured *measured) MUST_USE;

void plan_print_measured(const struct plan *plans, const struct plan_measured *measured, int count);
json_t *plan_measured_json(const struct plan_measured *measured);

#endif
