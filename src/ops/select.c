#include "src/ops/route.h"

/* A number that grows with the score: 1 for a not-a-number, and more than 1 for the rest. */
static uint32_t score_key(float score)
{
    if (score != score)
        return 1;
    score += 0.0f; /* -0 equals 0 */
    uint32_t bits;
    memcpy(&bits, &score, sizeof bits);
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

/* The k-th largest of the keys, digit by digit from the highest, and in *equal how many that are equal to it belong to
 * the k largest. */
static uint32_t key_find(const uint32_t *keys, int64_t count, int64_t k, int64_t *equal)
{
    enum { DIGIT = 8, DIGITS = 1 << DIGIT };
    uint32_t found = 0;
    uint32_t known = 0; /* the digits of `found` that stand */
    for (int shift = 32 - DIGIT; shift >= 0; shift -= DIGIT) {
        int64_t histogram[DIGITS] = {0};
        for (int64_t i = 0; i < count; i++)
            histogram[keys[i] >> shift & (DIGITS - 1)] += (keys[i] & known) == found;
        uint32_t digit = DIGITS - 1;
        for (; histogram[digit] < k; digit--)
            k -= histogram[digit];
        found |= digit << shift;
        known |= (uint32_t)(DIGITS - 1) << shift;
    }
    *equal = k;
    return found;
}

int64_t token_select(struct arena *work, const float *scores, const uint8_t *candidate, int64_t count, int64_t k,
                     int32_t *positions)
{
    struct arena_mark mark = arena_mark(work);
    uint32_t *keys = arena_allocate(work, (size_t)count * sizeof *keys);
    if (!keys)
        return 0;
    int64_t candidates = 0;
    for (int64_t i = 0; i < count; i++) {
        bool takes_part = !candidate || candidate[i];
        keys[i] = takes_part ? score_key(scores[i]) : 0;
        candidates += takes_part;
    }
    int64_t selected = integer_min(k, candidates);
    if (selected > 0) {
        int64_t equal;
        uint32_t least = key_find(keys, count, selected, &equal);
        for (int64_t i = 0, next = 0; next < selected; i++)
            if (keys[i] > least || (keys[i] == least && equal-- > 0))
                positions[next++] = (int32_t)i;
    }
    arena_rewind(work, mark);
    return integer_max(selected, 0);
}
