/* Tokens to text. What a token stands for was worked out when the file was read; here bytes become characters. */
#include <string.h>

#include "io/tokenizer/tokenizer_private.h"
#include "src/core/utf8.h"

struct decoder_stream {
    struct context *context;
    const struct tokenizer *tokenizer;
    bool skip_specials;
    bool begun;           /* a token came */
    int64_t strip;        /* characters that may still be left out at the start */
    struct bytes waiting; /* bytes that are no whole character yet */
};

static void begin_anew(struct decoder_stream *stream)
{
    stream->begun = false;
    stream->strip = stream->tokenizer->decoder.strip_count;
    stream->waiting.count = 0;
}

enum status decoder_stream_create(struct context *context, const struct tokenizer *tokenizer, bool skip_specials,
                                  struct decoder_stream **stream)
{
    struct decoder_stream *created = *stream = memory_allocate(context, sizeof *created, MEMORY_OTHER);
    if (!created)
        return STATUS_MEMORY;
    *created = (struct decoder_stream){
        .context = context, .tokenizer = tokenizer, .skip_specials = skip_specials, .waiting = {.context = context}};
    begin_anew(created);
    return STATUS_OK;
}

void decoder_stream_destroy(struct decoder_stream **stream)
{
    if (!*stream)
        return;
    bytes_release(&(*stream)->waiting);
    memory_free((*stream)->context, *stream);
    *stream = NULL;
}

/* Valid text that comes out, without what is to be left out at its start. */
static enum status emit(struct decoder_stream *stream, const char *text, int64_t length, struct bytes *to)
{
    const struct bytes *strip = &stream->tokenizer->decoder.strip;
    while (stream->strip > 0 && length >= strip->count && memcmp(text, strip->data, (size_t)strip->count) == 0) {
        text += strip->count;
        length -= strip->count;
        stream->strip--;
    }
    if (length > 0)
        stream->strip = 0;
    return bytes_add(to, text, length);
}

/* What waits comes out as far as it is characters; at the end all of it, with U+FFFD for each part that is none. */
static enum status emit_characters(struct decoder_stream *stream, bool end, struct bytes *to)
{
    struct bytes *waiting = &stream->waiting;
    int64_t done = 0;
    for (bool cut = false; done < waiting->count && !cut;) {
        size_t bad;
        size_t valid = utf8_valid(waiting->data + done, (size_t)(waiting->count - done), &bad, &cut);
        CHECK(emit(stream, waiting->data + done, (int64_t)valid, to));
        done += (int64_t)valid;
        cut = cut && !end;
        if (bad > 0 && !cut) {
            CHECK(emit(stream, UTF8_REPLACEMENT, 3, to));
            done += (int64_t)bad;
        }
    }
    waiting->count -= done;
    if (done > 0)
        memmove(waiting->data, waiting->data + done, (size_t)waiting->count);
    return STATUS_OK;
}

/* A run of byte tokens is text if all of it is; otherwise each byte is a U+FFFD. */
static enum status emit_run(struct decoder_stream *stream, struct bytes *to)
{
    struct bytes *waiting = &stream->waiting;
    int64_t count = waiting->count;
    size_t bad = 0;
    bool cut;
    waiting->count = 0;
    if (count == 0 || utf8_valid(waiting->data, (size_t)count, &bad, &cut) == (size_t)count)
        return emit(stream, waiting->data, count, to);
    for (int64_t i = 0; i < count; i++)
        CHECK(emit(stream, UTF8_REPLACEMENT, 3, to));
    return STATUS_OK;
}

/* The first token without any sign of a space, in the manner of Metaspace. */
static enum status push_first(struct decoder_stream *stream, const char *name, int64_t length, struct bytes *to)
{
    const struct bytes *sign = &stream->tokenizer->decoder.find;
    for (int64_t i = 0; i < length;) {
        bool space = length - i >= sign->count && memcmp(name + i, sign->data, (size_t)sign->count) == 0;
        if (!space)
            CHECK(bytes_add(to, name + i, 1));
        i += space ? sign->count : 1;
    }
    return STATUS_OK;
}

enum status decoder_stream_push(struct decoder_stream *stream, int64_t id, struct bytes *text)
{
    const struct tokenizer *tokenizer = stream->tokenizer;
    int64_t length;
    const char *name = tokenizer_text(tokenizer, id, &length);
    if (!name || (stream->skip_specials && tokenizer_is_special(tokenizer, id)))
        return STATUS_OK;
    const struct text_span *span = &tokenizer->decoded_spans[id];
    const char *meant = tokenizer->decoded.data + span->begin;
    bool first = !stream->begun;
    stream->begun = true;
    if (tokenizer->decoder.of_bytes) {
        CHECK(bytes_add(&stream->waiting, meant, span->length));
        return emit_characters(stream, false, text);
    }
    if (tokenizer->decoder.fallback && fallback_byte(name, length) >= 0)
        return bytes_add(&stream->waiting, &(char){(char)fallback_byte(name, length)}, 1);
    CHECK(emit_run(stream, text));
    if (first && tokenizer->decoder.strip_all_of_first)
        return push_first(stream, name, length, text);
    if (!first && tokenizer->decoder.join_by_space)
        CHECK(bytes_add(text, " ", 1));
    return emit(stream, meant, span->length, text);
}

enum status decoder_stream_finish(struct decoder_stream *stream, struct bytes *text)
{
    CHECK(stream->tokenizer->decoder.of_bytes ? emit_characters(stream, true, text) : emit_run(stream, text));
    begin_anew(stream);
    return STATUS_OK;
}
