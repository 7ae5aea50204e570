/* The model: its tokens, and what merges or scores. */
#include <math.h>
#include <string.h>

#include "io/tokenizer/tokenizer_private.h"
#include "src/core/utf8.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

static enum status add_token(const struct reading *reading, int64_t id, const char *text, int64_t length)
{
    bool added;
    struct vocabulary *vocabulary = &reading->tokenizer->vocabulary;
    if (length > UINT16_MAX)
        return reading_refuse(reading, "model.vocab", "token %lld has %lld bytes; at most %d are read", (long long)id,
                              (long long)length, UINT16_MAX);
    CHECK(vocabulary_add(vocabulary, id, text, length, &added));
    if (!added)
        return reading_refuse(reading, "model.vocab", "the id %lld or the token \"%.64s\" is there twice",
                              (long long)id, text);
    return STATUS_OK;
}

/* -- BPE -- */

static enum status read_vocabulary(const struct reading *reading, json_t *object)
{
    const char *text;
    json_t *value;
    if (!json_is_object(object))
        return reading_refuse(reading, "model.vocab", "expected an object of tokens with their ids");
    json_object_foreach(object, text, value)
    {
        json_int_t id = json_integer_value(value);
        if (!json_is_integer(value) || id < 0 || id > TOKENIZER_LARGEST_ID)
            return reading_refuse(reading, "model.vocab", "the id of \"%.64s\" is no integer from 0 to %d", text,
                                  TOKENIZER_LARGEST_ID);
        CHECK(add_token(reading, id, text, (int64_t)strlen(text)));
    }
    return STATUS_OK;
}

/* Both sides of a merge: "a b", or ["a", "b"]. */
static bool merge_sides(const json_t *merge, struct text_span sides[2], const char *texts[2])
{
    if (json_is_string(merge)) {
        const char *whole = json_string_value(merge);
        const char *space = strchr(whole, ' ');
        if (!space || strchr(space + 1, ' ') || strlen(whole) != json_string_length(merge))
            return false;
        texts[0] = whole;
        texts[1] = space + 1;
        sides[0].length = (int32_t)(space - whole);
        sides[1].length = (int32_t)strlen(space + 1);
        return true;
    }
    for (size_t i = 0; i < 2; i++) {
        const json_t *side = json_array_get(merge, i);
        texts[i] = json_string_value(side);
        sides[i].length = texts[i] ? (int32_t)json_string_length(side) : 0;
    }
    return json_array_size(merge) == 2 && texts[0] && texts[1];
}

static enum status read_merge(const struct reading *reading, const json_t *merge, int32_t rank, struct bytes *joined)
{
    struct tokenizer *tokenizer = reading->tokenizer;
    struct text_span sides[2];
    const char *texts[2];
    int32_t ids[3];
    if (!merge_sides(merge, sides, texts))
        return reading_refuse(reading, "model.merges", "number %d is neither \"A B\" nor [\"A\", \"B\"]", (int)rank);
    joined->count = 0;
    for (int i = 0; i < 2; i++) {
        CHECK(bytes_add(joined, texts[i], sides[i].length));
        ids[i] = vocabulary_find(&tokenizer->vocabulary, texts[i], sides[i].length);
    }
    ids[2] = vocabulary_find(&tokenizer->vocabulary, joined->data, joined->count);
    for (int i = 0; i < 3; i++)
        if (ids[i] < 0)
            return reading_refuse(reading, "model.merges", "number %d: \"%.*s\" is not in the vocabulary", (int)rank,
                                  i == 2 ? (int)joined->count : (int)sides[i].length, i == 2 ? joined->data : texts[i]);
    pair_table_set(&tokenizer->pairs, ids[0], ids[1], rank, ids[2]);
    tokenizer->merges_hash = XXH64(ids, sizeof ids, tokenizer->merges_hash);
    return STATUS_OK;
}

static enum status read_merges(const struct reading *reading, json_t *merges)
{
    struct tokenizer *tokenizer = reading->tokenizer;
    struct bytes joined = {.context = reading->context};
    enum status status = STATUS_OK;
    if (!json_is_array(merges))
        return reading_refuse(reading, "model.merges", "expected a list");
    tokenizer->merge_count = (int64_t)json_array_size(merges);
    if (tokenizer->merge_count > TOKENIZER_LARGEST_ID)
        return reading_refuse(reading, "model.merges", "there are more than %d", TOKENIZER_LARGEST_ID);
    CHECK(pair_table_create(reading->context, tokenizer->merge_count, &tokenizer->pairs));
    for (int64_t i = 0; status == STATUS_OK && i < tokenizer->merge_count; i++)
        status = read_merge(reading, json_array_get(merges, (size_t)i), (int32_t)i, &joined);
    bytes_release(&joined);
    return status;
}

/* Settings of BPE that change ids and are not computed here. */
static enum status refuse_others(const struct reading *reading, const json_t *model)
{
    static const char *const keys[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    const json_t *dropout = json_object_get(model, "dropout");
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const char *text = json_string_value(json_object_get(model, keys[i]));
        if (text && *text)
            return reading_refuse(reading, "model", "%s \"%.32s\" is not supported", keys[i], text);
    }
    if (json_is_number(dropout) && json_number_value(dropout) != 0.0)
        return reading_refuse(reading, "model", "dropout %g is not supported: ids would be drawn by chance",
                              json_number_value(dropout));
    return STATUS_OK;
}

static enum status read_bpe(const struct reading *reading, json_t *model)
{
    struct tokenizer *tokenizer = reading->tokenizer;
    const json_t *unknown = json_object_get(model, "unk_token");
    tokenizer->model = TOKENIZER_BPE;
    CHECK(refuse_others(reading, model));
    CHECK(reading_flag(reading, "model", model, "fuse_unk", &tokenizer->fuse_unknown));
    CHECK(reading_flag(reading, "model", model, "byte_fallback", &tokenizer->byte_fallback));
    CHECK(reading_flag(reading, "model", model, "ignore_merges", &tokenizer->whole_pieces));
    CHECK(read_vocabulary(reading, json_object_get(model, "vocab")));
    CHECK(read_merges(reading, json_object_get(model, "merges")));
    if (!unknown || json_is_null(unknown))
        return STATUS_OK;
    if (json_is_string(unknown))
        tokenizer->unknown =
            vocabulary_find(&tokenizer->vocabulary, json_string_value(unknown), (int64_t)json_string_length(unknown));
    return tokenizer->unknown >= 0
               ? STATUS_OK
               : reading_refuse(reading, "model.unk_token", "expected a token of the vocabulary, or null");
}

/* -- Unigram -- */

static enum status read_scored(const struct reading *reading, json_t *list)
{
    struct tokenizer *tokenizer = reading->tokenizer;
    double smallest = INFINITY;
    int64_t count = (int64_t)json_array_size(list);
    if (count == 0 || count > TOKENIZER_LARGEST_ID)
        return reading_refuse(reading, "model.vocab", "expected a list of up to %d tokens with their scores",
                              TOKENIZER_LARGEST_ID);
    tokenizer->scores = memory_allocate(reading->context, (size_t)count * sizeof *tokenizer->scores, MEMORY_OTHER);
    if (!tokenizer->scores)
        return STATUS_MEMORY;
    for (int64_t id = 0; id < count; id++) {
        const json_t *entry = json_array_get(list, (size_t)id);
        const json_t *text = json_array_get(entry, 0);
        const json_t *score = json_array_get(entry, 1);
        if (json_array_size(entry) != 2 || !json_is_string(text) || !json_is_number(score) ||
            json_string_length(text) == 0)
            return reading_refuse(reading, "model.vocab", "number %lld is no [\"TOKEN\", SCORE]", (long long)id);
        CHECK(add_token(reading, id, json_string_value(text), (int64_t)json_string_length(text)));
        CHECK(trie_add(&tokenizer->pieces, json_string_value(text), (int64_t)json_string_length(text), (int32_t)id));
        tokenizer->scores[id] = json_number_value(score);
        smallest = fmin(smallest, tokenizer->scores[id]);
    }
    tokenizer->unknown_score = smallest - 10.0;
    return STATUS_OK;
}

static enum status read_unigram(const struct reading *reading, json_t *model)
{
    struct tokenizer *tokenizer = reading->tokenizer;
    const json_t *unknown = json_object_get(model, "unk_id");
    tokenizer->model = TOKENIZER_UNIGRAM;
    tokenizer->fuse_unknown = true;
    CHECK(reading_flag(reading, "model", model, "byte_fallback", &tokenizer->byte_fallback));
    CHECK(read_scored(reading, json_object_get(model, "vocab")));
    if (!unknown || json_is_null(unknown))
        return STATUS_OK;
    json_int_t id = json_integer_value(unknown);
    if (!json_is_integer(unknown) || id < 0 || id >= tokenizer->vocabulary.size)
        return reading_refuse(reading, "model.unk_id", "expected an id of the vocabulary, or null");
    tokenizer->unknown = (int32_t)id;
    return STATUS_OK;
}

/* -- -- */

static void find_bytes(struct tokenizer *tokenizer)
{
    for (int byte = 0; byte < 256; byte++) {
        char name[8];
        size_t length = utf8_encode(alphabet_character((unsigned char)byte), name);
        static const char digits[] = "0123456789ABCDEF";
        if (!tokenizer->of_bytes) {
            memcpy(name, (char[]){'<', '0', 'x', digits[byte / 16], digits[byte % 16], '>'}, 6);
            length = 6;
        }
        tokenizer->byte_ids[byte] = vocabulary_find(&tokenizer->vocabulary, name, (int64_t)length);
    }
}

enum status read_model(const struct reading *reading, json_t *model)
{
    struct tokenizer *tokenizer = reading->tokenizer;
    const char *type = json_string_value(json_object_get(model, "type"));
    if (!type) /* old files say it by what they have */
        type = json_object_get(model, "merges") ? "BPE" : json_object_get(model, "unk_id") ? "Unigram" : "none";
    if (strcmp(type, "BPE") == 0)
        CHECK(read_bpe(reading, model));
    else if (strcmp(type, "Unigram") == 0)
        CHECK(read_unigram(reading, model));
    else
        return reading_refuse(reading, "model.type", "%.64s is not supported; BPE and Unigram are", type);
    if (tokenizer->of_bytes && tokenizer->byte_fallback)
        return reading_refuse(reading, "model.byte_fallback", "does not go with ByteLevel");
    if (tokenizer->of_bytes && tokenizer->model == TOKENIZER_UNIGRAM)
        return reading_refuse(reading, "pre_tokenizer", "ByteLevel does not go with Unigram here");
    find_bytes(tokenizer);
    return STATUS_OK;
}
