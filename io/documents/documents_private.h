/* Inside io/documents: bytes of a file, whatever it is compressed by. */
#ifndef CAIRN_IO_DOCUMENTS_PRIVATE_H
#define CAIRN_IO_DOCUMENTS_PRIVATE_H

#include "io/documents/documents.h"

struct unpacker;

/* From a byte on, where it is plain. */
enum status unpacker_open(struct context *context, const struct document_file *file, int64_t begin,
                          struct unpacker **unpacker) MUST_USE;
void unpacker_close(struct unpacker **unpacker);

/* Appends some of what comes next; nothing at the end. FILE error for what is damaged or cut off. */
enum status unpacker_read(struct unpacker *unpacker, struct bytes *to) MUST_USE;

#endif
