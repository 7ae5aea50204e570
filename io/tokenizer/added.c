/* Added tokens: texts that become a token wherever they stand, such as <|endoftext|>. At each place the longest one
 * counts. */
#include <utf8proc.h>

#include "io/tokenizer/tokenizer_private.h"
#include "src/core/utf8.h"

/* The character that ends before a place. */
static uint32_t character_before(const char *text, int64_t at)
{
    uint32_t code = 0;
    int64_t begin = at - 1;
    while (begin > 0 && ((unsigned char)text[begin] & 0xc0) == 0x80)
        begin--;
    (void)utf8_decode(text + begin, (size_t)(at - begin), &code);
    return code;
}

static bool is_of_word(uint32_t code)
{
    switch (utf8proc_category((utf8proc_int32_t)code)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
        return true;
    default:
        return false;
    }
}

static bool alone(const char *text, int64_t length, int64_t begin, int64_t end)
{
    uint32_t code = 0;
    if (begin > 0 && is_of_word(character_before(text, begin)))
        return false;
    return end == length || utf8_decode(text + end, (size_t)(length - end), &code) == 0 || !is_of_word(code);
}

static int64_t without_spaces_before(const char *text, int64_t at)
{
    while (at > 0 && utf8_is_space(character_before(text, at)))
        do
            at--;
        while (at > 0 && ((unsigned char)text[at] & 0xc0) == 0x80);
    return at;
}

static int64_t without_spaces_behind(const char *text, int64_t length, int64_t at)
{
    uint32_t code = 0;
    size_t bytes;
    while (at < length && (bytes = utf8_decode(text + at, (size_t)(length - at), &code)) > 0 && utf8_is_space(code))
        at += (int64_t)bytes;
    return at;
}

/* The end of the longest added token that begins at a place; -1: there is none. */
static int64_t longest_at(const struct trie *trie, const char *text, int64_t length, int64_t begin, int32_t *id)
{
    int64_t end = -1;
    int32_t node = 0;
    for (int64_t at = begin; at < length; at++) {
        node = trie_step(trie, node, (unsigned char)text[at]);
        if (node == 0)
            break;
        if (trie->nodes[node].id >= 0) {
            *id = trie->nodes[node].id;
            end = at + 1;
        }
    }
    return end;
}

const struct added_token *added_of(const struct tokenizer *tokenizer, int64_t id)
{
    int64_t low = 0;
    int64_t high = tokenizer->added_count;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (tokenizer->added[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < tokenizer->added_count && tokenizer->added[low].id == id ? &tokenizer->added[low] : NULL;
}

enum status added_split(struct encoder *encoder, const struct trie *trie, const char *text, int64_t length, bool first,
                        enum status (*rest)(struct encoder *encoder, const char *text, int64_t length, bool first))
{
    int64_t done = 0;
    for (int64_t at = 0; trie->count > 0 && at < length;) {
        int32_t id = -1;
        int64_t end = longest_at(trie, text, length, at, &id);
        if (end < 0) {
            at++;
            continue;
        }
        const struct added_token *token = added_of(encoder->tokenizer, id);
        int64_t begin = at;
        at = end;
        if ((token->special && !encoder->specials) || (token->single_word && !alone(text, length, begin, end)))
            continue;
        begin = token->left ? without_spaces_before(text, begin) : begin;
        end = token->right ? without_spaces_behind(text, length, end) : end;
        if (begin > done)
            CHECK(rest(encoder, text + done, begin - done, first && done == 0));
        CHECK(token_list_add(encoder->context, encoder->tokens, &id, 1));
        done = end > done ? end : done;
    }
    return length > done ? rest(encoder, text + done, length - done, first && done == 0) : STATUS_OK;
}
