/* The names in a folder of checkpoints, and which of them there are. Serial. */
#ifndef CAIRN_IO_CHECKPOINT_FOLDER_H
#define CAIRN_IO_CHECKPOINT_FOLDER_H

#include "io/checkpoint/checkpoint.h"

enum { FOLDER_NAME = 64 };

/* The file's name, its path and the path it has while it is written. FILE error if they are too long. */
enum status folder_paths(struct context *context, const char *folder, int64_t step, char name[FOLDER_NAME],
                         char path[CHECKPOINT_PATH], char partial[CHECKPOINT_PATH]) MUST_USE;

/* The steps of which the folder has checkpoints, largest first; free them with memory_free. None if there is no
 * folder. */
enum status folder_steps(struct context *context, const char *folder, int64_t **steps, int *count) MUST_USE;

/* Removes old checkpoints, as checkpoint_prune says; what cannot be removed is named in the log. */
void folder_prune(const struct context *context, const char *folder, int64_t keep_last, int64_t keep_every);

/* Removes what interrupted writes left. */
void folder_clean(const struct context *context, const char *folder);

#endif
