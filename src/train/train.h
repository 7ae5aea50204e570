/* A training run: data, steps, evaluation, checkpoints, metrics and what the person who watches sees. */
#ifndef CAIRN_TRAIN_TRAIN_H
#define CAIRN_TRAIN_TRAIN_H

#include "dist/mesh/mesh.h"
#include "src/core/config.h"
#include "src/ops/engine.h"

/* Where a run begins: with the folder's newest good checkpoint if there is one (AUTO), anew (NONE), or with a given
 * checkpoint. What the folder holds of another line is moved aside. */
enum resume_kind { RESUME_AUTO, RESUME_NONE, RESUME_FILE };

struct resume {
    enum resume_kind kind;
    const char *path;    /* of RESUME_FILE */
    bool anew;           /* even if an earlier start has followed the same */
    bool accept_changes; /* of settings that break what the checkpoint's run promised */
};

/* Exit status of a program whose run was stopped before its end and wants to be started again: for job scripts. */
enum { TRAIN_AGAIN = 85 };

/* Runs to training.stop_at or training.steps, or until a request or the time limit of the job stops it; then *stopped
 * is set, the step it came to is saved, and the next start goes on from there. The caller holds back the signals that
 * requests.h names. Collective; on failure the status is agreed unless the context says otherwise. */
enum status train_run(struct context *context, struct mesh *mesh, struct engine *engine, const struct config *config,
                      const struct resume *resume, bool *stopped) MUST_USE;

#endif
