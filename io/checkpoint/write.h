/* What the tests of checkpoint_write change. */
#ifndef CAIRN_IO_CHECKPOINT_WRITE_H
#define CAIRN_IO_CHECKPOINT_WRITE_H

#include "io/checkpoint/checkpoint.h"

enum write_method { WRITE_AS_FITS, WRITE_TOGETHER, WRITE_ALONE };

struct write_tuning {
    enum write_method method; /* transfer.h; as fits: together if the space could be reserved */
    int64_t transfer_bytes;   /* the most a rank writes in one call */
    bool check_space;         /* refuse before writing if the disk has too little space */
    bool reserve_space;       /* take the space before the ranks write */
};

/* checkpoint_write with these choices. Collective; agreed status. */
enum status checkpoint_write_tuned(struct context *context, struct mesh *mesh, const char *folder,
                                   const struct checkpoint_header *header, const struct state_array *datasets,
                                   int count, const struct write_tuning *tuning) MUST_USE;

/* The choice of the environment variable CAIRN_CHECKPOINT_IO: collective, individual, or none. */
enum write_method write_method_wanted(void);

/* checkpoint_read with these. Collective; agreed status. */
enum status checkpoint_read_tuned(struct context *context, struct mesh *mesh, const char *path,
                                  const struct state_array *datasets, int count, bool together,
                                  int64_t transfer_bytes) MUST_USE;

#endif
