/* A piece to the tokens of the highest sum of scores (Viterbi). */
#include "io/tokenizer/tokenizer_private.h"
#include "src/core/utf8.h"

static void reach(struct path_node *path, int64_t begin, int64_t end, int32_t id, double score)
{
    struct path_node *node = &path[end];
    if (node->begin < 0 || score > node->score)
        *node = (struct path_node){.score = score, .begin = begin, .id = id};
}

static void find_paths(struct encoder *encoder, const char *text, int64_t length)
{
    const struct tokenizer *tokenizer = encoder->tokenizer;
    struct path_node *path = encoder->path;
    path[0] = (struct path_node){.begin = 0};
    for (int64_t i = 1; i <= length; i++)
        path[i] = (struct path_node){.begin = -1};
    for (int64_t begin = 0; begin < length;) {
        uint32_t code;
        int64_t character = (int64_t)utf8_decode(text + begin, (size_t)(length - begin), &code);
        bool single = false;
        int32_t node = 0;
        for (int64_t at = begin; at < length; at++) {
            node = trie_step(&tokenizer->pieces, node, (unsigned char)text[at]);
            if (node == 0)
                break;
            int32_t id = tokenizer->pieces.nodes[node].id;
            if (id < 0)
                continue;
            reach(path, begin, at + 1, id, path[begin].score + tokenizer->scores[id]);
            single = single || at + 1 - begin == character;
        }
        if (!single)
            reach(path, begin, begin + character, tokenizer->unknown, path[begin].score + tokenizer->unknown_score);
        begin += character;
    }
}

/* From the end to the beginning, as the paths point. */
static enum status add_reversed(struct encoder *encoder, int32_t id)
{
    return token_list_add(encoder->context, &encoder->pieces, &id, 1);
}

static enum status add_piece(struct encoder *encoder, const char *text, int64_t begin, int64_t end)
{
    const struct tokenizer *tokenizer = encoder->tokenizer;
    int32_t id = vocabulary_find(&tokenizer->vocabulary, text + begin, end - begin);
    bool known = tokenizer->byte_fallback;
    if (id >= 0)
        return add_reversed(encoder, id);
    for (int64_t i = begin; known && i < end; i++)
        known = tokenizer->byte_ids[(unsigned char)text[i]] >= 0;
    if (!known && tokenizer->unknown < 0)
        return context_fail(encoder->context, STATUS_FILE,
                            "the text has \"%.*s\", which is no token, and the tokenizer has none for what is unknown",
                            (int)(end - begin > 64 ? 64 : end - begin), text + begin);
    if (!known)
        return add_reversed(encoder, tokenizer->unknown);
    for (int64_t i = end - 1; i >= begin; i--)
        CHECK(add_reversed(encoder, tokenizer->byte_ids[(unsigned char)text[i]]));
    return STATUS_OK;
}

enum status unigram_encode(struct encoder *encoder, const char *text, int64_t length)
{
    const struct tokenizer *tokenizer = encoder->tokenizer;
    CHECK(array_grow(encoder->context, &encoder->path, 0, &encoder->path_room, length + 1, sizeof *encoder->path));
    find_paths(encoder, text, length);
    encoder->pieces.count = 0;
    for (int64_t end = length; end > 0;) {
        int64_t begin = encoder->path[end].begin;
        bool unknown = tokenizer->unknown >= 0 && encoder->path[end].id == tokenizer->unknown;
        /* Unknown neighbours are one. */
        while (unknown && tokenizer->fuse_unknown && begin > 0 && encoder->path[begin].id == tokenizer->unknown)
            begin = encoder->path[begin].begin;
        CHECK(add_piece(encoder, text, begin, end));
        end = begin;
    }
    for (int64_t i = encoder->pieces.count - 1; i >= 0; i--)
        CHECK(token_list_add(encoder->context, encoder->tokens, &encoder->pieces.ids[i], 1));
    return STATUS_OK;
}
