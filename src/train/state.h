/* A trainer's state to and from checkpoints. Collective, agreed status. */
#ifndef CAIRN_TRAIN_STATE_H
#define CAIRN_TRAIN_STATE_H

#include "io/checkpoint/checkpoint.h"
#include "src/train/streams.h"
#include "src/train/trainer.h"

/* streams: memories that are carried, or NULL. */
enum status state_save(struct trainer *trainer, const struct streams *streams, const char *folder) MUST_USE;

/* Parameters, and if the trainer trains also moments, progress and (unless NULL) the streams' memories, which stay as
 * they are when the file was written with other streams. USAGE error if the file holds another model. */
enum status state_load(struct trainer *trainer, struct streams *streams, const char *path) MUST_USE;

/* Values of parameters from datasets of other names: of spec i of the decoder from /parameters/names[i], none where
 * that is empty. They go to `values`, [replica_state_count] in the order of the shards. FILE error if one is missing or
 * has another shape. */
enum status state_read_values(struct trainer *trainer, const char *path, char (*names)[PARAMETER_NAME],
                              float *values) MUST_USE;

#endif
