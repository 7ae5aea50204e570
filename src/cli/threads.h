/* Which cores the ranks and threads of a run have, and pinning threads to them. */
#ifndef CAIRN_CLI_THREADS_H
#define CAIRN_CLI_THREADS_H

#include "dist/mesh/mesh.h"
#include "src/ops/engine.h"

/* Says for each host: ranks, threads, cores they may use, instruction set; hosts that are alike share a line. Warns
 * where threads exceed cores. Pins threads where their cores are certain to be theirs. Collective over the team. */
enum status threads_settle(struct context *context, struct mesh *mesh, struct engine *engine) MUST_USE;

#endif
