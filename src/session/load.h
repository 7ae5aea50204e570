/* A model's parameters from a checkpoint. */
#ifndef CAIRN_SESSION_LOAD_H
#define CAIRN_SESSION_LOAD_H

#include "src/session/session.h"

/* Parameters and buffers. USAGE error if the file holds another model. Collective; agreed status. */
enum status session_load(struct session *session, const char *path) MUST_USE;

/* Names the parameters and buffers of a session; of one that does not train, with the averages of parameters in their
 * place where training.average asks for them and a file has them. */
enum status session_visit(const struct session *session, const struct state_visitor *visitor) MUST_USE;

#endif
