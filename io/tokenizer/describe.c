/* A tokenizer in lines for a person. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <inttypes.h>
#include <pcre2.h>
#include <stdio.h>
#include <string.h>
#include <utf8proc.h>

#include "io/tokenizer/tokenizer_private.h"

static enum status add_line(struct bytes *text, const char *name, const char *format, ...) PRINTF_LIKE(3, 4);

static enum status add_line(struct bytes *text, const char *name, const char *format, ...)
{
    char line[512];
    va_list arguments;
    int used = snprintf(line, sizeof line, "%-14s", name);
    va_start(arguments, format);
    used += vsnprintf(line + used, sizeof line - (size_t)used, format, arguments);
    va_end(arguments);
    CHECK(bytes_add(text, line, used < (int)sizeof line ? used : (int)sizeof line - 1));
    return bytes_add(text, "\n", 1);
}

static enum status add_splits(const struct tokenizer *tokenizer, struct bytes *text)
{
    static const char *const behaviors[] = {"removed", "isolated", "merged with the piece before",
                                            "merged with the piece behind", "joined"};
    for (int i = 0; i < tokenizer->split_count; i++) {
        const struct split_step *step = &tokenizer->split[i];
        const char *name = i == 0 ? "pieces" : "";
        if (step->kind == SPLIT_PATTERN)
            CHECK(add_line(text, name, "%s%.400s, %s", step->invert ? "between " : "", pattern_text(step->pattern),
                           behaviors[step->behavior]));
        else if (step->kind == SPLIT_TO_ALPHABET)
            CHECK(add_line(text, name, "bytes as letters"));
        else
            CHECK(add_line(text, name, "\"%.*s\" %s", (int)step->text.count, step->text.data,
                           step->kind == SPLIT_PREFIX ? step->only_first ? "in front of the text" : "in front of each"
                                                      : "for each space"));
    }
    return STATUS_OK;
}

static enum status add_added(const struct tokenizer *tokenizer, struct bytes *text)
{
    enum { SHOWN = 8 };
    int64_t special = 0;
    for (int64_t i = 0; i < tokenizer->added_count; i++)
        special += tokenizer->added[i].special;
    CHECK(add_line(text, "added", "%" PRId64 ", %" PRId64 " of them special", tokenizer->added_count, special));
    for (int64_t i = 0; i < tokenizer->added_count && i < SHOWN; i++) {
        int64_t length;
        const char *token = vocabulary_text(&tokenizer->added_texts, tokenizer->added[i].id, &length);
        CHECK(add_line(text, "", "%8d  %.*s", (int)tokenizer->added[i].id, (int)(length < 64 ? length : 64), token));
    }
    return tokenizer->added_count > SHOWN ? add_line(text, "", "     ...") : STATUS_OK;
}

static int64_t longest_token(const struct tokenizer *tokenizer)
{
    int64_t longest = 0;
    for (int64_t id = 1; id < tokenizer_size(tokenizer); id++)
        longest = tokenizer_bytes(tokenizer, id) > tokenizer_bytes(tokenizer, longest) ? id : longest;
    return longest;
}

enum status tokenizer_describe(const struct tokenizer *tokenizer, struct bytes *text)
{
    char unicode[32] = "";
    int32_t end = tokenizer_end(tokenizer);
    int64_t longest = longest_token(tokenizer);
    const char *kind = tokenizer->model == TOKENIZER_UNIGRAM ? "Unigram"
                       : tokenizer->of_bytes                 ? "BPE of bytes"
                                                             : "BPE of characters";
    pcre2_config(PCRE2_CONFIG_UNICODE_VERSION, unicode);
    CHECK(add_line(text, "model", "%s%s%s", kind, tokenizer->byte_fallback ? ", bytes for what is unknown" : "",
                   tokenizer->whole_pieces ? ", pieces that are tokens stay whole" : ""));
    CHECK(add_line(text, "vocabulary", "%" PRId64 " ids", tokenizer_size(tokenizer)));
    if (tokenizer->model == TOKENIZER_BPE)
        CHECK(add_line(text, "merges", "%" PRId64, tokenizer->merge_count));
    CHECK(add_line(text, "hash", "%s", tokenizer->hash));
    CHECK(add_line(text, "normalization", "%d steps", tokenizer->normalize_count));
    CHECK(add_splits(tokenizer, text));
    CHECK(add_added(tokenizer, text));
    if (end >= 0)
        CHECK(add_line(text, "end of text", "%d", (int)end));
    CHECK(add_line(text, "frame", "%" PRId64 " tokens before a text, %" PRId64 " behind it", tokenizer->before.count,
                   tokenizer->after.count));
    CHECK(add_line(text, "longest token", "%" PRId64 ", %" PRId64 " bytes", longest,
                   tokenizer_bytes(tokenizer, longest)));
    return add_line(text, "Unicode", "%s in expressions, %s in normalization", unicode, utf8proc_unicode_version());
}
