#include "src/core/suggest.h"

#include <string.h>

enum { LONGEST = 128, MOST = 3 };

/* Levenshtein's distance, by rows. */
size_t suggest_distance(const char *a, const char *b)
{
    size_t row[LONGEST + 1];
    size_t length_a = strlen(a);
    size_t length_b = strlen(b);
    if (length_a > LONGEST || length_b > LONGEST)
        return LONGEST + 1;
    for (size_t j = 0; j <= length_b; j++)
        row[j] = j;
    for (size_t i = 1; i <= length_a; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= length_b; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            row[j] = row[j] + 1 < best ? row[j] + 1 : best;
        }
    }
    return row[length_b];
}

size_t suggest_limit(size_t length)
{
    return length / 2 < MOST ? length / 2 : MOST;
}

const char *suggest_name(const char *word, const char *const *names, int count)
{
    const char *found = NULL;
    size_t best = suggest_limit(strlen(word)) + 1;
    for (int i = 0; i < count; i++) {
        size_t distance = suggest_distance(word, names[i]);
        if (distance < best) {
            best = distance;
            found = names[i];
        }
    }
    return found;
}
