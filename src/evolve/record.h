/* The state of a system as a file: RUN/state-000012.json, named by the number of visits. RUN/latest names the newest,
 * and is replaced last; older ones stay as they are. For the rank that writes; local. */
#ifndef CAIRN_EVOLVE_RECORD_H
#define CAIRN_EVOLVE_RECORD_H

#include <jansson.h>

#include "src/evolve/system.h"

/* `settings` are those of the run, `history` rows of all children. The text has no times in it. Keeps the newest
 * `keep` states. FILE error. */
enum status record_write(const struct system *system, const char *folder, const char *settings, const json_t *history,
                         int64_t keep) MUST_USE;

/* The text of the newest state, to be freed by memory_free; NULL if there is none yet. FILE error. */
enum status record_find(struct context *context, const char *folder, char **text) MUST_USE;

/* Of a text: the settings (memory_free) and the history, which may be NULL. FILE error if it is damaged. */
enum status record_settings(struct context *context, const char *text, char **settings, json_t **history) MUST_USE;

/* The rest, into a system that knows its space. */
enum status record_read(struct system *system, const char *text) MUST_USE;

#endif
