/* What files are, and the documents in them. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "io/documents/documents_private.h"
#include "io/json/json.h"
#include "src/core/text.h"

struct document_reader {
    struct context *context;
    const struct document_file *file;
    struct document_options options;
    struct unpacker *unpacker;
    struct bytes text;
    int64_t at;     /* of the text that is there, where the next line begins */
    int64_t offset; /* in the file, where the text that is there begins */
    int64_t begin, end;
    int64_t line, bad;
    bool ended;
    json_t *object; /* whose text was handed out */
};

/* -- What files are -- */

static bool ends_in(const char *path, size_t length, const char *end)
{
    size_t count = strlen(end);
    return length >= count && strncmp(path + length - count, end, count) == 0;
}

static enum status read_start(struct context *context, const char *path, unsigned char start[4])
{
    FILE *file = fopen(path, "rb");
    struct stat entry;
    if (!file)
        return context_fail(context, STATUS_FILE, "%s: cannot be read: %s", path, strerror(errno));
    bool regular = fstat(fileno(file), &entry) == 0 && S_ISREG(entry.st_mode);
    size_t got = regular ? fread(start, 1, 4, file) : 0;
    fclose(file);
    if (!regular)
        return context_fail(context, STATUS_FILE, "%s: is not a file", path);
    return got > 0 ? STATUS_OK : context_fail(context, STATUS_FILE, "%s: is empty; leave it out", path);
}

enum status document_file_find(struct context *context, const char *path, enum document_format format,
                               struct document_file *file)
{
    static const unsigned char gzip[] = {0x1f, 0x8b};
    static const unsigned char zstd[] = {0x28, 0xb5, 0x2f, 0xfd};
    unsigned char start[4] = {0};
    struct stat entry;
    *file = (struct document_file){.format = format};
    if (!text_copy(file->path, sizeof file->path, path))
        return context_fail(context, STATUS_FILE, "%.64s...: the name is longer than %d bytes", path,
                            DOCUMENT_PATH - 1);
    CHECK(read_start(context, path, start));
    if (stat(path, &entry) != 0)
        return context_fail(context, STATUS_FILE, "%s: cannot be read: %s", path, strerror(errno));
    file->bytes = entry.st_size;
    file->packing = memcmp(start, gzip, sizeof gzip) == 0   ? DOCUMENTS_GZIP
                    : memcmp(start, zstd, sizeof zstd) == 0 ? DOCUMENTS_ZSTD
                                                            : DOCUMENTS_PLAIN;
    size_t length = strlen(path);
    length -= ends_in(path, length, ".gz") ? 3 : ends_in(path, length, ".zst") ? 4 : 0;
    bool lines = ends_in(path, length, ".jsonl") || ends_in(path, length, ".ndjson");
    if (format == DOCUMENTS_AUTO && !lines && file->packing == DOCUMENTS_PLAIN && start[0] == '{')
        return context_fail(
            context, STATUS_FILE,
            "%s: begins as JSON does, but is not named .jsonl; say --format jsonl for an object a line, "
            "or --format text",
            path);
    if (format == DOCUMENTS_AUTO)
        file->format = lines ? DOCUMENTS_JSONL : DOCUMENTS_TEXT;
    return STATUS_OK;
}

bool document_file_divides(const struct document_file *file)
{
    return file->format == DOCUMENTS_JSONL && file->packing == DOCUMENTS_PLAIN;
}

/* -- Reading -- */

static enum status read_more(struct document_reader *reader)
{
    int64_t before = reader->text.count;
    CHECK(unpacker_read(reader->unpacker, &reader->text));
    reader->ended = reader->text.count == before;
    return STATUS_OK;
}

/* The next line, without its end; NULL when there is none. What was read before it is forgotten now and then. */
static enum status next_line(struct document_reader *reader, const char **line, int64_t *length)
{
    struct bytes *text = &reader->text;
    int64_t looked = reader->at;
    if (reader->at > text->count / 2) {
        text->count -= reader->at;
        memmove(text->data, text->data + reader->at, (size_t)text->count);
        reader->offset += reader->at;
        looked = reader->at = 0;
    }
    *line = NULL;
    if (reader->offset + reader->at >= reader->end)
        return STATUS_OK;
    for (;;) {
        const char *end =
            text->count > looked ? memchr(text->data + looked, '\n', (size_t)(text->count - looked)) : NULL;
        if (end || (reader->ended && text->count > reader->at)) {
            *line = text->data + reader->at;
            *length = (end ? end : text->data + text->count) - *line;
            reader->at += *length + (end != NULL);
            reader->line++;
            return STATUS_OK;
        }
        if (reader->ended)
            return STATUS_OK;
        looked = text->count;
        if (looked - reader->at > DOCUMENT_LINE)
            return context_fail(reader->context, STATUS_FILE,
                                "%s: the line that begins at byte %" PRId64 " has more than %d bytes; is it JSONL?",
                                reader->file->path, reader->offset + reader->at, DOCUMENT_LINE);
        CHECK(read_more(reader));
    }
}

enum status document_reader_open(struct context *context, const struct document_file *file,
                                 const struct document_options *options, int64_t begin, int64_t end,
                                 struct document_reader **reader)
{
    struct document_reader *opened = *reader = memory_allocate(context, sizeof *opened, MEMORY_OTHER);
    if (!opened)
        return STATUS_MEMORY;
    /* Packed files have no end that is known. */
    bool divides = document_file_divides(file);
    int64_t from = divides && begin > 0 ? begin - 1 : 0;
    *opened = (struct document_reader){.context = context,
                                       .file = file,
                                       .options = *options,
                                       .text = {.context = context},
                                       .offset = from,
                                       .begin = begin,
                                       .end = divides ? end : INT64_MAX};
    const char *line;
    int64_t length;
    enum status status = unpacker_open(context, file, from, &opened->unpacker);
    /* The line that the byte before belongs to is another's. */
    if (status == STATUS_OK && from < begin && divides) {
        opened->end = INT64_MAX;
        status = next_line(opened, &line, &length);
        opened->end = end;
    }
    if (status != STATUS_OK)
        document_reader_close(reader);
    return status;
}

void document_reader_close(struct document_reader **reader)
{
    struct document_reader *old = *reader;
    if (!old)
        return;
    unpacker_close(&old->unpacker);
    bytes_release(&old->text);
    json_decref(old->object);
    memory_free(old->context, old);
    *reader = NULL;
}

int64_t document_reader_bad(const struct document_reader *reader)
{
    return reader->bad;
}

static bool is_blank(const char *line, int64_t length)
{
    for (int64_t i = 0; i < length; i++)
        if (!strchr(" \t\r", line[i]))
            return false;
    return true;
}

static enum status refuse_line(struct document_reader *reader, const char *line, const char *why)
{
    int64_t at = reader->offset + (line - reader->text.data);
    if (reader->options.skip_bad) {
        reader->bad++;
        return STATUS_OK;
    }
    if (reader->begin > 0)
        return context_fail(reader->context, STATUS_FILE, "%s: the line at byte %" PRId64 ": %s", reader->file->path,
                            at, why);
    return context_fail(reader->context, STATUS_FILE, "%s: line %" PRId64 ": %s", reader->file->path, reader->line,
                        why);
}

/* The text of a line of JSON; NULL where it has none. */
static enum status take_object(struct document_reader *reader, const char *line, int64_t length, const char **text,
                               int64_t *count)
{
    char why[256];
    json_error_t error;
    json_decref(reader->object);
    reader->object = json_loadb(line, (size_t)length, JSON_ALLOW_NUL, &error);
    const json_t *value = json_object_get(reader->object, reader->options.field);
    *text = NULL;
    if (!reader->object)
        snprintf(why, sizeof why, "no JSON: %.160s", error.text);
    else
        snprintf(why, sizeof why, "no text \"%.64s\"; --field names another", reader->options.field);
    if (!json_is_string(value))
        return refuse_line(reader, line, why);
    *text = json_string_value(value);
    *count = (int64_t)json_string_length(value);
    return STATUS_OK;
}

static enum status next_object(struct document_reader *reader, const char **text, int64_t *count)
{
    const char *line;
    int64_t length;
    for (*text = NULL; !*text;) {
        CHECK(next_line(reader, &line, &length));
        if (!line)
            return STATUS_OK;
        if (!is_blank(line, length))
            CHECK(take_object(reader, line, length, text, count));
    }
    return STATUS_OK;
}

enum status document_reader_next(struct document_reader *reader, const char **text, int64_t *length)
{
    *text = NULL;
    if (reader->file->format == DOCUMENTS_JSONL)
        return next_object(reader, text, length);
    if (reader->ended)
        return STATUS_OK;
    while (!reader->ended)
        CHECK(read_more(reader));
    *text = reader->text.count > 0 ? reader->text.data : NULL;
    *length = reader->text.count;
    return STATUS_OK;
}
