/* Settings that are others than those of the checkpoint which a start goes on from. */
#ifndef CAIRN_TRAIN_CHANGES_H
#define CAIRN_TRAIN_CHANGES_H

#include "src/core/config.h"
#include "src/core/context.h"

enum { CHANGES_TEXT = 8192, CHANGES_DATA = 320, CHANGES_CONTENT = 96, DATA_KEYS = 2 };

/* lines [CHANGES_DATA]: what data.train and data.validation hold, `contents`, as comments for the settings that a
 * checkpoint has. Local. */
void changes_describe_data(const char (*contents)[CHANGES_CONTENT], char *lines);

/* Tells each change, from what to what, of settings and of what data files of the same names hold. One that breaks what
 * the run promised (the order of the data, the schedule, the arithmetic of a step) is a USAGE error unless `accept`,
 * or no step was made.
 * lines [CHANGES_TEXT]: the changes for config.yaml, as comments that say after which step they came. Local, the same
 * on all ranks. */
enum status changes_review(struct context *context, const char *path, const char *stored, int64_t step,
                           const struct config *config, const char *data_lines, bool accept, char *lines) MUST_USE;

/* RUN/config.yaml: the settings in full, and behind them as comments how they came to be what they are: those that
 * stand there for steps before `step`, and `lines`. For the rank that writes; local. */
enum status changes_write_config(struct context *context, const struct config *config, int64_t step,
                                 const char *lines) MUST_USE;

#endif
