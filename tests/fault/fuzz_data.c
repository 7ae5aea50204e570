/* Any bytes as a corpus of any format: opening refuses or accepts, and what it accepts can be drawn in both orders.
 * The first byte chooses the format, the second the vocabulary, the third and fourth the part, the fifth the length
 * of a sequence, the sixth where the rest is cut into an index and its tokens. */
#include "io/data/data.h"
#include "src/core/integer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { CHOICES = 6, LENGTH_MOST = 16, DRAWS = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count);

static void file_write(const char *path, const uint8_t *bytes, size_t count)
{
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(bytes, 1, count, file) != count || fclose(file) != 0)
        abort();
}

static void require(bool holds)
{
    if (!holds)
        abort();
}

/* Of samples only some targets count. */
static void tokens_check(const int32_t *inputs, const int32_t *targets, int64_t length, int64_t count,
                         int64_t vocabulary)
{
    for (int64_t i = 0; i < length; i++) {
        require(inputs[i] >= 0 && inputs[i] < vocabulary);
        require(targets[i] == -1 || (i < count && targets[i] >= 0 && targets[i] < vocabulary));
        require(i == 0 || i >= count || targets[i - 1] == -1 || inputs[i] == targets[i - 1]);
    }
}

static void corpus_draw(struct context *context, const struct corpus *corpus, int64_t length, int64_t vocabulary)
{
    int32_t inputs[LENGTH_MOST];
    int32_t targets[LENGTH_MOST];
    for (int sampling = SAMPLING_SHUFFLE; sampling <= SAMPLING_STREAM; sampling++) {
        struct corpus_passages passages;
        if (corpus_passages_create(context, corpus, (enum data_sampling)sampling, length, &passages) != STATUS_OK)
            abort();
        for (int64_t i = 0; i < passages.count; i += 1 + passages.count / DRAWS) {
            struct range part = corpus_passage(&passages, i);
            int64_t target_count = corpus_part(corpus, part.begin, part.count, length, inputs, targets);
            require(part.count >= 1 && target_count >= 0 && target_count <= part.count);
            tokens_check(inputs, targets, length, part.count, vocabulary);
        }
        corpus_passages_destroy(&passages);
    }
    for (int sampling = SAMPLING_SHUFFLE; sampling <= SAMPLING_STREAM; sampling++) {
        struct data_config config = {.sampling = (enum data_sampling)sampling, .seed = (uint64_t)length};
        struct sampler sampler;
        if (sampler_create(context, corpus, &config, length, 3, &sampler) != STATUS_OK) {
            require(context->status == STATUS_FILE);
            context_clear(context);
            continue;
        }
        for (int64_t i = 0; i < DRAWS; i++) {
            struct sequence sequence;
            sampler_sequence(&sampler, i * i, inputs, targets, &sequence);
            require(sequence.document >= 0 && sequence.document < corpus_documents(corpus));
            require(sequence.position >= 0 && sequence.position < corpus_tokens(corpus));
            require(sequence.valid >= 1 && sequence.valid <= length);
            require(sequence.targets >= 0 && sequence.targets <= sequence.valid);
            tokens_check(inputs, targets, length, sequence.valid, vocabulary);
        }
        sampler_destroy(&sampler);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    static const char *const names[] = {"corpus.bin", "corpus.txt", "pair.idx"};
    static const int64_t vocabularies[] = {1, 100, 256, 50257, 65536, 128256, INT32_MAX};
    if (count < CHOICES)
        return 0;
    enum data_format format = (enum data_format)(bytes[0] % 5);
    int64_t vocabulary = vocabularies[bytes[1] % 7];
    double part_begin = bytes[2] / 256.0;
    double part_end = part_begin + (1 - part_begin) * (bytes[3] + 1) / 256.0;
    int64_t length = 1 + bytes[4] % LENGTH_MOST;
    const char *name = format == DATA_MEGATRON ? names[2] : names[bytes[0] / 5 % 3];
    size_t rest = count - CHOICES;
    size_t split = rest * bytes[5] / 255;

    char folder[] = "/dev/shm/fuzz_data_XXXXXX";
    if (!mkdtemp(folder))
        abort();
    char index[64];
    char tokens[64];
    struct text_list files = {.count = 1};
    snprintf(files.item[0], sizeof files.item[0], "%s/%s", folder, name);
    snprintf(index, sizeof index, "%s/pair.idx", folder);
    snprintf(tokens, sizeof tokens, "%s/pair.bin", folder);
    bool pair = name == names[2];
    file_write(pair ? index : files.item[0], bytes + CHOICES, pair ? split : rest);
    if (pair)
        file_write(tokens, bytes + CHOICES + split, rest - split);

    struct context context;
    struct corpus *corpus = NULL;
    context_create(&context);
    if (corpus_open(&context, &files, format, vocabulary, part_begin, part_end, &corpus) == STATUS_OK)
        corpus_draw(&context, corpus, length, vocabulary);
    else
        require(context.status == STATUS_FILE && strstr(context.text, folder));
    corpus_close(&corpus);
    require(context.memory.bytes_total == 0);
    remove(files.item[0]);
    remove(index);
    remove(tokens);
    rmdir(folder);
    return 0;
}
