/* Texts to other texts, before they are cut. */
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "io/tokenizer/tokenizer_private.h"
#include "src/core/utf8.h"

static bool is_ascii(const char *text, int64_t length)
{
    for (int64_t i = 0; i < length; i++)
        if ((unsigned char)text[i] >= 0x80)
            return false;
    return true;
}

/* A form of Unicode. ASCII is in all of them. */
static enum status to_form(const char *from, int64_t length, int options, struct bytes *to)
{
    utf8proc_uint8_t *mapped = NULL;
    if (is_ascii(from, length))
        return bytes_add(to, from, length);
    utf8proc_ssize_t bytes =
        utf8proc_map((const utf8proc_uint8_t *)from, (utf8proc_ssize_t)length, &mapped, (utf8proc_option_t)options);
    enum status status = bytes < 0
                             ? context_fail(to->context, STATUS_MEMORY, "a text of %lld bytes cannot be normalised: %s",
                                            (long long)length, utf8proc_errmsg(bytes))
                             : bytes_add(to, mapped, bytes);
    free(mapped);
    return status;
}

static enum status to_lower(const char *from, int64_t length, struct bytes *to)
{
    CHECK(bytes_reserve(to, 2 * length + 4));
    for (int64_t i = 0; i < length;) {
        uint32_t code = 0;
        i += (int64_t)utf8_decode(from + i, (size_t)(length - i), &code);
        uint32_t lower = (uint32_t)utf8proc_tolower((utf8proc_int32_t)code);
        CHECK(bytes_reserve(to, 8));
        to->count += (int64_t)utf8_encode(code == 0x130 ? 'i' : lower, to->data + to->count);
        if (code == 0x130) /* the one letter whose small form is two: i and a point above */
            to->count += (int64_t)utf8_encode(0x307, to->data + to->count);
    }
    return STATUS_OK;
}

static enum status replace(const struct normalize_step *step, struct pattern_state *state, const char *from,
                           int64_t length, struct bytes *to, bool *first)
{
    struct match match = MATCH_START;
    int64_t at = 0;
    for (bool found = true;;) {
        CHECK(pattern_next(state, from, length, &match, &found));
        if (!found)
            return bytes_add(to, from + at, length - at);
        CHECK(bytes_add(to, from + at, match.begin - at));
        CHECK(bytes_add(to, step->text.data, step->text.count));
        at = match.end;
        if (to->count == 0 && at > 0)
            *first = false;
    }
}

static size_t space_at(const char *text, int64_t length)
{
    uint32_t code = 0;
    size_t bytes = utf8_decode(text, (size_t)length, &code);
    return utf8_is_space(code) ? bytes : 0;
}

static enum status strip(const struct normalize_step *step, const char *from, int64_t length, struct bytes *to,
                         bool *first)
{
    int64_t begin = 0;
    int64_t end = length;
    while (step->left && begin < end && space_at(from + begin, end - begin) > 0)
        begin += (int64_t)space_at(from + begin, end - begin);
    while (step->right && end > begin) {
        int64_t last = end - 1;
        while (last > begin && ((unsigned char)from[last] & 0xc0) == 0x80)
            last--;
        if (space_at(from + last, end - last) == 0)
            break;
        end = last;
    }
    if (begin > 0)
        *first = false;
    return bytes_add(to, from + begin, end - begin);
}

enum status normalize(const struct normalize_step *step, struct pattern_state *state, const char *from, int64_t length,
                      struct bytes *to, bool *first)
{
    to->count = 0;
    switch (step->kind) {
    case NORMALIZE_NFC:
        return to_form(from, length, UTF8PROC_STABLE | UTF8PROC_COMPOSE, to);
    case NORMALIZE_NFD:
        return to_form(from, length, UTF8PROC_STABLE | UTF8PROC_DECOMPOSE, to);
    case NORMALIZE_NFKC:
        return to_form(from, length, UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT, to);
    case NORMALIZE_NFKD:
        return to_form(from, length, UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT, to);
    case NORMALIZE_LOWERCASE:
        return to_lower(from, length, to);
    case NORMALIZE_PREPEND:
        if (length > 0)
            CHECK(bytes_add(to, step->text.data, step->text.count));
        return bytes_add(to, from, length);
    case NORMALIZE_REPLACE:
        return replace(step, state, from, length, to, first);
    case NORMALIZE_STRIP:
        return strip(step, from, length, to, first);
    case NORMALIZE_CHARSMAP:
        return charsmap_apply(&step->text, from, length, to);
    }
    return STATUS_OK;
}
