#include "src/core/grow.h"

#include <string.h>

enum { SMALLEST = 16 };

enum status array_grow(struct context *context, void *array, int64_t used, int64_t *room, int64_t needed, size_t size)
{
    void *old;
    if (needed <= *room)
        return STATUS_OK;
    int64_t wanted = *room < SMALLEST ? SMALLEST : *room;
    while (wanted < needed)
        wanted *= 2;
    memcpy(&old, array, sizeof old);
    void *larger = memory_allocate(context, (size_t)wanted * size, MEMORY_OTHER);
    if (!larger)
        return STATUS_MEMORY;
    if (used > 0)
        memcpy(larger, old, (size_t)used * size);
    memory_free(context, old);
    memcpy(array, &larger, sizeof larger);
    *room = wanted;
    return STATUS_OK;
}

enum status bytes_reserve(struct bytes *bytes, int64_t more)
{
    return array_grow(bytes->context, &bytes->data, bytes->count, &bytes->room, bytes->count + more, 1);
}

enum status bytes_add(struct bytes *bytes, const void *data, int64_t count)
{
    CHECK(bytes_reserve(bytes, count));
    if (count > 0)
        memcpy(bytes->data + bytes->count, data, (size_t)count);
    bytes->count += count;
    return STATUS_OK;
}

void bytes_release(struct bytes *bytes)
{
    memory_free(bytes->context, bytes->data);
    *bytes = (struct bytes){.context = bytes->context};
}
