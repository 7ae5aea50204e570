/* The contexts that an evaluation reads a corpus in. */
#include "io/data/corpus_files.h"

#include "src/core/integer.h"

/* Tokens of which each but the first is a target. */
static int64_t contexts_in(int64_t tokens, int64_t length)
{
    return tokens < 2 ? 0 : (tokens - 2) / length + 1;
}

static struct range document_range(const struct corpus *corpus, int64_t document)
{
    int64_t begin = corpus->documents[document];
    int64_t end = document + 1 < corpus->document_count ? corpus->documents[document + 1] : corpus->tokens;
    return (struct range){.begin = begin, .count = end - begin};
}

enum status corpus_contexts_create(struct context *context, const struct corpus *corpus, enum data_sampling sampling,
                                   int64_t length, struct corpus_contexts *contexts)
{
    *contexts = (struct corpus_contexts){.corpus = corpus, .length = length};
    if (sampling == SAMPLING_SHUFFLE) {
        contexts->count = contexts_in(corpus->tokens, length);
        contexts->longest = integer_min(length, integer_max(corpus->tokens - 1, 0));
        return STATUS_OK;
    }
    size_t bytes = (size_t)(corpus->document_count + 1) * sizeof *contexts->before;
    contexts->before = memory_allocate(context, bytes, MEMORY_OTHER);
    if (!contexts->before)
        return STATUS_MEMORY;
    for (int64_t document = 0; document < corpus->document_count; document++) {
        int64_t tokens = document_range(corpus, document).count;
        contexts->before[document] = contexts->count;
        contexts->count += contexts_in(tokens, length);
        contexts->longest = integer_max(contexts->longest, integer_min(length, tokens - 1));
    }
    contexts->before[corpus->document_count] = contexts->count;
    return STATUS_OK;
}

void corpus_contexts_destroy(struct corpus_contexts *contexts)
{
    if (contexts->before)
        memory_free(contexts->corpus->context, contexts->before);
    *contexts = (struct corpus_contexts){0};
}

struct range corpus_context(const struct corpus_contexts *contexts, int64_t index)
{
    const struct corpus *corpus = contexts->corpus;
    struct range whole = {.begin = 0, .count = corpus->tokens};
    if (contexts->before) {
        int64_t document = search_last_not_above(contexts->before, corpus->document_count, index);
        whole = document_range(corpus, document);
        index -= contexts->before[document];
    }
    int64_t begin = index * contexts->length;
    return (struct range){.begin = whole.begin + begin,
                          .count = integer_min(contexts->length, whole.count - 1 - begin)};
}
