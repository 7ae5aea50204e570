/* Small helpers on text. */
#ifndef CAIRN_CORE_TEXT_H
#define CAIRN_CORE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Copies text into a buffer of `size` bytes; false when it had to be cut. */
bool text_copy(char *to, size_t size, const char *from);

/* Whole-string parses: false, and the value untouched, unless all of `text` is one number in range. */
bool text_to_integer(const char *text, int64_t *value);
bool text_to_real(const char *text, double *value);

#endif
