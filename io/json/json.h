/* JSON that any double and any text can become part of. */
#ifndef CAIRN_IO_JSON_H
#define CAIRN_IO_JSON_H

#include <jansson.h>

/* As json_pack of jansson builds values, by the letters s (text), i (int), I (json_int_t), f (double), b (int, a truth
 * value), o (a value, which is taken) and objects of them, "{s:i, s:{s:f}}". A double that is not finite becomes null,
 * and KEY_reason beside it says what it was; bytes of a text that are no UTF-8 become U+FFFD. NULL when memory is out.
 */
json_t *json_form(const char *format, ...);

/* Puts a double into an object in the same way. */
void json_set_number(json_t *object, const char *key, double value);

/* A text, with bytes that are no UTF-8 replaced; NULL when memory is out. */
json_t *json_text(const char *text);

#endif
