/* Samplers and evaluation windows: which tokens a run sees in which order. */
#include "tests/unit/data_support.h"

#include <math.h>

/* -- Order -- */

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
            sampler_announce(&sampler, index);
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
        struct corpus_passages passages;
        assert_ok(&fixture->context,
                  corpus_passages_create(&fixture->context, corpus, SAMPLING_SHUFFLE, length, &passages));
        assert_int_equal(passages.count, (100 + length - 1) / length);
        assert_int_equal(passages.longest, integer_min(length, 100));
        for (int64_t j = 0; j < passages.count; j++) {
            int32_t inputs[MOST];
            int32_t targets[MOST];
            int64_t count = integer_min(length, 100 - j * length);
            struct range passage = corpus_passage(&passages, j);
            assert_int_equal(passage.begin, j * length);
            assert_int_equal(passage.count, count);
            assert_int_equal(corpus_part(corpus, passage.begin, count, length, inputs, targets), count);
            for (int64_t k = 0; k < length; k++) {
                assert_int_equal(targets[k], k < count ? next + k : -1);
                assert_int_equal(inputs[k], k < count ? next + k - 1 : 0);
            }
            next += count;
        }
        assert_int_equal(next, 101);
        corpus_passages_destroy(&passages);
    }
    corpus_close(&corpus);
}

/* Where training reads documents apart, so does an evaluation: no first token of a document is a target. */
static void test_evaluation_documents(void **state)
{
    struct fixture *fixture = *state;
    static const int64_t tokens[] = {1, 2, 10, 25, 1, 9};
    const char *names[] = {"a", "b", "c", "d", "e", "f"};
    for (int i = 0; i < 6; i++) {
        char text[32];
        memset(text, 'a' + i, sizeof text);
        text[0] = 'A';
        write_file(fixture, names[i], text, (size_t)tokens[i]);
    }
    struct corpus *corpus = open_part(fixture, 6, names, DATA_BYTES, 256, 0, 1);
    static const struct {
        int64_t length, count, longest;
    } cases[] = {{8, 0 + 1 + 2 + 3 + 0 + 1, 8}, {24, 4, 24}, {1000, 4, 24}, {1, 1 + 9 + 24 + 8, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct corpus_passages passages;
        int64_t length = cases[i].length;
        int64_t targets_counted = 0;
        assert_ok(&fixture->context,
                  corpus_passages_create(&fixture->context, corpus, SAMPLING_STREAM, length, &passages));
        assert_int_equal(passages.count, cases[i].count);
        assert_int_equal(passages.longest, cases[i].longest);
        for (int64_t j = 0; j < passages.count; j++) {
            int32_t inputs[1000];
            int32_t targets[1000];
            struct range passage = corpus_passage(&passages, j);
            assert_in_range(passage.count, 1, length);
            targets_counted += corpus_part(corpus, passage.begin, passage.count, length, inputs, targets);
            for (int64_t k = 0; k < passage.count; k++) {
                assert_int_not_equal(targets[k], 'A');
                assert_true(inputs[k] == targets[k] || inputs[k] == 'A');
            }
            assert_true(inputs[0] == 'A' || j > 0);
        }
        assert_int_equal(targets_counted, 1 + 9 + 24 + 8);
        corpus_passages_destroy(&passages);
    }
    corpus_close(&corpus);
}

/* -- Shares -- */

/* At every place each set has given what its share says, to one; in the order in which Megatron takes them. */
static void test_shares(void **state)
{
    static const double cases[][4] = {{0.7, 0.3}, {1, 1, 1}, {5, 3, 1, 0.1}, {1}, {0.999, 0.001}, {2, 7, 11, 0.5}};
    static const int counts[] = {2, 3, 4, 1, 2, 4};
    static const int first[] = {0, 1, 0, 0, 1, 0, 0, 1, 0, 0}; /* of 0.7 and 0.3, by build_blending_indices */
    struct fixture *fixture = *state;
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        struct blend blend;
        int64_t taken[4] = {0};
        double sum = 0.0;
        double limit = counts[c] < 4 ? 1.0 : 1.022; /* as far as the rule lets one of these four fall behind */
        for (int i = 0; i < counts[c]; i++)
            sum += cases[c][i];
        assert_ok(&fixture->context, blend_create(&fixture->context, cases[c], counts[c], &blend));
        for (int64_t index = 0; index < 5000; index++) {
            int64_t place = -1;
            int set = blend_at(&blend, index, &place);
            assert_int_equal(place, taken[set]++);
            if (c == 0 && index < 10)
                assert_int_equal(set, first[index]);
            for (int i = 0; i < counts[c]; i++)
                if (fabs((double)taken[i] - cases[c][i] / sum * (double)(index + 1)) > limit)
                    fail_msg("case %zu: set %d has given %lld of %lld", c, i, (long long)taken[i],
                             (long long)index + 1);
        }
        /* Going back and jumping ahead changes nothing. */
        int64_t place;
        int64_t again;
        int set = blend_at(&blend, 4321, &place);
        (void)blend_at(&blend, 17, &again);
        assert_int_equal(blend_at(&blend, 4321, &again), set);
        assert_int_equal(again, place);
        blend_destroy(&blend);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DATA_TEST(test_shuffle),
        DATA_TEST(test_same_sequence),
        DATA_TEST(test_shuffle_documents),
        DATA_TEST(test_streams),
        DATA_TEST(test_shares),
        DATA_TEST(test_stream_order),
        DATA_TEST(test_evaluation),
        DATA_TEST(test_evaluation_documents),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
