/* A trainer's state to and from checkpoints. Collective, agreed status. */
#ifndef CAIRN_TRAIN_STATE_H
#define CAIRN_TRAIN_STATE_H

#include "io/checkpoint/checkpoint.h"
#include "src/train/streams.h"
#include "src/train/trainer.h"

/* streams: memories that are carried, or NULL. */
enum status state_save(struct trainer *trainer, const struct streams *streams, const char *folder) MUST_USE;

/* Parameters, and if the trainer trains also moments, progress and (unless NULL) the streams' memories. USAGE error if
 * the file holds another model. */
enum status state_load(struct trainer *trainer, struct streams *streams, const char *path) MUST_USE;

#endif
