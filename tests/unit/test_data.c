/* Corpora: every format and every error. */
#include "tests/unit/data_support.h"

#include <math.h>

/* -- Formats -- */

static void test_bytes(void **state)
{
    struct fixture *fixture = *state;
    const unsigned char first[] = {0, 255, 'a', '\n'};
    write_file(fixture, "a.txt", first, sizeof first);
    write_file(fixture, "b.txt", "xyz", 3);
    const int32_t tokens[] = {0, 255, 'a', '\n', 'x', 'y', 'z'};
    const char *names[] = {"a.txt", "b.txt"};
    const int64_t documents[] = {4, 3};
    check_corpus(fixture, open_part(fixture, 2, names, DATA_AUTO, 256, 0, 1), tokens, 7, documents, 2);
    check_corpus(fixture, open_part(fixture, 2, names, DATA_BYTES, 300, 0, 1), tokens, 7, documents, 2);
}

static void test_nanogpt(void **state)
{
    struct fixture *fixture = *state;
    const int32_t tokens[] = {5, 6, DELIMITER, 7, DELIMITER, DELIMITER, 8, 50255, DELIMITER, 9, 10, DELIMITER};
    write_uint16(fixture, "train.bin", tokens, 9);
    const int64_t documents[] = {3, 2, 1, 3, 3};
    check_corpus(fixture, open_one(fixture, "train.bin", DATA_AUTO, GPT2_VOCABULARY), tokens, 9, documents, 4);
    write_uint16(fixture, "more", tokens + 9, 3);
    const char *names[] = {"train.bin", "more"};
    check_corpus(fixture, open_part(fixture, 2, names, DATA_NANOGPT, GPT2_VOCABULARY, 0, 1), tokens, 12, documents, 5);
}

static void test_llmc(void **state)
{
    struct fixture *fixture = *state;
    const int32_t gpt2[] = {DELIMITER, 1, 2, 3, DELIMITER, 4, 5, DELIMITER, DELIMITER, 6};
    const int64_t documents[] = {4, 3, 1, 2};
    write_llmc(fixture, "gpt2.bin", 20240520, 1, 10, 2, gpt2, 10);
    check_corpus(fixture, open_one(fixture, "gpt2.bin", DATA_AUTO, GPT2_VOCABULARY), gpt2, 10, documents, 4);
    check_corpus(fixture, open_one(fixture, "gpt2.bin", DATA_LLMC, GPT2_VOCABULARY), gpt2, 10, documents, 4);
    const int32_t llama3[] = {7, DELIMITER, 100000, 128000, 128255, 9};
    const int64_t documents_llama3[] = {3, 3};
    write_llmc(fixture, "llama3.bin", 20240801, 7, 6, 4, llama3, 6);
    check_corpus(fixture, open_one(fixture, "llama3.bin", DATA_AUTO, 128256), llama3, 6, documents_llama3, 2);
}

static void test_megatron(void **state)
{
    struct fixture *fixture = *state;
    static const struct {
        unsigned char code;
        int64_t size;
        int32_t largest;
    } kinds[] = {{1, 1, 255}, {2, 1, 127}, {3, 2, 32767}, {4, 4, 99999}, {5, 8, 99999}, {8, 2, 65535}};
    const char *names[] = {"pair", "pair.bin", "pair.idx"};
    const int64_t documents[] = {5, 4};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        int64_t stored[] = {1, 2, 3, 4, 5, 6, 7, 8, kinds[i].largest};
        const int32_t tokens[] = {1, 2, 3, 4, 5, 6, 7, 8, kinds[i].largest};
        struct index index = write_megatron(fixture, kinds[i].code, kinds[i].size, stored);
        for (int j = 0; j < 3; j++) {
            check_corpus(fixture, open_one(fixture, names[j], DATA_AUTO, 100000), tokens, 9, documents, 2);
            check_corpus(fixture, open_one(fixture, names[j], DATA_MEGATRON, 100000), tokens, 9, documents, 2);
        }
        /* Multimodal sets have a byte for each sequence at the end. */
        index_put(&index, "\1\1\1\1", 4);
        write_file(fixture, "pair.idx", index.bytes, index.count);
        check_corpus(fixture, open_one(fixture, "pair", DATA_AUTO, 100000), tokens, 9, documents, 2);
    }
}

static void test_auto(void **state)
{
    struct fixture *fixture = *state;
    const int64_t stored[] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    write_megatron(fixture, 8, 2, stored);
    write_file(fixture, "pair", "text", 4);
    struct corpus *corpus = open_one(fixture, "pair", DATA_AUTO, 256);
    assert_int_equal(corpus_tokens(corpus), 4);
    corpus_close(&corpus);
    const char *mixed[] = {"pair", "pair.idx"};
    const int32_t tokens[] = {'t', 'e', 'x', 't', 1, 2, 3, 4, 5, 6, 7, 8, 9};
    const int64_t documents[] = {4, 5, 4};
    check_corpus(fixture, open_part(fixture, 2, mixed, DATA_AUTO, 256, 0, 1), tokens, 13, documents, 3);
}

#define assert_refused(fixture, name, format, vocabulary, part) \
    assert_fails(&(fixture)->context, open_status(fixture, name, format, vocabulary), STATUS_FILE, part)

static void write_text(struct fixture *fixture, const char *name, const char *text, size_t length)
{
    /* Longer than what is too short to tell. */
    char *whole = calloc(200, length);
    for (int i = 0; i < 200; i++)
        memcpy(whole + (size_t)i * length, text, length);
    write_file(fixture, name, whole, 200 * length);
    free(whole);
}

/* What a file is, is seen in it. */
static void test_recognized(void **state)
{
    struct fixture *fixture = *state;
    struct context *context = &fixture->context;
    static const struct {
        const char *name, *text;
        size_t length;
        const char *part;
    } refused[] = {
        {"a.gz", "\x1f\x8b\x08", 3, "/a.gz: looks like compressed by gzip; unpack it with gunzip"},
        {"a.txt", "\x28\xb5\x2f\xfd", 4, "compressed by zstd"},
        {"a.xz",
         "\xfd"
         "7zXZ",
         5, "compressed by xz"},
        {"a.bz2", "BZh9", 4, "compressed by bzip2"},
        {"a.zip", "PK\x03\x04", 4, "a zip archive"},
        {"a.npy", "\x93NUMPY\x01", 7, "an array of NumPy"},
        {"a.h5", "\x89HDF\r\n\x1a\n", 8, "an HDF5 file"},
        {"a.parquet", "PAR1", 4, "a Parquet file"},
        {"a.pdf", "%PDF-1.7", 8, "a PDF document"},
        {"utf16.txt",
         "\xff\xfe"
         "t\0e\0",
         6, "text in UTF-16; convert it with iconv -f UTF-16 -t UTF-8"},
        {"utf16", "t\0e\0x\0t\0 \0", 10, "text in UTF-16, or tokens of 2 bytes"},
        {"utf32", "\xff\xfe\0\0t\0\0\0", 8, "text in UTF-32"},
        {"tokenizer.json", "{\"model\": {\"type\": \"BPE\"}}", 26, "looks like JSON"},
        {"lines.jsonl", "{\"text\": \"a\"}\n", 14, "looks like JSON"},
        {"list.json", " [ {\"text\": \"a\"}]", 17, "looks like JSON"},
        {"book.bin", "In the beginning", 16, "text, though its name ends in .bin"},
        {"wide.bin", "\x05\x01\0\0\x17\x23\0\0", 8, "tokens of 4 bytes"},
        {"wider.bin", "\x05\x01\0\0\0\0\0\0", 8, "tokens of 8 bytes"},
        {"latin", "\xe9t\xe9 \xe0 la", 8, "neither text in UTF-8 nor a token file"},
        {"picture", "\x89PNG\r\n\x1a\n", 8, "an image"},
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        write_text(fixture, refused[i].name, refused[i].text, refused[i].length);
        assert_refused(fixture, refused[i].name, DATA_AUTO, 256, refused[i].part);
        assert_refused(fixture, refused[i].name, DATA_AUTO, 50257, refused[i].part);
        /* Who says that it is meant so gets its bytes. */
        struct corpus *corpus = open_one(fixture, refused[i].name, DATA_BYTES, 256);
        assert_int_equal(corpus_tokens(corpus), 200 * refused[i].length);
        corpus_close(&corpus);
    }
    static const char *const texts[] = {"plain text\n",
                                        "\xef\xbb\xbfwith a mark",
                                        "def f(x):\n\treturn {'a': x}\r\n",
                                        "\xe2\x82\xac \xc3\xa9t\xc3\xa9",
                                        "{ not JSON }",
                                        "[1]"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        write_text(fixture, "text", texts[i], strlen(texts[i]));
        struct corpus *corpus = open_one(fixture, "text", DATA_AUTO, 256);
        corpus_close(&corpus);
        assert_refused(fixture, "text", DATA_AUTO, 50257,
                       "/text: text is read as bytes, of which there are 256, but model.vocabulary is 50257; name");
        corpus = open_one(fixture, "text", DATA_BYTES, 50257);
        corpus_close(&corpus);
    }
    context_clear(context);
}

/* Of long files the beginning, the middle and the end are looked at. */
static void test_recognized_in_parts(void **state)
{
    enum { BYTES = 300000, PIECE = 1 << 16, MIDDLE = (BYTES - PIECE) / 2 / 8 * 8, ODD = 3 * PIECE / 1000 };
    struct fixture *fixture = *state;
    char *bytes = malloc(BYTES);
    struct corpus *corpus;
    memset(bytes, 'a', BYTES);
    /* As many odd bytes as are passed over, and a character that begins before the piece in which it ends. */
    memset(bytes + 100, 0xff, ODD);
    memcpy(bytes + MIDDLE - 1, "\xc3\xa9", 2);
    write_file(fixture, "long", bytes, BYTES);
    corpus = open_one(fixture, "long", DATA_AUTO, 256);
    corpus_close(&corpus);
    bytes[99] = (char)0xff;
    write_file(fixture, "long", bytes, BYTES);
    assert_refused(fixture, "long", DATA_AUTO, 256, "neither text in UTF-8 nor a token file");
    memset(bytes, 'a', BYTES);
    for (int place = 0; place < 3; place++) {
        int64_t at = place == 0 ? 5 : place == 1 ? MIDDLE + 5 : BYTES - 1;
        bytes[at] = 1;
        write_file(fixture, "long", bytes, BYTES);
        assert_refused(fixture, "long", DATA_AUTO, 256, "neither text in UTF-8 nor a token file");
        bytes[at] = 'a';
    }
    for (int i = 0; i < BYTES; i++)
        bytes[i] = (char)(i % 4 < 2 ? 5 + i % 7 : 0);
    write_file(fixture, "wide.bin", bytes, BYTES);
    assert_refused(fixture, "wide.bin", DATA_AUTO, 50257, "tokens of 4 bytes");
    free(bytes);
}

static double uniform(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (double)(*state >> 11) * 0x1p-53;
}

/* A vocabulary of 65536 has a token for any two bytes. */
static void test_floats_are_no_tokens(void **state)
{
    enum { COUNT = 4096, LEAST = 1024 };
    struct fixture *fixture = *state;
    uint64_t noise = 7;
    static float floats[COUNT];
    static double doubles[COUNT];
    static uint16_t halves[2][COUNT]; /* bfloat16, float16 */
    static uint16_t tokens[COUNT];
    for (int i = 0; i < COUNT; i++) {
        uint32_t bits;
        doubles[i] = 0.02 * sqrt(-2.0 * log(1.0 - uniform(&noise))) * cos(6.283185307179586 * uniform(&noise));
        floats[i] = (float)doubles[i];
        memcpy(&bits, &floats[i], sizeof bits);
        halves[0][i] = (uint16_t)(bits >> 16);
        halves[1][i] =
            (uint16_t)((bits >> 16 & 0x8000) | (((bits >> 23 & 255) - 112) << 10 & 0x7c00) | (bits >> 13 & 1023));
        /* Few words come often, as in any language. */
        tokens[i] = (uint16_t)(exp(log(65536.0) * uniform(&noise)) - 1.0);
    }
    const struct {
        const char *name;
        const void *bytes;
        size_t count;
    } refused[] = {{"f32.bin", floats, sizeof floats},
                   {"few.bin", floats, LEAST * sizeof *floats},
                   {"f64.bin", doubles, sizeof doubles},
                   {"bf16.bin", halves[0], sizeof halves[0]},
                   {"f16.bin", halves[1], sizeof halves[1]}};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        write_file(fixture, refused[i].name, refused[i].bytes, refused[i].count);
        assert_refused(fixture, refused[i].name, DATA_AUTO, 65536, ".bin: looks like floating-point numbers");
        assert_ok(&fixture->context, open_status(fixture, refused[i].name, DATA_NANOGPT, 65536));
    }
    write_file(fixture, "tokens.bin", tokens, sizeof tokens);
    assert_ok(&fixture->context, open_status(fixture, "tokens.bin", DATA_AUTO, 65536));
    for (int i = 0; i < COUNT; i++)
        tokens[i] = (uint16_t)(65536.0 * uniform(&noise));
    write_file(fixture, "random.bin", tokens, sizeof tokens);
    assert_ok(&fixture->context, open_status(fixture, "random.bin", DATA_AUTO, 65536));
}

/* Folders and patterns stand for their files, in the order of the names' bytes, and may be many. */
static void test_names(void **state)
{
    struct fixture *fixture = *state;
    char name[40];
    int32_t tokens[MOST];
    assert_int_equal(mkdir(path_of(fixture, "many"), 0700), 0);
    for (int i = 99; i >= 0; i--) {
        char byte = (char)(32 + i % 90);
        snprintf(name, sizeof name, "many/%02d.txt", i);
        write_file(fixture, name, &byte, 1);
    }
    write_file(fixture, "many/.hidden", "hidden", 6);
    struct corpus *corpus = open_one(fixture, "many", DATA_AUTO, 256);
    assert_int_equal(corpus_files(corpus), 100);
    read_corpus(corpus, tokens);
    for (int i = 0; i < 100; i++)
        assert_int_equal(tokens[i], 32 + i % 90);
    corpus_close(&corpus);
    corpus = open_one(fixture, "many/*[05].t?t", DATA_AUTO, 256);
    assert_int_equal(corpus_files(corpus), 20);
    read_corpus(corpus, tokens);
    for (int i = 0; i < 20; i++)
        assert_int_equal(tokens[i], 32 + 5 * i % 90);
    corpus_close(&corpus);
    /* Names keep their own order; the index of a pair in a folder is a part of it. */
    const int64_t stored[] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    const char *both[] = {"z.txt", "many/1*.txt"};
    write_file(fixture, "z.txt", "z", 1);
    corpus = open_part(fixture, 2, both, DATA_AUTO, 256, 0, 1);
    read_corpus(corpus, tokens);
    assert_int_equal(tokens[0], 'z');
    assert_int_equal(tokens[1], 32 + 10);
    corpus_close(&corpus);
    write_megatron(fixture, 8, 2, stored);
    assert_int_equal(mkdir(path_of(fixture, "pairs"), 0700), 0);
    for (int i = 0; i < 2; i++) {
        char from[300];
        snprintf(from, sizeof from, "%s", path_of(fixture, i ? "pair.idx" : "pair.bin"));
        assert_int_equal(rename(from, path_of(fixture, i ? "pairs/pair.idx" : "pairs/pair.bin")), 0);
    }
    corpus = open_one(fixture, "pairs", DATA_AUTO, 256);
    assert_int_equal(corpus_files(corpus), 1);
    assert_int_equal(corpus_tokens(corpus), 9);
    corpus_close(&corpus);
    (void)unlink(path_of(fixture, "pairs/pair.idx"));
    (void)unlink(path_of(fixture, "pairs/pair.bin"));
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "many/%02d.txt", i);
        (void)unlink(path_of(fixture, name));
    }
    (void)unlink(path_of(fixture, "many/.hidden"));
    assert_int_equal(rmdir(path_of(fixture, "many")), 0);
    /* A file of that very name is meant itself. */
    write_file(fixture, "odd[1].txt", "odd", 3);
    corpus = open_one(fixture, "odd[1].txt", DATA_AUTO, 256);
    assert_int_equal(corpus_tokens(corpus), 3);
    corpus_close(&corpus);
}

/* Another token may end documents, and a byte. */
static void test_end_of_text(void **state)
{
    struct fixture *fixture = *state;
    static const struct {
        enum data_format format;
        int64_t end, documents;
    } cases[] = {{DATA_BYTES, -1, 1}, {DATA_BYTES, '\n', 3}, {DATA_NANOGPT, 7, 3}, {DATA_NANOGPT, -1, 2}};
    const int32_t ids[] = {1, 7, 2, 7, 3, DELIMITER, 4};
    write_file(fixture, "lines", "a\nbc\nd\n", 7);
    write_uint16(fixture, "ids.bin", ids, 7);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *name = cases[i].format == DATA_BYTES ? "lines" : "ids.bin";
        struct text_list files = files_of(fixture, 1, &name);
        struct corpus *corpus;
        assert_ok(&fixture->context, corpus_open_with(&fixture->context, &files, cases[i].format, GPT2_VOCABULARY,
                                                      cases[i].end, 0, 1, &corpus));
        assert_int_equal(corpus_documents(corpus), cases[i].documents);
        corpus_close(&corpus);
    }
}

/* Every file is cut by itself, and no token is in both parts or in none. */
static void test_parts_of_files(void **state)
{
    struct fixture *fixture = *state;
    const char *names[] = {"a", "b", "c"};
    static const int64_t counts[] = {20, 7, 40};
    int32_t tokens[2][MOST];
    int next = 0;
    for (int i = 0; i < 3; i++) {
        char text[40];
        for (int64_t j = 0; j < counts[i]; j++)
            text[j] = (char)(33 + next++);
        write_file(fixture, names[i], text, (size_t)counts[i]);
    }
    for (int part = 0; part < 2; part++) {
        struct corpus *corpus = open_part(fixture, 3, names, DATA_BYTES, 256, part ? 0.7 : 0, part ? 1 : 0.7);
        assert_int_equal(corpus_tokens(corpus), part ? 6 + 3 + 12 : 14 + 4 + 28);
        assert_int_equal(corpus_documents(corpus), 3);
        read_corpus(corpus, tokens[part]);
        corpus_close(&corpus);
    }
    int seen[67] = {0};
    for (int i = 0; i < 46; i++)
        seen[tokens[0][i] - 33]++;
    for (int i = 0; i < 21; i++)
        seen[tokens[1][i] - 33]++;
    for (int i = 0; i < 67; i++)
        assert_int_equal(seen[i], 1);
    assert_int_equal(tokens[1][0], 33 + 14);
    assert_int_equal(tokens[1][6], 33 + 20 + 4);
    assert_int_equal(tokens[1][9], 33 + 27 + 28);
}

/* Reading on would end the process. */
static void test_shrunk(void **state)
{
    struct fixture *fixture = *state;
    struct context *context = &fixture->context;
    int32_t inputs[100];
    write_text(fixture, "long", "some words ", 11);
    struct corpus *corpus = open_one(fixture, "long", DATA_AUTO, 256);
    (void)corpus_part(corpus, 0, 100, 100, inputs, NULL);
    assert_int_equal(truncate(path_of(fixture, "long"), 10), 0);
    (void)corpus_part(corpus, 2000, 100, 100, inputs, NULL);
    assert_fails(context, context->status, STATUS_FILE, "/long: has shrunk from 2200 to 10 bytes while it is read");
    corpus_close(&corpus);
    /* One that takes its place is another file. */
    write_text(fixture, "long2", "some words ", 11);
    corpus = open_one(fixture, "long2", DATA_AUTO, 256);
    write_file(fixture, "short", "x", 1);
    char from[512];
    snprintf(from, sizeof from, "%s", path_of(fixture, "short"));
    assert_int_equal(rename(from, path_of(fixture, "long2")), 0);
    (void)corpus_part(corpus, 2000, 100, 100, inputs, NULL);
    assert_int_equal(context->status, STATUS_OK);
    assert_int_equal(inputs[0], "some words "[2000 % 11]);
    corpus_close(&corpus);
}

static void test_parts(void **state)
{
    struct fixture *fixture = *state;
    const int32_t tokens[] = {5, 6, DELIMITER, 7, 8, 9, 10, DELIMITER, 11, 12, 13};
    write_uint16(fixture, "train.bin", tokens, 11);
    const char *name = "train.bin";
    for (int cut = 2; cut <= 9; cut++) {
        int64_t front[3];
        int64_t back[3];
        int64_t ends[] = {3, 8, 11};
        int fronts = 0;
        int backs = 0;
        for (int i = 0, begin = 0; i < 3; begin = (int)ends[i++]) {
            if (begin < cut)
                front[fronts++] = (ends[i] < cut ? ends[i] : cut) - begin;
            if (ends[i] > cut)
                back[backs++] = ends[i] - (begin > cut ? begin : cut);
        }
        double share = (cut + 0.5) / 11;
        check_corpus(fixture, open_part(fixture, 1, &name, DATA_AUTO, GPT2_VOCABULARY, 0, share), tokens, cut, front,
                     fronts);
        check_corpus(fixture, open_part(fixture, 1, &name, DATA_AUTO, GPT2_VOCABULARY, share, 1), tokens + cut,
                     11 - cut, back, backs);
    }
}

/* -- Errors -- */

static void test_errors_of_files(void **state)
{
    struct fixture *fixture = *state;
    assert_refused(fixture, "absent.txt", DATA_AUTO, 256, "/absent.txt: no such file; check data.train");
    assert_refused(fixture, "absent", DATA_MEGATRON, 256, "/absent.idx: no such file");
    assert_refused(fixture, "absent.idx", DATA_AUTO, 256, "/absent.idx: no such file");
    assert_refused(fixture, ".", DATA_AUTO, 256, "/.: no files in this folder");
    assert_refused(fixture, "no*.txt", DATA_AUTO, 256, "/no*.txt: no file matches this pattern");
    write_file(fixture, "empty.txt", "", 0);
    assert_refused(fixture, "empty.txt", DATA_AUTO, 256, "/empty.txt: is empty");
    assert_int_equal(mkfifo(path_of(fixture, "pipe"), 0600), 0);
    assert_refused(fixture, "pipe", DATA_AUTO, 256, "/pipe: is not a regular file");

    write_file(fixture, "odd.bin", "abc", 3);
    assert_refused(fixture, "odd.bin", DATA_AUTO, 256, "/odd.bin: its 3 bytes are not a whole number of 2-byte tokens");

    struct text_list none = {0};
    struct corpus *corpus = NULL;
    assert_fails(&fixture->context, corpus_open(&fixture->context, &none, DATA_AUTO, 256, 0, 1, &corpus), STATUS_USAGE,
                 "data.train");
    const char *name = "odd.bin";
    struct text_list files = files_of(fixture, 1, &name);
    assert_fails(&fixture->context, corpus_open(&fixture->context, &files, DATA_BYTES, 256, 0, 0.2, &corpus),
                 STATUS_FILE, "/odd.bin: the part from 0 to 0.2 of 3 tokens is empty");
    assert_fails(&fixture->context, corpus_open(&fixture->context, &files, DATA_BYTES, 256, 0.5, 0.5, &corpus),
                 STATUS_INTERNAL, "part 0.5 to 0.5");
    assert_null(corpus);
}

static void test_errors_of_permission(void **state)
{
    struct fixture *fixture = *state;
    write_file(fixture, "secret.txt", "text", 4);
    assert_int_equal(chmod(path_of(fixture, "secret.txt"), 0), 0);
    /* Root may read anything, so it becomes somebody else for a moment. */
    bool root = geteuid() == 0;
    if (root && seteuid(65534) != 0)
        skip();
    enum status status = open_status(fixture, "secret.txt", DATA_BYTES, 256);
    if (root)
        assert_int_equal(seteuid(0), 0);
    assert_fails(&fixture->context, status, STATUS_FILE, "/secret.txt: cannot be read: Permission denied");
}

static void test_errors_of_llmc(void **state)
{
    struct fixture *fixture = *state;
    const int32_t tokens[] = {1, 2, 3, 4};
    write_llmc(fixture, "a.bin", 20240522, 1, 4, 2, tokens, 4);
    assert_refused(fixture, "a.bin", DATA_LLMC, 256, "does not begin with the magic number 20240520 or 20240801");
    write_llmc(fixture, "a.bin", 20240520, 2, 4, 2, tokens, 4);
    assert_refused(fixture, "a.bin", DATA_AUTO, 256, "version 2 of llm.c's format 20240520 is not known, only 1");
    write_llmc(fixture, "a.bin", 20240801, 1, 4, 4, tokens, 4);
    assert_refused(fixture, "a.bin", DATA_AUTO, 256, "version 1 of llm.c's format 20240801 is not known, only 7");
    write_llmc(fixture, "a.bin", 20240520, 1, 5, 2, tokens, 4);
    assert_refused(
        fixture, "a.bin", DATA_AUTO, 256,
        "/a.bin: the header counts 5 tokens, which makes 1034 bytes, but the file has 1032; it is truncated");
    write_llmc(fixture, "a.bin", 20240520, 1, 3, 2, tokens, 4);
    assert_refused(fixture, "a.bin", DATA_AUTO, 256, "the header counts 3 tokens");
    write_llmc(fixture, "a.bin", 20240520, 1, 0, 2, tokens, 0);
    assert_refused(fixture, "a.bin", DATA_AUTO, 256, "the header counts 0 tokens");
    write_llmc(fixture, "a.bin", 20240520, 1, -1, 2, tokens, 4);
    assert_refused(fixture, "a.bin", DATA_AUTO, 256, "the header counts -1 tokens");
    assert_int_equal(truncate(path_of(fixture, "a.bin"), 1000), 0);
    assert_refused(fixture, "a.bin", DATA_AUTO, 256,
                   "/a.bin: is truncated: 1000 bytes, where the header alone has 1024");
    write_file(fixture, "tiny", "abc", 3);
    assert_refused(fixture, "tiny", DATA_LLMC, 256, "does not begin with the magic number");
}

static void count_up(const void *self, int64_t index, unsigned char *bytes)
{
    const int64_t *length = self;
    for (int64_t i = 0; i < *length; i++)
        bytes[i] = (unsigned char)(index * *length + i);
}

/* Samples 0 1 2 3 4, 5 6 7 8 9, ..., each with two bytes of answer, behind a text of three bytes. */
static void test_samples(void **state)
{
    struct fixture *fixture = *state;
    const int64_t length = 5;
    const char *names[] = {"a.txt", "a.samples"};
    const int64_t documents[] = {3, 5, 5, 5};
    int32_t tokens[18] = {100, 101, 102};
    for (int32_t i = 0; i < 15; i++)
        tokens[3 + i] = i;
    write_file(fixture, "a.txt", "def", 3);
    assert_ok(&fixture->context,
              samples_write(&fixture->context, path_of(fixture, "a.samples"), 3, length, 2, count_up, &length));
    struct corpus *corpus = open_part(fixture, 2, names, DATA_AUTO, 256, 0, 1);
    int32_t targets[20];
    assert_int_equal(corpus_part(corpus, 0, 17, 20, NULL, targets), 2 + 3 * 2);
    for (int i = 0; i < 20; i++) {
        int token = i + 1;
        bool counts = token < 3 || (token < 18 && (token - 3) % 5 >= 3);
        assert_int_equal(targets[i], counts ? tokens[token] : -1);
    }
    assert_int_equal(corpus_documents(corpus), 4);
    struct sampler sampler;
    struct sequence sequence;
    open_sampler(fixture, corpus, SAMPLING_STREAM, 1, 8, 4, &sampler);
    for (int64_t i = 0; i < 4; i++) {
        sampler_sequence(&sampler, i, NULL, NULL, &sequence);
        assert_int_equal(sequence.valid, documents[sequence.document] - 1);
        assert_int_equal(sequence.targets, 2);
    }
    sampler_destroy(&sampler);
    corpus_close(&corpus);
    /* 10.5 of 15 tokens would cut the third sample. */
    corpus = open_part(fixture, 2, names, DATA_AUTO, 256, 0, 0.7);
    assert_int_equal(corpus_tokens(corpus), 2 + 10);
    corpus_close(&corpus);
    corpus = open_part(fixture, 2, names, DATA_AUTO, 256, 0.7, 1);
    assert_int_equal(corpus_tokens(corpus), 1 + 5);
    assert_int_equal(corpus_documents(corpus), 2);
    corpus_close(&corpus);
    assert_ok(&fixture->context,
              samples_write(&fixture->context, path_of(fixture, "b.samples"), 3, length, 5, count_up, &length));
    assert_refused(fixture, "b.samples", DATA_AUTO, 256, "says 3 samples of 5 bytes, 5 of them the answer");
    assert_ok(&fixture->context,
              samples_write(&fixture->context, path_of(fixture, "b.samples"), 3, length, 4, count_up, &length));
    assert_int_equal(truncate(path_of(fixture, "b.samples"), 48 + 10), 0);
    assert_refused(fixture, "b.samples", DATA_AUTO, 256, "says 3 samples of 5 bytes, 4 of them the answer");
    assert_int_equal(truncate(path_of(fixture, "a.samples"), 48 + 14), 0);
    assert_refused(fixture, "a.samples", DATA_AUTO, 256, "says 3 samples of 5 bytes, 2 of them the answer");
    assert_int_equal(truncate(path_of(fixture, "a.samples"), 40), 0);
    assert_refused(fixture, "a.samples", DATA_AUTO, 256, "is not a file of samples");
    assert_refused(fixture, "a.txt", DATA_SAMPLES, 256, "is not a file of samples");
}

static void test_errors_of_megatron(void **state)
{
    struct fixture *fixture = *state;
    write_file(fixture, "a.bin", "0123456789", 10);
    static const struct {
        unsigned char code;
        int32_t lengths[2];
        int64_t pointers[2];
        int64_t documents[3];
        const char *message;
    } cases[] = {
        {8, {2, 3}, {0, 4}, {0, 1, 2}, NULL},
        {0, {2, 3}, {0, 4}, {0, 1, 2}, "/a.idx: the index is damaged: 0 is no code of a token type"},
        {9, {2, 3}, {0, 4}, {0, 1, 2}, "9 is no code of a token type"},
        {6, {2, 3}, {0, 4}, {0, 1, 2}, "/a.idx: its tokens are floating-point numbers (type code 6)"},
        {7, {2, 3}, {0, 4}, {0, 1, 2}, "floating-point numbers (type code 7)"},
        {8, {2, 4}, {0, 4}, {0, 1, 2}, "/a.bin: sequence 1 of its index, 4 tokens at byte 4, is not inside its 10"},
        {8, {2, -1}, {0, 4}, {0, 1, 2}, "sequence 1 of its index, -1 tokens"},
        {8, {2, 3}, {0, -2}, {0, 1, 2}, "sequence 1 of its index, 3 tokens at byte -2"},
        {8, {2, 3}, {0, INT64_MAX}, {0, 1, 2}, "sequence 1 of its index, 3 tokens at byte 9223372036854775807"},
        {8, {2, 3}, {0, 4}, {1, 1, 2}, "its first document does not begin with the first sequence"},
        {8, {2, 3}, {0, 4}, {0, 3, 2}, "a document ends before it begins"},
        {8, {2, 3}, {0, 4}, {0, 1, 1}, "its last document does not end with the last sequence"},
        {8, {2, 3}, {0, 4}, {0, 1, INT64_MAX}, "its last document does not end with the last sequence"},
        {8, {0, 0}, {0, 4}, {0, 1, 2}, "/a.bin: is empty: its index has no token"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct index index = index_build(cases[i].code, 2, cases[i].lengths, cases[i].pointers, 3, cases[i].documents);
        write_file(fixture, "a.idx", index.bytes, index.count);
        if (cases[i].message)
            assert_refused(fixture, "a", DATA_AUTO, 65536, cases[i].message);
        else
            assert_ok(&fixture->context, open_status(fixture, "a", DATA_AUTO, 65536));
    }
    struct index index = index_build(8, 2, cases[0].lengths, cases[0].pointers, 3, cases[0].documents);
    index_put(&index, "\0", 1);
    write_file(fixture, "a.idx", index.bytes, index.count);
    assert_refused(fixture, "a", DATA_AUTO, 65536, "/a.idx: the index is damaged: there are bytes behind its end");
    /* Counts whose arrays do not fit, up to those whose size in bytes is not a number. */
    static const uint64_t counts[] = {3, 4, 1000, UINT64_C(1) << 61, UINT64_C(1) << 62, INT64_MAX, UINT64_MAX};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        for (int j = 18; j <= 26; j += 8) {
            unsigned char kept[8];
            memcpy(kept, index.bytes + j, 8);
            memcpy(index.bytes + j, &counts[i], 8);
            write_file(fixture, "a.idx", index.bytes, index.count - 1);
            memcpy(index.bytes + j, kept, 8);
            if (j == 18 || counts[i] > 3)
                assert_refused(fixture, "a", DATA_AUTO, 65536, "/a.idx: is truncated: it counts");
        }
    }
    index.count--;
    index.bytes[9] = 2;
    write_file(fixture, "a.idx", index.bytes, index.count);
    assert_refused(fixture, "a", DATA_AUTO, 65536, "/a.idx: version 2 of the index is not known");
    index.bytes[0] = 'm';
    write_file(fixture, "a.idx", index.bytes, index.count);
    assert_refused(fixture, "a", DATA_AUTO, 65536, "/a.idx: is not a Megatron index");
    assert_int_equal(remove(path_of(fixture, "a.bin")), 0);
    assert_refused(fixture, "a.bin", DATA_MEGATRON, 65536, "/a.idx: is not a Megatron index");
}

static void test_errors_of_tokens(void **state)
{
    struct fixture *fixture = *state;
    write_file(fixture, "a.txt", "abz", 3);
    assert_refused(fixture, "a.txt", DATA_AUTO, 122, "/a.txt: token 2 is 122, but the vocabulary has 122 tokens");
    assert_ok(&fixture->context, open_status(fixture, "a.txt", DATA_AUTO, 123));
    const int32_t tokens[] = {DELIMITER, 1, 100, 3};
    write_uint16(fixture, "a.bin", tokens, 4);
    assert_refused(fixture, "a.bin", DATA_AUTO, 100, "/a.bin: token 0 is 50256, but the vocabulary has 100 tokens");
    const int32_t large[] = {1, 2, -16};
    write_llmc(fixture, "a.bin", 20240801, 7, 3, 4, large, 3);
    assert_refused(fixture, "a.bin", DATA_AUTO, INT64_MAX, "token 2 is 4294967280, but the vocabulary has 2147483648");
    int64_t stored[] = {1, 2, 3, 4, 5, 6, 7, -8, 9};
    write_megatron(fixture, 5, 8, stored);
    assert_refused(fixture, "pair", DATA_AUTO, 100, "/pair.bin: token 7 is -8, but the vocabulary");
    stored[7] = INT64_C(1) << 40;
    write_megatron(fixture, 5, 8, stored);
    assert_refused(fixture, "pair", DATA_AUTO, 100, "/pair.bin: token 7 is 1099511627776, but the vocabulary");
    /* Only the part that is opened is checked. */
    const char *name = "pair";
    struct corpus *corpus = open_part(fixture, 1, &name, DATA_AUTO, 100, 0, 0.75);
    corpus_close(&corpus);
}

static void test_errors_of_samplers(void **state)
{
    struct fixture *fixture = *state;
    struct context *context = &fixture->context;
    struct data_config config = {.sampling = SAMPLING_SHUFFLE};
    struct sampler sampler;
    write_file(fixture, "a.txt", "0123456789", 10);
    struct corpus *corpus = open_one(fixture, "a.txt", DATA_AUTO, 256);
    assert_fails(context, sampler_create(context, corpus, &config, 10, 1, &sampler), STATUS_FILE,
                 "/a.txt: the corpus has 10 tokens where one sequence needs 11");
    assert_ok(context, sampler_create(context, corpus, &config, 9, 1, &sampler));
    assert_int_equal(sampler.windows, 1);
    assert_fails(context, sampler_create(context, corpus, &config, 0, 1, &sampler), STATUS_INTERNAL, "length 0");
    corpus_close(&corpus);
    write_file(fixture, "a.txt", "0", 1);
    corpus = open_one(fixture, "a.txt", DATA_AUTO, 256);
    config.sampling = SAMPLING_STREAM;
    assert_fails(context, sampler_create(context, corpus, &config, 4, 1, &sampler), STATUS_FILE,
                 "/a.txt: the corpus has 1 tokens in 1 documents");
    for (int i = SAMPLING_SHUFFLE; i <= SAMPLING_STREAM; i++) {
        struct corpus_passages passages;
        assert_ok(context, corpus_passages_create(context, corpus, (enum data_sampling)i, 4, &passages));
        assert_int_equal(passages.count, 0);
        assert_int_equal(passages.longest, 0);
        corpus_passages_destroy(&passages);
    }
    corpus_close(&corpus);
}

/* Neither a shortened index nor one with any byte changed may be read outside its bounds; what opens can be drawn. */
static void test_damaged_index(void **state)
{
    struct fixture *fixture = *state;
    const int64_t stored[] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    struct index index = write_megatron(fixture, 4, 4, stored);
    static const unsigned char changes[] = {0x01, 0x02, 0x04, 0x10, 0x40, 0x7f, 0x80, 0xff};
    int refused = 0;
    for (size_t i = 0; i < index.count; i++) {
        for (size_t j = 0; j < sizeof changes; j++) {
            index.bytes[i] ^= changes[j];
            write_file(fixture, "pair.idx", index.bytes, index.count);
            index.bytes[i] ^= changes[j];
            const char *name = "pair";
            struct text_list files = files_of(fixture, 1, &name);
            struct corpus *corpus = NULL;
            if (corpus_open(&fixture->context, &files, DATA_MEGATRON, INT32_MAX, 0, 1, &corpus) != STATUS_OK) {
                assert_non_null(strstr(fixture->context.text, "/pair."));
                context_clear(&fixture->context);
                refused++;
                continue;
            }
            int32_t tokens[MOST];
            if (corpus_tokens(corpus) > 1)
                read_corpus(corpus, tokens);
            corpus_close(&corpus);
        }
        write_file(fixture, "pair.idx", index.bytes, i);
        assert_refused(fixture, "pair", DATA_MEGATRON, 256, "/pair.");
    }
    assert_in_range(refused, (int)index.count * 4, (int)index.count * 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DATA_TEST(test_bytes),
        DATA_TEST(test_nanogpt),
        DATA_TEST(test_llmc),
        DATA_TEST(test_megatron),
        DATA_TEST(test_auto),
        DATA_TEST(test_parts),
        DATA_TEST(test_recognized),
        DATA_TEST(test_recognized_in_parts),
        DATA_TEST(test_floats_are_no_tokens),
        DATA_TEST(test_names),
        DATA_TEST(test_end_of_text),
        DATA_TEST(test_parts_of_files),
        DATA_TEST(test_shrunk),
        DATA_TEST(test_errors_of_files),
        DATA_TEST(test_errors_of_permission),
        DATA_TEST(test_samples),
        DATA_TEST(test_errors_of_llmc),
        DATA_TEST(test_errors_of_megatron),
        DATA_TEST(test_errors_of_tokens),
        DATA_TEST(test_errors_of_samplers),
        DATA_TEST(test_damaged_index),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
