/* What a person may have meant by a word that is none of those expected. */
#ifndef CAIRN_CORE_SUGGEST_H
#define CAIRN_CORE_SUGGEST_H

#include <stddef.h>

/* How many letters were left out, added or changed between two words of at most 128 bytes; more for longer ones. */
size_t suggest_distance(const char *a, const char *b);

/* The distance up to which a word of so many bytes is taken for a slip of another. */
size_t suggest_limit(size_t length);

/* The nearest of `count` names within that distance, the first of those as near; NULL when there is none. */
const char *suggest_name(const char *word, const char *const *names, int count);

#endif
