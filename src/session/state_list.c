#include "src/session/state_list.h"

#include <string.h>

/* Room for `count` elements of `size` bytes, of which `used` are moved there. */
static enum status grow(struct context *context, void **memory, int used, int *room, int count, size_t size)
{
    if (count <= *room)
        return STATUS_OK;
    int wanted = count > 2 * *room ? count : 2 * *room;
    void *larger = memory_allocate(context, (size_t)wanted * size, MEMORY_OTHER);
    if (!larger)
        return STATUS_MEMORY;
    if (used > 0)
        memcpy(larger, *memory, (size_t)used * size);
    memory_free(context, *memory);
    *memory = larger;
    *room = wanted;
    return STATUS_OK;
}

static enum status append(void *self, const struct state_array *array)
{
    struct state_list *list = self;
    void *arrays = list->arrays;
    void *pieces = list->pieces;
    enum status status = grow(list->context, &arrays, list->count, &list->room, list->count + 1, sizeof *list->arrays);
    list->arrays = arrays;
    CHECK(status);
    status = grow(list->context, &pieces, list->piece_count, &list->piece_room, list->piece_count + array->piece_count,
                  sizeof *list->pieces);
    list->pieces = pieces;
    CHECK(status);
    list->arrays[list->count++] = *array;
    for (int i = 0; i < array->piece_count; i++)
        list->pieces[list->piece_count++] = array->pieces[i];
    return STATUS_OK;
}

struct state_visitor state_list_visitor(struct state_list *list, bool writes)
{
    return (struct state_visitor){.self = list, .writes = writes, .array = append};
}

void state_list_settle(struct state_list *list)
{
    struct state_piece *next = list->pieces;
    for (int i = 0; i < list->count; i++) {
        list->arrays[i].pieces = next;
        next += list->arrays[i].piece_count;
    }
}

void state_list_destroy(struct state_list *list)
{
    memory_free(list->context, list->arrays);
    memory_free(list->context, list->pieces);
    *list = (struct state_list){.context = list->context};
}
