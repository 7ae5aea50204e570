/* The folder of a run that begins with a checkpoint which a command makes. */
#ifndef CAIRN_CLI_NEW_RUN_H
#define CAIRN_CLI_NEW_RUN_H

#include "io/checkpoint/checkpoint.h"
#include "io/lock/lock.h"

struct new_run {
    const char *output;
    char folder[CHECKPOINT_PATH]; /* of checkpoints */
    struct lock *lock;            /* rank 0 only */
};

/* Where a run of its own begins: USAGE error if it holds checkpoints, for nothing that is there may be hidden. Local.
 */
enum status new_run_find(struct context *context, const char *output, struct new_run *run) MUST_USE;

/* On rank 0: makes the folder; nobody else may begin a run there meanwhile. */
enum status new_run_take(struct context *context, struct new_run *run) MUST_USE;
void new_run_release(struct new_run *run);

#endif
