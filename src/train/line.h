/* One line of history: which checkpoint a start goes on from, and that nothing of another line stays in its way. */
#ifndef CAIRN_TRAIN_LINE_H
#define CAIRN_TRAIN_LINE_H

#include "io/checkpoint/checkpoint.h"
#include "src/train/train.h"

struct line {
    bool found;   /* there is something to go on from */
    bool own;     /* it is a checkpoint of the run's folder */
    bool anew;    /* what the folder holds belongs to another line, all of it */
    bool brought; /* a checkpoint from elsewhere: the folder's own belong to another line */
    char path[CHECKPOINT_PATH];
    char instruction[CHECKPOINT_PATH + 160]; /* what was followed: to be noted; empty: nothing */
};

/* Where a start begins that was told `resume`. An instruction to go back (none, a file) that an earlier start with the
 * same settings has followed is not followed again once the run has a checkpoint that came after it, so that the same
 * command can be started again and again: with resume->anew it is. Collective; agreed status. */
enum status line_choose(struct context *context, struct mesh *mesh, const struct config *config,
                        const struct resume *resume, struct line *line) MUST_USE;

/* Before the first step after `step`: sets aside what the folder has of other lines (told, nothing is removed). For the
 * rank that writes; local. */
enum status line_begin(struct context *context, const struct config *config, const struct line *line,
                       int64_t step) MUST_USE;

/* Notes the instruction, if there was one, in RUN/resumed. FILE error if it cannot be written. Local, as above. */
enum status line_note(struct context *context, const struct config *config, const struct line *line,
                      int64_t step) MUST_USE;

#endif
