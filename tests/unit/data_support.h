/* What the tests of corpora and samplers share: a folder of their own, writers of every format, readers. */
#ifndef CAIRN_TESTS_UNIT_DATA_SUPPORT_H
#define CAIRN_TESTS_UNIT_DATA_SUPPORT_H

#include "tests/support/support.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/data/data.h"
#include "src/core/integer.h"

enum { DELIMITER = 50256, GPT2_VOCABULARY = 50257, MOST = 512 };

struct fixture {
    struct context context;
    char folder[64];
    char path[256];
};

static inline int fixture_create(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    *state = fixture;
    if (!fixture)
        return -1;
    context_create(&fixture->context);
    strcpy(fixture->folder, "/tmp/test_data_XXXXXX");
    return mkdtemp(fixture->folder) ? 0 : -1;
}

static inline int fixture_destroy(void **state)
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

static inline const char *path_of(struct fixture *fixture, const char *name)
{
    snprintf(fixture->path, sizeof fixture->path, "%s/%s", fixture->folder, name);
    return fixture->path;
}

static inline void write_file(struct fixture *fixture, const char *name, const void *bytes, size_t count)
{
    FILE *file = fopen(path_of(fixture, name), "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, count, file), count);
    assert_int_equal(fclose(file), 0);
}

static inline struct text_list files_of(struct fixture *fixture, int count, const char *const *names)
{
    struct text_list files = {.count = count};
    for (int i = 0; i < count; i++)
        snprintf(files.item[i], sizeof files.item[i], "%s", path_of(fixture, names[i]));
    return files;
}

static inline enum status open_status(struct fixture *fixture, const char *name, enum data_format format,
                                      int64_t vocabulary)
{
    struct corpus *corpus = NULL;
    struct text_list files = files_of(fixture, 1, &name);
    enum status status = corpus_open(&fixture->context, &files, format, vocabulary, 0, 1, &corpus);
    corpus_close(&corpus);
    return status;
}

static inline struct corpus *open_part(struct fixture *fixture, int count, const char *const *names,
                                       enum data_format format, int64_t vocabulary, double begin, double end)
{
    struct corpus *corpus = NULL;
    struct text_list files = files_of(fixture, count, names);
    assert_ok(&fixture->context, corpus_open(&fixture->context, &files, format, vocabulary, begin, end, &corpus));
    return corpus;
}

static inline struct corpus *open_one(struct fixture *fixture, const char *name, enum data_format format,
                                      int64_t vocabulary)
{
    return open_part(fixture, 1, &name, format, vocabulary, 0, 1);
}

static inline void open_sampler(struct fixture *fixture, const struct corpus *corpus, enum data_sampling sampling,
                                uint64_t seed, int64_t length, int64_t streams, struct sampler *sampler)
{
    struct data_config config = {.sampling = sampling, .seed = seed};
    assert_ok(&fixture->context, sampler_create(&fixture->context, corpus, &config, length, streams, sampler));
}

/* All tokens of a corpus by way of its evaluation windows. */
static inline void read_corpus(const struct corpus *corpus, int32_t *tokens)
{
    int64_t length = corpus_tokens(corpus) - 1;
    assert_in_range(length, 1, MOST - 1);
    (void)corpus_part(corpus, 0, length, length, tokens, NULL);
    int32_t targets[MOST];
    assert_int_equal(corpus_part(corpus, 0, length, length, NULL, targets), length);
    tokens[length] = targets[length - 1];
}

/* The tokens, and the lengths of the documents in order as a stream that reads everything shows them. */
static inline void check_corpus(struct fixture *fixture, struct corpus *corpus, const int32_t *tokens, int64_t count,
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

/* -- Writers of the formats -- */

static inline void write_uint16(struct fixture *fixture, const char *name, const int32_t *tokens, int64_t count)
{
    uint16_t values[MOST];
    for (int64_t i = 0; i < count; i++)
        values[i] = (uint16_t)tokens[i];
    write_file(fixture, name, values, (size_t)count * sizeof *values);
}

static inline void write_llmc(struct fixture *fixture, const char *name, int32_t magic, int32_t version,
                              int32_t counted, int size, const int32_t *tokens, int64_t count)
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

static inline void index_put(struct index *index, const void *bytes, size_t count)
{
    memcpy(index->bytes + index->count, bytes, count);
    index->count += count;
}

static inline struct index index_build(unsigned char code, uint64_t sequences, const int32_t *lengths,
                                       const int64_t *pointers, uint64_t entries, const int64_t *documents)
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
static inline struct index write_megatron(struct fixture *fixture, unsigned char code, int64_t size,
                                          const int64_t *tokens)
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

#define DATA_TEST(function) cmocka_unit_test_setup_teardown(function, fixture_create, fixture_destroy)

#endif
