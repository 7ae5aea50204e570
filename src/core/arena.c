#include "src/core/arena.h"

#define BLOCK_ALIGNMENT ((size_t)64)
#define BLOCK_MINIMUM ((size_t)1 << 20)

struct arena_block {
    struct arena_block *next;
    size_t size;
    _Alignas(64) char data[];
};

struct pool_block {
    struct pool_block *next;
    int class;
    _Alignas(64) char data[];
};

static size_t round_up(size_t bytes)
{
    return (bytes + BLOCK_ALIGNMENT - 1) / BLOCK_ALIGNMENT * BLOCK_ALIGNMENT;
}

void arena_create(struct arena *arena, struct context *context, enum memory_kind kind)
{
    *arena = (struct arena){.context = context, .kind = kind};
}

void arena_destroy(struct arena *arena)
{
    struct arena_block *block = arena->first;
    while (block) {
        struct arena_block *next = block->next;
        memory_free(arena->context, block);
        block = next;
    }
    arena->first = NULL;
    arena->current = NULL;
    arena->used = 0;
}

void *arena_allocate(struct arena *arena, size_t bytes)
{
    bytes = round_up(bytes ? bytes : 1);
    struct arena_block *block = arena->current;
    size_t used = arena->used;
    while (block && used + bytes > block->size) {
        if (!block->next)
            break;
        block = block->next;
        used = 0;
    }
    if (!block || used + bytes > block->size) {
        size_t size = bytes > BLOCK_MINIMUM ? bytes : BLOCK_MINIMUM;
        struct arena_block *fresh = memory_allocate(arena->context, sizeof *fresh + size, arena->kind);
        if (!fresh)
            return NULL;
        fresh->size = size;
        if (block)
            block->next = fresh;
        else
            arena->first = fresh;
        block = fresh;
        used = 0;
    }
    arena->current = block;
    arena->used = used + bytes;
    return block->data + used;
}

struct arena_mark arena_mark(const struct arena *arena)
{
    return (struct arena_mark){.block = arena->current, .used = arena->used};
}

void arena_rewind(struct arena *arena, struct arena_mark mark)
{
    arena->current = mark.block ? mark.block : arena->first;
    arena->used = mark.block ? mark.used : 0;
}

void arena_reset(struct arena *arena)
{
    arena->current = arena->first;
    arena->used = 0;
}

void pool_create(struct pool *pool, struct context *context, enum memory_kind kind)
{
    *pool = (struct pool){.context = context, .kind = kind};
}

void pool_destroy(struct pool *pool)
{
    for (int i = 0; i < POOL_CLASSES; i++) {
        struct pool_block *block = pool->free[i];
        while (block) {
            struct pool_block *next = block->next;
            memory_free(pool->context, block);
            block = next;
        }
        pool->free[i] = NULL;
    }
}

/* The class of blocks that are just large enough, and their size. */
static int pool_class(size_t bytes, size_t *size)
{
    int class = 0;
    size_t unit = BLOCK_ALIGNMENT;
    while ((bytes - 1) / unit >= 2 * POOL_STEPS) {
        unit *= 2;
        class += POOL_STEPS;
    }
    int more = (int)((bytes - 1) / unit);
    *size = (size_t)(more + 1) * unit;
    return class + more;
}

void *pool_allocate(struct pool *pool, size_t bytes)
{
    size_t size;
    int class = pool_class(bytes ? bytes : 1, &size);
    for (int i = class; i <= class + POOL_STEPS && i < POOL_CLASSES; i++) {
        struct pool_block *block = pool->free[i];
        if (block) {
            pool->free[i] = block->next;
            return block->data;
        }
    }
    struct pool_block *block = memory_allocate(pool->context, sizeof *block + size, pool->kind);
    if (!block)
        return NULL;
    block->class = class;
    return block->data;
}

void pool_release(struct pool *pool, void *pointer)
{
    if (!pointer)
        return;
    struct pool_block *block = (struct pool_block *)((char *)pointer - offsetof(struct pool_block, data));
    block->next = pool->free[block->class];
    pool->free[block->class] = block;
}
