/* A trainer's state to and from checkpoints. Collective, agreed status, unless said otherwise. */
#ifndef CAIRN_TRAIN_STATE_H
#define CAIRN_TRAIN_STATE_H

#include "io/checkpoint/checkpoint.h"
#include "src/session/state_list.h"
#include "src/train/trainer.h"

/* What this rank writes of all that a checkpoint holds. Pieces of parameters and moments are the trainer's own memory;
 * header and what rows carry are copies as of the last fill. */
struct state_image {
    const struct model *model;
    struct checkpoint_header *header;
    struct state_list list;
    void *carried; /* the model's image of what rows carry; NULL: nothing */
};

/* state: what rows carry, or NULL; always the same. To be destroyed whatever comes back. All local. */
enum status state_image_create(struct trainer *trainer, const struct model_state *state,
                               struct state_image *image) MUST_USE;
void state_image_destroy(struct context *context, struct state_image *image);
enum status state_image_fill(const struct trainer *trainer, const struct model_state *state,
                             struct state_image *image) MUST_USE;

/* state: what rows carry, or NULL. */
enum status state_save(struct trainer *trainer, const struct model_state *state, const char *folder) MUST_USE;

/* Parameters, moments, progress and (unless NULL) what rows carry, which stays as it is when the file was written with
 * other streams. USAGE error if the file holds another model. */
enum status state_load(struct trainer *trainer, struct model_state *state, const char *path) MUST_USE;

/* Reads the parameters of another model: dataset names[i] of /parameters into parameter i of those that count in the
 * session's list, none where that is empty. They go to `values`, [replica_state_count] in the order of the shards. FILE
 * error if one is missing or has another shape. */
enum status state_read_values(struct trainer *trainer, const char *path, char (*names)[PARAMETER_NAME],
                              float *values) MUST_USE;

#endif
