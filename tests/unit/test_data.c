/* Corpora and samplers: every format, every error, and which tokens a run sees in which order. */
#include "tests/support/support.h"

#include "io/data/data.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DELIMITER = 50256, GPT2_VOCABULARY = 50257, MOST = 512 };

struct fixture {
    struct context context;
    char folder[64];
    char path[256];
};

static int fixture_create(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    *state = fixture;
    if (!fixture)
        return -1;
    context_create(&fixture->context);
    strcpy(fixture->folder, "/tmp/test_data_XXXXXX");
    return mkdtemp(fixture->folder) ? 0 : -1;
}

static int fixture_destroy(void **state)
{
    struct fixture *fixture = *state;
    DIR *folder = opendir(fixture->folder);
    for (struct dirent *entry = readdir(folder); entry; entry = readdir(folder)) {
        snprintf(fixture->path, sizeof fixture->path, "%s/%.100s", fixture->folder, entry->d_name);
        remove(fixture->path);
    }
    closedir(folder);
    int result = rmdir(fixture->folder);
    if (fixture->context.memory.bytes_total != 0)
        result = -1;
    free(fixture);
    return result;
}

static const char *path_of(struct fixture *fixture, const char *name)
{
    snprintf(fixture->path, sizeof fixture->path, "%s/%s", fixture->folder, name);
    return fixture->path;
}

static void write_file(struct fixture *fixture, const char *name, const void *bytes, size_t count)
{
    FILE *file = fopen(path_of(fixture, name), "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, count, file), count);
    assert_int_equal(fclose(file), 0);
}

static struct text_list files_of(struct fixture *fixture, int count, const char *const *names)
{
    struct text_list files = {.count = count};
    for (int i = 0; i < count; i++)
        snprintf(files.item[i], sizeof files.item[i], "%s", path_of(fixture, names[i]));
    return files;
}

static enum status open_status(struct fixture *fixture, const char *name, enum data_format format, int64_t vocabulary)
{
    struct corpus *corpus = NULL;
    struct text_list files = files_of(fixture, 1, &name);
    enum status status = corpus_open(&fixture->context, &files, format, vocabulary, 0, 1, &corpus);
    corpus_close(&corpus);
    return status;
}

static struct corpus *open_part(struct fixture *fixture, int count, const char *const *names, enum data_format format,
                                int64_t vocabulary, double begin, double end)
{
    struct corpus *corpus = NULL;
    struct text_list files = files_of(fixture, count, names);
    assert_ok(&fixture->context, corpus_open(&fixture->context, &files, format, vocabulary, begin, end, &corpus));
    return corpus;
}

static struct corpus *open_one(struct fixture *fixture, const char *name, enum data_format format, int64_t vocabulary)
{
    return open_part(fixture, 1, &name, format, vocabulary, 0, 1);
}

static void open_sampler(struct fixture *fixture, const struct corpus *corpus, enum data_sampling sampling,
                         uint64_t seed, int64_t length, int64_t streams, struct sampler *sampler)
{
    struct data_config config = {.sampling = sampling, .seed = seed};
    assert_ok(&fixture->context, sampler_create(&fixture->context, corpus, &config, length, streams, sampler));
}

/* All tokens of a corpus by way of its evaluation windows. */
static void read_corpus(const struct corpus *corpus, int32_t *tokens)
{
    int64_t count = 0;
    int64_t length = corpus_tokens(corpus) - 1;
    assert_in_range(length, 1, MOST - 1);
    assert_int_equal(corpus_windows(corpus, length), 1);
    corpus_window(corpus, length, 0, tokens, NULL, &count);
    int32_t targets[MOST];
    corpus_window(corpus, length, 0, NULL, targets, &count);
    assert_int_equal(count, length);
    tokens[length] = targets[length - 1];
}

/* The tokens, and the lengths of the documents in order as a stream that reads everything shows them. */
static void check_corpus(struct fixture *fixture, struct corpus *corpus, const int32_t *tokens, int64_t count,
                         const int64_t *documents, int64_t document_count)
{
    int32_t read[MOST];
    assert_int_equal(corpus_tokens(corpus), count);
    assert_int_equal(corpus_documents(corpus), document_count);
    read_corpus(corpus, read);
    assert_memory_equal(read, tokens, (size_t)count * sizeof *tokens);
    struct sampler sampler;
    open_sampler(fixture, corpus, SAMPLING_STREAM, 7, MOST, 1, &sampler);
    for (int64_t i = 0; i < sampler.windows; i++) {
        struct sequence sequence;
        int32_t inputs[MOST];
        sampler_sequence(&sampler, i, inputs, NULL, &sequence);
        assert_int_equal(sequence.targets, documents[sequence.document] - 1);
        int64_t begin = 0;
        for (int64_t j = 0; j < sequence.document; j++)
            begin += documents[j];
        assert_memory_equal(inputs, tokens + begin, (size_t)sequence.targets * sizeof *tokens);
    }
    sampler_destroy(&sampler);
    corpus_close(&corpus);
}

/* -- Writers of the formats ---------------------------------------------------------------------------------------- */

static void write_uint16(struct fixture *fixture, const char *name, const int32_t *tokens, int64_t count)
{
    uint16_t values[MOST];
    for (int64_t i = 0; i < count; i++)
        values[i] = (uint16_t)tokens[i];
    write_file(fixture, name, values, (size_t)count * sizeof *values);
}

static void write_llmc(struct fixture *fixture, const char *name, int32_t magic, int32_t version, int32_t counted,
                       int size, const int32_t *tokens, int64_t count)
{
    unsigned char bytes[1024 + 4 * MOST] = {0};
    int32_t header[3] = {magic, version, counted};
    memcpy(bytes, header, sizeof header);
    for (int64_t i = 0; i < count; i++)
        memcpy(bytes + 1024 + i * size, &tokens[i], (size_t)size);
    write_file(fixture, name, bytes, (size_t)(1024 + count * size));
}

struct index {
    unsigned char bytes[4096];
    size_t count;
};

static void index_put(struct index *index, const void *bytes, size_t count)
{
    memcpy(index->bytes + index->count, bytes, count);
    index->count += count;
}

static struct index index_build(unsigned char code, uint64_t sequences, const int32_t *lengths, const int64_t *pointers,
                                uint64_t entries, const int64_t *documents)
{
    struct index index = {0};
    uint64_t version = 1;
    index_put(&index, "MMIDIDX\0\0", 9);
    index_put(&index, &version, 8);
    index_put(&index, &code, 1);
    index_put(&index, &sequences, 8);
    index_put(&index, &entries, 8);
    index_put(&index, lengths, sequences * 4);
    index_put(&index, pointers, sequences * 8);
    index_put(&index, documents, entries * 8);
    return index;
}

/* Four sequences of 3, 0, 2 and 4 tokens in two documents, the last two stored in exchanged order. */
static struct index write_megatron(struct fixture *fixture, unsigned char code, int64_t size, const int64_t *tokens)
{
    static const int place[] = {0, 1, 2, 7, 8, 3, 4, 5, 6};
    unsigned char bytes[9 * 8];
    for (int i = 0; i < 9; i++)
        memcpy(bytes + place[i] * size, &tokens[i], (size_t)size);
    write_file(fixture, "pair.bin", bytes, (size_t)(9 * size));
    int32_t lengths[] = {3, 0, 2, 4};
    int64_t pointers[] = {0, 3 * size, 7 * size, 3 * size};
    int64_t documents[] = {0, 3, 3, 4};
    struct index index = index_build(code, 4, lengths, pointers, 4, documents);
    write_file(fixture, "pair.idx", index.bytes, index.count);
    return index;
}

/* -- Formats ------------------------------------------------------------------------------------------------------- */

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

/* -- Errors -------------------------------------------------------------------------------------------------------- */

#define assert_refused(fixture, name, format, vocabulary, part) \
    assert_fails(&(fixture)->context, open_status(fixture, name, format, vocabulary), STATUS_FILE, part)

static void test_errors_of_files(void **state)
{
    struct fixture *fixture = *state;
    assert_refused(fixture, "absent.txt", DATA_AUTO, 256, "/absent.txt: no such file; check data.train");
    assert_refused(fixture, "absent", DATA_MEGATRON, 256, "/absent.idx: no such file");
    assert_refused(fixture, "absent.idx", DATA_AUTO, 256, "/absent.idx: no such file");
    assert_refused(fixture, ".", DATA_AUTO, 256, "/.: is a directory; name the token files");
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
    assert_int_equal(corpus_windows(corpus, 4), 0);
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

/* -- Order --------------------------------------------------------------------------------------------------------- */

/* A text in which every token names its place. */
static struct corpus *open_counted(struct fixture *fixture, int64_t count)
{
    int32_t tokens[MOST];
    for (int64_t i = 0; i < count; i++)
        tokens[i] = (int32_t)i;
    write_uint16(fixture, "counted.bin", tokens, count);
    return open_one(fixture, "counted.bin", DATA_AUTO, MOST);
}

static void check_shuffle(struct fixture *fixture, int64_t tokens, int64_t length)
{
    struct corpus *corpus = open_counted(fixture, tokens);
    struct sampler sampler;
    open_sampler(fixture, corpus, SAMPLING_SHUFFLE, 3, length, 2, &sampler);
    assert_true(sampler.windows >= 1 && sampler.windows * length + sampler.shifts <= tokens);
    int64_t index = 0;
    int shifts = 0;
    int unsorted = 0;
    int changed = 0;
    int64_t order[MOST] = {0}; /* of the epoch before */
    for (int epoch = 0; epoch < 20; epoch++) {
        int seen[MOST] = {0};
        int64_t previous = -1;
        int64_t shift = -1;
        for (int64_t i = 0; i < sampler.windows; i++, index++) {
            int32_t inputs[MOST];
            int32_t targets[MOST];
            struct sequence sequence;
            sampler_sequence(&sampler, index, inputs, targets, &sequence);
            for (int64_t j = 0; j < length; j++) {
                assert_int_equal(targets[j], inputs[0] + j + 1);
                assert_int_equal(inputs[j], inputs[0] + j);
            }
            assert_int_equal(sequence.targets, length);
            assert_int_equal(sequence.stream, index % 2);
            assert_int_equal(sequence.position, inputs[0]);
            assert_true(sequence.reset);
            shift = shift < 0 ? inputs[0] % length : shift;
            assert_int_equal(inputs[0] % length, shift);
            assert_int_equal(seen[inputs[0] / length]++, 0);
            assert_true(inputs[0] / length < sampler.windows);
            unsorted += inputs[0] < previous;
            previous = inputs[0];
            changed += epoch > 0 && order[i] != inputs[0] / length;
            order[i] = inputs[0] / length;
        }
        shifts |= 1 << shift;
    }
    if (sampler.shifts > 1)
        assert_true((shifts & (shifts - 1)) != 0);
    if (sampler.windows > 3)
        assert_true(unsorted > 20 && changed > 20);
    sampler_destroy(&sampler);
    corpus_close(&corpus);
}

static void test_shuffle(void **state)
{
    check_shuffle(*state, 300, 7);
    check_shuffle(*state, 8, 7);
    check_shuffle(*state, 11, 7);
    check_shuffle(*state, 15, 7);
    check_shuffle(*state, 20, 1);
}

static void test_same_sequence(void **state)
{
    struct fixture *fixture = *state;
    struct corpus *corpus = open_counted(fixture, 200);
    for (int sampling = SAMPLING_SHUFFLE; sampling <= SAMPLING_STREAM; sampling++) {
        struct sampler forward;
        struct sampler backward;
        struct sampler other;
        int32_t inputs[2][100][8];
        int32_t targets[2][100][8];
        struct sequence sequences[2][100];
        memset(sequences, 0, sizeof sequences);
        open_sampler(fixture, corpus, (enum data_sampling)sampling, 11, 8, 3, &forward);
        open_sampler(fixture, corpus, (enum data_sampling)sampling, 11, 8, 3, &backward);
        open_sampler(fixture, corpus, (enum data_sampling)sampling, 12, 8, 3, &other);
        for (int i = 0; i < 100; i++)
            sampler_sequence(&forward, i, inputs[0][i], targets[0][i], &sequences[0][i]);
        for (int i = 99; i >= 0; i--) {
            sampler_sequence(&backward, i, NULL, targets[1][i], &sequences[1][i]);
            sampler_sequence(&backward, i, inputs[1][i], NULL, &sequences[1][i]);
            assert_int_equal(sequences[0][i].document, sequences[1][i].document);
            assert_int_equal(sequences[0][i].position, sequences[1][i].position);
            assert_int_equal(sequences[0][i].stream, sequences[1][i].stream);
            assert_int_equal(sequences[0][i].targets, sequences[1][i].targets);
            assert_int_equal(sequences[0][i].reset, sequences[1][i].reset);
        }
        assert_memory_equal(inputs[0], inputs[1], sizeof inputs[0]);
        assert_memory_equal(targets[0], targets[1], sizeof targets[0]);
        for (int i = 0; i < 100; i++)
            sampler_sequence(&other, i, inputs[1][i], NULL, &sequences[1][i]);
        if (sampling == SAMPLING_SHUFFLE)
            assert_memory_not_equal(inputs[0], inputs[1], sizeof inputs[0]);
        sampler_destroy(&forward);
        sampler_destroy(&backward);
        sampler_destroy(&other);
    }
    corpus_close(&corpus);
}

/* Sequences in a document of another than the first token know where they are. */
static void test_shuffle_documents(void **state)
{
    struct fixture *fixture = *state;
    const int32_t tokens[] = {5, 6, DELIMITER, 7, 8, 9, 10, DELIMITER, 11, 12, 13};
    const int64_t document[] = {0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2};
    const int64_t position[] = {0, 1, 2, 0, 1, 2, 3, 4, 0, 1, 2};
    write_uint16(fixture, "train.bin", tokens, 11);
    struct corpus *corpus = open_one(fixture, "train.bin", DATA_AUTO, GPT2_VOCABULARY);
    struct sampler sampler;
    open_sampler(fixture, corpus, SAMPLING_SHUFFLE, 0, 2, 1, &sampler);
    for (int64_t i = 0; i < 40; i++) {
        int32_t inputs[2];
        struct sequence sequence;
        sampler_sequence(&sampler, i, inputs, NULL, &sequence);
        int place = 0;
        while (tokens[place] != inputs[0] || tokens[place + 1] != inputs[1])
            place++;
        assert_int_equal(sequence.document, document[place]);
        assert_int_equal(sequence.position, position[place]);
    }
    sampler_destroy(&sampler);
    corpus_close(&corpus);
}

/* Documents 0, 1, ... of these many tokens; token t of document d is 100 d + t. */
static const int64_t document_lengths[] = {5, 1, 13, 2, 9, 30, 8, 1, 17};
enum { DOCUMENTS = 9 };

static struct corpus *open_documents(struct fixture *fixture)
{
    int32_t lengths[DOCUMENTS];
    int64_t pointers[DOCUMENTS];
    int64_t documents[DOCUMENTS + 1];
    uint16_t tokens[MOST];
    int64_t count = 0;
    for (int i = 0; i < DOCUMENTS; i++) {
        lengths[i] = (int32_t)document_lengths[i];
        pointers[i] = 2 * count;
        documents[i] = i;
        for (int64_t j = 0; j < lengths[i]; j++)
            tokens[count++] = (uint16_t)(100 * i + j);
    }
    documents[DOCUMENTS] = DOCUMENTS;
    struct index index = index_build(8, DOCUMENTS, lengths, pointers, DOCUMENTS + 1, documents);
    write_file(fixture, "documents.idx", index.bytes, index.count);
    write_file(fixture, "documents.bin", tokens, (size_t)count * 2);
    return open_one(fixture, "documents.idx", DATA_AUTO, 1000);
}

/* One window as a stream must show it, from what the sequence says of itself. */
static void check_stream_window(const struct sampler *sampler, int64_t index, struct sequence *sequence)
{
    int32_t inputs[MOST];
    int32_t targets[MOST];
    sampler_sequence(sampler, index, inputs, targets, sequence);
    int64_t left = document_lengths[sequence->document] - 1 - sequence->position;
    assert_int_equal(sequence->position % sampler->length, 0);
    assert_true(left > 0);
    assert_int_equal(sequence->targets, left < sampler->length ? left : sampler->length);
    assert_int_equal(sequence->stream, index % sampler->streams);
    for (int64_t i = 0; i < sampler->length; i++) {
        int64_t token = 100 * sequence->document + sequence->position + i;
        assert_int_equal(inputs[i], i < sequence->targets ? token : 0);
        assert_int_equal(targets[i], i < sequence->targets ? token + 1 : -1);
    }
}

static void check_streams(struct fixture *fixture, int64_t length, int64_t streams)
{
    struct corpus *corpus = open_documents(fixture);
    struct sampler sampler;
    open_sampler(fixture, corpus, SAMPLING_STREAM, 5, length, streams, &sampler);
    int64_t windows = 0;
    for (int i = 0; i < DOCUMENTS; i++)
        windows += (document_lengths[i] - 1 + length - 1) / length;
    assert_int_equal(sampler.windows, windows);
    int seen[DOCUMENTS][32] = {0};
    struct sequence end = {.document = -1}; /* of the stream before */
    for (int64_t stream = 0; stream < streams; stream++) {
        int64_t share = windows / streams + (stream < windows % streams);
        struct sequence first = {0};
        struct sequence previous = {0};
        for (int64_t step = 0; step < 2 * share + 1; step++) {
            struct sequence sequence;
            check_stream_window(&sampler, step * streams + stream, &sequence);
            if (share == 0) {
                struct sequence same;
                check_stream_window(&sampler, stream % windows, &same);
                assert_int_equal(sequence.document, same.document);
                assert_int_equal(sequence.position, same.position);
            }
            bool again = share == 0 || step % share == 0;
            assert_int_equal(sequence.reset, again || sequence.position == 0);
            if (!sequence.reset) {
                assert_int_equal(sequence.document, previous.document);
                assert_int_equal(sequence.position, previous.position + length);
            } else if (!again) {
                /* The document before was read to its end. */
                assert_true(previous.position + previous.targets == document_lengths[previous.document] - 1);
            }
            if (step == 0) {
                first = sequence;
                if (sequence.position > 0 && share > 0)
                    assert_int_equal(sequence.document, end.document);
            } else if (again) {
                assert_int_equal(sequence.document, first.document);
                assert_int_equal(sequence.position, first.position);
            }
            if (step < share)
                assert_int_equal(seen[sequence.document][sequence.position]++, 0);
            previous = sequence;
            if (step == share - 1)
                end = sequence;
        }
    }
    int64_t total = 0;
    for (int i = 0; i < DOCUMENTS; i++)
        for (int j = 0; j < 32; j++)
            total += seen[i][j];
    assert_int_equal(total, windows);
    sampler_destroy(&sampler);
    corpus_close(&corpus);
}

static void test_streams(void **state)
{
    static const int64_t lengths[] = {1, 4, 7, 29, 64};
    static const int64_t streams[] = {1, 2, 3, 5, 8, 40, 100};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        for (size_t j = 0; j < sizeof streams / sizeof *streams; j++)
            check_streams(*state, lengths[i], streams[j]);
}

/* One stream reads each document once and whole, in an order that the seed changes. */
static void test_stream_order(void **state)
{
    struct fixture *fixture = *state;
    struct corpus *corpus = open_documents(fixture);
    int64_t orders[2][DOCUMENTS] = {{0}};
    for (int seed = 0; seed < 2; seed++) {
        struct sampler sampler;
        int documents = 0;
        open_sampler(fixture, corpus, SAMPLING_STREAM, (uint64_t)seed, 4, 1, &sampler);
        for (int64_t i = 0; i < sampler.windows; i++) {
            struct sequence sequence;
            check_stream_window(&sampler, i, &sequence);
            if (sequence.reset)
                orders[seed][documents++] = sequence.document;
        }
        assert_int_equal(documents, DOCUMENTS - 2);
        sampler_destroy(&sampler);
    }
    assert_memory_not_equal(orders[0], orders[1], sizeof orders[0]);
    corpus_close(&corpus);
}

static void test_evaluation(void **state)
{
    struct fixture *fixture = *state;
    static const int64_t lengths[] = {1, 7, 50, 99, 100, 101, 200};
    struct corpus *corpus = open_counted(fixture, 101);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        int64_t length = lengths[i];
        int64_t next = 1;
        assert_int_equal(corpus_windows(corpus, length), (100 + length - 1) / length);
        for (int64_t j = 0; j < corpus_windows(corpus, length); j++) {
            int32_t inputs[MOST];
            int32_t targets[MOST];
            int64_t count = 0;
            corpus_window(corpus, length, j, inputs, targets, &count);
            assert_in_range(count, 1, length);
            for (int64_t k = 0; k < length; k++) {
                assert_int_equal(targets[k], k < count ? next + k : -1);
                assert_int_equal(inputs[k], k < count ? next + k - 1 : 0);
            }
            next += count;
        }
        assert_int_equal(next, 101);
    }
    corpus_close(&corpus);
}

#define DATA_TEST(function) cmocka_unit_test_setup_teardown(function, fixture_create, fixture_destroy)

int main(void)
{
    const struct CMUnitTest tests[] = {
        DATA_TEST(test_bytes),
        DATA_TEST(test_nanogpt),
        DATA_TEST(test_llmc),
        DATA_TEST(test_megatron),
        DATA_TEST(test_auto),
        DATA_TEST(test_parts),
        DATA_TEST(test_errors_of_files),
        DATA_TEST(test_errors_of_permission),
        DATA_TEST(test_errors_of_llmc),
        DATA_TEST(test_errors_of_megatron),
        DATA_TEST(test_errors_of_tokens),
        DATA_TEST(test_errors_of_samplers),
        DATA_TEST(test_damaged_index),
        DATA_TEST(test_shuffle),
        DATA_TEST(test_same_sequence),
        DATA_TEST(test_shuffle_documents),
        DATA_TEST(test_streams),
        DATA_TEST(test_stream_order),
        DATA_TEST(test_evaluation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
