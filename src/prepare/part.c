/* A unit of work to a part: complete under its name, or not there. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "src/prepare/prepare_private.h"

static const char magic[16] = "cairn-tokens-1";

struct writing {
    struct work *work;
    FILE *stream;
    char path[PREPARE_PATH];
    struct token_list tokens;
    struct bytes packed, lengths;
    struct part_header header;
};

void part_path(const struct work *work, int64_t unit, const char *end, char path[PREPARE_PATH])
{
    snprintf(path, PREPARE_PATH, "%.1000s/%08" PRId64 "%s", work->folder, unit, end);
}

bool part_read_header(const struct work *work, int64_t unit, int64_t numbers[PART_NUMBERS])
{
    char path[PREPARE_PATH];
    struct part_header header;
    struct stat entry;
    part_path(work, unit, "", path);
    FILE *file = fopen(path, "rb");
    bool whole = file && fread(&header, sizeof header, 1, file) == 1 && fstat(fileno(file), &entry) == 0 &&
                 memcmp(header.magic, magic, sizeof magic) == 0 &&
                 entry.st_size == (int64_t)sizeof header + header.numbers[PART_TOKENS] * work->width +
                                      header.numbers[PART_DOCUMENTS] * (int64_t)sizeof(int32_t);
    if (file)
        fclose(file);
    if (whole)
        memcpy(numbers, header.numbers, sizeof header.numbers);
    return whole;
}

static enum status cannot_write(const struct writing *writing)
{
    return context_fail(writing->work->context, STATUS_FILE, "%s: cannot be written: %s", writing->path,
                        strerror(errno));
}

static enum status write_tokens(struct writing *writing)
{
    const struct token_list *tokens = &writing->tokens;
    struct bytes *packed = &writing->packed;
    int64_t width = writing->work->width;
    packed->count = 0;
    CHECK(bytes_reserve(packed, tokens->count * width));
    for (int64_t i = 0; i < tokens->count; i++) {
        uint16_t narrow = (uint16_t)tokens->ids[i];
        memcpy(packed->data + i * width, width == 2 ? (const void *)&narrow : (const void *)&tokens->ids[i],
               (size_t)width);
    }
    size_t bytes = (size_t)(tokens->count * width);
    return fwrite(packed->data, 1, bytes, writing->stream) == bytes ? STATUS_OK : cannot_write(writing);
}

static enum status add_end(struct writing *writing, int32_t id)
{
    struct token_list *tokens = &writing->tokens;
    CHECK(array_grow(writing->work->context, &tokens->ids, tokens->count, &tokens->room, tokens->count + 1,
                     sizeof *tokens->ids));
    tokens->ids[tokens->count++] = id;
    return STATUS_OK;
}

static enum status write_document(struct writing *writing, struct encoder *encoder, const char *text, int64_t length)
{
    const struct tokenize_options *options = writing->work->options;
    struct token_list *tokens = &writing->tokens;
    tokens->count = 0;
    if (options->begin >= 0)
        CHECK(add_end(writing, options->begin));
    CHECK(encoder_encode(encoder, text, length, (struct encoding){.specials = options->specials}, tokens));
    if (options->end >= 0)
        CHECK(add_end(writing, options->end));
    writing->header.numbers[PART_BYTES] += length;
    if (tokens->count == 0)
        return STATUS_OK;
    if (tokens->count > INT32_MAX)
        return context_fail(writing->work->context, STATUS_FILE,
                            "a document has %lld tokens, more than an index can hold (%d); cut it",
                            (long long)tokens->count, INT32_MAX);
    int32_t count = (int32_t)tokens->count;
    CHECK(bytes_add(&writing->lengths, &count, sizeof count));
    writing->header.numbers[PART_DOCUMENTS]++;
    writing->header.numbers[PART_TOKENS] += count;
    return write_tokens(writing);
}

static enum status write_documents(struct writing *writing, const struct unit *unit, struct encoder *encoder)
{
    struct work *work = writing->work;
    struct document_reader *reader = NULL;
    int64_t replaced = encoder_replaced(encoder);
    const char *text;
    int64_t length;
    CHECK(document_reader_open(work->context, &work->files[unit->file], &work->options->documents, unit->begin,
                               unit->end, &reader));
    enum status status = document_reader_next(reader, &text, &length);
    while (status == STATUS_OK && text) {
        status = write_document(writing, encoder, text, length);
        if (status == STATUS_OK)
            status = document_reader_next(reader, &text, &length);
    }
    writing->header.numbers[PART_BAD] = document_reader_bad(reader);
    writing->header.numbers[PART_REPLACED] = encoder_replaced(encoder) - replaced;
    document_reader_close(&reader);
    return status;
}

static enum status write_all(struct writing *writing, const struct unit *unit, struct encoder *encoder)
{
    struct part_header *header = &writing->header;
    memcpy(header->magic, magic, sizeof magic);
    if (fwrite(header, sizeof *header, 1, writing->stream) != 1)
        return cannot_write(writing);
    CHECK(write_documents(writing, unit, encoder));
    size_t bytes = (size_t)writing->lengths.count;
    if (bytes > 0 && fwrite(writing->lengths.data, 1, bytes, writing->stream) != bytes)
        return cannot_write(writing);
    if (fseeko(writing->stream, 0, SEEK_SET) != 0 || fwrite(header, sizeof *header, 1, writing->stream) != 1 ||
        fflush(writing->stream) != 0 || fsync(fileno(writing->stream)) != 0)
        return cannot_write(writing);
    return STATUS_OK;
}

enum status part_write(struct work *work, int64_t unit, struct encoder *encoder)
{
    struct context *context = work->context;
    struct writing writing = {.work = work, .packed = {.context = context}, .lengths = {.context = context}};
    char path[PREPARE_PATH];
    part_path(work, unit, "", path);
    part_path(work, unit, ".tmp", writing.path);
    writing.stream = fopen(writing.path, "wb");
    enum status status = writing.stream ? write_all(&writing, &work->units[unit], encoder) : cannot_write(&writing);
    if (writing.stream && fclose(writing.stream) != 0 && status == STATUS_OK)
        status = cannot_write(&writing);
    if (status == STATUS_OK && rename(writing.path, path) != 0)
        status = cannot_write(&writing);
    memcpy(work->numbers + unit * PART_NUMBERS, writing.header.numbers, sizeof writing.header.numbers);
    token_list_release(context, &writing.tokens);
    bytes_release(&writing.packed);
    bytes_release(&writing.lengths);
    return status;
}
