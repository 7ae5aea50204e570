/* Which parameters stay as they are. */
#ifndef CAIRN_SESSION_FREEZE_H
#define CAIRN_SESSION_FREEZE_H

#include "src/core/config.h"
#include "src/tensor/parameter.h"

/* Freezes those that a pattern of training.freeze matches; if training.train_only has patterns, all that none of these
 * matches; and with model.lora all but the LoRA maps and what those patterns match. Patterns are those of a shell
 * (fnmatch) over whole names. USAGE error if a pattern matches nothing, or nothing is left to train. Local; every rank
 * comes to the same verdict. */
enum status freeze_parameters(struct context *context, const struct config *config,
                              struct parameter_list *list) MUST_USE;

#endif
