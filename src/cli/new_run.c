#include "src/cli/new_run.h"

#include <stdio.h>
#include <unistd.h>

#include "src/train/run_folder.h"

enum status new_run_find(struct context *context, const char *output, struct new_run *run)
{
    char latest[CHECKPOINT_PATH + 16];
    run->output = output;
    int length = snprintf(run->folder, sizeof run->folder, "%s/checkpoints", output);
    if (length >= (int)sizeof run->folder)
        return context_fail(context, STATUS_USAGE, "%s: the name is too long", output);
    snprintf(latest, sizeof latest, "%s/latest", run->folder);
    if (access(latest, F_OK) == 0)
        return context_fail(context, STATUS_USAGE, "%s: holds checkpoints of a run; name another folder", output);
    return STATUS_OK;
}

enum status new_run_take(struct context *context, struct new_run *run)
{
    CHECK(run_folder_make(context, run->output));
    CHECK(lock_take(context, run->output, &run->lock));
    return new_run_find(context, run->output, run);
}

void new_run_release(struct new_run *run)
{
    lock_release(&run->lock);
}
