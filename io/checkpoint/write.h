/* What the tests of checkpoint_write change. */
#ifndef CAIRN_IO_CHECKPOINT_WRITE_H
#define CAIRN_IO_CHECKPOINT_WRITE_H

#include "io/checkpoint/checkpoint.h"

struct write_tuning {
    int64_t transfer_bytes; /* the most a rank writes in one call */
    bool check_space;       /* refuse before writing if the disk has too little space */
    bool reserve_space;     /* take the space before the ranks write */
};

/* checkpoint_write with these choices. Collective; agreed status. */
enum status checkpoint_write_tuned(struct context *context, struct mesh *mesh, const char *folder,
                                   const struct checkpoint_header *header, const struct checkpoint_dataset *datasets,
                                   int count, const struct write_tuning *tuning) MUST_USE;

/* checkpoint_read with at most so many bytes a call. Collective; agreed status. */
enum status checkpoint_read_tuned(struct context *context, struct mesh *mesh, const char *path,
                                  const struct checkpoint_dataset *datasets, int count,
                                  int64_t transfer_bytes) MUST_USE;

#endif
