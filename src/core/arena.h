/* Memory that is planned once and used again each step.
 *
 * An arena hands out blocks that are all given back together (or back to a mark, in reverse order). It grows while a
 * run finds its stride and never shrinks. A pool hands out blocks that come back one by one in any order and are
 * used again for what needs at least half of them: routed models bring new sizes each step. Neither zeroes what it
 * hands out, and neither is safe for several threads. */
#ifndef CAIRN_CORE_ARENA_H
#define CAIRN_CORE_ARENA_H

#include "src/core/context.h"

struct arena_block;

struct arena {
    struct context *context;
    enum memory_kind kind;
    struct arena_block *first;
    struct arena_block *current;
    size_t used; /* bytes used of the current block */
};

struct arena_mark {
    struct arena_block *block;
    size_t used;
};

void arena_create(struct arena *arena, struct context *context, enum memory_kind kind);
void arena_destroy(struct arena *arena);

/* A block aligned to 64 bytes, not zeroed; NULL with the context's error set when memory is out. */
void *arena_allocate(struct arena *arena, size_t bytes);

struct arena_mark arena_mark(const struct arena *arena);
void arena_rewind(struct arena *arena, struct arena_mark mark);
void arena_reset(struct arena *arena);

/* Sizes of blocks between a power of two and the next, and how many there are up to any that can be asked for. */
enum { POOL_STEPS = 8, POOL_CLASSES = 60 * POOL_STEPS };

struct pool_block;

struct pool {
    struct context *context;
    enum memory_kind kind;
    struct pool_block *free[POOL_CLASSES];
};

void pool_create(struct pool *pool, struct context *context, enum memory_kind kind);

/* Frees the blocks that were given back; blocks still out must be given back first. */
void pool_destroy(struct pool *pool);
void *pool_allocate(struct pool *pool, size_t bytes);
void pool_release(struct pool *pool, void *pointer);

#endif
