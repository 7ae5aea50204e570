/* UTF-8 as Unicode defines it: no surrogates, no longer forms than needed. */
#ifndef CAIRN_CORE_UTF8_H
#define CAIRN_CORE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UTF8_REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

/* Reads one character; its number of bytes, 0 when the bytes are no UTF-8. */
size_t utf8_decode(const char *text, size_t length, uint32_t *code);

/* Writes one character; returns its number of bytes. */
size_t utf8_encode(uint32_t code, char bytes[4]);

/* The bytes of valid text that `text` begins with. What follows them is not UTF-8: *bad of its bytes stand for one
 * U+FFFD ("maximal subpart" in the Unicode standard, section 3.9); *cut if more text could make a character of them. */
size_t utf8_valid(const char *text, size_t length, size_t *bad, bool *cut);

/* What Unicode calls white space. */
bool utf8_is_space(uint32_t code);

#endif
