/* Visits without an order between tasks (evolve.schedule: asynchronous): each group is the agent of tasks of its own,
 * visits them one after the other, and reads what the others have finished. Nobody waits, so results depend on time. */
#ifndef CAIRN_EVOLVE_AGENTS_H
#define CAIRN_EVOLVE_AGENTS_H

#include "src/evolve/evolve.h"

/* Visits until every task has had evolve.iterations of them, then makes one state of all. Collective over all ranks;
 * agreed status. */
enum status agents_run(struct evolve *evolve) MUST_USE;

/* Takes up what agents have finished, from RUN/agents; nothing where there are none. Collective over evolve->world;
 * agreed status. */
enum status agents_take_up(struct evolve *evolve) MUST_USE;

/* The end of a visit of evolve->agent: RUN/agents/TASK/state-... Collective over evolve->world; agreed status. */
enum status agents_publish(struct evolve *evolve) MUST_USE;

#endif
