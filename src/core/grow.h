/* Arrays that grow. */
#ifndef CAIRN_CORE_GROW_H
#define CAIRN_CORE_GROW_H

#include "src/core/context.h"

/* Makes room for `needed` elements of `size` bytes where there is room for *room: at least twice as many, so that
 * adding one at a time stays cheap. The first `used` elements are kept. MEMORY error, and the array as it was, when
 * there is none. */
enum status array_grow(struct context *context, void *array, int64_t used, int64_t *room, int64_t needed,
                       size_t size) MUST_USE;

/* Bytes one behind the other. */
struct bytes {
    struct context *context;
    char *data;
    int64_t count, room;
};

enum status bytes_reserve(struct bytes *bytes, int64_t more) MUST_USE;
enum status bytes_add(struct bytes *bytes, const void *data, int64_t count) MUST_USE;
void bytes_release(struct bytes *bytes);

#endif
