#define _GNU_SOURCE /* memmem */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/records/records.h"

enum { LINE_FIRST = 4096, LINE_MOST = 16 << 20 };

struct reading {
    FILE *file;
    char *line;
    size_t length, space;
    int64_t begin; /* of the line */
    bool ended;    /* the line has an end */
    bool cut;      /* it goes on */
    bool (*see)(void *self, const struct record_piece *piece);
    void *self;
};

static bool grow(struct reading *reading)
{
    size_t space = reading->space ? 2 * reading->space : LINE_FIRST;
    char *line = realloc(reading->line, space);
    if (!line)
        return false;
    reading->line = line;
    reading->space = space;
    return true;
}

/* The next line, of which no more than LINE_MOST bytes; false at the end of the file, and where it cannot be read. */
static bool next_line(struct reading *reading)
{
    int c = EOF;
    reading->length = 0;
    reading->ended = reading->cut = false;
    while (!reading->ended && !reading->cut && (c = getc(reading->file)) != EOF) {
        reading->ended = c == '\n';
        if (reading->ended)
            break;
        if (reading->length == reading->space && !grow(reading))
            return false;
        reading->line[reading->length++] = (char)c;
        reading->cut = reading->length == LINE_MOST;
    }
    return reading->length > 0 || reading->ended;
}

/* Where the next object begins; `length` if none does. In a text of JSON a quote would have a backslash before it. */
static size_t next_object(const char *text, size_t length)
{
    const char *found = length > 1 ? memmem(text + 1, length - 1, "{\"", 2) : NULL;
    return found ? (size_t)(found - text) : length;
}

/* Takes the object, which is NULL where it is damaged. */
static bool show(const struct reading *reading, size_t from, size_t length, json_t *object)
{
    bool last = from + length == reading->length;
    struct record_piece piece = {.text = reading->line + from,
                                 .length = length,
                                 .begin = reading->begin + (int64_t)from,
                                 .end = reading->begin + (int64_t)(from + length) + (last && reading->ended),
                                 .object = json_is_object(object) ? object : NULL,
                                 .line = from == 0 && last && reading->ended,
                                 .torn = last && !reading->ended && !reading->cut};
    bool more = reading->see(reading->self, &piece);
    json_decref(object);
    return more;
}

static bool show_line(const struct reading *reading)
{
    json_t *object = json_loadb(reading->line, reading->length, 0, NULL);
    if (json_is_object(object))
        return show(reading, 0, reading->length, object);
    json_decref(object);
    size_t length;
    for (size_t from = 0; from < reading->length || from == 0; from += length) {
        length = next_object(reading->line + from, reading->length - from);
        bool alone = length == reading->length; /* it was looked at above */
        object = alone ? NULL : json_loadb(reading->line + from, length, 0, NULL);
        if (!show(reading, from, length, object))
            return false;
        if (length == 0)
            break;
    }
    return true;
}

enum status records_read(struct context *context, const char *path,
                         bool (*see)(void *self, const struct record_piece *piece), void *self)
{
    struct reading reading = {.see = see, .self = self};
    reading.file = fopen(path, "r");
    if (!reading.file)
        return context_fail(context, STATUS_FILE, "%s: cannot be read: %s", path, strerror(errno));
    errno = 0;
    while (next_line(&reading) && show_line(&reading))
        reading.begin += (int64_t)reading.length + reading.ended;
    bool failed = ferror(reading.file) || errno == ENOMEM;
    int code = errno;
    free(reading.line);
    fclose(reading.file);
    return failed ? context_fail(context, STATUS_FILE, "%s: cannot be read: %s", path, strerror(code)) : STATUS_OK;
}
