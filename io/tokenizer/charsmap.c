/* The map of SentencePiece's normaliser as tokenizer.json has it: 4 bytes of size, a double-array trie of so many bytes
 * (darts-clone), and the texts that replace others, each ended by a 0. */
#include <string.h>
#include <utf8proc.h>

#include "io/tokenizer/tokenizer_private.h"
#include "src/core/utf8.h"

enum { GRAPHEME_LIMIT = 6 };

static uint32_t unit_at(const struct bytes *map, uint32_t index)
{
    uint32_t unit;
    memcpy(&unit, map->data + 4 + 4 * (int64_t)index, sizeof unit);
    return unit;
}

static uint32_t units_of(const struct bytes *map)
{
    uint32_t bytes = 0;
    if (map->count >= 4)
        memcpy(&bytes, map->data, sizeof bytes);
    return bytes / 4;
}

bool charsmap_is_sound(const struct bytes *map)
{
    uint32_t units = units_of(map);
    return units > 0 && 4 + 4 * (int64_t)units < map->count && map->data[map->count - 1] == 0;
}

static uint32_t offset_of(uint32_t unit)
{
    return (unit >> 10) << ((unit & (1u << 9)) >> 6);
}

/* The text that the shortest known beginning of a text is replaced by; NULL: there is none. */
static const char *replacement_of(const struct bytes *map, const char *text, int64_t length)
{
    uint32_t units = units_of(map);
    uint32_t at = offset_of(unit_at(map, 0));
    const char *texts = map->data + 4 + 4 * (int64_t)units;
    for (int64_t i = 0; i < length && text[i]; i++) {
        at ^= (unsigned char)text[i];
        if (at >= units)
            return NULL;
        uint32_t unit = unit_at(map, at);
        if ((unit & (1u << 31 | 0xff)) != (unsigned char)text[i])
            return NULL;
        at ^= offset_of(unit);
        if (unit >> 8 & 1) {
            uint32_t value = at < units ? unit_at(map, at) & ~(1u << 31) : UINT32_MAX;
            return (int64_t)value < map->data + map->count - texts ? texts + value : NULL;
        }
    }
    return NULL;
}

static enum status add_grapheme(const struct bytes *map, const char *text, int64_t length, struct bytes *to)
{
    const char *whole = length < GRAPHEME_LIMIT ? replacement_of(map, text, length) : NULL;
    if (whole)
        return bytes_add(to, whole, (int64_t)strlen(whole));
    for (int64_t i = 0; i < length;) {
        uint32_t code;
        int64_t bytes = (int64_t)utf8_decode(text + i, (size_t)(length - i), &code);
        const char *part = replacement_of(map, text + i, bytes);
        CHECK(part ? bytes_add(to, part, (int64_t)strlen(part)) : bytes_add(to, text + i, bytes));
        i += bytes;
    }
    return STATUS_OK;
}

enum status charsmap_apply(const struct bytes *map, const char *from, int64_t length, struct bytes *to)
{
    int64_t begin = 0;
    uint32_t before = 0;
    utf8proc_int32_t state = 0;
    for (int64_t i = 0; i < length;) {
        uint32_t code = 0;
        int64_t bytes = (int64_t)utf8_decode(from + i, (size_t)(length - i), &code);
        if (i > 0 && utf8proc_grapheme_break_stateful((utf8proc_int32_t)before, (utf8proc_int32_t)code, &state)) {
            CHECK(add_grapheme(map, from + begin, i - begin, to));
            begin = i;
        }
        before = code;
        i += bytes;
    }
    return length > begin ? add_grapheme(map, from + begin, length - begin, to) : STATUS_OK;
}
