/* A tokenizer as a whole: what others ask of it, and what it is told apart by. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/tokenizer/tokenizer_private.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

struct tokenizer *tokenizer_create(struct context *context)
{
    struct tokenizer *tokenizer = memory_allocate(context, sizeof *tokenizer, MEMORY_OTHER);
    if (!tokenizer)
        return NULL;
    tokenizer->context = context;
    vocabulary_create(context, &tokenizer->vocabulary);
    vocabulary_create(context, &tokenizer->added_texts);
    tokenizer->decoded.context = context;
    tokenizer->raw.context = tokenizer->normalized.context = tokenizer->pieces.context = context;
    for (int i = 0; i < TOKENIZER_STEPS; i++)
        tokenizer->normalize[i].text.context = tokenizer->split[i].text.context = context;
    tokenizer->decoder.find.context = tokenizer->decoder.put.context = tokenizer->decoder.strip.context = context;
    tokenizer->unknown = -1;
    return tokenizer;
}

void tokenizer_close(struct tokenizer **tokenizer)
{
    struct tokenizer *old = *tokenizer;
    if (!old)
        return;
    struct context *context = old->context;
    vocabulary_release(&old->vocabulary);
    vocabulary_release(&old->added_texts);
    struct bytes *texts[] = {&old->decoded, &old->decoder.find, &old->decoder.put, &old->decoder.strip};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        bytes_release(texts[i]);
    for (int i = 0; i < TOKENIZER_STEPS; i++) {
        pattern_destroy(context, &old->normalize[i].pattern);
        pattern_destroy(context, &old->split[i].pattern);
        bytes_release(&old->normalize[i].text);
        bytes_release(&old->split[i].text);
    }
    trie_release(&old->raw);
    trie_release(&old->normalized);
    trie_release(&old->pieces);
    pair_table_release(&old->pairs);
    memory_free(context, old->decoded_spans);
    memory_free(context, old->added);
    memory_free(context, old->scores);
    token_list_release(context, &old->before);
    token_list_release(context, &old->after);
    memory_free(context, old);
    *tokenizer = NULL;
}

int64_t tokenizer_size(const struct tokenizer *tokenizer)
{
    int64_t model = tokenizer->vocabulary.size;
    return tokenizer->added_texts.size > model ? tokenizer->added_texts.size : model;
}

const char *tokenizer_hash(const struct tokenizer *tokenizer)
{
    return tokenizer->hash;
}

const char *tokenizer_text(const struct tokenizer *tokenizer, int64_t id, int64_t *length)
{
    const char *text = vocabulary_text(&tokenizer->added_texts, id, length);
    return text ? text : vocabulary_text(&tokenizer->vocabulary, id, length);
}

int32_t tokenizer_find(const struct tokenizer *tokenizer, const char *text)
{
    int32_t id = vocabulary_find(&tokenizer->added_texts, text, (int64_t)strlen(text));
    return id >= 0 ? id : vocabulary_find(&tokenizer->vocabulary, text, (int64_t)strlen(text));
}

bool tokenizer_is_special(const struct tokenizer *tokenizer, int64_t id)
{
    const struct added_token *token = added_of(tokenizer, id);
    return token && token->special;
}

int32_t tokenizer_end(const struct tokenizer *tokenizer)
{
    static const char *const names[] = {"<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<|eos|>"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        int32_t id = tokenizer_find(tokenizer, names[i]);
        if (id >= 0)
            return id;
    }
    return -1;
}

int64_t tokenizer_bytes(const struct tokenizer *tokenizer, int64_t id)
{
    int64_t length;
    const char *text = tokenizer_text(tokenizer, id, &length);
    if (!text || tokenizer_is_special(tokenizer, id))
        return 0;
    return tokenizer->decoder.fallback && fallback_byte(text, length) >= 0 ? 1 : tokenizer->decoded_spans[id].length;
}

/* -- The hash -- */

/* Leaves out what says nothing: newer files write more of it than older ones. */
static void drop_defaults(json_t *value)
{
    const char *key;
    json_t *member;
    void *next;
    for (size_t i = 0; i < json_array_size(value); i++)
        drop_defaults(json_array_get(value, i));
    json_object_foreach_safe(value, next, key, member)
    {
        drop_defaults(member);
        if (json_is_null(member) || json_is_false(member) ||
            (json_is_string(member) && json_string_length(member) == 0))
            json_object_del(value, key);
    }
}

static enum status hash_part(const struct tokenizer *tokenizer, json_t *root, const char *key, uint64_t *hash)
{
    json_t *part = json_object_get(root, key);
    if (!part || json_is_null(part))
        return STATUS_OK;
    drop_defaults(part);
    char *text = json_dumps(part, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
    if (!text)
        return context_fail(tokenizer->context, STATUS_MEMORY, "out of memory for the hash of a tokenizer");
    *hash = XXH64(text, strlen(text), *hash);
    free(text);
    return STATUS_OK;
}

static enum status make_hash(struct tokenizer *tokenizer, json_t *root)
{
    static const char *const parts[] = {"added_tokens", "normalizer", "pre_tokenizer"};
    uint64_t hash = tokenizer->merges_hash;
    const int32_t settings[] = {(int32_t)tokenizer->model, tokenizer->whole_pieces, tokenizer->byte_fallback,
                                tokenizer->fuse_unknown, tokenizer->unknown};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        CHECK(hash_part(tokenizer, root, parts[i], &hash));
    hash = XXH64(settings, sizeof settings, hash);
    for (int64_t id = 0; id < tokenizer->vocabulary.size; id++) {
        int64_t length;
        const char *text = vocabulary_text(&tokenizer->vocabulary, id, &length);
        hash = text ? XXH64(text, (size_t)length, hash + (uint64_t)id) : hash;
        if (text && tokenizer->scores)
            hash = XXH64(&tokenizer->scores[id], sizeof *tokenizer->scores, hash);
    }
    snprintf(tokenizer->hash, sizeof tokenizer->hash, "%016" PRIx64, hash);
    return STATUS_OK;
}

enum status tokenizer_finish(const struct reading *reading, json_t *root)
{
    CHECK(decode_tokens(reading->tokenizer));
    return make_hash(reading->tokenizer, root);
}
