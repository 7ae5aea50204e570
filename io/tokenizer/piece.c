/* A piece to tokens: most texts are made of a few ten thousand words, whose tokens are kept. */
#include <string.h>

#include "io/tokenizer/tokenizer_private.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { SLOTS = 1 << 17, MOST_WORDS = 3 << 15, LONGEST_WORD = 128, MOST_TEXT = 1 << 22 };

enum status token_list_add(struct context *context, struct token_list *tokens, const int32_t *ids, int64_t count)
{
    if (tokens->count + count > tokens->room)
        CHECK(array_grow(context, &tokens->ids, tokens->count, &tokens->room, tokens->count + count,
                         sizeof *tokens->ids));
    if (count > 0)
        memcpy(tokens->ids + tokens->count, ids, (size_t)count * sizeof *ids);
    tokens->count += count;
    return STATUS_OK;
}

void token_list_release(struct context *context, struct token_list *tokens)
{
    memory_free(context, tokens->ids);
    *tokens = (struct token_list){0};
}

enum status word_cache_create(struct context *context, struct word_cache *cache)
{
    *cache = (struct word_cache){.text = {.context = context}};
    cache->words = memory_allocate(context, SLOTS * sizeof *cache->words, MEMORY_OTHER);
    return cache->words ? STATUS_OK : STATUS_MEMORY;
}

void word_cache_destroy(struct context *context, struct word_cache *cache)
{
    memory_free(context, cache->words);
    bytes_release(&cache->text);
    token_list_release(context, &cache->ids);
}

/* The word's slot, or the free one where it belongs. */
static struct word *find_word(const struct word_cache *cache, uint64_t hash, const char *text, int64_t length)
{
    for (uint64_t slot = hash & (SLOTS - 1);; slot = (slot + 1) & (SLOTS - 1)) {
        struct word *word = &cache->words[slot];
        if (word->hash == 0 || (word->hash == hash && word->length == length &&
                                memcmp(cache->text.data + word->text, text, (size_t)length) == 0))
            return word;
    }
}

/* A cache that is full begins anew. */
static enum status keep_word(struct encoder *encoder, uint64_t hash, const char *text, int64_t length,
                             int64_t first_token)
{
    struct word_cache *cache = &encoder->cache;
    const struct token_list *tokens = encoder->tokens;
    if (cache->used == MOST_WORDS || cache->text.count > MOST_TEXT) {
        memset(cache->words, 0, SLOTS * sizeof *cache->words);
        cache->used = cache->text.count = cache->ids.count = 0;
    }
    struct word word = {.hash = hash,
                        .text = (uint32_t)cache->text.count,
                        .ids = (uint32_t)cache->ids.count,
                        .length = (uint16_t)length,
                        .count = (uint16_t)(tokens->count - first_token)};
    CHECK(bytes_add(&cache->text, text, length));
    CHECK(token_list_add(encoder->context, &cache->ids, tokens->ids + first_token, word.count));
    *find_word(cache, hash, text, length) = word;
    cache->used++;
    return STATUS_OK;
}

/* The token that a piece is as a whole; -1: none. */
static enum status find_whole(struct encoder *encoder, const char *text, int64_t length, int32_t *id)
{
    const struct tokenizer *tokenizer = encoder->tokenizer;
    *id = -1;
    if (!tokenizer->whole_pieces)
        return STATUS_OK;
    encoder->letters.count = 0;
    if (tokenizer->of_bytes) {
        CHECK(alphabet_write(text, length, &encoder->letters));
        text = encoder->letters.data;
        length = encoder->letters.count;
    }
    *id = vocabulary_find(&tokenizer->vocabulary, text, length);
    return STATUS_OK;
}

static enum status encode_word(struct encoder *encoder, const char *text, int64_t length)
{
    int32_t whole;
    CHECK(find_whole(encoder, text, length, &whole));
    if (whole >= 0)
        return token_list_add(encoder->context, encoder->tokens, &whole, 1);
    return encoder->tokenizer->model == TOKENIZER_BPE ? bpe_encode(encoder, text, length)
                                                      : unigram_encode(encoder, text, length);
}

enum status piece_encode(struct encoder *encoder, const char *text, int64_t length)
{
    bool known = true;
    if (encoder->counts)
        return piece_counts_add(encoder->counts, text, length, 1);
    struct bytes *split = &encoder->split_text[TOKENIZER_STEPS - 1];
    if (encoder->tokenizer->in_letters) {
        split->count = 0;
        CHECK(alphabet_read(text, length, split, &known));
        text = split->data;
        length = split->count;
    }
    if (length > LONGEST_WORD)
        return encode_word(encoder, text, length);
    uint64_t hash = XXH3_64bits(text, (size_t)length) | 1;
    const struct word *word = find_word(&encoder->cache, hash, text, length);
    if (word->hash != 0)
        return token_list_add(encoder->context, encoder->tokens, encoder->cache.ids.ids + word->ids, word->count);
    int64_t first = encoder->tokens->count;
    CHECK(encode_word(encoder, text, length));
    return keep_word(encoder, hash, text, length, first);
}
