/* Added tokens, and those that are put around a text. */
#include <stdlib.h>
#include <string.h>

#include "io/tokenizer/tokenizer_private.h"

/* So that a text of many beginnings of one is read in good time. */
enum { LONGEST_ADDED = 1024 };

static int by_id(const void *a, const void *b)
{
    const struct added_token *x = a;
    const struct added_token *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

/* An added token may be one of the model's, under the same id. */
static enum status add_text(const struct reading *reading, int64_t id, const char *text, int64_t length)
{
    struct tokenizer *tokenizer = reading->tokenizer;
    int64_t other_length;
    bool added;
    const char *other = vocabulary_text(&tokenizer->vocabulary, id, &other_length);
    int32_t other_id = vocabulary_find(&tokenizer->vocabulary, text, length);
    if (other_id >= 0 && other_id != id)
        return reading_refuse(reading, "added_tokens", "\"%.64s\" has the id %lld, but %d in the vocabulary", text,
                              (long long)id, (int)other_id);
    if (other && other_id < 0)
        return reading_refuse(reading, "added_tokens", "the id %lld of \"%.64s\" is that of \"%.*s\" in the vocabulary",
                              (long long)id, text, (int)(other_length < 64 ? other_length : 64), other);
    CHECK(vocabulary_add(&tokenizer->added_texts, id, text, length, &added));
    if (!added)
        return reading_refuse(reading, "added_tokens", "the id %lld or the token \"%.64s\" is there twice",
                              (long long)id, text);
    return STATUS_OK;
}

static enum status read_token(const struct reading *reading, const json_t *value)
{
    static const char where[] = "added_tokens";
    struct tokenizer *tokenizer = reading->tokenizer;
    const json_t *id = json_object_get(value, "id");
    json_int_t number = json_integer_value(id);
    const char *text;
    if (!json_is_integer(id) || number < 0 || number > TOKENIZER_LARGEST_ID)
        return reading_refuse(reading, where, "expected an id from 0 to %d for each", TOKENIZER_LARGEST_ID);
    CHECK(reading_text(reading, where, value, "content", &text));
    if (!*text)
        return STATUS_OK;
    if (strlen(text) > LONGEST_ADDED)
        return reading_refuse(reading, where, "token %lld has %zu bytes; at most %d are read", (long long)number,
                              strlen(text), LONGEST_ADDED);
    struct added_token *token = &tokenizer->added[tokenizer->added_count];
    *token = (struct added_token){.id = (int32_t)number};
    CHECK(reading_flag(reading, where, value, "special", &token->special));
    CHECK(reading_flag(reading, where, value, "single_word", &token->single_word));
    CHECK(reading_flag(reading, where, value, "lstrip", &token->left));
    CHECK(reading_flag(reading, where, value, "rstrip", &token->right));
    CHECK(reading_flag(reading, where, value, "normalized", &token->normalized));
    CHECK(add_text(reading, number, text, (int64_t)strlen(text)));
    tokenizer->added_count++;
    return STATUS_OK;
}

/* The texts that are looked for: those that are normalised in the form in which they will stand. */
static enum status plant(struct encoder *encoder, struct tokenizer *tokenizer)
{
    for (int64_t i = 0; i < tokenizer->added_count; i++) {
        const struct added_token *token = &tokenizer->added[i];
        bool first = true;
        int64_t length;
        const char *text = vocabulary_text(&tokenizer->added_texts, token->id, &length);
        if (token->normalized)
            CHECK(encoder_normalize(encoder, &text, &length, &first));
        if (length > 0)
            CHECK(trie_add(token->normalized ? &tokenizer->normalized : &tokenizer->raw, text, length, token->id));
    }
    return STATUS_OK;
}

enum status read_added(const struct reading *reading, json_t *list)
{
    struct tokenizer *tokenizer = reading->tokenizer;
    struct encoder *encoder = NULL;
    if (!list || json_is_null(list))
        return STATUS_OK;
    if (!json_is_array(list))
        return reading_refuse(reading, "added_tokens", "expected a list");
    size_t count = json_array_size(list);
    tokenizer->added = memory_allocate(reading->context, count * sizeof *tokenizer->added, MEMORY_OTHER);
    if (!tokenizer->added)
        return STATUS_MEMORY;
    for (size_t i = 0; i < count; i++)
        CHECK(read_token(reading, json_array_get(list, i)));
    if (tokenizer->added_count > 0)
        qsort(tokenizer->added, (size_t)tokenizer->added_count, sizeof *tokenizer->added, by_id);
    CHECK(encoder_create(reading->context, tokenizer, &encoder));
    enum status status = plant(encoder, tokenizer);
    encoder_destroy(&encoder);
    return status;
}

/* -- The frame -- */

static enum status frame_add(const struct reading *reading, bool behind, int64_t id)
{
    struct tokenizer *tokenizer = reading->tokenizer;
    struct token_list *list = behind ? &tokenizer->after : &tokenizer->before;
    if (id < 0 || id >= tokenizer_size(tokenizer))
        return reading_refuse(reading, "post_processor", "there is no token %lld", (long long)id);
    return token_list_add(reading->context, list, &(int32_t){(int32_t)id}, 1);
}

/* {"SpecialToken": {"id": NAME}}, whose ids stand in special_tokens[NAME].ids. */
static enum status read_special(const struct reading *reading, const json_t *value, const json_t *special, bool behind)
{
    const char *name;
    CHECK(reading_text(reading, "post_processor", special, "id", &name));
    const json_t *ids = json_object_get(json_object_get(json_object_get(value, "special_tokens"), name), "ids");
    if (json_array_size(ids) == 0)
        return reading_refuse(reading, "post_processor", "special_tokens does not tell the ids of \"%.64s\"", name);
    for (size_t i = 0; i < json_array_size(ids); i++) {
        const json_t *id = json_array_get(ids, i);
        CHECK(frame_add(reading, behind, json_is_integer(id) ? json_integer_value(id) : -1));
    }
    return STATUS_OK;
}

static enum status read_template(const struct reading *reading, const json_t *value)
{
    const json_t *parts = json_object_get(value, "single");
    int texts = 0;
    for (size_t i = 0; i < json_array_size(parts); i++) {
        const json_t *part = json_array_get(parts, i);
        const json_t *special = json_object_get(part, "SpecialToken");
        if (special)
            CHECK(read_special(reading, value, special, texts > 0));
        else
            texts++;
    }
    if (texts != 1)
        return reading_refuse(reading, "post_processor", "a template of one text is expected as \"single\"");
    return STATUS_OK;
}

/* BERT's and RoBERTa's: [TEXT, ID] in front and behind. */
static enum status read_ends(const struct reading *reading, const json_t *value)
{
    static const char *const keys[] = {"cls", "sep"};
    for (int i = 0; i < 2; i++) {
        const json_t *id = json_array_get(json_object_get(value, keys[i]), 1);
        CHECK(frame_add(reading, i == 1, json_is_integer(id) ? json_integer_value(id) : -1));
    }
    return STATUS_OK;
}

static enum status read_post_step(const struct reading *reading, const json_t *value, int depth)
{
    const char *type;
    if (!json_is_object(value) || depth > 4)
        return reading_refuse(reading, "post_processor", "expected an object with a type, or null");
    CHECK(reading_text(reading, "post_processor", value, "type", &type));
    if (strcmp(type, "ByteLevel") == 0) /* moves marks of places only */
        return STATUS_OK;
    if (strcmp(type, "TemplateProcessing") == 0)
        return read_template(reading, value);
    if (strcmp(type, "RobertaProcessing") == 0 || strcmp(type, "BertProcessing") == 0)
        return read_ends(reading, value);
    if (strcmp(type, "Sequence") != 0)
        return reading_refuse(reading, "post_processor", "%.64s is not supported", type);
    const json_t *steps = json_object_get(value, "processors");
    for (size_t i = 0; i < json_array_size(steps); i++)
        CHECK(read_post_step(reading, json_array_get(steps, i), depth + 1));
    return STATUS_OK;
}

enum status read_frame(const struct reading *reading, json_t *value)
{
    return !value || json_is_null(value) ? STATUS_OK : read_post_step(reading, value, 0);
}
