/* A small model that ranks divide in many ways, for tests of checkpoints. */
#ifndef CAIRN_TESTS_CHECKPOINT_WORLD_H
#define CAIRN_TESTS_CHECKPOINT_WORLD_H

#include "tests/support/support.h"

#include "io/checkpoint/verify.h"
#include "io/checkpoint/write.h"
#include "tests/mpi/checkpoint_division.h"

enum { DATASETS = 9, LARGEST = 160 };

struct world {
    struct context context;
    struct team *team;
    struct mesh *mesh;
    int rank;
    int size;
    char folder[CHECKPOINT_PATH];
};

struct model_dataset {
    const char *name;
    int rank;
    int64_t shape[TENSOR_RANK];
};

extern const struct model_dataset MODEL[DATASETS];

/* This rank's pieces of all datasets and memory for them; `whole` holds the right values of each. */
struct model {
    struct state_array datasets[DATASETS];
    struct state_piece pieces[DATASETS][PIECES];
    float memory[DATASETS][2 * LARGEST];
    float whole[DATASETS][LARGEST];
};

int64_t shape_count(int rank, const int64_t *shape);

/* Dataset i is divided in way (i + shift) % DIVISIONS; for the caller to free. */
struct model *model_create(const struct world *world, int shift, bool fill);

/* The pieces hold the right values. */
void model_assert(const struct model *model);

struct checkpoint_header *header_create(int64_t step);

/* Collective. */
void write_step(struct world *world, const char *folder, int64_t step, int shift);

void path_of(const char *folder, int64_t step, char path[CHECKPOINT_PATH]);

/* A folder of its own for each test, below the one that is removed in the end. */
void folder_of(const struct world *world, const char *name, char folder[CHECKPOINT_PATH]);

int64_t file_size(const char *path);
void file_change(const char *path, int64_t offset, unsigned char mask);

/* Damages a file on rank 0 between two barriers. */
void file_change_first(struct world *world, const char *path, int64_t offset);

/* A test program's main; the tests find the world in their state. */
int world_run(int argc, char **argv, int (*run)(struct world *world));

#endif
