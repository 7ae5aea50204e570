/* A model's parameters from a checkpoint. */
#ifndef CAIRN_SESSION_LOAD_H
#define CAIRN_SESSION_LOAD_H

#include "src/session/session.h"

/* Parameters and buffers. USAGE error if the file holds another model. Collective; agreed status. */
enum status session_load(struct session *session, const char *path) MUST_USE;

#endif
