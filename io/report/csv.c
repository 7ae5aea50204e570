#include <string.h>

#include "io/report/report.h"

void csv_write(FILE *out, const char *text, bool last)
{
    bool quoted = strpbrk(text, ",\"\r\n") != NULL;
    if (quoted)
        fputc('"', out);
    for (const char *c = text; *c; c++) {
        if (*c == '"')
            fputc('"', out);
        fputc(*c, out);
    }
    if (quoted)
        fputc('"', out);
    fputc(last ? '\n' : ',', out);
}

struct csv_reader {
    FILE *in;
    char *text;
    size_t size;
    size_t used;
};

static bool keep(struct csv_reader *reader, int c)
{
    if (reader->used == reader->size)
        return false;
    reader->text[reader->used++] = (char)c;
    return true;
}

/* Takes one cell; returns what ended it: ',', '\n', EOF, or 0 for a broken one. */
static int read_cell(struct csv_reader *reader)
{
    int c = fgetc(reader->in);
    bool quoted = c == '"';
    if (quoted)
        c = fgetc(reader->in);
    for (;; c = fgetc(reader->in)) {
        if (quoted && c == '"') {
            c = fgetc(reader->in);
            quoted = c == '"';
        } else if (quoted && c == EOF) {
            return 0;
        }
        if (!quoted && c == '\r')
            continue;
        if (!quoted && (c == ',' || c == '\n' || c == EOF))
            return keep(reader, '\0') ? c : 0;
        if (!keep(reader, c))
            return 0;
    }
}

int csv_read(FILE *in, char *text, size_t size, char **cells, int most)
{
    struct csv_reader reader = {.in = in, .text = text, .size = size};
    int c = fgetc(in);
    if (c == EOF)
        return 0;
    ungetc(c, in);
    int count = 0;
    int end = ',';
    while (end == ',' && count < most) {
        cells[count++] = text + reader.used;
        end = read_cell(&reader);
    }
    return end == '\n' || end == EOF ? count : -1;
}
