/* Files of lines that a run writes of itself, a JSON object a line: metrics.jsonl, starts.jsonl. They only tell: what
 * cannot be written waits in memory until it can, and what is damaged is passed over by whoever reads. By one rank. */
#ifndef CAIRN_IO_RECORDS_H
#define CAIRN_IO_RECORDS_H

#include <jansson.h>

#include "src/core/context.h"

/* -- Reading -- */

/* A line, or a part of one that is damaged: where an object begins inside of it, it is taken for a line of its own. */
struct record_piece {
    const char *text; /* [length], without the end of the line; it may hold any bytes */
    size_t length;
    int64_t begin, end; /* in the file, with the end of the line */
    json_t *object;     /* NULL: damaged */
    bool line;          /* it begins a line and ends one */
    bool torn;          /* it is at the end of a file that has no end of the line there */
};

/* Shows all pieces in the order of the file; those of lines of over 16 MiB are damaged. `see` returns false to see no
 * more. FILE error if the file cannot be read. */
enum status records_read(struct context *context, const char *path,
                         bool (*see)(void *self, const struct record_piece *piece), void *self) MUST_USE;

/* -- Writing -- */

struct record;

/* Goes on at the end of the file, with a line of its own; makes it if there is none. Numbers that are not whole have so
 * many digits. FILE error if it cannot be opened for another reason than a disk that is full or broken. To be closed
 * whatever comes back. */
enum status record_open(struct context *context, const char *path, int digits, struct record **record) MUST_USE;

/* Adds a line and takes the object. The log says when lines begin to wait, and when they are in the file. A file that
 * was removed is made again with all that was in it. MEMORY error if there is no room to wait in. */
enum status record_add(struct record *record, json_t *object) MUST_USE;

/* Tries to write what waits, unless the last try has failed just now. */
void record_retry(struct record *record);

/* What waits is tried a last time. */
void record_close(struct record **record);

#endif
