/* Event files of TensorBoard, from lines of metrics: records of protocol buffers, each framed by its length and masked
 * CRC-32C sums. Numbers become scalars, lists histograms, texts texts; settings are shown by its HParams page. Of a
 * folder's files TensorBoard reads the newest, and forgets what stands behind the step at which that begins. By one
 * rank; a file that cannot be written is told once, and given up: metrics.jsonl has it all. */
#ifndef CAIRN_IO_EVENTS_H
#define CAIRN_IO_EVENTS_H

#include <jansson.h>

#include "src/core/context.h"

struct events;

/* Makes a file in the folder, which is there, of which the first new step is `step`. FILE error. To be destroyed
 * whatever comes back. */
enum status events_create(struct context *context, const char *folder, int64_t step, struct events **events) MUST_USE;
void events_destroy(struct events **events);

/* All settings, once: events_setting for each, with its value as `cairn config` shows it, then events_settings_end. */
void events_setting(struct events *events, const char *key, const char *value);
void events_settings_end(struct events *events);

/* The fields of a line with "step" and "time"; a line without is passed over. */
void events_line(struct events *events, const json_t *object);

/* The next line is of `step`, where the run goes on after it went back. */
void events_restart(struct events *events, int64_t step);

#endif
