/* A piece to tokens by merging neighbours, the pair of the lowest rank first and the leftmost of equals: a linked list
 * of symbols and a heap of pairs, so that a piece of any length takes n log n. Entries of the heap may be out of date;
 * a symbol only grows, so that one whose pair would still give its token is not. */
#include "io/tokenizer/heap_private.h"
#include "io/tokenizer/tokenizer_private.h"
#include "src/core/utf8.h"

/* -- The heap -- */

static bool comes_before(const void *first, const void *second)
{
    const struct merge_entry *a = first;
    const struct merge_entry *b = second;
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static enum status push(struct encoder *encoder, const struct merge_entry *entry)
{
    struct merge_work *work = &encoder->work;
    int64_t count = work->heap_count;
    CHECK(array_grow(encoder->context, &work->heap, count, &work->heap_room, count + 1, sizeof *entry));
    heap_push(work->heap, sizeof *entry, work->heap_count++, entry, comes_before);
    return STATUS_OK;
}

/* -- Symbols -- */

static enum status add_symbol(struct encoder *encoder, int32_t id)
{
    struct merge_work *work = &encoder->work;
    CHECK(
        array_grow(encoder->context, &work->symbols, work->count, &work->room, work->count + 1, sizeof *work->symbols));
    int32_t at = (int32_t)work->count++;
    work->symbols[at] = (struct symbol){.id = id, .previous = at - 1, .next = at + 1};
    return STATUS_OK;
}

/* Bytes that stand for a character without a token; *known is false if one of them has none. */
static enum status add_fallback(struct encoder *encoder, const char *text, int64_t length, bool *known)
{
    const struct tokenizer *tokenizer = encoder->tokenizer;
    *known = tokenizer->byte_fallback;
    for (int64_t i = 0; *known && i < length; i++)
        *known = tokenizer->byte_ids[(unsigned char)text[i]] >= 0;
    for (int64_t i = 0; *known && i < length; i++)
        CHECK(add_symbol(encoder, tokenizer->byte_ids[(unsigned char)text[i]]));
    return STATUS_OK;
}

/* A symbol for each byte or character. What is no token becomes its bytes, or the unknown token, one for several in a
 * row if they fuse; without that it leaves no trace, as in the library. */
static enum status add_symbols(struct encoder *encoder, const char *text, int64_t length)
{
    const struct tokenizer *tokenizer = encoder->tokenizer;
    bool unknown = false;
    int64_t bytes = 1;
    for (int64_t i = 0; i < length; i += bytes) {
        uint32_t code;
        bool known = false;
        if (!tokenizer->of_bytes)
            bytes = (int64_t)utf8_decode(text + i, (size_t)(length - i), &code);
        int32_t id = tokenizer->of_bytes ? tokenizer->byte_ids[(unsigned char)text[i]]
                                         : vocabulary_find(&tokenizer->vocabulary, text + i, bytes);
        if (id < 0)
            CHECK(add_fallback(encoder, text + i, bytes, &known));
        if (known || (id < 0 && tokenizer->unknown < 0))
            continue;
        if (unknown && (id >= 0 || !tokenizer->fuse_unknown))
            CHECK(add_symbol(encoder, tokenizer->unknown));
        unknown = id < 0;
        if (id >= 0)
            CHECK(add_symbol(encoder, id));
    }
    return unknown ? add_symbol(encoder, tokenizer->unknown) : STATUS_OK;
}

/* -- Merging -- */

static enum status offer(struct encoder *encoder, int32_t left, int32_t right)
{
    const struct merge_work *work = &encoder->work;
    if (left < 0 || right >= work->count)
        return STATUS_OK;
    const struct pair *pair = pair_find(&encoder->tokenizer->pairs, work->symbols[left].id, work->symbols[right].id);
    if (!pair)
        return STATUS_OK;
    return push(encoder, &(struct merge_entry){.rank = pair->rank, .at = left, .joined = pair->joined});
}

static enum status merge_all(struct encoder *encoder)
{
    struct merge_work *work = &encoder->work;
    struct symbol *symbols = work->symbols;
    work->heap_count = 0;
    for (int32_t i = 0; i + 1 < work->count; i++)
        CHECK(offer(encoder, i, i + 1));
    while (work->heap_count > 0) {
        struct merge_entry top;
        heap_pop(work->heap, sizeof top, work->heap_count--, &top, comes_before);
        struct symbol *left = &symbols[top.at];
        if (left->id < 0 || left->next >= work->count)
            continue;
        struct symbol *right = &symbols[left->next];
        const struct pair *pair = pair_find(&encoder->tokenizer->pairs, left->id, right->id);
        if (!pair || pair->joined != top.joined)
            continue;
        left->id = pair->joined;
        right->id = -1;
        left->next = right->next;
        if (right->next < work->count)
            symbols[right->next].previous = top.at;
        CHECK(offer(encoder, left->previous, top.at));
        CHECK(offer(encoder, top.at, left->next));
    }
    return STATUS_OK;
}

enum status bpe_encode(struct encoder *encoder, const char *text, int64_t length)
{
    struct merge_work *work = &encoder->work;
    if (length > INT32_MAX / 2)
        return context_fail(encoder->context, STATUS_FILE,
                            "a text of %lld bytes without a place to cut it is too long; cut it into documents",
                            (long long)length);
    work->count = 0;
    CHECK(add_symbols(encoder, text, length));
    CHECK(merge_all(encoder));
    for (int64_t i = 0; i < work->count; i++)
        if (work->symbols[i].id >= 0)
            CHECK(token_list_add(encoder->context, encoder->tokens, &work->symbols[i].id, 1));
    return STATUS_OK;
}
