/* Makes metrics.jsonl one that a run can go on from. */
#ifndef CAIRN_IO_METRICS_CONTINUE_H
#define CAIRN_IO_METRICS_CONTINUE_H

#include <jansson.h>

#include "src/core/context.h"

/* The step of a line's object; -1 if it has none, or there is no object. */
int64_t metrics_step(const json_t *object);

/* As metrics_open says; the fields of lines of exactly that step come into `last`. */
enum status metrics_continue(struct context *context, const char *path, int64_t step, const char *aside,
                             json_t *last) MUST_USE;

#endif
