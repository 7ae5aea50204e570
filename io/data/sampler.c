/* Which windows of a corpus a run sees, and when. */
#include "io/data/corpus_files.h"

#include "src/core/integer.h"
#include "src/core/random.h"

#include <inttypes.h>

static uint64_t epoch_bits(const struct sampler *sampler, const char *purpose, int64_t epoch)
{
    return random_bits(random_key(sampler->seed, purpose), (uint64_t)epoch);
}

static int64_t document_begin(const struct corpus *corpus, int64_t document)
{
    return document < corpus->document_count ? corpus->documents[document] : corpus->tokens;
}

/* Windows never cross a document's end, and each needs a token that follows its first. */
static int64_t document_windows(const struct corpus *corpus, int64_t document, int64_t length)
{
    int64_t tokens = document_begin(corpus, document + 1) - document_begin(corpus, document);
    return tokens < 2 ? 0 : (tokens - 2) / length + 1;
}

/* The document that is read as number `place` of an epoch. */
static int64_t document_in_order(const struct sampler *sampler, int64_t place)
{
    return random_permute(random_key(sampler->seed, "data.documents"), place, sampler->corpus->document_count);
}

static enum status shuffle_create(struct context *context, struct sampler *sampler)
{
    const struct corpus *corpus = sampler->corpus;
    int64_t targets = corpus->tokens - 1;
    if (targets < sampler->length)
        return context_fail(context, STATUS_FILE,
                            "%s: the corpus has %" PRId64 " tokens where one sequence needs %" PRId64
                            "; use more text or a smaller training.sequence_length",
                            corpus->files[0].path, corpus->tokens, sampler->length + 1);
    sampler->shifts = integer_min(sampler->length, targets - sampler->length + 1);
    sampler->windows = (targets - (sampler->shifts - 1)) / sampler->length;
    return STATUS_OK;
}

static enum status stream_create(struct context *context, struct sampler *sampler)
{
    const struct corpus *corpus = sampler->corpus;
    int64_t documents = corpus->document_count;
    sampler->window_begin = memory_allocate(context, (size_t)(documents + 1) * sizeof(int64_t), MEMORY_OTHER);
    if (!sampler->window_begin)
        return STATUS_MEMORY;
    for (int64_t place = 0; place < documents; place++) {
        int64_t windows = document_windows(corpus, document_in_order(sampler, place), sampler->length);
        sampler->window_begin[place + 1] = sampler->window_begin[place] + windows;
    }
    sampler->windows = sampler->window_begin[documents];
    if (sampler->windows < 1) {
        sampler_destroy(sampler);
        return context_fail(context, STATUS_FILE,
                            "%s: the corpus has %" PRId64 " tokens in %" PRId64
                            " documents, none with the 2 tokens that a sequence needs; use longer documents",
                            corpus->files[0].path, corpus->tokens, documents);
    }
    return STATUS_OK;
}

enum status sampler_create(struct context *context, const struct corpus *corpus, const struct data_config *config,
                           int64_t length, int64_t streams, struct sampler *sampler)
{
    *sampler = (struct sampler){
        .corpus = corpus,
        .sampling = config->sampling,
        .seed = config->seed,
        .length = length,
        .streams = streams,
    };
    if (length < 1 || streams < 1)
        return context_fail(context, STATUS_INTERNAL, "sampler_create: length %" PRId64 ", streams %" PRId64, length,
                            streams);
    return config->sampling == SAMPLING_STREAM ? stream_create(context, sampler) : shuffle_create(context, sampler);
}

void sampler_destroy(struct sampler *sampler)
{
    if (sampler->window_begin)
        memory_free(sampler->corpus->context, sampler->window_begin);
    sampler->window_begin = NULL;
}

/* Returns the sequence's first token. */
static int64_t shuffle_sequence(const struct sampler *sampler, int64_t index, struct sequence *sequence)
{
    const struct corpus *corpus = sampler->corpus;
    int64_t epoch = index / sampler->windows;
    int64_t shift = (int64_t)(epoch_bits(sampler, "data.shift", epoch) % (uint64_t)sampler->shifts);
    int64_t window =
        random_permute(epoch_bits(sampler, "data.windows", epoch), index % sampler->windows, sampler->windows);
    int64_t begin = shift + window * sampler->length;
    sequence->document = corpus_document_at(corpus, begin);
    sequence->position = begin - document_begin(corpus, sequence->document);
    sequence->reset = true;
    sequence->valid = sampler->length;
    return begin;
}

static int64_t stream_sequence(const struct sampler *sampler, int64_t index, struct sequence *sequence)
{
    const struct corpus *corpus = sampler->corpus;
    struct range share = range_partition(sampler->windows, sampler->streams, sequence->stream);
    if (share.count == 0)
        share = (struct range){.begin = sequence->stream % sampler->windows, .count = 1};
    int64_t step = index / sampler->streams % share.count;
    int64_t window = share.begin + step;
    int64_t place = search_last_not_above(sampler->window_begin, corpus->document_count, window);
    int64_t window_of_document = window - sampler->window_begin[place];
    sequence->document = document_in_order(sampler, place);
    sequence->position = window_of_document * sampler->length;
    sequence->reset = window_of_document == 0 || step == 0;
    int64_t begin = document_begin(corpus, sequence->document) + sequence->position;
    sequence->valid = integer_min(sampler->length, document_begin(corpus, sequence->document + 1) - 1 - begin);
    return begin;
}

/* Describes a sequence and returns its first token. */
static int64_t sequence_find(const struct sampler *sampler, int64_t index, struct sequence *sequence)
{
    *sequence = (struct sequence){.stream = index % sampler->streams};
    return sampler->sampling == SAMPLING_STREAM ? stream_sequence(sampler, index, sequence)
                                                : shuffle_sequence(sampler, index, sequence);
}

void sampler_sequence(const struct sampler *sampler, int64_t index, int32_t *inputs, int32_t *targets,
                      struct sequence *sequence)
{
    int64_t begin = sequence_find(sampler, index, sequence);
    sequence->targets = corpus_part(sampler->corpus, begin, sequence->valid, sampler->length, inputs, targets);
}

void sampler_announce(const struct sampler *sampler, int64_t index)
{
    struct sequence sequence;
    int64_t begin = sequence_find(sampler, index, &sequence);
    corpus_announce(sampler->corpus, begin, sequence.valid + 1);
}
