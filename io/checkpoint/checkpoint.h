/* Checkpoints: one HDF5 file, written and read by all ranks in parallel, that does not depend on the mesh
 * (formats.md, "Checkpoint"). A file is complete or absent, and every byte of it is covered by a hash. */
#ifndef CAIRN_IO_CHECKPOINT_H
#define CAIRN_IO_CHECKPOINT_H

#include "dist/mesh/mesh.h"
#include "src/tensor/tensor.h"

enum { CHECKPOINT_CONFIG_SIZE = 32768, CHECKPOINT_MESH_SIZE = 64, CHECKPOINT_PATH = 768 };

/* The attributes of / and /progress. */
struct checkpoint_header {
    int64_t step;
    int64_t tokens;    /* seen so far */
    int64_t sequences; /* drawn from the training data so far: the data position */
    int64_t skipped;   /* steps skipped because they were not finite */
    int64_t skipped_in_row;
    int64_t seed;     /* of the training data */
    char created[32]; /* UTC, ISO 8601 */
    char mesh[CHECKPOINT_MESH_SIZE];
    char config[CHECKPOINT_CONFIG_SIZE]; /* YAML */
};

/* A box of a dataset and this rank's memory for it, row-major and contiguous. */
struct checkpoint_piece {
    struct box box;
    float *data;
};

/* A dataset and this rank's pieces of it; every element of the dataset is written by exactly one rank. The list of
 * datasets is the same on all ranks, in the same order; pieces may be none. */
struct checkpoint_dataset {
    char name[PARAMETER_NAME + 32]; /* with its group: "/parameters/model.norm.weight" */
    int rank;
    int64_t shape[TENSOR_RANK];
    int piece_count;
    struct checkpoint_piece *pieces;
};

/* Collective over the world; agreed status. Writes FOLDER/step-XXXXXXXX.h5 under a temporary name, flushes it to disk,
 * renames it and points FOLDER/latest at it. On failure the old files are untouched and no partial file is left. */
enum status checkpoint_write(struct context *context, struct mesh *mesh, const char *folder,
                             const struct checkpoint_header *header, const struct checkpoint_dataset *datasets,
                             int count) MUST_USE;

/* Collective; agreed status. FILE error if the file is damaged or not a checkpoint. */
enum status checkpoint_read_header(struct context *context, struct mesh *mesh, const char *path,
                                   struct checkpoint_header *header) MUST_USE;

/* Collective; agreed status. Reads this rank's pieces; a dataset that is missing or has another shape is a FILE error
 * that names it and both shapes. */
enum status checkpoint_read(struct context *context, struct mesh *mesh, const char *path,
                            const struct checkpoint_dataset *datasets, int count) MUST_USE;

/* Collective; agreed status. Recomputes every hash, the work divided among the ranks. FILE error that names what is
 * damaged. */
enum status checkpoint_verify(struct context *context, struct mesh *mesh, const char *path) MUST_USE;

/* Collective; agreed status. The newest checkpoint of a folder that verifies; damaged ones are named in the log and
 * passed over. found is false when there is none. Changes nothing, so it may look into the folder of a running job. */
enum status checkpoint_find(struct context *context, struct mesh *mesh, const char *folder, bool *found,
                            char path[CHECKPOINT_PATH]) MUST_USE;

/* Rank 0 removes what interrupted writes left: only for the run that the folder belongs to. */
void checkpoint_clean(struct context *context, struct mesh *mesh, const char *folder);

/* Rank 0 removes old checkpoints: keeps the newest keep_last, and all whose step keep_every (if not 0) divides. */
void checkpoint_prune(struct context *context, struct mesh *mesh, const char *folder, int64_t keep_last,
                      int64_t keep_every);

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

#endif
