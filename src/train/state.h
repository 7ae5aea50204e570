/* A trainer's state to and from checkpoints. Collective, agreed status. */
#ifndef CAIRN_TRAIN_STATE_H
#define CAIRN_TRAIN_STATE_H

#include "io/checkpoint/checkpoint.h"
#include "src/train/trainer.h"

enum status state_save(struct trainer *trainer, const char *folder) MUST_USE;

/* Parameters, and if the trainer trains also moments and progress. USAGE error if the file holds another model. */
enum status state_load(struct trainer *trainer, const char *path) MUST_USE;

#endif
