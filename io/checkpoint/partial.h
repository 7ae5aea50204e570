/* A checkpoint in the making: the file under its temporary name. What the first rank does with it; serial. */
#ifndef CAIRN_IO_CHECKPOINT_PARTIAL_H
#define CAIRN_IO_CHECKPOINT_PARTIAL_H

#include "io/checkpoint/checkpoint.h"
#include "io/checkpoint/folder.h"

/* Where the elements are in the file; of PARTIAL_PLACE numbers, for ranks to tell each other. */
enum { PARTIAL_PLACE = 4 };
struct partial_place {
    int64_t begin;
    int64_t end;
    int64_t size;     /* of the file */
    int64_t reserved; /* 1: the disk has the space */
};

struct partial {
    const char *folder;
    char name[FOLDER_NAME];
    char path[CHECKPOINT_PATH];    /* that it will have */
    char partial[CHECKPOINT_PATH]; /* that it has until then */
    struct partial_place place;
};

/* Fills in the names. FILE error if they are too long. */
enum status partial_name(struct context *context, const char *folder, int64_t step, struct partial *partial) MUST_USE;

/* Refuses a disk with too little space if check_space, and takes the space if reserve_space and the file system can. */
struct partial_tuning {
    bool check_space;
    bool reserve_space;
};

/* Makes the file with all but its elements; `offsets` are those of the datasets. A header without a time of creation
 * gets the present one. */
enum status partial_create(struct context *context, const struct checkpoint_header *header,
                           const struct state_array *datasets, int count, const uint64_t *hashes,
                           struct partial_tuning tuning, int64_t *offsets, struct partial *partial) MUST_USE;

/* The elements are on disk: the file becomes a checkpoint, and the newest. Without HDF5. */
enum status partial_finish(struct context *context, const struct partial *partial) MUST_USE;

#endif
