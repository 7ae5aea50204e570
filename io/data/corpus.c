/* A corpus: its files one behind the other, cut to a part, and where its documents begin. */
#include "io/data/corpus_files.h"

#include "src/core/integer.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SCAN_TOKENS = 4096 };

int64_t search_last_not_above(const int64_t *values, int64_t count, int64_t value)
{
    int64_t low = 0;
    int64_t high = count;
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        if (values[middle] <= value)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static const struct token_span *span_at(const struct corpus_file *file, int64_t token)
{
    int64_t low = 0;
    int64_t high = file->span_count;
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        if (file->spans[middle].begin <= token)
            low = middle;
        else
            high = middle;
    }
    return &file->spans[low];
}

enum status corpus_add_document(struct corpus *corpus, const struct corpus_file *file, int64_t token)
{
    int64_t begin = file->begin + integer_max(token - file->first, 0);
    bool empty = corpus->document_count > 0 && corpus->documents[corpus->document_count - 1] == begin;
    if (begin >= file->begin + file->count || empty)
        return STATUS_OK;
    if (corpus->document_count == corpus->document_capacity) {
        int64_t capacity = integer_max(2 * corpus->document_capacity, 64);
        int64_t *documents = memory_allocate(corpus->context, (size_t)capacity * sizeof *documents, MEMORY_OTHER);
        if (!documents)
            return STATUS_MEMORY;
        if (corpus->document_count > 0)
            memcpy(documents, corpus->documents, (size_t)corpus->document_count * sizeof *documents);
        memory_free(corpus->context, corpus->documents);
        corpus->documents = documents;
        corpus->document_capacity = capacity;
    }
    corpus->documents[corpus->document_count++] = begin;
    return STATUS_OK;
}

static enum status token_refuse(const struct corpus *corpus, const struct corpus_file *file,
                                const struct token_span *span, int64_t begin, const int32_t *tokens)
{
    int64_t place = begin;
    while (tokens[place - begin] >= 0)
        place++;
    return context_fail(corpus->context, STATUS_FILE,
                        "%s: token %" PRId64 " is %" PRId64 ", but the vocabulary has %" PRId64
                        " tokens; set model.vocabulary to that of the tokenizer, or check data.format",
                        file->path, span->begin + place,
                        token_value(span->kind, span->address + place * token_bytes(span->kind)), corpus->vocabulary);
}

/* Checks the tokens of a span that belong to the part and notes the documents that its delimiters begin. */
static enum status span_scan(struct corpus *corpus, const struct corpus_file *file, const struct token_span *span)
{
    int32_t tokens[SCAN_TOKENS];
    bool delimited = file->delimiter_place != DELIMITER_NONE;
    int64_t before = span->begin; /* tokens of the file in front of the span */
    struct range part = range_intersect((struct range){.begin = before, .count = span->count},
                                        (struct range){.begin = file->first, .count = file->count});
    if (!delimited && span->kind == TOKEN_UINT8 && corpus->vocabulary > UINT8_MAX)
        return STATUS_OK;
    for (int64_t i = part.begin - before; i < part.begin - before + part.count; i += SCAN_TOKENS) {
        int64_t count = integer_min(SCAN_TOKENS, part.begin - before + part.count - i);
        tokens_decode(span->kind, span->address + i * token_bytes(span->kind), count, corpus->vocabulary, tokens);
        int32_t signs = 0;
        bool found = false;
        for (int64_t j = 0; j < count; j++) {
            signs |= tokens[j];
            found |= tokens[j] == file->delimiter;
        }
        if (signs < 0)
            return token_refuse(corpus, file, span, i, tokens);
        for (int64_t j = 0; delimited && found && j < count; j++)
            if (tokens[j] == file->delimiter)
                CHECK(corpus_add_document(corpus, file, before + i + j + (file->delimiter_place == DELIMITER_LAST)));
    }
    return STATUS_OK;
}

enum status corpus_scan(struct corpus *corpus)
{
    for (int i = 0; i < corpus->file_count; i++) {
        struct corpus_file *file = &corpus->files[i];
        if (file->count == 0)
            continue;
        if (file->index.mapping.address)
            CHECK(megatron_add_documents(corpus, file));
        else if (file->sample_length > 0)
            CHECK(samples_add_documents(corpus, file));
        else
            CHECK(corpus_add_document(corpus, file, file->first));
        posix_madvise((void *)file->mapping.address, (size_t)file->mapping.bytes, POSIX_MADV_SEQUENTIAL);
        for (int64_t j = 0; j < file->span_count; j++)
            CHECK(span_scan(corpus, file, &file->spans[j]));
        posix_madvise((void *)file->mapping.address, (size_t)file->mapping.bytes, POSIX_MADV_NORMAL);
        mapping_close(&file->index.mapping);
    }
    return STATUS_OK;
}

/* Behind this share of a file's tokens; samples stay whole. */
static int64_t cut_token(const struct corpus_file *file, double part)
{
    int64_t token = (int64_t)floor(part * (double)file->count);
    return file->sample_length > 0 ? token - token % file->sample_length : token;
}

/* Each file by itself, so that every part has some of all of them. */
static enum status corpus_cut(struct corpus *corpus, double part_begin, double part_end)
{
    int64_t total = 0;
    for (int i = 0; i < corpus->file_count; i++) {
        struct corpus_file *file = &corpus->files[i];
        int64_t end = cut_token(file, part_end);
        total += file->count;
        file->first = cut_token(file, part_begin);
        file->count = end - file->first;
        file->begin = corpus->tokens;
        corpus->tokens += file->count;
    }
    if (corpus->tokens < 1)
        return context_fail(corpus->context, STATUS_FILE,
                            "%s: the part from %g to %g of %" PRId64
                            " tokens is empty; use more text or change data.validation_fraction",
                            corpus->files[0].path, part_begin, part_end, total);
    return STATUS_OK;
}

static enum status files_open(struct corpus *corpus, const struct corpus_names *names, enum data_format format)
{
    struct context *context = corpus->context;
    corpus->files = memory_allocate(context, (size_t)names->count * sizeof *corpus->files, MEMORY_OTHER);
    if (!corpus->files)
        return STATUS_MEMORY;
    for (int i = 0; i < names->count; i++) {
        struct corpus_file *file = &corpus->files[corpus->file_count++];
        CHECK(corpus_file_open(context, names->name[i], format, corpus->vocabulary, file));
        if (corpus->end_of_text < 0 || file->index.mapping.address || file->sample_length > 0)
            continue;
        file->delimiter = (int32_t)corpus->end_of_text;
        if (file->delimiter_place == DELIMITER_NONE)
            file->delimiter_place = DELIMITER_LAST;
    }
    return STATUS_OK;
}

enum status corpus_map(struct context *context, const struct text_list *files, enum data_format format,
                       int64_t vocabulary, int64_t end_of_text, double part_begin, double part_end,
                       struct corpus **corpus)
{
    enum status status = STATUS_OK;
    struct corpus *opened = NULL;
    struct corpus_names names = {0};
    *corpus = NULL;
    if (files->count < 1)
        return context_fail(context, STATUS_USAGE, "no token file is named; set data.train");
    if (vocabulary < 1 || !(part_begin >= 0 && part_begin < part_end && part_end <= 1))
        return context_fail(context, STATUS_INTERNAL, "corpus_open: vocabulary %" PRId64 ", part %g to %g", vocabulary,
                            part_begin, part_end);
    TRY(corpus_names_create(context, files, &names));
    opened = memory_allocate(context, sizeof *opened, MEMORY_OTHER);
    status = opened ? STATUS_OK : STATUS_MEMORY;
    TRY(status);
    opened->context = context;
    opened->vocabulary = integer_min(vocabulary, INT64_C(1) << 31);
    opened->end_of_text = end_of_text;
    TRY(files_open(opened, &names, format));
    TRY(corpus_cut(opened, part_begin, part_end));
    *corpus = opened;
    opened = NULL;
done:
    corpus_names_destroy(context, &names);
    corpus_close(&opened);
    return status;
}

enum status corpus_open_with(struct context *context, const struct text_list *files, enum data_format format,
                             int64_t vocabulary, int64_t end_of_text, double part_begin, double part_end,
                             struct corpus **corpus)
{
    CHECK(corpus_map(context, files, format, vocabulary, end_of_text, part_begin, part_end, corpus));
    enum status status = corpus_scan(*corpus);
    if (status != STATUS_OK)
        corpus_close(corpus);
    return status;
}

enum status corpus_open(struct context *context, const struct text_list *files, enum data_format format,
                        int64_t vocabulary, double part_begin, double part_end, struct corpus **corpus)
{
    return corpus_open_with(context, files, format, vocabulary, -1, part_begin, part_end, corpus);
}

void corpus_close(struct corpus **corpus)
{
    struct corpus *closed = *corpus;
    if (!closed)
        return;
    struct context *context = closed->context;
    for (int i = 0; i < closed->file_count; i++)
        corpus_file_close(context, &closed->files[i]);
    memory_free(context, closed->files);
    memory_free(context, closed->documents);
    memory_free(context, closed);
    *corpus = NULL;
}

int64_t corpus_tokens(const struct corpus *corpus)
{
    return corpus->tokens;
}

int corpus_files(const struct corpus *corpus)
{
    return corpus->file_count;
}

int64_t corpus_documents(const struct corpus *corpus)
{
    return corpus->document_count;
}

int64_t *corpus_document_list(struct corpus *corpus)
{
    return corpus->documents;
}

enum status corpus_take_documents(struct corpus *corpus, int64_t count)
{
    corpus->documents = memory_allocate(corpus->context, (size_t)count * sizeof *corpus->documents, MEMORY_OTHER);
    if (!corpus->documents)
        return STATUS_MEMORY;
    corpus->document_count = corpus->document_capacity = count;
    for (int i = 0; i < corpus->file_count; i++)
        mapping_close(&corpus->files[i].index.mapping);
    return STATUS_OK;
}

int64_t corpus_document_at(const struct corpus *corpus, int64_t token)
{
    return search_last_not_above(corpus->documents, corpus->document_count, token);
}

/* A stretch of tokens as it lies in one span of a file. */
struct stretch {
    const struct token_span *span;
    int64_t skip, count; /* tokens of the span */
};

/* The first stretch of `count` tokens from number `token` on; *file only moves forward. */
static struct stretch stretch_at(const struct corpus_file **file, int64_t token, int64_t count)
{
    while (token >= (*file)->begin + (*file)->count)
        ++*file;
    int64_t place = token - (*file)->begin; /* in the part */
    const struct token_span *span = span_at(*file, (*file)->first + place);
    int64_t skip = (*file)->first + place - span->begin;
    int64_t rest = integer_min(span->count - skip, (*file)->count - place);
    return (struct stretch){.span = span, .skip = skip, .count = integer_min(count, rest)};
}

/* Pages that a file no longer has would end the process when they are read. A file that was replaced by another of its
 * name is still there for this process. */
static bool file_whole(const struct corpus *corpus, const struct corpus_file *file)
{
    struct stat entry;
    if (stat(file->path, &entry) != 0 || entry.st_ino != (ino_t)file->mapping.inode ||
        entry.st_size >= file->mapping.bytes)
        return true;
    context_fail(corpus->context, STATUS_FILE,
                 "%s: has shrunk from %" PRId64 " to %" PRId64
                 " bytes while it is read; bring it back, and start again",
                 file->path, file->mapping.bytes, (int64_t)entry.st_size);
    return false;
}

static void corpus_read(const struct corpus *corpus, int64_t begin, int64_t count, int32_t *tokens)
{
    const struct corpus_file *file = corpus->files;
    for (int64_t token = begin; count > 0;) {
        struct stretch stretch = stretch_at(&file, token, count);
        const struct token_span *span = stretch.span;
        if (file_whole(corpus, file))
            tokens_decode(span->kind, span->address + stretch.skip * token_bytes(span->kind), stretch.count,
                          corpus->vocabulary, tokens);
        else
            memset(tokens, 0xff, (size_t)stretch.count * sizeof *tokens);
        tokens += stretch.count;
        token += stretch.count;
        count -= stretch.count;
    }
}

void corpus_announce(const struct corpus *corpus, int64_t begin, int64_t count)
{
    const struct corpus_file *file = corpus->files;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    for (int64_t token = begin; count > 0;) {
        struct stretch stretch = stretch_at(&file, token, count);
        int64_t bytes = token_bytes(stretch.span->kind);
        uintptr_t from = (uintptr_t)(stretch.span->address + stretch.skip * bytes);
        uintptr_t whole = from & ~(page - 1);
        /* Only advice: that it may fail does not matter. */
        (void)posix_madvise((void *)whole, from - whole + (size_t)(stretch.count * bytes), POSIX_MADV_WILLNEED);
        token += stretch.count;
        count -= stretch.count;
    }
}

/* Of a sample only the answer is a target. */
static int64_t mark_targets(const struct corpus *corpus, int64_t begin, int64_t count, int32_t *targets)
{
    const struct corpus_file *file = corpus->files;
    int64_t counted = 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t token = begin + i;
        while (token >= file->begin + file->count)
            file++;
        bool counts = file->sample_length == 0 ||
                      (token - file->begin) % file->sample_length >= file->sample_length - file->sample_answer;
        counted += counts;
        if (!counts && targets)
            targets[i] = -1;
    }
    return counted;
}

int64_t corpus_part(const struct corpus *corpus, int64_t begin, int64_t count, int64_t length, int32_t *inputs,
                    int32_t *targets)
{
    if (inputs) {
        corpus_read(corpus, begin, count, inputs);
        for (int64_t i = 0; i < length; i++)
            inputs[i] = i < count && inputs[i] >= 0 ? inputs[i] : 0;
    }
    if (targets) {
        corpus_read(corpus, begin + 1, count, targets);
        for (int64_t i = count; i < length; i++)
            targets[i] = -1;
    }
    return mark_targets(corpus, begin + 1, count, targets);
}
