/* A session's parameters and buffers from and to folders of other programs. */
#ifndef CAIRN_SESSION_EXCHANGE_H
#define CAIRN_SESSION_EXCHANGE_H

#include "io/exchange/exchange.h"
#include "src/session/session.h"

/* Takes the values of a folder. FILE error if it lacks something, or holds what the model has no place for. Collective;
 * agreed status. */
enum status session_import(struct session *session, const char *path) MUST_USE;

/* Writes tensors, config.json, and what stands beside it, into a folder that is there; card->family and card->model are
 * filled in. USAGE error if other programs do not compute such a model. Collective; agreed status. */
enum status session_export(struct session *session, const char *path, int64_t shard_bytes,
                           struct exchange_card *card) MUST_USE;

#endif
