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
    int size_index;
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
    for (int i = 0; i < pool->sizes; i++) {
        struct pool_block *block = pool->free[i];
        while (block) {
            struct pool_block *next = block->next;
            memory_free(pool->context, block);
            block = next;
        }
        pool->free[i] = NULL;
    }
    pool->sizes = 0;
}

void *pool_allocate(struct pool *pool, size_t bytes)
{
    bytes = round_up(bytes ? bytes : 1);
    int index = 0;
    while (index < pool->sizes && pool->size[index] != bytes)
        index++;
    if (index == pool->sizes) {
        if (pool->sizes == POOL_SIZES) {
            context_fail(pool->context, STATUS_INTERNAL, "more than %d sizes of gradient in one model", POOL_SIZES);
            return NULL;
        }
        pool->size[pool->sizes++] = bytes;
    }
    struct pool_block *block = pool->free[index];
    if (block) {
        pool->free[index] = block->next;
        return block->data;
    }
    block = memory_allocate(pool->context, sizeof *block + bytes, pool->kind);
    if (!block)
        return NULL;
    block->size_index = index;
    return block->data;
}

void pool_release(struct pool *pool, void *pointer)
{
    if (!pointer)
        return;
    struct pool_block *block = (struct pool_block *)((char *)pointer - offsetof(struct pool_block, data));
    block->next = pool->free[block->size_index];
    pool->free[block->size_index] = block;
}
