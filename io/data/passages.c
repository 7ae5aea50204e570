/* The passages that an evaluation reads a corpus in. */
#include "io/data/corpus_files.h"

#include "src/core/integer.h"

/* Tokens of which each but the first is a target. */
static int64_t passages_in(int64_t tokens, int64_t length)
{
    return tokens < 2 ? 0 : (tokens - 2) / length + 1;
}

static struct range document_range(const struct corpus *corpus, int64_t document)
{
    int64_t begin = corpus->documents[document];
    int64_t end = document + 1 < corpus->document_count ? corpus->documents[document + 1] : corpus->tokens;
    return (struct range){.begin = begin, .count = end - begin};
}

enum status corpus_passages_create(struct context *context, const struct corpus *corpus, enum data_sampling sampling,
                                   int64_t length, struct corpus_passages *passages)
{
    *passages = (struct corpus_passages){.corpus = corpus, .length = length};
    if (sampling == SAMPLING_SHUFFLE) {
        passages->count = passages_in(corpus->tokens, length);
        passages->longest = integer_min(length, integer_max(corpus->tokens - 1, 0));
        return STATUS_OK;
    }
    size_t bytes = (size_t)(corpus->document_count + 1) * sizeof *passages->before;
    passages->before = memory_allocate(context, bytes, MEMORY_OTHER);
    if (!passages->before)
        return STATUS_MEMORY;
    for (int64_t document = 0; document < corpus->document_count; document++) {
        int64_t tokens = document_range(corpus, document).count;
        passages->before[document] = passages->count;
        passages->count += passages_in(tokens, length);
        passages->longest = integer_max(passages->longest, integer_min(length, tokens - 1));
    }
    passages->before[corpus->document_count] = passages->count;
    return STATUS_OK;
}

void corpus_passages_destroy(struct corpus_passages *passages)
{
    if (passages->before)
        memory_free(passages->corpus->context, passages->before);
    *passages = (struct corpus_passages){0};
}

struct range corpus_passage(const struct corpus_passages *passages, int64_t index)
{
    const struct corpus *corpus = passages->corpus;
    struct range whole = {.begin = 0, .count = corpus->tokens};
    if (passages->before) {
        int64_t document = search_last_not_above(passages->before, corpus->document_count, index);
        whole = document_range(corpus, document);
        index -= passages->before[document];
    }
    int64_t begin = index * passages->length;
    return (struct range){.begin = whole.begin + begin,
                          .count = integer_min(passages->length, whole.count - 1 - begin)};
}
