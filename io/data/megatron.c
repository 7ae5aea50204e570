/* Megatron's indexed dataset (megatron/core/datasets/indexed_dataset.py): tokens in PATH.bin, and in PATH.idx where
 * each sequence lies and which sequences make a document:
 *
 *   9 bytes "MMIDIDX\0\0"    uint64 version 1    uint8 code of the token type
 *   uint64 sequences         uint64 entries of the document index: documents + 1
 *   int32 lengths [sequences]    int64 byte pointers [sequences]    int64 document index [documents + 1]
 *   int8 modes [sequences], only in multimodal sets; not used */
#include "io/data/corpus_files.h"

#include "src/core/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { HEADER_BYTES = 34, MAGIC_BYTES = 9, PAIR_ENDING = 4 };

/* Sequences may overlap in the file, so its size does not keep their sum from overflowing. */
#define MOST_TOKENS (INT64_C(1) << 48)

static int32_t int32_at(const unsigned char *array, int64_t index)
{
    int32_t value;
    memcpy(&value, array + index * (int64_t)sizeof value, sizeof value);
    return value;
}

static int64_t int64_at(const unsigned char *array, int64_t index)
{
    int64_t value;
    memcpy(&value, array + index * (int64_t)sizeof value, sizeof value);
    return value;
}

/* PATH.bin and PATH.idx from either of them or from PATH. */
static void pair_name(const char *name, char *tokens, char *index)
{
    bool ending = name_ends(name, ".bin") || name_ends(name, ".idx");
    int prefix = (int)strlen(name) - (ending ? PAIR_ENDING : 0);
    snprintf(tokens, PATH_LENGTH, "%.*s.bin", prefix, name);
    snprintf(index, PATH_LENGTH, "%.*s.idx", prefix, name);
}

static bool file_exists(const char *path)
{
    struct stat information;
    return stat(path, &information) == 0 && S_ISREG(information.st_mode);
}

bool megatron_recognize(const char *name)
{
    char tokens[PATH_LENGTH];
    char index[PATH_LENGTH];
    if (name_ends(name, ".idx"))
        return true;
    /* A text that happens to stand beside its own tokenized pair is still that text. */
    if (!name_ends(name, ".bin") && file_exists(name))
        return false;
    pair_name(name, tokens, index);
    return file_exists(tokens) && file_exists(index);
}

static enum status index_damaged(struct context *context, const char *path, const char *what)
{
    return context_fail(context, STATUS_FILE, "%s: the index is damaged: %s; prepare it again", path, what);
}

static enum status token_kind_read(struct context *context, const char *path, int code, enum token_kind *kind)
{
    static const int kinds[] = {[1] = TOKEN_UINT8, [2] = TOKEN_INT8, [3] = TOKEN_INT16, [4] = TOKEN_INT32,
                                [5] = TOKEN_INT64, [6] = -1,         [7] = -1,          [8] = TOKEN_UINT16};
    if (code < 1 || code > 8)
        return context_fail(context, STATUS_FILE,
                            "%s: the index is damaged: %d is no code of a token type; prepare it again", path, code);
    if (kinds[code] < 0)
        return context_fail(context, STATUS_FILE,
                            "%s: its tokens are floating-point numbers (type code %d); prepare it with integer tokens",
                            path, code);
    *kind = (enum token_kind)kinds[code];
    return STATUS_OK;
}

/* Header and sizes: afterwards the three arrays lie inside the file. */
static enum status index_read_header(struct context *context, const char *path, struct megatron_index *index,
                                     enum token_kind *kind)
{
    static const unsigned char magic[MAGIC_BYTES] = {'M', 'M', 'I', 'D', 'I', 'D', 'X'};
    const unsigned char *address = index->mapping.address;
    int64_t bytes = index->mapping.bytes;
    if (bytes < MAGIC_BYTES || memcmp(address, magic, sizeof magic) != 0)
        return context_fail(context, STATUS_FILE,
                            "%s: is not a Megatron index: it does not begin with MMIDIDX; prepare it again", path);
    if (bytes < HEADER_BYTES)
        return context_fail(context, STATUS_FILE, "%s: is truncated: its header is incomplete; copy it again", path);
    int64_t version = int64_at(address + MAGIC_BYTES, 0);
    if (version != 1)
        return context_fail(context, STATUS_FILE,
                            "%s: version %" PRId64 " of the index is not known, only 1; prepare it again", path,
                            version);
    CHECK(token_kind_read(context, path, address[17], kind));
    int64_t sequences = int64_at(address + 18, 0);
    int64_t entries = int64_at(address + 26, 0);
    int64_t room = bytes - HEADER_BYTES;
    if (sequences < 0 || sequences > room / 12 || entries < 0 || entries > (room - 12 * sequences) / 8)
        return context_fail(context, STATUS_FILE,
                            "%s: is truncated: it counts %" PRIu64 " sequences and %" PRIu64
                            " document entries, which do not fit its %" PRId64 " bytes; copy it again",
                            path, (uint64_t)sequences, (uint64_t)entries, bytes);
    int64_t rest = room - 12 * sequences - 8 * entries;
    if (rest != 0 && rest != sequences)
        return index_damaged(context, path, "there are bytes behind its end");
    if (sequences == 0 || entries < 2)
        return context_fail(context, STATUS_FILE, "%s: is empty: it has no document; prepare it again", path);
    index->sequences = sequences;
    index->documents = entries - 1;
    index->lengths = address + HEADER_BYTES;
    index->pointers = index->lengths + 4 * sequences;
    index->documents_first = index->pointers + 8 * sequences;
    return STATUS_OK;
}

static enum status index_check_documents(struct context *context, const char *path, const struct megatron_index *index)
{
    if (int64_at(index->documents_first, 0) != 0)
        return index_damaged(context, path, "its first document does not begin with the first sequence");
    for (int64_t i = 0; i < index->documents; i++)
        if (int64_at(index->documents_first, i) > int64_at(index->documents_first, i + 1))
            return index_damaged(context, path, "a document ends before it begins");
    if (int64_at(index->documents_first, index->documents) != index->sequences)
        return index_damaged(context, path, "its last document does not end with the last sequence");
    return STATUS_OK;
}

static enum status sequence_check(struct context *context, const struct corpus_file *file, int64_t sequence,
                                  enum token_kind kind)
{
    int64_t length = int32_at(file->index.lengths, sequence);
    int64_t pointer = int64_at(file->index.pointers, sequence);
    int64_t bytes = file->mapping.bytes;
    if (length < 0 || pointer < 0 || pointer > bytes || length > (bytes - pointer) / token_bytes(kind))
        return context_fail(context, STATUS_FILE,
                            "%s: sequence %" PRId64 " of its index, %" PRId64 " tokens at byte %" PRId64
                            ", is not inside its %" PRId64
                            " bytes; the file is truncated or belongs to another index, copy both again",
                            file->path, sequence, length, pointer, bytes);
    return STATUS_OK;
}

/* Sequences that lie one behind the other, as those that Megatron writes all do, share a span. With NULL for the
 * spans they are only counted and checked. */
static enum status index_read_sequences(struct context *context, const struct corpus_file *file, enum token_kind kind,
                                        struct token_span *spans, int64_t *span_count, int64_t *token_count)
{
    const unsigned char *end = NULL;
    *span_count = 0;
    *token_count = 0;
    for (int64_t i = 0; i < file->index.sequences; i++) {
        CHECK(sequence_check(context, file, i, kind));
        int64_t length = int32_at(file->index.lengths, i);
        const unsigned char *address = file->mapping.address + int64_at(file->index.pointers, i);
        if (length == 0)
            continue;
        if (address != end) {
            if (spans)
                spans[*span_count] = (struct token_span){.address = address, .begin = *token_count, .kind = kind};
            (*span_count)++;
        }
        if (spans)
            spans[*span_count - 1].count += length;
        *token_count += length;
        if (*token_count > MOST_TOKENS)
            return index_damaged(context, file->path, "its sequences have more tokens than any file");
        end = address + length * token_bytes(kind);
    }
    return STATUS_OK;
}

enum status megatron_open(struct context *context, const char *name, struct corpus_file *file)
{
    struct megatron_index *index = &file->index;
    enum token_kind kind = TOKEN_UINT8;
    char index_path[PATH_LENGTH];
    pair_name(name, file->path, index_path);
    CHECK(mapping_open(context, index_path, &index->mapping));
    CHECK(index_read_header(context, index_path, index, &kind));
    CHECK(index_check_documents(context, index_path, index));
    CHECK(mapping_open(context, file->path, &file->mapping));
    CHECK(index_read_sequences(context, file, kind, NULL, &file->span_count, &file->count));
    if (file->count == 0)
        return context_fail(context, STATUS_FILE, "%s: is empty: its index has no token; prepare it again", file->path);
    file->spans = memory_allocate(context, (size_t)file->span_count * sizeof *file->spans, MEMORY_OTHER);
    if (!file->spans)
        return STATUS_MEMORY;
    return index_read_sequences(context, file, kind, file->spans, &file->span_count, &file->count);
}

enum status megatron_add_documents(struct corpus *corpus, const struct corpus_file *file)
{
    const struct megatron_index *index = &file->index;
    int64_t token = 0;
    for (int64_t i = 0; i < index->documents; i++) {
        CHECK(corpus_add_document(corpus, file, token));
        int64_t end = int64_at(index->documents_first, i + 1);
        for (int64_t j = int64_at(index->documents_first, i); j < end; j++)
            token += int32_at(index->lengths, j);
    }
    return STATUS_OK;
}
