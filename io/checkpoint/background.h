/* What the tests of checkpoint_background change. */
#ifndef CAIRN_IO_CHECKPOINT_BACKGROUND_H
#define CAIRN_IO_CHECKPOINT_BACKGROUND_H

#include "io/checkpoint/checkpoint.h"

struct background_tuning {
    bool direct; /* past the system's cache, where that is possible */
    bool check_space;
    bool reserve_space;
};

/* checkpoint_background_create with these choices. Collective; agreed status. */
enum status background_create_tuned(struct context *context, struct mesh *mesh, const struct state_array *datasets,
                                    int count, const struct background_tuning *tuning,
                                    struct checkpoint_background **background) MUST_USE;

#endif
