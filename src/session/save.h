/* A session's parameters to a checkpoint, and the part of a checkpoint's header that does not count steps. */
#ifndef CAIRN_SESSION_SAVE_H
#define CAIRN_SESSION_SAVE_H

#include "io/checkpoint/checkpoint.h"
#include "src/session/session.h"

/* Settings, mesh, time and data, in a header. `lines`: comments behind the settings; `facts`: what a model has to know
 * of its data; either may be NULL. USAGE error if the settings are too long. Local. */
enum status header_describe(struct context *context, const struct mesh *mesh, const struct config *config,
                            const char *lines, const char *facts, struct checkpoint_header *header) MUST_USE;

/* Writes parameters and buffers as step 0 into a folder. facts: as above. Collective; agreed status. */
enum status session_save(const struct session *session, const char *facts, const char *folder) MUST_USE;

#endif
