/* A binary heap in an array: what comes before all others lies first. Inline, so that sizes and orders are known where
 * it is used. */
#ifndef CAIRN_IO_TOKENIZER_HEAP_PRIVATE_H
#define CAIRN_IO_TOKENIZER_HEAP_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef bool (*heap_order)(const void *a, const void *b);

static inline char *heap_at(void *entries, size_t size, int64_t i)
{
    return (char *)entries + (size_t)i * size;
}

/* Adds an entry to `count` others, for which there is room. */
static inline void heap_push(void *entries, size_t size, int64_t count, const void *entry, heap_order before)
{
    int64_t at = count;
    for (; at > 0 && before(entry, heap_at(entries, size, (at - 1) / 2)); at = (at - 1) / 2)
        memcpy(heap_at(entries, size, at), heap_at(entries, size, (at - 1) / 2), size);
    memcpy(heap_at(entries, size, at), entry, size);
}

/* Takes the first of `count` > 0 entries away. */
static inline void heap_pop(void *entries, size_t size, int64_t count, void *first, heap_order before)
{
    const char *last = heap_at(entries, size, count - 1);
    int64_t at = 0;
    memcpy(first, entries, size);
    for (int64_t child = 1; child < count - 1; child = 2 * at + 1) {
        child += child + 1 < count - 1 && before(heap_at(entries, size, child + 1), heap_at(entries, size, child));
        if (!before(heap_at(entries, size, child), last))
            break;
        memcpy(heap_at(entries, size, at), heap_at(entries, size, child), size);
        at = child;
    }
    memmove(heap_at(entries, size, at), last, size);
}

#endif
