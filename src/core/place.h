/* Where the thread that runs the steps is: set by that thread, to be read by any other at any time, for reports of
 * hangs. Setting costs a few plain stores. */
#ifndef CAIRN_CORE_PLACE_H
#define CAIRN_CORE_PLACE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum place_work {
    PLACE_START,
    PLACE_TRAINING,
    PLACE_OPTIMIZER,
    PLACE_EVALUATION,
    PLACE_CHECKPOINT,
    PLACE_END, /* of the run */
};

enum place_pass { PLACE_NO_PASS, PLACE_FORWARD, PLACE_BACKWARD };

struct place {
    int64_t step;
    int64_t moves; /* within the step; ranks of the same pipeline stage make the same */
    enum place_work work;
    enum place_pass pass;
    int64_t micro_batch; /* -1: in none */
    int64_t layer;       /* unrolled; -1: in none */
};

/* `where` packs work, pass, micro-batch and layer, `position` step and moves: positions of ranks that run the same
 * program can be compared as numbers. */
struct place_mark {
    _Atomic uint64_t where;
    _Atomic uint64_t position;
    _Atomic uint64_t touches; /* signs of life that other ranks need not give */
    _Atomic uint64_t files;   /* calls under way that wait for a file system */
};

enum { PLACE_LAYER_BITS = 20, PLACE_PASS_BITS = 2, PLACE_WORK_BITS = 4, PLACE_MOVE_BITS = 28 };

/* Layer and micro-batch are kept plus one; where a number does not fit it is cut. */
static inline uint64_t place_pack(enum place_work work, enum place_pass pass, int64_t micro_batch, int64_t layer)
{
    uint64_t packed = (uint64_t)(micro_batch + 1);
    packed = packed << PLACE_LAYER_BITS | ((uint64_t)(layer + 1) & ((1u << PLACE_LAYER_BITS) - 1));
    packed = packed << PLACE_PASS_BITS | (uint64_t)pass;
    return packed << PLACE_WORK_BITS | (uint64_t)work;
}

static inline struct place place_unpack(uint64_t where, uint64_t position)
{
    struct place place;
    place.step = (int64_t)(position >> PLACE_MOVE_BITS);
    place.moves = (int64_t)(position & ((1u << PLACE_MOVE_BITS) - 1));
    place.work = (enum place_work)(where & ((1u << PLACE_WORK_BITS) - 1));
    where >>= PLACE_WORK_BITS;
    place.pass = (enum place_pass)(where & ((1u << PLACE_PASS_BITS) - 1));
    where >>= PLACE_PASS_BITS;
    place.layer = (int64_t)(where & ((1u << PLACE_LAYER_BITS) - 1)) - 1;
    place.micro_batch = (int64_t)(where >> PLACE_LAYER_BITS) - 1;
    return place;
}

static inline uint64_t place_where(const struct place_mark *mark)
{
    return atomic_load_explicit(&mark->where, memory_order_relaxed);
}

static inline uint64_t place_position(const struct place_mark *mark)
{
    return atomic_load_explicit(&mark->position, memory_order_relaxed);
}

static inline void place_move(struct place_mark *mark, uint64_t where)
{
    uint64_t position = place_position(mark);
    atomic_store_explicit(&mark->where, where, memory_order_relaxed);
    /* The last move of a step stands for all that would come after it. */
    if ((position + 1) & ((1u << PLACE_MOVE_BITS) - 1))
        atomic_store_explicit(&mark->position, position + 1, memory_order_relaxed);
    else
        atomic_fetch_add_explicit(&mark->touches, 1, memory_order_relaxed);
}

/* Work on a step begins. */
static inline void place_step(struct place_mark *mark, int64_t step)
{
    atomic_store_explicit(&mark->where, place_pack(PLACE_TRAINING, PLACE_NO_PASS, -1, -1), memory_order_relaxed);
    atomic_store_explicit(&mark->position, (uint64_t)step << PLACE_MOVE_BITS, memory_order_relaxed);
}

/* Another kind of work, outside of passes. */
static inline void place_work(struct place_mark *mark, enum place_work work)
{
    place_move(mark, place_pack(work, PLACE_NO_PASS, -1, -1));
}

/* A pass of a micro-batch, outside of the layers. */
static inline void place_pass(struct place_mark *mark, enum place_pass pass, int64_t micro_batch)
{
    enum place_work work = (enum place_work)(place_where(mark) & ((1u << PLACE_WORK_BITS) - 1));
    place_move(mark, place_pack(work, pass, micro_batch, -1));
}

static inline int64_t place_layer(const struct place_mark *mark)
{
    uint64_t where = place_where(mark) >> (PLACE_WORK_BITS + PLACE_PASS_BITS);
    return (int64_t)(where & ((1u << PLACE_LAYER_BITS) - 1)) - 1;
}

static inline void place_enter_layer(struct place_mark *mark, int64_t layer)
{
    struct place place = place_unpack(place_where(mark), 0);
    if (place.layer != layer)
        place_move(mark, place_pack(place.work, place.pass, place.micro_batch, layer));
}

/* Around calls that may wait for a file system as long as that takes. */
static inline void place_enter_files(struct place_mark *mark)
{
    atomic_fetch_add_explicit(&mark->files, 1, memory_order_relaxed);
}

static inline void place_leave_files(struct place_mark *mark)
{
    atomic_fetch_sub_explicit(&mark->files, 1, memory_order_relaxed);
}

static inline bool place_in_files(const struct place_mark *mark)
{
    return atomic_load_explicit(&mark->files, memory_order_relaxed) > 0;
}

/* Still alive, in the same place. */
static inline void place_touch(struct place_mark *mark)
{
    atomic_fetch_add_explicit(&mark->touches, 1, memory_order_relaxed);
}

#endif
