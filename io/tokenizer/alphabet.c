/* GPT-2's alphabet, in which every byte is a letter: those that can be seen in Latin-1 are themselves, the other 68
 * are U+0100 and on, in order. */
#include <string.h>

#include "io/tokenizer/tokenizer_private.h"
#include "src/core/utf8.h"

static bool is_itself(uint32_t code)
{
    return (code >= 0x21 && code <= 0x7e) || (code >= 0xa1 && code <= 0xac) || (code >= 0xae && code <= 0xff);
}

/* The others are 0..0x20, 0x7f..0xa0 and 0xad. */
uint32_t alphabet_character(unsigned char byte)
{
    if (is_itself(byte))
        return byte;
    return 0x100u + (byte <= 0x20 ? byte : byte <= 0xa0 ? byte - 0x7fu + 0x21u : 0x43u);
}

int alphabet_byte(uint32_t code)
{
    if (code < 0x100)
        return is_itself(code) ? (int)code : -1;
    uint32_t place = code - 0x100u;
    return place <= 0x20 ? (int)place : place < 0x43 ? (int)(place - 0x21 + 0x7f) : place == 0x43 ? 0xad : -1;
}

enum status alphabet_write(const char *bytes, int64_t length, struct bytes *to)
{
    CHECK(bytes_reserve(to, 2 * length));
    for (int64_t i = 0; i < length; i++)
        to->count += (int64_t)utf8_encode(alphabet_character((unsigned char)bytes[i]), to->data + to->count);
    return STATUS_OK;
}

enum status alphabet_read(const char *text, int64_t length, struct bytes *to, bool *known)
{
    int64_t before = to->count;
    CHECK(bytes_reserve(to, length));
    *known = true;
    for (int64_t i = 0; i < length && *known;) {
        uint32_t code = 0;
        size_t bytes = utf8_decode(text + i, (size_t)(length - i), &code);
        int byte = bytes > 0 ? alphabet_byte(code) : -1;
        *known = byte >= 0;
        to->data[to->count++] = (char)byte;
        i += (int64_t)bytes;
    }
    if (!*known)
        to->count = before;
    return STATUS_OK;
}

int fallback_byte(const char *text, int64_t length)
{
    static const char digits[] = "0123456789ABCDEF";
    if (length != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>' || !text[3] || !text[4])
        return -1;
    const char *high = strchr(digits, text[3]);
    const char *low = strchr(digits, text[4]);
    return high && low ? (int)(16 * (high - digits) + (low - digits)) : -1;
}
