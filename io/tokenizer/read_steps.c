/* What a text passes before it meets the model: normalisation, and the cuts into pieces. */
#include <stdio.h>
#include <string.h>

#include "io/tokenizer/tokenizer_private.h"

/* GPT-2's pieces: contractions, then letters, numbers or others behind at most one space, then spaces; the last of
 * these goes to the piece behind it. */
static const char gpt2_pieces[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/* What Rust calls punctuation: that of ASCII, and that of Unicode. */
static const char punctuation[] = "[!-/:-@\\[-`{-~\\p{P}]";

static enum status type_of(const struct reading *reading, const char *where, const json_t *value, const char **type)
{
    if (!json_is_object(value))
        return reading_refuse(reading, where, "expected an object with a type, or null");
    return reading_text(reading, where, value, "type", type);
}

/* Calls `read` with each step of a Sequence, whose list has this key, or with the one step that there is. */
static enum status read_sequence(const struct reading *reading, const char *where, const char *key, json_t *value,
                                 int depth,
                                 enum status (*read)(const struct reading *reading, json_t *value, const char *type))
{
    const char *type;
    json_t *steps = json_object_get(value, key);
    CHECK(type_of(reading, where, value, &type));
    if (strcmp(type, "Sequence") != 0)
        return read(reading, value, type);
    if (!json_is_array(steps) || depth == 4)
        return reading_refuse(reading, where, "a Sequence needs a list \"%s\", not too deep", key);
    for (size_t i = 0; i < json_array_size(steps); i++)
        CHECK(read_sequence(reading, where, key, json_array_get(steps, i), depth + 1, read));
    return STATUS_OK;
}

/* -- Normalisation -- */

static enum status decode_base64(const struct reading *reading, const char *text, struct bytes *to)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t held = 0;
    int bits = 0;
    for (; *text && *text != '='; text++) {
        const char *digit = strchr(digits, *text);
        if (!digit)
            return reading_refuse(reading, "normalizer", "precompiled_charsmap is no base64");
        held = (held << 6 | (uint32_t)(digit - digits)) & 0xffff;
        bits += 6;
        if (bits < 8)
            continue;
        bits -= 8;
        CHECK(bytes_add(to, &(char){(char)(held >> bits)}, 1));
    }
    return STATUS_OK;
}

static enum status read_charsmap(const struct reading *reading, const json_t *value, struct normalize_step *step)
{
    const char *text;
    step->kind = NORMALIZE_CHARSMAP;
    CHECK(reading_text(reading, "normalizer", value, "precompiled_charsmap", &text));
    CHECK(decode_base64(reading, text, &step->text));
    if (!charsmap_is_sound(&step->text))
        return reading_refuse(reading, "normalizer", "precompiled_charsmap is damaged");
    return STATUS_OK;
}

static enum status read_normalize_step(const struct reading *reading, json_t *value, const char *type)
{
    static const struct {
        const char *type;
        enum normalize_kind kind;
    } plain[] = {{"NFC", NORMALIZE_NFC},
                 {"NFD", NORMALIZE_NFD},
                 {"NFKC", NORMALIZE_NFKC},
                 {"NFKD", NORMALIZE_NFKD},
                 {"Lowercase", NORMALIZE_LOWERCASE}};
    struct tokenizer *tokenizer = reading->tokenizer;
    const char *text = "";
    if (tokenizer->normalize_count == TOKENIZER_STEPS)
        return reading_refuse(reading, "normalizer", "more than %d steps", TOKENIZER_STEPS);
    struct normalize_step *step = &tokenizer->normalize[tokenizer->normalize_count++];
    *step = (struct normalize_step){.text = {.context = reading->context}};
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        if (strcmp(type, plain[i].type) == 0) {
            step->kind = plain[i].kind;
            return STATUS_OK;
        }
    if (strcmp(type, "Precompiled") == 0) {
        if (!json_is_null(json_object_get(value, "precompiled_charsmap")))
            return read_charsmap(reading, value, step);
        tokenizer->normalize_count--; /* a map that is null changes nothing */
        return STATUS_OK;
    }
    if (strcmp(type, "Strip") == 0) {
        step->kind = NORMALIZE_STRIP;
        CHECK(reading_flag(reading, "normalizer", value, "strip_left", &step->left));
        return reading_flag(reading, "normalizer", value, "strip_right", &step->right);
    }
    bool prepend = strcmp(type, "Prepend") == 0;
    if (!prepend && strcmp(type, "Replace") != 0)
        return reading_refuse(reading, "normalizer", "%.64s is not supported", type);
    step->kind = prepend ? NORMALIZE_PREPEND : NORMALIZE_REPLACE;
    CHECK(reading_text(reading, "normalizer", value, prepend ? "prepend" : "content", &text));
    CHECK(bytes_add(&step->text, text, (int64_t)strlen(text)));
    return prepend ? STATUS_OK : reading_pattern(reading, "normalizer", value, &step->pattern);
}

enum status read_normalizer(const struct reading *reading, json_t *value)
{
    if (!value || json_is_null(value))
        return STATUS_OK;
    return read_sequence(reading, "normalizer", "normalizers", value, 0, read_normalize_step);
}

/* -- Pieces -- */

static enum status add_step(const struct reading *reading, enum split_kind kind, const char *text,
                            struct split_step **step)
{
    struct tokenizer *tokenizer = reading->tokenizer;
    /* The last place is for what comes behind all steps. */
    if (tokenizer->split_count == TOKENIZER_STEPS - 1)
        return reading_refuse(reading, "pre_tokenizer", "more than %d steps", TOKENIZER_STEPS - 1);
    *step = &tokenizer->split[tokenizer->split_count++];
    **step = (struct split_step){.kind = kind, .text = {.context = reading->context}};
    return bytes_add(&(*step)->text, text, (int64_t)strlen(text));
}

static enum status add_pattern(const struct reading *reading, const char *text, bool plain,
                               enum split_behavior behavior, struct split_step **step)
{
    char name[1280];
    CHECK(add_step(reading, SPLIT_PATTERN, "", step));
    (*step)->behavior = behavior;
    snprintf(name, sizeof name, "%.1000s: pre_tokenizer", reading->name);
    return pattern_create(reading->context, name, text, (int64_t)strlen(text), plain, &(*step)->pattern);
}

static enum status read_behavior(const struct reading *reading, const json_t *value, enum split_behavior *behavior)
{
    static const char *const names[] = {"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
    const char *text = "Isolated";
    if (json_object_get(value, "behavior"))
        CHECK(reading_text(reading, "pre_tokenizer", value, "behavior", &text));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(text, names[i]) == 0) {
            *behavior = (enum split_behavior)i;
            return STATUS_OK;
        }
    return reading_refuse(reading, "pre_tokenizer", "the behavior %.64s is not known", text);
}

static enum status read_byte_level(const struct reading *reading, const json_t *value)
{
    bool prefix = true;
    bool pieces = true;
    struct split_step *step;
    CHECK(reading_flag(reading, "pre_tokenizer", value, "add_prefix_space", &prefix));
    CHECK(reading_flag(reading, "pre_tokenizer", value, "use_regex", &pieces));
    if (reading->tokenizer->of_bytes)
        return reading_refuse(reading, "pre_tokenizer", "ByteLevel is there twice");
    if (prefix)
        CHECK(add_step(reading, SPLIT_PREFIX, " ", &step));
    if (pieces)
        CHECK(add_pattern(reading, gpt2_pieces, false, SPLIT_ISOLATED, &step));
    reading->tokenizer->of_bytes = true;
    return add_step(reading, SPLIT_TO_ALPHABET, "", &step);
}

static enum status read_metaspace(const struct reading *reading, const json_t *value)
{
    bool always = true;
    bool split = true;
    struct split_step *step;
    const char *sign;
    const char *scheme = NULL;
    CHECK(reading_text(reading, "pre_tokenizer", value, "replacement", &sign));
    CHECK(reading_flag(reading, "pre_tokenizer", value, "add_prefix_space", &always)); /* as older files have it */
    CHECK(reading_flag(reading, "pre_tokenizer", value, "split", &split));
    if (json_object_get(value, "prepend_scheme"))
        CHECK(reading_text(reading, "pre_tokenizer", value, "prepend_scheme", &scheme));
    bool first = scheme && strcmp(scheme, "first") == 0;
    if (scheme && !first && strcmp(scheme, "always") != 0 && strcmp(scheme, "never") != 0)
        return reading_refuse(reading, "pre_tokenizer", "the prepend_scheme %.64s is not known", scheme);
    CHECK(add_step(reading, SPLIT_REPLACE, sign, &step));
    CHECK(pattern_create(reading->context, reading->name, " ", 1, true, &step->pattern));
    if (scheme ? strcmp(scheme, "never") != 0 : always) {
        CHECK(add_step(reading, SPLIT_PREFIX, sign, &step));
        step->only_first = first;
    }
    return split ? add_pattern(reading, sign, true, SPLIT_WITH_NEXT, &step) : STATUS_OK;
}

static enum status read_split_step(const struct reading *reading, json_t *value, const char *type)
{
    struct split_step *step;
    enum split_behavior behavior = SPLIT_ISOLATED;
    bool each = false;
    if (strcmp(type, "ByteLevel") == 0)
        return read_byte_level(reading, value);
    if (strcmp(type, "Metaspace") == 0)
        return read_metaspace(reading, value);
    if (strcmp(type, "Split") == 0) {
        CHECK(add_step(reading, SPLIT_PATTERN, "", &step));
        CHECK(read_behavior(reading, value, &step->behavior));
        CHECK(reading_flag(reading, "pre_tokenizer", value, "invert", &step->invert));
        return reading_pattern(reading, "pre_tokenizer", value, &step->pattern);
    }
    if (strcmp(type, "Digits") == 0) {
        CHECK(reading_flag(reading, "pre_tokenizer", value, "individual_digits", &each));
        return add_pattern(reading, "\\p{N}", false, each ? SPLIT_ISOLATED : SPLIT_CONTIGUOUS, &step);
    }
    if (strcmp(type, "Punctuation") == 0) {
        CHECK(read_behavior(reading, value, &behavior));
        return add_pattern(reading, punctuation, false, behavior, &step);
    }
    if (strcmp(type, "WhitespaceSplit") == 0)
        return add_pattern(reading, "\\s", false, SPLIT_REMOVED, &step);
    if (strcmp(type, "Whitespace") == 0) {
        CHECK(add_pattern(reading, "\\w+|[^\\w\\s]+", false, SPLIT_REMOVED, &step));
        step->invert = true;
        return STATUS_OK;
    }
    return reading_refuse(reading, "pre_tokenizer", "%.64s is not supported", type);
}

enum status read_split(const struct reading *reading, json_t *value)
{
    struct tokenizer *tokenizer = reading->tokenizer;
    if (!value || json_is_null(value))
        return STATUS_OK;
    CHECK(read_sequence(reading, "pre_tokenizer", "pretokenizers", value, 0, read_split_step));
    if (!tokenizer->of_bytes)
        return STATUS_OK;
    /* The model takes bytes: a last step to the alphabet is left out, and one before others is undone behind them. */
    if (tokenizer->split[tokenizer->split_count - 1].kind == SPLIT_TO_ALPHABET)
        tokenizer->split_count--;
    else
        tokenizer->in_letters = true;
    return STATUS_OK;
}
