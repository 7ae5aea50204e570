/* How often each piece of texts occurs. */
#include <string.h>

#include "io/tokenizer/tokenizer_private.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

struct piece_counts {
    struct context *context;
    struct bytes text;
    struct counted *pieces;
    int64_t count, room;
    int32_t *slots; /* pieces by hash; -1 is free */
    int64_t slot_count;
};

enum status piece_counts_create(struct context *context, struct piece_counts **counts)
{
    struct piece_counts *created = *counts = memory_allocate(context, sizeof *created, MEMORY_OTHER);
    if (!created)
        return STATUS_MEMORY;
    *created = (struct piece_counts){.context = context, .text = {.context = context}};
    return STATUS_OK;
}

void piece_counts_destroy(struct piece_counts **counts)
{
    struct piece_counts *old = *counts;
    if (!old)
        return;
    bytes_release(&old->text);
    memory_free(old->context, old->pieces);
    memory_free(old->context, old->slots);
    memory_free(old->context, old);
    *counts = NULL;
}

static int64_t slot_of(const struct piece_counts *counts, const char *text, int64_t length)
{
    int64_t mask = counts->slot_count - 1;
    for (int64_t slot = (int64_t)XXH3_64bits(text, (size_t)length) & mask;; slot = (slot + 1) & mask) {
        int32_t index = counts->slots[slot];
        if (index < 0 || (counts->pieces[index].length == length &&
                          memcmp(counts->text.data + counts->pieces[index].begin, text, (size_t)length) == 0))
            return slot;
    }
}

static enum status spread(struct piece_counts *counts)
{
    int64_t room = counts->slot_count > 0 ? 2 * counts->slot_count : 1 << 16;
    int32_t *slots = memory_allocate(counts->context, (size_t)room * sizeof *slots, MEMORY_OTHER);
    if (!slots)
        return STATUS_MEMORY;
    memset(slots, 0xff, (size_t)room * sizeof *slots);
    memory_free(counts->context, counts->slots);
    counts->slots = slots;
    counts->slot_count = room;
    for (int64_t i = 0; i < counts->count; i++)
        slots[slot_of(counts, counts->text.data + counts->pieces[i].begin, counts->pieces[i].length)] = (int32_t)i;
    return STATUS_OK;
}

enum status piece_counts_add(struct piece_counts *counts, const char *text, int64_t length, int64_t times)
{
    if (length < 1)
        return STATUS_OK;
    if (2 * (counts->count + 1) > counts->slot_count)
        CHECK(spread(counts));
    int64_t slot = slot_of(counts, text, length);
    if (counts->slots[slot] < 0) {
        if (length > INT32_MAX / 2 || counts->count == INT32_MAX / 2)
            return context_fail(counts->context, STATUS_FILE,
                                "there are more than %d different pieces, or one is as long; use less text",
                                INT32_MAX / 2);
        CHECK(array_grow(counts->context, &counts->pieces, counts->count, &counts->room, counts->count + 1,
                         sizeof *counts->pieces));
        counts->pieces[counts->count] =
            (struct counted){.begin = counts->text.count, .length = (int32_t)length, .times = 0};
        CHECK(bytes_add(&counts->text, text, length));
        counts->slots[slot] = (int32_t)counts->count++;
    }
    counts->pieces[counts->slots[slot]].times += times;
    return STATUS_OK;
}

int64_t piece_counts_size(const struct piece_counts *counts)
{
    return counts->count;
}

const struct counted *piece_counts_list(const struct piece_counts *counts, const char **text)
{
    *text = counts->text.data;
    return counts->pieces;
}

/* -- From rank to rank: for each piece its length, how often it occurs, and its bytes -- */

enum status piece_counts_pack(const struct piece_counts *counts, struct bytes *packed)
{
    for (int64_t i = 0; i < counts->count; i++) {
        const struct counted *piece = &counts->pieces[i];
        CHECK(bytes_add(packed, &piece->length, sizeof piece->length));
        CHECK(bytes_add(packed, &piece->times, sizeof piece->times));
        CHECK(bytes_add(packed, counts->text.data + piece->begin, piece->length));
    }
    return STATUS_OK;
}

enum status piece_counts_unpack(struct piece_counts *counts, const char *packed, int64_t count)
{
    for (int64_t at = 0; at < count;) {
        int32_t length;
        int64_t times;
        memcpy(&length, packed + at, sizeof length);
        memcpy(&times, packed + at + sizeof length, sizeof times);
        at += (int64_t)(sizeof length + sizeof times);
        CHECK(piece_counts_add(counts, packed + at, length, times));
        at += length;
    }
    return STATUS_OK;
}
