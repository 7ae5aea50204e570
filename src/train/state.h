/* A trainer's state to and from checkpoints. Collective, agreed status, unless said otherwise. */
#ifndef CAIRN_TRAIN_STATE_H
#define CAIRN_TRAIN_STATE_H

#include "io/checkpoint/checkpoint.h"
#include "src/train/streams.h"
#include "src/train/trainer.h"

/* Datasets and this rank's pieces of them. */
struct state_list {
    struct checkpoint_dataset *datasets;
    struct checkpoint_piece *pieces;
    struct checkpoint_piece *spare; /* behind those of parameters and moments, room for one */
    int count;
};

/* What this rank writes of all that a checkpoint holds. Pieces of parameters and moments are the trainer's own memory;
 * header and streams' memories are copies as of the last fill. */
struct state_image {
    struct checkpoint_header *header;
    struct state_list list;
    struct streams_image memories;
};

/* streams: memories that are carried, or NULL; always the same ones. To be destroyed whatever comes back. All local. */
enum status state_image_create(struct trainer *trainer, const struct streams *streams,
                               struct state_image *image) MUST_USE;
void state_image_destroy(struct context *context, struct state_image *image);
enum status state_image_fill(const struct trainer *trainer, const struct streams *streams,
                             struct state_image *image) MUST_USE;

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
