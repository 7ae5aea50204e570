/* The passkey task: a number hidden in a long, dull text, and asked for at its end.
 *
 *   description  what is hidden, and that it will be asked for
 *   filler       five sentences over and over, ending with a whole one
 *   key          "The pass key is 48213. Remember it. 48213 is the pass key. "
 *   filler       from its beginning, cut where the length demands it
 *   question     "What is the pass key? The pass key is "
 *   answer       "48213"
 *
 * After Landmark Attention (arXiv 2305.16300) and Infini-attention (arXiv 2404.07143, appendix B). */
#ifndef CAIRN_IO_PASSKEY_H
#define CAIRN_IO_PASSKEY_H

#include "src/core/context.h"

enum { PASSKEY_DIGITS_MAXIMUM = 18 };

/* Where the key stands: behind the description, amid the filler, in front of the question, or anywhere. */
enum passkey_position { PASSKEY_START, PASSKEY_MIDDLE, PASSKEY_END, PASSKEY_ANY, PASSKEY_POSITIONS };

const char *passkey_position_name(enum passkey_position position);
/* PASSKEY_POSITIONS if no position has that name. */
enum passkey_position passkey_position_named(const char *name);

struct passkey_task {
    int64_t length; /* bytes of a sample with its answer; at least passkey_smallest */
    int64_t digits; /* of the key, which is the answer: the last bytes of the sample */
    enum passkey_position position;
    uint64_t seed;
};

/* The shortest sample. */
int64_t passkey_smallest(int64_t digits);

/* Sample number `index` of the task, [length] bytes. */
void passkey_sample(const struct passkey_task *task, int64_t index, unsigned char *text);

#endif
