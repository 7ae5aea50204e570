/* A tokenizer that is made here: what it cuts texts by, and the file of what was learned. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/tokenizer/tokenizer_private.h"
#include "src/core/utf8.h"

static const struct {
    const char *name, *pattern; /* NULL: GPT-2's, which ByteLevel has */
} patterns[] = {
    {"gpt2", NULL},
    {"llama3", "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
               "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
    {"qwen2", "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
              "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
};

static json_t *byte_level(bool pieces)
{
    return json_form("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1, "use_regex",
                     (int)pieces);
}

static json_t *cutting_of(const char *pattern)
{
    const char *named = pattern;
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++)
        if (strcmp(named, patterns[i].name) == 0)
            pattern = patterns[i].pattern;
    if (!pattern)
        return byte_level(true);
    json_t *split = json_form("{s:s, s:{s:s}, s:s, s:b}", "type", "Split", "pattern", "Regex", pattern, "behavior",
                              "Isolated", "invert", 0);
    json_t *steps = json_array();
    json_array_append_new(steps, split);
    json_array_append_new(steps, byte_level(false));
    return json_form("{s:s, s:o}", "type", "Sequence", "pretokenizers", steps);
}

/* The file with a vocabulary and merges. */
static json_t *form_file(const struct tokenizer_plan *plan, json_t *vocabulary, json_t *merges)
{
    json_t *added = json_array();
    for (int i = 0; i < plan->special_count; i++)
        json_array_append_new(added,
                              json_form("{s:i, s:s, s:b, s:b, s:b, s:b, s:b}", "id", i, "content", plan->specials[i],
                                        "single_word", 0, "lstrip", 0, "rstrip", 0, "normalized", 0, "special", 1));
    json_t *model =
        json_form("{s:s, s:o, s:o, s:o, s:o, s:b, s:b, s:b, s:o, s:o}", "type", "BPE", "dropout", json_null(),
                  "unk_token", json_null(), "continuing_subword_prefix", json_null(), "end_of_word_suffix", json_null(),
                  "fuse_unk", 0, "byte_fallback", 0, "ignore_merges", 0, "vocab", vocabulary, "merges", merges);
    return json_form("{s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "version", "1.0", "truncation", json_null(),
                     "padding", json_null(), "added_tokens", added, "normalizer", json_null(), "pre_tokenizer",
                     cutting_of(plan->pattern), "post_processor", json_null(), "decoder", byte_level(true), "model",
                     model);
}

/* Special tokens, then the bytes in the order of their characters. */
static enum status begin_vocabulary(const struct tokenizer_plan *plan, struct vocabulary *vocabulary,
                                    int32_t byte_ids[256])
{
    bool added;
    for (int i = 0; i < plan->special_count; i++) {
        CHECK(vocabulary_add(vocabulary, i, plan->specials[i], (int64_t)strlen(plan->specials[i]), &added));
        if (!added)
            return context_fail(vocabulary->context, STATUS_USAGE, "the special token %s is there twice",
                                plan->specials[i]);
    }
    for (uint32_t code = 0; code < 0x144; code++) {
        char text[4];
        int byte = alphabet_byte(code);
        if (byte < 0)
            continue;
        byte_ids[byte] = (int32_t)vocabulary->size;
        CHECK(vocabulary_add(vocabulary, vocabulary->size, text, (int64_t)utf8_encode(code, text), &added));
        if (!added)
            return context_fail(vocabulary->context, STATUS_USAGE, "a special token may not be a single byte");
    }
    return STATUS_OK;
}

static json_t *list_vocabulary(const struct vocabulary *vocabulary)
{
    json_t *list = json_object();
    for (int64_t id = 0; id < vocabulary->size; id++) {
        int64_t length;
        const char *text = vocabulary_text(vocabulary, id, &length);
        json_object_setn_new(list, text, (size_t)length, json_integer(id));
    }
    return list;
}

static json_t *list_merges(const struct vocabulary *vocabulary, const struct token_list *merges)
{
    json_t *list = json_array();
    for (int64_t i = 0; i < merges->count; i += 3) {
        int64_t left_length, right_length;
        const char *left = vocabulary_text(vocabulary, merges->ids[i], &left_length);
        const char *right = vocabulary_text(vocabulary, merges->ids[i + 1], &right_length);
        json_array_append_new(list, json_pack("[s#, s#]", left, (int)left_length, right, (int)right_length));
    }
    return list;
}

/* -- For those who train -- */

static enum status take_text(struct context *context, json_t *root, struct bytes *text)
{
    char *dump = root ? json_dumps(root, JSON_INDENT(1)) : NULL;
    json_decref(root);
    enum status status = dump ? bytes_add(text, dump, (int64_t)strlen(dump))
                              : context_fail(context, STATUS_MEMORY, "out of memory for a tokenizer");
    free(dump);
    return status;
}

enum status tokenizer_counter(struct context *context, const struct tokenizer_plan *plan, struct tokenizer **tokenizer)
{
    struct bytes text = {.context = context};
    struct tokenizer_plan bare = {.pattern = plan->pattern};
    *tokenizer = NULL;
    enum status status = take_text(context, form_file(&bare, json_object(), json_array()), &text);
    if (status == STATUS_OK)
        status = tokenizer_parse(context, "--pattern", text.data, text.count, tokenizer);
    bytes_release(&text);
    return status;
}

enum status encoder_count(struct encoder *encoder, const char *text, int64_t length, struct piece_counts *counts)
{
    struct token_list none = {0};
    encoder->counts = counts;
    enum status status = encoder_encode(encoder, text, length, (struct encoding){.specials = false}, &none);
    encoder->counts = NULL;
    return status;
}

enum status tokenizer_learn(struct context *context, const struct tokenizer_plan *plan,
                            const struct piece_counts *counts, struct bytes *text)
{
    struct vocabulary vocabulary;
    struct token_list merges = {0};
    int32_t byte_ids[256];
    vocabulary_create(context, &vocabulary);
    enum status status = begin_vocabulary(plan, &vocabulary, byte_ids);
    if (status == STATUS_OK)
        status = merges_learn(context, counts, plan->size, plan->least, byte_ids, &vocabulary, &merges);
    if (status == STATUS_OK)
        status =
            take_text(context, form_file(plan, list_vocabulary(&vocabulary), list_merges(&vocabulary, &merges)), text);
    vocabulary_release(&vocabulary);
    token_list_release(context, &merges);
    return status;
}
