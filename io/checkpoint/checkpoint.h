/* Checkpoints: one HDF5 file, written and read by all ranks in parallel, that does not depend on the mesh
 * (io/README.md, Checkpoint). A file is complete or absent, and every byte of it is covered by a hash. */
#ifndef CAIRN_IO_CHECKPOINT_H
#define CAIRN_IO_CHECKPOINT_H

#include "dist/mesh/mesh.h"
#include "src/tensor/state.h"

enum { CHECKPOINT_CONFIG_SIZE = 32768, CHECKPOINT_DATA_SIZE = 32768, CHECKPOINT_MESH_SIZE = 64, CHECKPOINT_PATH = 768 };

/* The attributes of / and /progress. */
struct checkpoint_header {
    int64_t step;
    int64_t tokens;    /* read so far, without padding */
    int64_t sequences; /* drawn from the training data so far: the data position */
    int64_t skipped;   /* steps skipped because they were not finite */
    int64_t skipped_in_row;
    int64_t updates;   /* of the parameters; in files without it, step - skipped */
    double loss_limit; /* beyond which the run takes a loss for a sign of ruin; infinity in files without it */
    int64_t seed;      /* of the training data */
    char created[32];  /* UTC, ISO 8601 */
    char mesh[CHECKPOINT_MESH_SIZE];
    char config[CHECKPOINT_CONFIG_SIZE]; /* YAML */
    char data[CHECKPOINT_DATA_SIZE];     /* what the model has to know of its data, JSON; empty: nothing */
};

/* Of all elements of the datasets, on all ranks together. */
int64_t checkpoint_bytes(const struct state_array *datasets, int count);

/* Collective over the team; agreed status. Writes FOLDER/step-XXXXXXXX.h5 under a temporary name, flushes it to disk,
 * renames it and points FOLDER/latest at it. On failure the old files are untouched and no partial file is left. */
enum status checkpoint_write(struct context *context, struct mesh *mesh, const char *folder,
                             const struct checkpoint_header *header, const struct state_array *datasets,
                             int count) MUST_USE;

/* A checkpoint that is written while its elements change: a thread of its own copies this rank's pieces, hashes and
 * writes them, and makes the file a checkpoint. It calls neither MPI nor HDF5. One checkpoint at a time. */
struct checkpoint_background;

/* Takes the memory (as much as the pieces have, and little more) and starts the thread. `datasets` must outlive it.
 * Collective over the team; agreed status. */
enum status checkpoint_background_create(struct context *context, struct mesh *mesh, const struct state_array *datasets,
                                         int count, struct checkpoint_background **background) MUST_USE;

/* Gives up what is on its way, and removes its file. Local. */
void checkpoint_background_destroy(struct checkpoint_background **background);

/* What happens when a file is complete: checkpoint_prune with these. `folder` must outlive the writing. */
struct checkpoint_target {
    const char *folder;
    int64_t keep_last;
    int64_t keep_every;
};

/* Creates the file and starts copying; none may be active. Collective over the team; agreed status. */
enum status checkpoint_background_begin(struct checkpoint_background *background,
                                        const struct checkpoint_target *target,
                                        const struct checkpoint_header *header) MUST_USE;

/* Waits until the pieces have been copied: before they change. At once if none is active. Local. */
void checkpoint_background_wait_copied(struct checkpoint_background *background);

/* One has begun and is not complete. The same on all ranks. */
bool checkpoint_background_active(const struct checkpoint_background *background);

/* This rank's thread is at work. Local; _wait returns when it no longer is. */
bool checkpoint_background_busy(struct checkpoint_background *background);
void checkpoint_background_wait(struct checkpoint_background *background);

struct checkpoint_progress {
    bool complete;  /* this one is no longer active: it is there, or it failed */
    int64_t bytes;  /* of elements in the file */
    double copied;  /* seconds until the copy was taken, of the slowest rank */
    double written; /* seconds until all was on disk, copying and hashing included, of the slowest rank */
    double held;    /* seconds that callers spent in these functions, of the slowest rank */
};

/* Goes on with an active one when no rank is busy: it takes two such calls to complete it. When it fails its file is
 * removed, and it is complete. Collective over the team; agreed status. */
enum status checkpoint_background_advance(struct checkpoint_background *background,
                                          struct checkpoint_progress *progress) MUST_USE;

/* Collective; agreed status. FILE error if the file is damaged or not a checkpoint. */
enum status checkpoint_read_header(struct context *context, struct mesh *mesh, const char *path,
                                   struct checkpoint_header *header) MUST_USE;

/* A dataset of a file. */
struct checkpoint_dataset {
    char name[STATE_NAME];
    int rank;
    int64_t shape[TENSOR_RANK];
    bool doubles; /* as in struct state_array */
};

/* Collective; agreed status. What is in the file, in the order in which it was written; to be freed with memory_free.
 * FILE error if it is damaged or not a checkpoint. */
enum status checkpoint_list(struct context *context, struct mesh *mesh, const char *path,
                            struct checkpoint_dataset **datasets, int *count) MUST_USE;

/* Collective; agreed status. The steps of which a folder has checkpoints, good or damaged, largest first; to be freed
 * with memory_free. None if there is no folder. */
enum status checkpoint_steps(struct context *context, struct mesh *mesh, const char *folder, int64_t **steps,
                             int64_t *count) MUST_USE;

/* Collective; agreed status. Reads this rank's pieces; a dataset that is missing or has another shape is a FILE error
 * that names it and both shapes. */
enum status checkpoint_read(struct context *context, struct mesh *mesh, const char *path,
                            const struct state_array *datasets, int count) MUST_USE;

/* Collective; agreed status. Recomputes every hash, the work divided among the ranks. FILE error that names what is
 * damaged. */
enum status checkpoint_verify(struct context *context, struct mesh *mesh, const char *path) MUST_USE;

/* Collective; agreed status. The newest checkpoint of a folder that verifies; damaged ones are named in the log and
 * passed over. found is false when there is none. Changes nothing, so it may look into the folder of a running job. */
enum status checkpoint_find(struct context *context, struct mesh *mesh, const char *folder, bool *found,
                            char path[CHECKPOINT_PATH]) MUST_USE;

/* The same among those of a step before `before`. */
enum status checkpoint_find_before(struct context *context, struct mesh *mesh, const char *folder, int64_t before,
                                   bool *found, char path[CHECKPOINT_PATH]) MUST_USE;

/* Moves those of later steps than `step`, which the run has gone back behind, to the folder `aside`, which is made for
 * the first of them; told in the log. FOLDER/latest names what stays. Not collective: for the rank that writes. */
enum status checkpoint_set_aside(struct context *context, const char *folder, int64_t step, const char *aside) MUST_USE;

/* The step in the name of a file that checkpoint_write made; -1 for other names. */
int64_t checkpoint_step(const char *path);

/* Rank 0 removes what interrupted writes left: only for the run that the folder belongs to. */
void checkpoint_clean(struct context *context, struct mesh *mesh, const char *folder);

/* Rank 0 removes old checkpoints: keeps the newest keep_last, and all whose step keep_every (if not 0) divides. */
void checkpoint_prune(struct context *context, struct mesh *mesh, const char *folder, int64_t keep_last,
                      int64_t keep_every);

/* The checkpoint that a name stands for, verified: a file itself, which all ranks must see alike; of a run's folder or
 * a folder of checkpoints the newest that is good. FILE error if there is none. Collective; agreed status. */
enum status checkpoint_named(struct context *context, struct mesh *mesh, const char *name,
                             char path[CHECKPOINT_PATH]) MUST_USE;

/* The checkpoint that a name stands for: a file itself, of a run's folder or a folder of checkpoints the newest, be it
 * damaged or not. Not collective. FILE error if there is none. */
enum status checkpoint_newest(struct context *context, const char *name, char path[CHECKPOINT_PATH]) MUST_USE;

/* The tools behind `cairn checkpoint`; on one rank, not collective. inspect prints header, datasets and what
 * memories hold: a summary for each layer, or with `verbose` each stream and head. */
enum status checkpoint_inspect(struct context *context, const char *path, bool verbose) MUST_USE;

struct checkpoint_difference {
    int64_t datasets;  /* compared */
    int64_t different; /* of them */
    double largest;    /* max |a - b| / max |b| over datasets; infinity where shapes differ or one is missing */
};

/* Prints a line for each dataset that differs by more than tolerance (norm-wise, max |a - b| / max |b|). */
enum status checkpoint_diff(struct context *context, const char *path_a, const char *path_b, double tolerance,
                            struct checkpoint_difference *difference) MUST_USE;

/* The version of the HDF5 library that runs. Needs no MPI that has begun. */
void checkpoint_library_version(char *text, size_t size);

#endif
