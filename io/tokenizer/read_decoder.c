/* How tokens become text: worked out for each token when the file is read. */
#include <string.h>

#include "io/tokenizer/tokenizer_private.h"

static enum status put_text(struct bytes *to, const char *text)
{
    to->count = 0;
    return bytes_add(to, text, (int64_t)strlen(text));
}

static enum status read_find(const struct reading *reading, const char *find, const char *put)
{
    struct tokenizer *tokenizer = reading->tokenizer;
    if (tokenizer->decoder.find.count > 0)
        return reading_refuse(reading, "decoder", "more than one replacement is not supported");
    if (!*find)
        return reading_refuse(reading, "decoder", "an empty text cannot be replaced");
    CHECK(put_text(&tokenizer->decoder.find, find));
    return put_text(&tokenizer->decoder.put, put);
}

static enum status read_metaspace(const struct reading *reading, const json_t *value)
{
    const char *sign;
    const char *scheme = "always";
    bool prefix = true;
    CHECK(reading_text(reading, "decoder", value, "replacement", &sign));
    CHECK(reading_flag(reading, "decoder", value, "add_prefix_space", &prefix));
    if (json_object_get(value, "prepend_scheme"))
        CHECK(reading_text(reading, "decoder", value, "prepend_scheme", &scheme));
    reading->tokenizer->decoder.strip_all_of_first = prefix && strcmp(scheme, "never") != 0;
    return read_find(reading, sign, " ");
}

static enum status read_strip(const struct reading *reading, const json_t *value, bool fused)
{
    struct tokenizer *tokenizer = reading->tokenizer;
    const char *text;
    const json_t *start = json_object_get(value, "start");
    const json_t *stop = json_object_get(value, "stop");
    CHECK(reading_text(reading, "decoder", value, "content", &text));
    if (!fused || !*text || !json_is_integer(start) || json_integer_value(start) < 0 || json_integer_value(stop) != 0)
        return reading_refuse(reading, "decoder", "Strip is supported behind Fuse, and at the start of a text");
    tokenizer->decoder.strip_count = json_integer_value(start);
    return put_text(&tokenizer->decoder.strip, text);
}

static enum status read_replace(const struct reading *reading, const json_t *value)
{
    const char *find;
    const char *put;
    const json_t *pattern = json_object_get(value, "pattern");
    CHECK(reading_text(reading, "decoder", pattern, "String", &find));
    CHECK(reading_text(reading, "decoder", value, "content", &put));
    return read_find(reading, find, put);
}

/* *fused: the tokens are one text from here on. */
static enum status read_step(const struct reading *reading, const json_t *value, bool *fused, int depth)
{
    struct tokenizer *tokenizer = reading->tokenizer;
    const char *type;
    if (!json_is_object(value) || depth > 4)
        return reading_refuse(reading, "decoder", "expected an object with a type, or null");
    CHECK(reading_text(reading, "decoder", value, "type", &type));
    if (strcmp(type, "Strip") == 0)
        return read_strip(reading, value, *fused);
    if (strcmp(type, "Fuse") == 0) {
        *fused = true;
        return STATUS_OK;
    }
    if (*fused)
        return reading_refuse(reading, "decoder", "%.64s is not supported behind Fuse", type);
    if (strcmp(type, "ByteLevel") == 0)
        tokenizer->decoder.of_bytes = true;
    else if (strcmp(type, "ByteFallback") == 0)
        tokenizer->decoder.fallback = true;
    else if (strcmp(type, "Metaspace") == 0)
        return read_metaspace(reading, value);
    else if (strcmp(type, "Replace") == 0)
        return read_replace(reading, value);
    else if (strcmp(type, "Sequence") != 0)
        return reading_refuse(reading, "decoder", "%.64s is not supported", type);
    const json_t *steps = json_object_get(value, "decoders");
    for (size_t i = 0; i < json_array_size(steps); i++)
        CHECK(read_step(reading, json_array_get(steps, i), fused, depth + 1));
    return STATUS_OK;
}

enum status read_decoder(const struct reading *reading, json_t *value)
{
    struct tokenizer *tokenizer = reading->tokenizer;
    bool fused = false;
    tokenizer->decoder.join_by_space = !value || json_is_null(value);
    if (tokenizer->decoder.join_by_space)
        return STATUS_OK;
    CHECK(read_step(reading, value, &fused, 0));
    if (tokenizer->decoder.of_bytes && (tokenizer->decoder.fallback || tokenizer->decoder.find.count > 0 || fused))
        return reading_refuse(reading, "decoder", "ByteLevel is supported alone");
    return STATUS_OK;
}

/* -- What each token stands for -- */

static enum status replace(const struct tokenizer *tokenizer, const char *text, int64_t length, struct bytes *to)
{
    const struct bytes *find = &tokenizer->decoder.find;
    for (int64_t i = 0; i < length;) {
        bool here =
            find->count > 0 && length - i >= find->count && memcmp(text + i, find->data, (size_t)find->count) == 0;
        CHECK(here ? bytes_add(to, tokenizer->decoder.put.data, tokenizer->decoder.put.count)
                   : bytes_add(to, text + i, 1));
        i += here ? find->count : 1;
    }
    return STATUS_OK;
}

static enum status decode_token(struct tokenizer *tokenizer, const char *text, int64_t length)
{
    bool known = false;
    if (!tokenizer->decoder.of_bytes)
        return replace(tokenizer, text, length, &tokenizer->decoded);
    CHECK(alphabet_read(text, length, &tokenizer->decoded, &known));
    return known ? STATUS_OK : bytes_add(&tokenizer->decoded, text, length);
}

enum status decode_tokens(struct tokenizer *tokenizer)
{
    int64_t size = tokenizer_size(tokenizer);
    size_t bytes = (size_t)size * sizeof *tokenizer->decoded_spans;
    tokenizer->decoded_spans = memory_allocate(tokenizer->context, bytes, MEMORY_OTHER);
    if (!tokenizer->decoded_spans)
        return STATUS_MEMORY;
    for (int64_t id = 0; id < size; id++) {
        int64_t length;
        int64_t begin = tokenizer->decoded.count;
        const char *text = tokenizer_text(tokenizer, id, &length);
        if (text)
            CHECK(decode_token(tokenizer, text, length));
        tokenizer->decoded_spans[id] =
            (struct text_span){.begin = begin, .length = (int32_t)(tokenizer->decoded.count - begin)};
    }
    return STATUS_OK;
}
