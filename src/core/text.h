/* Small helpers on text. */
#ifndef CAIRN_CORE_TEXT_H
#define CAIRN_CORE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Copies text into a buffer of `size` bytes; false when it had to be cut. */
bool text_copy(char *to, size_t size, const char *from);

/* Copies a path, with HOME for a "~" that is all of it or stands before its first "/", which shells do only where a
 * word begins. False for other paths that begin with "~", without HOME, and when it does not fit. */
bool text_expand_home(char *to, size_t size, const char *path);

/* Whole-string parses: false, and the value untouched, unless all of `text` is one decimal number in range. */
bool text_to_integer(const char *text, int64_t *value);
bool text_to_real(const char *text, double *value);

/* A duration in seconds for people: "0m 07s", "3h 20m", "2d 04h". 32 bytes are enough. */
void text_from_duration(double seconds, char *text, size_t size);

/* A time limit as Slurm's --time takes it, in seconds: minutes, minutes:seconds, hours:minutes:seconds, days-hours,
 * days-hours:minutes or days-hours:minutes:seconds. False, and the value untouched, for anything else and for none. */
bool text_to_time_limit(const char *text, double *seconds);

#endif
