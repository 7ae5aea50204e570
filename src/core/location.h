/* Where the thread that runs the steps is: set by that thread, to be read by any other at any time, for reports of
 * hangs. Setting costs a few plain stores. */
#ifndef CAIRN_CORE_LOCATION_H
#define CAIRN_CORE_LOCATION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum location_work {
    LOCATION_START,
    LOCATION_TRAINING,
    LOCATION_OPTIMIZER,
    LOCATION_EVALUATION,
    LOCATION_CHECKPOINT,
    LOCATION_END, /* of the run */
};

enum location_pass { LOCATION_NO_PASS, LOCATION_FORWARD, LOCATION_BACKWARD };

struct location {
    int64_t step;
    int64_t moves; /* within the step; ranks of the same pipeline stage make the same */
    enum location_work work;
    enum location_pass pass;
    int64_t micro_batch; /* -1: in none */
    int64_t layer;       /* unrolled; -1: in none */
};

/* `where` packs work, pass, micro-batch and layer, `position` step and moves: positions of ranks that run the same
 * program can be compared as numbers. */
struct location_mark {
    _Atomic uint64_t where;
    _Atomic uint64_t position;
    _Atomic uint64_t touches; /* signs of life that other ranks need not give */
    _Atomic uint64_t files;   /* calls under way that wait for a file system */
};

enum { LOCATION_LAYER_BITS = 20, LOCATION_PASS_BITS = 2, LOCATION_WORK_BITS = 4, LOCATION_MOVE_BITS = 28 };

/* Layer and micro-batch are kept plus one; where a number does not fit it is cut. */
static inline uint64_t location_pack(enum location_work work, enum location_pass pass, int64_t micro_batch,
                                     int64_t layer)
{
    uint64_t packed = (uint64_t)(micro_batch + 1);
    packed = packed << LOCATION_LAYER_BITS | ((uint64_t)(layer + 1) & ((1u << LOCATION_LAYER_BITS) - 1));
    packed = packed << LOCATION_PASS_BITS | (uint64_t)pass;
    return packed << LOCATION_WORK_BITS | (uint64_t)work;
}

static inline struct location location_unpack(uint64_t where, uint64_t position)
{
    struct location place;
    place.step = (int64_t)(position >> LOCATION_MOVE_BITS);
    place.moves = (int64_t)(position & ((1u << LOCATION_MOVE_BITS) - 1));
    place.work = (enum location_work)(where & ((1u << LOCATION_WORK_BITS) - 1));
    where >>= LOCATION_WORK_BITS;
    place.pass = (enum location_pass)(where & ((1u << LOCATION_PASS_BITS) - 1));
    where >>= LOCATION_PASS_BITS;
    place.layer = (int64_t)(where & ((1u << LOCATION_LAYER_BITS) - 1)) - 1;
    place.micro_batch = (int64_t)(where >> LOCATION_LAYER_BITS) - 1;
    return place;
}

static inline uint64_t location_where(const struct location_mark *mark)
{
    return atomic_load_explicit(&mark->where, memory_order_relaxed);
}

static inline uint64_t location_position(const struct location_mark *mark)
{
    return atomic_load_explicit(&mark->position, memory_order_relaxed);
}

static inline void location_move(struct location_mark *mark, uint64_t where)
{
    uint64_t position = location_position(mark);
    atomic_store_explicit(&mark->where, where, memory_order_relaxed);
    /* The last move of a step stands for all that would come after it. */
    if ((position + 1) & ((1u << LOCATION_MOVE_BITS) - 1))
        atomic_store_explicit(&mark->position, position + 1, memory_order_relaxed);
    else
        atomic_fetch_add_explicit(&mark->touches, 1, memory_order_relaxed);
}

/* Work on a step begins. */
static inline void location_step(struct location_mark *mark, int64_t step)
{
    atomic_store_explicit(&mark->where, location_pack(LOCATION_TRAINING, LOCATION_NO_PASS, -1, -1),
                          memory_order_relaxed);
    atomic_store_explicit(&mark->position, (uint64_t)step << LOCATION_MOVE_BITS, memory_order_relaxed);
}

/* Another kind of work, outside of passes. */
static inline void location_work(struct location_mark *mark, enum location_work work)
{
    location_move(mark, location_pack(work, LOCATION_NO_PASS, -1, -1));
}

/* A pass of a micro-batch, outside of the layers. */
static inline void location_pass(struct location_mark *mark, enum location_pass pass, int64_t micro_batch)
{
    enum location_work work = (enum location_work)(location_where(mark) & ((1u << LOCATION_WORK_BITS) - 1));
    location_move(mark, location_pack(work, pass, micro_batch, -1));
}

static inline int64_t location_layer(const struct location_mark *mark)
{
    uint64_t where = location_where(mark) >> (LOCATION_WORK_BITS + LOCATION_PASS_BITS);
    return (int64_t)(where & ((1u << LOCATION_LAYER_BITS) - 1)) - 1;
}

static inline void location_enter_layer(struct location_mark *mark, int64_t layer)
{
    struct location place = location_unpack(location_where(mark), 0);
    if (place.layer != layer)
        location_move(mark, location_pack(place.work, place.pass, place.micro_batch, layer));
}

/* Around calls that may wait for a file system as long as that takes. */
static inline void location_enter_files(struct location_mark *mark)
{
    atomic_fetch_add_explicit(&mark->files, 1, memory_order_relaxed);
}

static inline void location_leave_files(struct location_mark *mark)
{
    atomic_fetch_sub_explicit(&mark->files, 1, memory_order_relaxed);
}

static inline bool location_in_files(const struct location_mark *mark)
{
    return atomic_load_explicit(&mark->files, memory_order_relaxed) > 0;
}

/* Still alive, in the same place. */
static inline void location_touch(struct location_mark *mark)
{
    atomic_fetch_add_explicit(&mark->touches, 1, memory_order_relaxed);
}

#endif
