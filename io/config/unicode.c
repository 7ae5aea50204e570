#include "io/config/unicode.h"

#include "src/core/utf8.h"

bool config_text_is_valid(const char *text, size_t length)
{
    for (size_t i = 0; i < length;) {
        uint32_t code;
        size_t bytes = utf8_decode(text + i, length - i, &code);
        if (bytes == 0)
            return false;
        i += bytes;
    }
    return true;
}

bool config_character_is_printable(uint32_t code)
{
    if (code == 0x2028 || code == 0x2029 || code == 0xfeff)
        return false;
    return (code >= 0x20 && code <= 0x7e) || (code >= 0xa0 && code <= 0xd7ff) || (code >= 0xe000 && code <= 0xfffd) ||
           (code >= 0x10000 && code <= 0x10ffff);
}
