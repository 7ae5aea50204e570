/* Texts by number and numbers by text. */
#include <string.h>

#include "io/tokenizer/tokenizer_private.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

void vocabulary_create(struct context *context, struct vocabulary *vocabulary)
{
    *vocabulary = (struct vocabulary){.context = context, .text = {.context = context}};
}

void vocabulary_release(struct vocabulary *vocabulary)
{
    struct context *context = vocabulary->context;
    bytes_release(&vocabulary->text);
    memory_free(context, vocabulary->spans);
    memory_free(context, vocabulary->slots);
    vocabulary_create(context, vocabulary);
}

const char *vocabulary_text(const struct vocabulary *vocabulary, int64_t id, int64_t *length)
{
    if (id < 0 || id >= vocabulary->size || vocabulary->spans[id].length < 0)
        return NULL;
    *length = vocabulary->spans[id].length;
    return vocabulary->text.data + vocabulary->spans[id].begin;
}

/* The slot of a text, or the free one where it belongs. */
static int64_t slot_of(const struct vocabulary *vocabulary, const char *text, int64_t length)
{
    int64_t mask = vocabulary->slot_count - 1;
    int64_t slot = (int64_t)XXH3_64bits(text, (size_t)length) & mask;
    for (;; slot = (slot + 1) & mask) {
        int32_t id = vocabulary->slots[slot];
        if (id < 0)
            return slot;
        const struct text_span *span = &vocabulary->spans[id];
        if (span->length == length && memcmp(vocabulary->text.data + span->begin, text, (size_t)length) == 0)
            return slot;
    }
}

int32_t vocabulary_find(const struct vocabulary *vocabulary, const char *text, int64_t length)
{
    return vocabulary->slot_count == 0 ? -1 : vocabulary->slots[slot_of(vocabulary, text, length)];
}

static enum status spread_slots(struct vocabulary *vocabulary)
{
    int64_t count = vocabulary->slot_count > 0 ? 2 * vocabulary->slot_count : 1024;
    int32_t *slots = memory_allocate(vocabulary->context, (size_t)count * sizeof *slots, MEMORY_OTHER);
    if (!slots)
        return STATUS_MEMORY;
    memset(slots, 0xff, (size_t)count * sizeof *slots);
    memory_free(vocabulary->context, vocabulary->slots);
    vocabulary->slots = slots;
    vocabulary->slot_count = count;
    for (int64_t id = 0; id < vocabulary->size; id++) {
        int64_t length;
        const char *text = vocabulary_text(vocabulary, id, &length);
        if (text)
            slots[slot_of(vocabulary, text, length)] = (int32_t)id;
    }
    return STATUS_OK;
}

enum status vocabulary_add(struct vocabulary *vocabulary, int64_t id, const char *text, int64_t length, bool *added)
{
    int64_t other;
    *added = false;
    if (2 * (vocabulary->used + 1) > vocabulary->slot_count)
        CHECK(spread_slots(vocabulary));
    int64_t slot = slot_of(vocabulary, text, length);
    if (vocabulary->slots[slot] >= 0 || vocabulary_text(vocabulary, id, &other))
        return STATUS_OK;
    CHECK(array_grow(vocabulary->context, &vocabulary->spans, vocabulary->size, &vocabulary->room, id + 1,
                     sizeof *vocabulary->spans));
    for (; vocabulary->size <= id; vocabulary->size++)
        vocabulary->spans[vocabulary->size] = (struct text_span){.length = -1};
    vocabulary->spans[id] = (struct text_span){.begin = vocabulary->text.count, .length = (int32_t)length};
    CHECK(bytes_add(&vocabulary->text, text, length));
    vocabulary->slots[slot] = (int32_t)id;
    vocabulary->used++;
    *added = true;
    return STATUS_OK;
}
