/* A page about training runs: what metrics.jsonl says of one or several of them, over each other. For one process. */
#ifndef CAIRN_STUDY_RUNS_H
#define CAIRN_STUDY_RUNS_H

#include <stdio.h>

#include "src/core/context.h"

enum { RUNS_MOST = 16 };

/* Reads each run (its folder, or a metrics.jsonl) and writes index.html and plots/ to `output`, or to the folder
 * `report` of the first run when that is NULL; the summary goes to `out` besides. FILE error, with the name, for a run
 * that cannot be read or has no steps. */
enum status runs_report(struct context *context, const char *const *names, int count, const char *output,
                        FILE *out) MUST_USE;

/* Writes what each run's metrics.jsonl and config.yaml say to an event file of TensorBoard, in a folder of its own name
 * in `folder`. FILE error. */
enum status runs_events(struct context *context, const char *const *names, int count, const char *folder) MUST_USE;

#endif
