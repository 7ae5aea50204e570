/* Tokenizers against ids that the tokenizers package gave (tests/unit/tokenizers), what is done with bytes that are no
 * text, streams of text, and every way to break a file. */
#include "tests/support/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "io/json/json.h"
#include "io/tokenizer/tokenizer.h"
#include "src/core/utf8.h"

struct fixture {
    struct context context;
    struct tokenizer *tokenizer;
    struct encoder *encoder;
    struct decoder_stream *stream;
    struct token_list tokens;
    struct bytes text;
};

static int fixture_create(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    *state = fixture;
    if (!fixture)
        return -1;
    context_create(&fixture->context);
    fixture->text.context = &fixture->context;
    return 0;
}

static void fixture_clear(struct fixture *fixture)
{
    decoder_stream_destroy(&fixture->stream);
    encoder_destroy(&fixture->encoder);
    tokenizer_close(&fixture->tokenizer);
    token_list_release(&fixture->context, &fixture->tokens);
    bytes_release(&fixture->text);
}

static int fixture_destroy(void **state)
{
    struct fixture *fixture = *state;
    fixture_clear(fixture);
    int64_t left = fixture->context.memory.bytes_total;
    free(fixture);
    return left == 0 ? 0 : -1;
}

static const char *path_of(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/tests/unit/tokenizers/%s", getenv("CAIRN_SOURCE"), name);
    return path;
}

static void open_named(struct fixture *fixture, const char *name)
{
    struct context *context = &fixture->context;
    assert_ok(context, tokenizer_open(context, path_of(name), &fixture->tokenizer));
    assert_ok(context, encoder_create(context, fixture->tokenizer, &fixture->encoder));
    assert_ok(context, decoder_stream_create(context, fixture->tokenizer, false, &fixture->stream));
}

static void encode(struct fixture *fixture, const char *text, int64_t length, struct encoding encoding)
{
    fixture->tokens.count = 0;
    assert_ok(&fixture->context, encoder_encode(fixture->encoder, text, length, encoding, &fixture->tokens));
}

/* Each token's text alone is UTF-8, and together they are the whole. */
static void decode(struct fixture *fixture)
{
    fixture->text.count = 0;
    for (int64_t i = 0; i <= fixture->tokens.count; i++) {
        size_t bad;
        bool cut;
        int64_t before = fixture->text.count;
        if (i < fixture->tokens.count)
            assert_ok(&fixture->context, decoder_stream_push(fixture->stream, fixture->tokens.ids[i], &fixture->text));
        else
            assert_ok(&fixture->context, decoder_stream_finish(fixture->stream, &fixture->text));
        (void)utf8_valid(fixture->text.data + before, (size_t)(fixture->text.count - before), &bad, &cut);
        assert_int_equal(bad, 0);
    }
    assert_ok(&fixture->context, bytes_add(&fixture->text, "", 1));
}

/* -- Vectors -- */

/* [MODE, TEXT, IDS, DECODED]; the mode has an s where special tokens are found, an f for the frame. */
static void check_case(struct fixture *fixture, const char *name, const json_t *one)
{
    const char *mode = json_string_value(json_array_get(one, 0));
    const json_t *text = json_array_get(one, 1);
    const json_t *ids = json_array_get(one, 2);
    const char *decoded = json_string_value(json_array_get(one, 3));
    const struct encoding encoding = {.specials = strchr(mode, 's') != NULL, .frame = strchr(mode, 'f') != NULL};
    encode(fixture, json_string_value(text), (int64_t)json_string_length(text), encoding);
    if ((size_t)fixture->tokens.count != json_array_size(ids))
        fail_msg("%s: \"%s\": %lld tokens, expected %zu", name, json_string_value(text),
                 (long long)fixture->tokens.count, json_array_size(ids));
    for (int64_t i = 0; i < fixture->tokens.count; i++)
        if (fixture->tokens.ids[i] != json_integer_value(json_array_get(ids, (size_t)i)))
            fail_msg("%s: \"%s\": token %lld is %d, expected %lld", name, json_string_value(text), (long long)i,
                     fixture->tokens.ids[i], (long long)json_integer_value(json_array_get(ids, (size_t)i)));
    decode(fixture);
    if (strcmp(fixture->text.data, decoded) != 0)
        fail_msg("%s: \"%s\" comes back as \"%s\", expected \"%s\"", name, json_string_value(text), fixture->text.data,
                 decoded);
}

static void test_ids_are_those_of_the_package(void **state)
{
    struct fixture *fixture = *state;
    json_error_t error;
    json_t *all = json_load_file(path_of("vectors.json"), 0, &error);
    size_t cases = 0;
    assert_non_null(all);
    for (size_t i = 0; i < json_array_size(all); i++) {
        const char *name = json_string_value(json_object_get(json_array_get(all, i), "tokenizer"));
        const json_t *list = json_object_get(json_array_get(all, i), "cases");
        open_named(fixture, name);
        for (size_t c = 0; c < json_array_size(list); c++)
            check_case(fixture, name, json_array_get(list, c));
        cases += json_array_size(list);
        fixture_clear(fixture);
        fixture->text.context = &fixture->context;
    }
    json_decref(all);
    assert_int_equal(cases, 965);
}

/* -- Texts that are none, and long ones -- */

static void test_bytes_that_are_no_text(void **state)
{
    struct fixture *fixture = *state;
    /* A cut character, a lone continuation, a surrogate, an overlong form, and one that ends too early. */
    static const char bad[] = "a\xf0\x9f\x80z\x80\xed\xa0\x80\xc0\xaf\xe2\x82";
    static const char clean[] = "a\xef\xbf\xbdz\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"
                                "\xef\xbf\xbd";
    open_named(fixture, "gpt2.json");
    encode(fixture, bad, sizeof bad - 1, (struct encoding){0});
    assert_int_equal(encoder_replaced(fixture->encoder), 8);
    decode(fixture);
    assert_string_equal(fixture->text.data, clean);
}

/* Half a character waits for the rest; at the end it is U+FFFD. */
static void test_a_character_waits_for_its_bytes(void **state)
{
    struct fixture *fixture = *state;
    struct bytes *text = &fixture->text;
    open_named(fixture, "smollm2.json");
    encode(fixture, "\xf0\x9f\xa6\x80", 4, (struct encoding){0});
    assert_true(fixture->tokens.count >= 2);
    for (int64_t i = 0; i + 1 < fixture->tokens.count; i++) {
        assert_ok(&fixture->context, decoder_stream_push(fixture->stream, fixture->tokens.ids[i], text));
        assert_int_equal(text->count, 0);
    }
    assert_ok(&fixture->context, decoder_stream_finish(fixture->stream, text));
    assert_int_equal(text->count, 3);
    assert_memory_equal(text->data, "\xef\xbf\xbd", 3);
    text->count = 0;
    for (int64_t i = 0; i < fixture->tokens.count; i++)
        assert_ok(&fixture->context, decoder_stream_push(fixture->stream, fixture->tokens.ids[i], text));
    assert_int_equal(text->count, 4);
    assert_memory_equal(text->data, "\xf0\x9f\xa6\x80", 4);
}

static double seconds_to_encode(struct fixture *fixture, const char *text, int64_t length)
{
    struct timespec begin;
    struct timespec end;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &begin);
    encode(fixture, text, length, (struct encoding){0});
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
    return (double)(end.tv_sec - begin.tv_sec) + 1e-9 * (double)(end.tv_nsec - begin.tv_nsec);
}

/* Merging takes n log n: of 16 times as many letters about 20 times as long, where squares are 256 times as long. */
static void test_a_million_equal_letters(void **state)
{
    enum { COUNT = 1 << 20, PART = COUNT / 16 };
    struct fixture *fixture = *state;
    static const char *const names[] = {"gpt2.json", "llama2.json", "unigram.json"};
    char *text = malloc(COUNT);
    assert_non_null(text);
    memset(text, 'a', COUNT);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        open_named(fixture, names[i]);
        (void)seconds_to_encode(fixture, text, COUNT);
        double part = seconds_to_encode(fixture, text, PART);
        double whole = seconds_to_encode(fixture, text, COUNT);
        if (whole > 100.0 * part)
            fail_msg("%s: %d letters take %.3f s, %d take %.3f s", names[i], COUNT, whole, PART, part);
        decode(fixture);
        assert_int_equal(fixture->text.count, COUNT + 1);
        fixture_clear(fixture);
        fixture->text.context = &fixture->context;
    }
    free(text);
}

/* Words that fill the cache several times over are the same as in an encoder that is new. */
static void test_the_cache_changes_nothing(void **state)
{
    enum { WORDS = 250000, LETTERS = 4 };
    struct fixture *fixture = *state;
    char word[LETTERS];
    struct token_list kept = {0};
    open_named(fixture, "gpt2.json");
    for (int i = 0; i < WORDS; i++) {
        for (int digit = 0, rest = i; digit < LETTERS; digit++, rest /= 26)
            word[digit] = (char)('a' + rest % 26);
        encode(fixture, word, LETTERS, (struct encoding){0});
    }
    kept = fixture->tokens;
    fixture->tokens = (struct token_list){0};
    encoder_destroy(&fixture->encoder);
    assert_ok(&fixture->context, encoder_create(&fixture->context, fixture->tokenizer, &fixture->encoder));
    encode(fixture, word, LETTERS, (struct encoding){0});
    assert_int_equal(kept.count, fixture->tokens.count);
    assert_memory_equal(kept.ids, fixture->tokens.ids, (size_t)kept.count * sizeof *kept.ids);
    token_list_release(&fixture->context, &kept);
}

/* -- What a tokenizer is told apart by -- */

static void parse(struct fixture *fixture, json_t *root, char hash[TOKENIZER_HASH])
{
    char *text = json_dumps(root, JSON_INDENT(2));
    assert_ok(&fixture->context,
              tokenizer_parse(&fixture->context, "t", text, (int64_t)strlen(text), &fixture->tokenizer));
    strcpy(hash, tokenizer_hash(fixture->tokenizer));
    tokenizer_close(&fixture->tokenizer);
    free(text);
}

/* The layout of the file, the form of the merges and what is null say nothing; each of the parts does. */
static void test_hash(void **state)
{
    struct fixture *fixture = *state;
    char first[TOKENIZER_HASH];
    char other[TOKENIZER_HASH];
    json_t *root = json_load_file(path_of("gpt2.json"), 0, NULL);
    json_t *model = json_object_get(root, "model");
    json_t *merges = json_object_get(model, "merges");
    parse(fixture, root, first);
    for (size_t i = 0; i < json_array_size(merges); i++) {
        const char *both = json_string_value(json_array_get(merges, i));
        const char *space = strchr(both, ' ');
        json_t *pair = json_pack("[s#, s]", both, (int)(space - both), space + 1);
        json_array_set_new(merges, i, pair);
    }
    json_object_set_new(json_object_get(root, "pre_tokenizer"), "note", json_null());
    json_object_del(root, "normalizer");
    json_object_del(root, "decoder");
    json_object_set_new(root, "padding", json_integer(7));
    parse(fixture, root, other);
    assert_string_equal(first, other);
    json_t *last = json_incref(json_array_get(merges, json_array_size(merges) - 1));
    json_array_remove(merges, json_array_size(merges) - 1);
    parse(fixture, root, other);
    assert_string_not_equal(first, other);
    json_array_append_new(merges, last);
    json_object_set_new(model, "ignore_merges", json_true());
    parse(fixture, root, other);
    assert_string_not_equal(first, other);
    json_object_set_new(model, "ignore_merges", json_false());
    parse(fixture, root, other);
    assert_string_equal(first, other);
    json_object_set_new(root, "normalizer", json_pack("{s:s}", "type", "NFC"));
    parse(fixture, root, other);
    assert_string_not_equal(first, other);
    json_decref(root);
}

static void test_what_others_ask(void **state)
{
    struct fixture *fixture = *state;
    int64_t length;
    open_named(fixture, "llama2.json");
    assert_int_equal(tokenizer_end(fixture->tokenizer), 2);
    assert_int_equal(tokenizer_size(fixture->tokenizer), 600);
    assert_int_equal(tokenizer_bytes(fixture->tokenizer, 2), 0);
    assert_int_equal(tokenizer_bytes(fixture->tokenizer, tokenizer_find(fixture->tokenizer, "<0x0A>")), 1);
    assert_int_equal(tokenizer_bytes(fixture->tokenizer, tokenizer_find(fixture->tokenizer, "\xe2\x96\x81the")), 4);
    assert_null(tokenizer_text(fixture->tokenizer, 600, &length));
    assert_null(tokenizer_text(fixture->tokenizer, -1, &length));
    assert_ok(&fixture->context, tokenizer_describe(fixture->tokenizer, &fixture->text));
    assert_ok(&fixture->context, bytes_add(&fixture->text, "", 1));
    assert_non_null(strstr(fixture->text.data, "BPE of characters, bytes for what is unknown"));
    assert_non_null(strstr(fixture->text.data, "vocabulary    600 ids"));
}

/* -- Learning -- */

/* Counts of pieces, brought together as from two ranks. */
static void count(struct fixture *fixture, const struct tokenizer_plan *plan, const char *text,
                  struct piece_counts *counts)
{
    struct context *context = &fixture->context;
    struct piece_counts *other = NULL;
    struct bytes packed = {.context = context};
    const char *half = strchr(text + strlen(text) / 2, ' '); /* GPT-2's pieces may be cut in front of a space */
    assert_ok(context, tokenizer_counter(context, plan, &fixture->tokenizer));
    assert_ok(context, encoder_create(context, fixture->tokenizer, &fixture->encoder));
    assert_ok(context, piece_counts_create(context, &other));
    assert_ok(context, encoder_count(fixture->encoder, half, (int64_t)strlen(half), counts));
    assert_ok(context, encoder_count(fixture->encoder, text, half - text, other));
    assert_ok(context, piece_counts_pack(other, &packed));
    assert_ok(context, piece_counts_unpack(counts, packed.data, packed.count));
    piece_counts_destroy(&other);
    bytes_release(&packed);
    encoder_destroy(&fixture->encoder);
    tokenizer_close(&fixture->tokenizer);
}

static void test_merges_are_those_of_the_package(void **state)
{
    static const char *const specials[] = {"<|endoftext|>", "<|pad|>"};
    const struct tokenizer_plan plan = {
        .pattern = "gpt2", .specials = specials, .special_count = 2, .size = 900, .least = 1};
    struct fixture *fixture = *state;
    struct context *context = &fixture->context;
    struct piece_counts *counts = NULL;
    json_t *given = json_load_file(path_of("learned.json"), 0, NULL);
    const json_t *merges = json_object_get(given, "merges");
    assert_ok(context, piece_counts_create(context, &counts));
    count(fixture, &plan, json_string_value(json_object_get(given, "text")), counts);
    assert_ok(context, tokenizer_learn(context, &plan, counts, &fixture->text));
    json_t *root = json_loadb(fixture->text.data, (size_t)fixture->text.count, 0, NULL);
    const json_t *learned = json_object_get(json_object_get(root, "model"), "merges");
    assert_int_equal(json_array_size(learned), json_array_size(merges));
    for (size_t i = 0; i < json_array_size(merges); i++) {
        char both[256];
        const json_t *pair = json_array_get(learned, i);
        snprintf(both, sizeof both, "%s %s", json_string_value(json_array_get(pair, 0)),
                 json_string_value(json_array_get(pair, 1)));
        assert_string_equal(both, json_string_value(json_array_get(merges, i)));
    }
    assert_ok(context,
              tokenizer_parse(context, "learned", fixture->text.data, fixture->text.count, &fixture->tokenizer));
    assert_int_equal(tokenizer_size(fixture->tokenizer), 900);
    assert_int_equal(tokenizer_find(fixture->tokenizer, "<|pad|>"), 1);
    json_decref(root);
    json_decref(given);
    piece_counts_destroy(&counts);
}

/* -- Files that are broken -- */

#define MODEL(inside) "{\"model\": {\"type\": \"BPE\", " inside "}}"
#define WORDS "\"vocab\": {\"a\": 0, \"b\": 1, \"ab\": 2}, \"merges\": [\"a b\"]"
#define BESIDE(key, value) "{\"model\": {\"type\": \"BPE\", " WORDS "}, \"" key "\": " value "}"

/* What follows from the rules alone; the package says the same. */
static void test_small_tokenizers(void **state)
{
    static const struct {
        const char *file, *text;
        int count;
        int32_t ids[4];
    } cases[] = {
        /* The leftmost of equal pairs merges first. */
        {MODEL("\"vocab\": {\"a\": 0, \"aa\": 1}, \"merges\": [\"a a\"]"), "aaa", 2, {1, 0}},
        {MODEL("\"vocab\": {\"a\": 0, \"?\": 1}, \"merges\": [], \"unk_token\": \"?\""), "xya", 3, {1, 1, 0}},
        {MODEL("\"vocab\": {\"a\": 0, \"?\": 1}, \"merges\": [], \"unk_token\": \"?\", \"fuse_unk\": true"),
         "xya",
         2,
         {1, 0}},
        /* U+180E is no white space. */
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1, \"\xe1\xa0\x8e\": 2}, \"merges\": []}, "
         "\"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"Regex\": \"\\\\s\"}, \"behavior\": \"Removed\", "
         "\"invert\": false}}",
         "a\xe1\xa0\x8e b",
         3,
         {0, 2, 1}},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1}, \"merges\": []}, \"pre_tokenizer\": "
         "{\"type\": \"Split\", \"pattern\": {\"String\": \"a\"}, \"behavior\": \"Removed\", \"invert\": true}}",
         "bab",
         1,
         {0}},
        /* Of paths of one score the one that was found first. */
        {"{\"model\": {\"type\": \"Unigram\", \"vocab\": [[\"a\", -1], [\"b\", -1], [\"ab\", -2]], \"unk_id\": 0}}",
         "ab",
         1,
         {2}},
    };
    struct fixture *fixture = *state;
    struct context *context = &fixture->context;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *file = cases[i].file;
        assert_ok(context, tokenizer_parse(context, "small", file, (int64_t)strlen(file), &fixture->tokenizer));
        assert_ok(context, encoder_create(context, fixture->tokenizer, &fixture->encoder));
        encode(fixture, cases[i].text, (int64_t)strlen(cases[i].text), (struct encoding){0});
        assert_int_equal(fixture->tokens.count, cases[i].count);
        assert_memory_equal(fixture->tokens.ids, cases[i].ids, (size_t)cases[i].count * sizeof(int32_t));
        encoder_destroy(&fixture->encoder);
        tokenizer_close(&fixture->tokenizer);
    }
}

/* Byte tokens that are no character together are a U+FFFD each. */
static void test_byte_tokens_that_are_no_character(void **state)
{
    static const char *const names[] = {"<0xE2>", "<0x82>", "<0xAC>", "<0xE2>", "<0x82>", "a"};
    struct fixture *fixture = *state;
    open_named(fixture, "llama2.json");
    for (int count = 3; count <= 6; count += 3) {
        fixture->text.count = 0;
        for (int i = 6 - count; i < 6; i++)
            assert_ok(
                &fixture->context,
                decoder_stream_push(fixture->stream, tokenizer_find(fixture->tokenizer, names[i]), &fixture->text));
        assert_ok(&fixture->context, decoder_stream_finish(fixture->stream, &fixture->text));
        int replaced = count == 3 ? 2 : 5;
        assert_int_equal(fixture->text.count, 3 * replaced + 1);
        assert_memory_equal(fixture->text.data, "\xef\xbf\xbd\xef\xbf\xbd", 6);
    }
}

static void test_each_broken_file_has_its_message(void **state)
{
    static const struct {
        const char *text, *message;
    } files[] = {
        {"", "bad.json: is no JSON: line"},
        {"{\"model\": {}", "bad.json: is no JSON: line"},
        {"[1]", "is no tokenizer.json: it has no \"model\""},
        {"{\"model\": {}}", "model.type: none is not supported; BPE and Unigram are"},
        {"{\"model\": {\"type\": \"WordPiece\"}}", "model.type: WordPiece is not supported"},
        {MODEL("\"vocab\": [], \"merges\": []"), "model.vocab: expected an object of tokens with their ids"},
        {MODEL("\"vocab\": {\"a\": -1}, \"merges\": []"), "model.vocab: the id of \"a\" is no integer from 0 to"},
        {MODEL("\"vocab\": {\"a\": 4194304}, \"merges\": []"), "model.vocab: the id of \"a\" is no integer"},
        {MODEL("\"vocab\": {\"a\": 1.5}, \"merges\": []"), "model.vocab: the id of \"a\" is no integer"},
        {MODEL("\"vocab\": {\"a\": 1, \"b\": 1}, \"merges\": []"), "the id 1 or the token \"b\" is there twice"},
        {MODEL("\"vocab\": {\"a\": 1, \"a\": 2}, \"merges\": []"), "duplicate object key"},
        {MODEL("\"vocab\": {\"a\": 1}"), "model.merges: expected a list"},
        {MODEL("\"vocab\": {\"a\": 1}, \"merges\": [\"a\"]"), "model.merges: number 0 is neither \"A B\" nor"},
        {MODEL("\"vocab\": {\"a\": 1}, \"merges\": [\"a b c\"]"), "model.merges: number 0 is neither"},
        {MODEL("\"vocab\": {\"a\": 1}, \"merges\": [[\"a\"]]"), "model.merges: number 0 is neither"},
        {MODEL("\"vocab\": {\"a\": 1}, \"merges\": [\"a b\"]"), "number 0: \"b\" is not in the vocabulary"},
        {MODEL("\"vocab\": {\"a\": 1, \"b\": 2}, \"merges\": [\"a b\"]"), "number 0: \"ab\" is not in the vocabulary"},
        {MODEL("\"dropout\": 0.1, " WORDS), "model: dropout 0.1 is not supported"},
        {MODEL("\"end_of_word_suffix\": \"</w>\", " WORDS), "model: end_of_word_suffix \"</w>\" is not supported"},
        {MODEL("\"unk_token\": \"x\", " WORDS), "model.unk_token: expected a token of the vocabulary"},
        {MODEL("\"fuse_unk\": 1, " WORDS), "model: fuse_unk: expected true or false"},
        {"{\"model\": {\"type\": \"Unigram\", \"vocab\": []}}", "model.vocab: expected a list of up to"},
        {"{\"model\": {\"type\": \"Unigram\", \"vocab\": [[\"a\"]]}}", "number 0 is no [\"TOKEN\", SCORE]"},
        {"{\"model\": {\"type\": \"Unigram\", \"vocab\": [[\"a\", 0]], \"unk_id\": 1}}",
         "model.unk_id: expected an id"},
        {BESIDE("added_tokens", "{}"), "added_tokens: expected a list"},
        {BESIDE("added_tokens", "[{\"content\": \"x\"}]"), "added_tokens: expected an id from 0 to"},
        {BESIDE("added_tokens", "[{\"id\": 3}]"), "added_tokens: expected a text as \"content\""},
        {BESIDE("added_tokens", "[{\"id\": 3, \"content\": \"a\"}]"), "\"a\" has the id 3, but 0 in the vocabulary"},
        {BESIDE("added_tokens", "[{\"id\": 0, \"content\": \"x\"}]"), "the id 0 of \"x\" is that of \"a\""},
        {BESIDE("added_tokens", "[{\"id\": 3, \"content\": \"x\"}, {\"id\": 3, \"content\": \"y\"}]"),
         "the id 3 or the token \"y\" is there twice"},
        {BESIDE("normalizer", "7"), "normalizer: expected an object with a type, or null"},
        {BESIDE("normalizer", "{\"type\": \"Nmt\"}"), "normalizer: Nmt is not supported"},
        {BESIDE("normalizer", "{\"type\": \"Sequence\"}"), "normalizer: a Sequence needs a list \"normalizers\""},
        {BESIDE("normalizer", "{\"type\": \"Precompiled\", \"precompiled_charsmap\": \"!\"}"), "is no base64"},
        {BESIDE("normalizer", "{\"type\": \"Precompiled\", \"precompiled_charsmap\": \"/////w==\"}"), "is damaged"},
        {BESIDE("pre_tokenizer", "{\"type\": \"BertPreTokenizer\"}"), "pre_tokenizer: BertPreTokenizer is not"},
        {BESIDE("pre_tokenizer", "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"(\"}}"),
         "the expression \"(\" cannot be read: missing closing parenthesis"},
        {BESIDE("pre_tokenizer", "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"\\\\h\"}}"),
         "\\h in the expression"},
        {BESIDE("pre_tokenizer", "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"[a[b]]\"}}"), "a class in a class"},
        {BESIDE("pre_tokenizer", "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"a\"}, \"behavior\": \"Kept\"}"),
         "pre_tokenizer: the behavior Kept is not known"},
        {BESIDE("pre_tokenizer", "{\"type\": \"Split\"}"), "pre_tokenizer: expected a text as \"Regex\""},
        {BESIDE("post_processor", "{\"type\": \"TemplateProcessing\", \"single\": []}"), "a template of one text"},
        {BESIDE("post_processor", "{\"type\": \"BertProcessing\", \"sep\": [\"x\", 9], \"cls\": [\"y\", 0]}"),
         "post_processor: there is no token 9"},
        {BESIDE("decoder", "{\"type\": \"CTC\"}"), "decoder: CTC is not supported"},
        {BESIDE("decoder", "{\"type\": \"Strip\", \"content\": \" \", \"start\": 1, \"stop\": 0}"), "behind Fuse"},
    };
    struct fixture *fixture = *state;
    struct context *context = &fixture->context;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        assert_fails(
            context,
            tokenizer_parse(context, "bad.json", files[i].text, (int64_t)strlen(files[i].text), &fixture->tokenizer),
            STATUS_FILE, files[i].message);
        assert_null(fixture->tokenizer);
    }
    assert_fails(context, tokenizer_open(context, "/nowhere.json", &fixture->tokenizer), STATUS_FILE,
                 "/nowhere.json: cannot be read: No such file");
}

/* An expression that would take for ever ends with an error, not with a hang. */
static void test_an_expression_that_does_not_end(void **state)
{
    struct fixture *fixture = *state;
    struct context *context = &fixture->context;
    static const char file[] = BESIDE("pre_tokenizer", "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"(a+)+$\"}}");
    assert_ok(context, tokenizer_parse(context, "slow.json", file, sizeof file - 1, &fixture->tokenizer));
    assert_ok(context, encoder_create(context, fixture->tokenizer, &fixture->encoder));
    assert_fails(context,
                 encoder_encode(fixture->encoder, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", 45,
                                (struct encoding){0}, &fixture->tokens),
                 STATUS_FILE, "slow.json: pre_tokenizer: its expression cannot be matched with a text of 45 bytes");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define ROW(test) cmocka_unit_test_setup_teardown(test, fixture_create, fixture_destroy)
        ROW(test_ids_are_those_of_the_package),      ROW(test_bytes_that_are_no_text),
        ROW(test_a_character_waits_for_its_bytes),   ROW(test_a_million_equal_letters),
        ROW(test_the_cache_changes_nothing),         ROW(test_hash),
        ROW(test_merges_are_those_of_the_package),   ROW(test_small_tokenizers),
        ROW(test_byte_tokens_that_are_no_character), ROW(test_what_others_ask),
        ROW(test_each_broken_file_has_its_message),  ROW(test_an_expression_that_does_not_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
