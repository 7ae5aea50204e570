/* Documents of files: texts, or JSON objects with a text, one a line; plain, or compressed by gzip or zstd. */
#ifndef CAIRN_IO_DOCUMENTS_H
#define CAIRN_IO_DOCUMENTS_H

#include "src/core/context.h"
#include "src/core/grow.h"

enum document_format { DOCUMENTS_AUTO, DOCUMENTS_TEXT, DOCUMENTS_JSONL };
enum document_packing { DOCUMENTS_PLAIN, DOCUMENTS_GZIP, DOCUMENTS_ZSTD };

enum { DOCUMENT_PATH = 1024, DOCUMENT_LINE = 1 << 28 };

struct document_file {
    char path[DOCUMENT_PATH];
    enum document_format format; /* never AUTO */
    enum document_packing packing;
    int64_t bytes; /* as it lies on the disk */
};

/* What a file is: compression by its first bytes; with DOCUMENTS_AUTO lines of JSON if the name ends in .jsonl or
 * .ndjson, also before .gz or .zst, and text otherwise. FILE error for what is missing or empty, and for a text that
 * begins as JSON does. Local. */
enum status document_file_find(struct context *context, const char *path, enum document_format format,
                               struct document_file *file) MUST_USE;

/* Whether a range of the file may be read alone: lines of JSON that are not compressed. */
bool document_file_divides(const struct document_file *file);

struct document_reader;

struct document_options {
    const char *field; /* of JSON that holds the text */
    bool skip_bad;     /* lines that are none are counted, not an error */
};

/* The documents that begin in the bytes from `begin` to before `end` of a file that divides, or all of a file. The file
 * must outlive the reader. Local. */
enum status document_reader_open(struct context *context, const struct document_file *file,
                                 const struct document_options *options, int64_t begin, int64_t end,
                                 struct document_reader **reader) MUST_USE;
void document_reader_close(struct document_reader **reader);

/* The next document, which stays until the next call; NULL when there is none. A text is one document. FILE error that
 * names the file, and the line or the byte where it begins, for what is damaged, cut off or no JSON with a text. */
enum status document_reader_next(struct document_reader *reader, const char **text, int64_t *length) MUST_USE;

/* Lines that were left out. */
int64_t document_reader_bad(const struct document_reader *reader);

#endif
