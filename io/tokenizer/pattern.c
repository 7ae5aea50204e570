/* Regular expressions of tokenizers are written for Oniguruma. PCRE2 reads them alike but for what is translated here,
 * and refused where it cannot be. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <string.h>

#include "io/tokenizer/tokenizer_private.h"

enum { LONGEST_PATTERN = 65536, STACK_SMALLEST = 32768, STACK_LARGEST = 16 << 20 };

struct pattern {
    pcre2_code *code;
    char *name;
    char *text; /* in the same memory */
};

struct pattern_state {
    struct context *context;
    const struct pattern *pattern;
    pcre2_match_data *data;
    pcre2_match_context *limits;
    pcre2_jit_stack *stack;
};

/* White space is what Unicode calls so: PCRE2 adds U+180E, which was until Unicode 6.3. */
#define SPACES "\\t-\\r \\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}"
/* Characters of words, to which PCRE2 does not count marks and connectors. */
#define WORD                                                                                                        \
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{24B6}-\\x{24E9}\\x{1F130}-\\x{1F149}\\x{1F150}-\\x{1F169}\\x{1F170}-\\x{" \
    "1F189}"

struct translation {
    struct context *context;
    const char *name, *from;
    int64_t length, at;
    bool in_class;
    struct bytes *to;
};

static enum status refuse(const struct translation *translation, const char *what)
{
    return context_fail(translation->context, STATUS_FILE, "%s: %s in the expression \"%.200s\" is not supported",
                        translation->name, what, translation->from);
}

static enum status put(const struct translation *translation, const char *text)
{
    return bytes_add(translation->to, text, (int64_t)strlen(text));
}

/* PCRE2 takes a script's name for all characters that are used in the script, Oniguruma for those of the script. */
static enum status translate_property(struct translation *translation)
{
    static const char *const scripts[] = {"Han",      "Hiragana", "Katakana", "Hangul", "Latin",
                                          "Cyrillic", "Greek",    "Arabic",   "Thai",   "Hebrew"};
    const char *name = translation->from + translation->at;
    for (size_t i = 0; i < sizeof scripts / sizeof *scripts; i++) {
        size_t length = strlen(scripts[i]);
        if (strncmp(name, "{", 1) == 0 && strncmp(name + 1, scripts[i], length) == 0 && name[1 + length] == '}') {
            translation->at++;
            return put(translation, "{sc:");
        }
    }
    return STATUS_OK;
}

static enum status translate_escape(struct translation *translation)
{
    bool in_class = translation->in_class;
    char escape[3] = {'\\', translation->from[translation->at++], 0};
    switch (escape[1]) {
    case 's':
        return put(translation, in_class ? SPACES : "[" SPACES "]");
    case 'S':
        return put(translation, in_class ? "\\S\\x{180E}" : "[^" SPACES "]");
    case 'w':
        return put(translation, in_class ? WORD : "[" WORD "]");
    case 'W':
        return in_class ? refuse(translation, "\\W in a class") : put(translation, "[^" WORD "]");
    case 'h':
    case 'H':
    case 'R':
    case 'X':
        return refuse(translation, escape);
    case 0:
        return refuse(translation, "a \\ at the end");
    case 'p':
    case 'P':
        CHECK(put(translation, escape));
        return translate_property(translation);
    default:
        return put(translation, escape);
    }
}

/* Behind a [: the ^ and a ] that stands for itself. */
static enum status open_class(struct translation *translation)
{
    const char *rest = translation->from + translation->at;
    int64_t taken = rest[0] == '^';
    taken += rest[taken] == ']';
    translation->at += taken;
    translation->in_class = true;
    return bytes_add(translation->to, rest, taken);
}

static enum status translate(struct translation *translation)
{
    while (translation->at < translation->length) {
        char character = translation->from[translation->at++];
        const char *rest = translation->from + translation->at;
        if (character == '\\') {
            CHECK(translate_escape(translation));
            continue;
        }
        CHECK(bytes_add(translation->to, &character, 1));
        if (!translation->in_class && character == '[') {
            CHECK(open_class(translation));
        } else if (translation->in_class && character == '[') {
            const char *end = rest[0] == ':' ? strstr(rest, ":]") : NULL;
            if (!end)
                return refuse(translation, "a class in a class");
            CHECK(bytes_add(translation->to, rest, end + 2 - rest));
            translation->at += end + 2 - rest;
        } else if (translation->in_class && character == '&' && rest[0] == '&') {
            return refuse(translation, "&& in a class");
        } else if (translation->in_class && character == ']') {
            translation->in_class = false;
        }
    }
    return STATUS_OK;
}

static enum status compile(struct context *context, const char *name, const char *shown, const struct bytes *text,
                           uint32_t options, struct pattern *pattern)
{
    int code;
    size_t place;
    pcre2_compile_context *settings = pcre2_compile_context_create(NULL);
    if (!settings)
        return context_fail(context, STATUS_MEMORY, "%s: out of memory for an expression", name);
    pcre2_set_newline(settings, PCRE2_NEWLINE_LF);
    pattern->code =
        pcre2_compile((PCRE2_SPTR)text->data, (size_t)text->count, options | PCRE2_UTF, &code, &place, settings);
    pcre2_compile_context_free(settings);
    if (!pattern->code) {
        char why[256] = "";
        pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
        return context_fail(context, STATUS_FILE, "%s: the expression \"%.200s\" cannot be read: %s", name, shown, why);
    }
    (void)pcre2_jit_compile(pattern->code, PCRE2_JIT_COMPLETE); /* without it matching is slower */
    return STATUS_OK;
}

enum status pattern_create(struct context *context, const char *name, const char *text, int64_t length, bool plain,
                           struct pattern **pattern)
{
    struct bytes translated = {.context = context};
    struct translation translation = {
        .context = context, .name = name, .from = text, .length = length, .to = &translated};
    struct pattern *created = *pattern = memory_allocate(context, sizeof *created, MEMORY_OTHER);
    enum status status = created ? STATUS_OK : STATUS_MEMORY;
    if (status == STATUS_OK && length > LONGEST_PATTERN)
        status = context_fail(context, STATUS_FILE, "%s: an expression of %lld bytes; at most %d are read", name,
                              (long long)length, LONGEST_PATTERN);
    if (status == STATUS_OK &&
        !(created->name = memory_allocate(context, strlen(name) + (size_t)length + 2, MEMORY_OTHER)))
        status = STATUS_MEMORY;
    TRY(status);
    strcpy(created->name, name);
    created->text = created->name + strlen(name) + 1;
    memcpy(created->text, text, (size_t)length);
    if (plain)
        TRY(bytes_add(&translated, text, length));
    else
        TRY(translate(&translation));
    TRY(bytes_reserve(&translated, 1));
    TRY(compile(context, name, text, &translated, plain ? PCRE2_LITERAL : PCRE2_UCP | PCRE2_MULTILINE, created));
done:
    bytes_release(&translated);
    if (status != STATUS_OK)
        pattern_destroy(context, pattern);
    return status;
}

const char *pattern_text(const struct pattern *pattern)
{
    return pattern->text;
}

void pattern_destroy(struct context *context, struct pattern **pattern)
{
    if (!*pattern)
        return;
    pcre2_code_free((*pattern)->code);
    memory_free(context, (*pattern)->name);
    memory_free(context, *pattern);
    *pattern = NULL;
}

enum status pattern_state_create(struct context *context, const struct pattern *pattern, struct pattern_state **state)
{
    struct pattern_state *created = *state = memory_allocate(context, sizeof *created, MEMORY_OTHER);
    if (!created)
        return STATUS_MEMORY;
    created->context = context;
    created->pattern = pattern;
    created->data = pcre2_match_data_create_from_pattern(pattern->code, NULL);
    created->limits = pcre2_match_context_create(NULL);
    created->stack = pcre2_jit_stack_create(STACK_SMALLEST, STACK_LARGEST, NULL);
    if (!created->data || !created->limits)
        return context_fail(context, STATUS_MEMORY, "%s: out of memory for an expression", pattern->name);
    if (created->stack)
        pcre2_jit_stack_assign(created->limits, NULL, created->stack);
    return STATUS_OK;
}

void pattern_state_destroy(struct context *context, struct pattern_state **state)
{
    if (!*state)
        return;
    pcre2_jit_stack_free((*state)->stack);
    pcre2_match_context_free((*state)->limits);
    pcre2_match_data_free((*state)->data);
    memory_free(context, *state);
    *state = NULL;
}

/* Where the character behind a place begins. */
static int64_t behind(const char *text, int64_t length, int64_t at)
{
    do
        at++;
    while (at < length && ((unsigned char)text[at] & 0xc0) == 0x80);
    return at;
}

enum status pattern_next(struct pattern_state *state, const char *text, int64_t length, struct match *match,
                         bool *found)
{
    for (*found = false; match->next <= length;) {
        /* The text was checked as a whole: checking it again behind each match would take squared time. */
        int code = pcre2_match(state->pattern->code, (PCRE2_SPTR)text, (size_t)length, (size_t)match->next,
                               PCRE2_NO_UTF_CHECK, state->data, state->limits);
        if (code == PCRE2_ERROR_NOMATCH)
            return STATUS_OK;
        if (code < 0) {
            char why[256] = "";
            pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
            return context_fail(state->context, STATUS_FILE,
                                "%s: its expression cannot be matched with a text of %lld bytes: %s",
                                state->pattern->name, (long long)length, why);
        }
        const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(state->data);
        int64_t begin = (int64_t)ends[0];
        int64_t end = (int64_t)ends[1];
        if (end < begin) /* by \K, which the expressions have no use for */
            begin = end;
        if (begin == end && end == match->last_end) {
            match->next = behind(text, length, end);
            continue;
        }
        *match = (struct match){.begin = begin, .end = end, .next = end, .last_end = end};
        *found = true;
        return STATUS_OK;
    }
    return STATUS_OK;
}
