/* A text to pieces, step by step: a step hands each piece to the next one as it comes, so that no list of pieces is
 * kept. */
#include <string.h>

#include "io/tokenizer/tokenizer_private.h"

/* A stretch between or of matches. */
struct stretch {
    int64_t begin, end; /* end < begin: there is none */
    bool matched;
};

struct splitting {
    struct encoder *encoder;
    int step;
    const char *text;
    bool first; /* the text begins the whole one */
    struct stretch held;
};

static enum status hand_on(struct splitting *splitting, int64_t begin, int64_t end)
{
    if (end <= begin)
        return STATUS_OK;
    return split_text(splitting->encoder, splitting->step + 1, splitting->text + begin, end - begin,
                      splitting->first && begin == 0);
}

static enum status hand_on_held(struct splitting *splitting)
{
    struct stretch held = splitting->held;
    splitting->held.end = splitting->held.begin - 1;
    return hand_on(splitting, held.begin, held.end);
}

/* Whether a stretch becomes part of the one before it. */
static bool joins(enum split_behavior behavior, struct stretch before, struct stretch now)
{
    switch (behavior) {
    case SPLIT_WITH_PREVIOUS:
        return now.matched && !before.matched;
    case SPLIT_WITH_NEXT:
        return before.matched && !now.matched;
    case SPLIT_CONTIGUOUS:
        return before.matched == now.matched;
    default:
        return false;
    }
}

static enum status see_stretch(struct splitting *splitting, struct stretch now)
{
    const struct split_step *step = &splitting->encoder->tokenizer->split[splitting->step];
    struct stretch *held = &splitting->held;
    now.matched = now.matched != step->invert;
    if (step->behavior == SPLIT_REMOVED || step->behavior == SPLIT_ISOLATED)
        return step->behavior == SPLIT_REMOVED && now.matched ? STATUS_OK : hand_on(splitting, now.begin, now.end);
    if (held->end >= held->begin && joins(step->behavior, *held, now)) {
        held->end = now.end;
        /* A match that was added ends the piece; a piece that was begun by a match may not take in another text. */
        held->matched = step->behavior == SPLIT_WITH_PREVIOUS || now.matched;
        return STATUS_OK;
    }
    CHECK(hand_on_held(splitting));
    *held = now;
    return STATUS_OK;
}

static enum status split_by_pattern(struct encoder *encoder, int step, const char *text, int64_t length, bool first)
{
    struct splitting splitting = {.encoder = encoder, .step = step, .text = text, .first = first, .held = {.end = -1}};
    struct match match = MATCH_START;
    int64_t at = 0;
    bool found = true;
    while (found) {
        CHECK(pattern_next(encoder->split_states[step], text, length, &match, &found));
        if (!found)
            break;
        if (match.begin > at)
            CHECK(see_stretch(&splitting, (struct stretch){.begin = at, .end = match.begin}));
        CHECK(see_stretch(&splitting, (struct stretch){.begin = match.begin, .end = match.end, .matched = true}));
        at = match.end;
    }
    if (at < length)
        CHECK(see_stretch(&splitting, (struct stretch){.begin = at, .end = length}));
    return hand_on_held(&splitting);
}

static enum status replace(struct encoder *encoder, int step, const char *text, int64_t length, struct bytes *to)
{
    const struct split_step *what = &encoder->tokenizer->split[step];
    struct match match = MATCH_START;
    int64_t at = 0;
    for (bool found = true;;) {
        CHECK(pattern_next(encoder->split_states[step], text, length, &match, &found));
        if (!found)
            return bytes_add(to, text + at, length - at);
        CHECK(bytes_add(to, text + at, match.begin - at));
        CHECK(bytes_add(to, what->text.data, what->text.count));
        at = match.end;
    }
}

enum status split_text(struct encoder *encoder, int step, const char *text, int64_t length, bool first)
{
    const struct tokenizer *tokenizer = encoder->tokenizer;
    if (step == tokenizer->split_count)
        return piece_encode(encoder, text, length);
    const struct split_step *what = &tokenizer->split[step];
    struct bytes *own = &encoder->split_text[step];
    own->count = 0;
    switch (what->kind) {
    case SPLIT_PATTERN:
        return split_by_pattern(encoder, step, text, length, first);
    case SPLIT_PREFIX:
        if (length == 0 || (what->only_first && !first) ||
            (length >= what->text.count && memcmp(text, what->text.data, (size_t)what->text.count) == 0))
            return split_text(encoder, step + 1, text, length, first);
        CHECK(bytes_add(own, what->text.data, what->text.count));
        CHECK(bytes_add(own, text, length));
        break;
    case SPLIT_REPLACE:
        CHECK(replace(encoder, step, text, length, own));
        break;
    case SPLIT_TO_ALPHABET:
        CHECK(alphabet_write(text, length, own));
        break;
    }
    return split_text(encoder, step + 1, own->data, own->count, first);
}
