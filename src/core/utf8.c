#include "src/core/utf8.h"

#include <string.h>

size_t utf8_decode(const char *text, size_t length, uint32_t *code)
{
    static const uint32_t smallest[5] = {0, 0, 0x80, 0x800, 0x10000};
    const unsigned char *byte = (const unsigned char *)text;
    if (length == 0)
        return 0;
    size_t bytes = byte[0] < 0x80 ? 1 : byte[0] >> 5 == 6 ? 2 : byte[0] >> 4 == 14 ? 3 : byte[0] >> 3 == 30 ? 4 : 0;
    if (bytes == 0 || bytes > length)
        return 0;
    uint32_t value = bytes == 1 ? byte[0] : byte[0] & (0xffu >> (bytes + 1));
    for (size_t i = 1; i < bytes; i++) {
        if (byte[i] >> 6 != 2)
            return 0;
        value = value << 6 | (byte[i] & 0x3fu);
    }
    if (value < smallest[bytes] || (value >= 0xd800 && value <= 0xdfff) || value > 0x10ffff)
        return 0;
    *code = value;
    return bytes;
}

size_t utf8_encode(uint32_t code, char bytes[4])
{
    if (code < 0x80) {
        bytes[0] = (char)code;
        return 1;
    }
    size_t count = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = count - 1; i > 0; i--) {
        bytes[i] = (char)(0x80 | (code & 0x3f));
        code >>= 6;
    }
    bytes[0] = (char)((0xf00 >> count & 0xf0) | code);
    return count;
}

/* How many bytes at the start of `text` belong to one character as far as they go: *whole is how many it has. */
static size_t begun(const unsigned char *byte, size_t length, size_t *whole)
{
    unsigned char low = 0x80;
    unsigned char high = 0xbf;
    unsigned char lead = byte[0];
    *whole = lead < 0x80 ? 1 : lead >= 0xc2 && lead < 0xe0 ? 2 : lead >= 0xe0 && lead < 0xf0 ? 3 : 4;
    if (lead < 0x80)
        return 1;
    if (lead < 0xc2 || lead > 0xf4)
        return 0;
    if (lead == 0xe0 || lead == 0xf0)
        low = lead == 0xe0 ? 0xa0 : 0x90;
    if (lead == 0xed || lead == 0xf4)
        high = lead == 0xed ? 0x9f : 0x8f;
    for (size_t i = 1; i < *whole; i++) {
        if (i == length || byte[i] < low || byte[i] > high)
            return i;
        low = 0x80;
        high = 0xbf;
    }
    return *whole;
}

size_t utf8_valid(const char *text, size_t length, size_t *bad, bool *cut)
{
    size_t at = 0;
    *bad = 0;
    *cut = false;
    while (at < length) {
        uint64_t eight;
        if (length - at >= sizeof eight && (memcpy(&eight, text + at, sizeof eight), true) &&
            (eight & UINT64_C(0x8080808080808080)) == 0) {
            at += sizeof eight;
            continue;
        }
        size_t whole;
        size_t bytes = begun((const unsigned char *)text + at, length - at, &whole);
        if (bytes < whole || bytes == 0) {
            *bad = bytes == 0 ? 1 : bytes;
            *cut = bytes > 0 && bytes == length - at;
            return at;
        }
        at += bytes;
    }
    return at;
}

bool utf8_is_space(uint32_t code)
{
    return (code >= 9 && code <= 13) || code == 0x20 || code == 0x85 || code == 0xa0 || code == 0x1680 ||
           (code >= 0x2000 && code <= 0x200a) || code == 0x2028 || code == 0x2029 || code == 0x202f || code == 0x205f ||
           code == 0x3000;
}
