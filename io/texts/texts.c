#include "io/texts/texts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LABEL_MOST = 1 << 24 };

struct row {
    int64_t begin, length;
    int32_t label;
};

struct texts {
    struct context *context;
    unsigned char *bytes;
    struct row *rows;
    int64_t size, count, classes;
};

static enum status read_file(struct texts *texts, const char *path, FILE *file)
{
    struct context *context = texts->context;
    if (fseek(file, 0, SEEK_END) != 0 || (texts->size = ftell(file)) < 0 || fseek(file, 0, SEEK_SET) != 0)
        return context_fail(context, STATUS_FILE, "%s: %s", path, strerror(errno));
    texts->bytes = memory_allocate(context, (size_t)texts->size + 1, MEMORY_OTHER);
    if (!texts->bytes)
        return STATUS_MEMORY;
    if (fread(texts->bytes, 1, (size_t)texts->size, file) != (size_t)texts->size)
        return context_fail(context, STATUS_FILE, "%s: cannot be read to its end", path);
    texts->bytes[texts->size] = '\n';
    return STATUS_OK;
}

/* Where the line that begins at `at` ends. */
static int64_t line_end(const struct texts *texts, int64_t at)
{
    const unsigned char *end = memchr(texts->bytes + at, '\n', (size_t)(texts->size + 1 - at));
    return end - texts->bytes;
}

static bool read_row(const struct texts *texts, int64_t begin, int64_t end, struct row *row)
{
    int64_t label = 0;
    int64_t at = begin;
    for (; at < end && texts->bytes[at] >= '0' && texts->bytes[at] <= '9' && label < LABEL_MOST; at++)
        label = 10 * label + (texts->bytes[at] - '0');
    if (at == begin || at == end || texts->bytes[at] != '\t' || label >= LABEL_MOST)
        return false;
    *row = (struct row){.begin = at + 1, .length = end - at - 1, .label = (int32_t)label};
    if (row->length > 0 && texts->bytes[end - 1] == '\r')
        row->length--;
    return row->length > 0;
}

static enum status find_rows(struct texts *texts, const char *path)
{
    struct context *context = texts->context;
    int64_t lines = 0;
    for (int64_t at = 0; at < texts->size; at = line_end(texts, at) + 1)
        lines++;
    texts->rows = memory_allocate(context, (size_t)(lines + 1) * sizeof *texts->rows, MEMORY_OTHER);
    if (!texts->rows)
        return STATUS_MEMORY;
    for (int64_t at = 0; at < texts->size; at = line_end(texts, at) + 1) {
        struct row *row = &texts->rows[texts->count++];
        if (!read_row(texts, at, line_end(texts, at), row))
            return context_fail(context, STATUS_FILE, "%s:%lld: expected a label (0, 1, 2, ...), a tab and a text",
                                path, (long long)texts->count);
        if (row->label >= texts->classes)
            texts->classes = row->label + 1;
    }
    return texts->count > 0 ? STATUS_OK : context_fail(context, STATUS_FILE, "%s: no texts in it", path);
}

enum status texts_open(struct context *context, const char *path, struct texts **texts)
{
    struct texts *made = *texts = memory_allocate(context, sizeof *made, MEMORY_OTHER);
    if (!made)
        return STATUS_MEMORY;
    made->context = context;
    FILE *file = fopen(path, "rb");
    if (!file)
        return context_fail(context, STATUS_FILE, "%s: %s", path, strerror(errno));
    enum status status = read_file(made, path, file);
    fclose(file);
    return status == STATUS_OK ? find_rows(made, path) : status;
}

void texts_close(struct texts **texts)
{
    struct texts *closed = *texts;
    if (!closed)
        return;
    memory_free(closed->context, closed->bytes);
    memory_free(closed->context, closed->rows);
    memory_free(closed->context, closed);
    *texts = NULL;
}

int64_t texts_count(const struct texts *texts)
{
    return texts->count;
}

int64_t texts_classes(const struct texts *texts)
{
    return texts->classes;
}

int64_t texts_bytes(const struct texts *texts)
{
    int64_t sum = 0;
    for (int64_t i = 0; i < texts->count; i++)
        sum += texts->rows[i].length;
    return sum;
}

const unsigned char *texts_at(const struct texts *texts, int64_t index, int64_t *length, int32_t *label)
{
    const struct row *row = &texts->rows[index];
    *length = row->length;
    *label = row->label;
    return texts->bytes + row->begin;
}
