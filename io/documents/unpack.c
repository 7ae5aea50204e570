/* Plain bytes of a file. Several members of gzip or frames of zstd in one file follow each other. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "io/documents/documents_private.h"

enum { BLOCK = 1 << 17 };

struct unpacker {
    struct context *context;
    const struct document_file *file;
    FILE *stream;
    gzFile gzip;
    ZSTD_DStream *zstd;
    unsigned char *packed; /* [BLOCK] of zstd */
    ZSTD_inBuffer input;
    bool inside; /* a frame has begun and not ended */
    bool full;   /* the last call filled all there was room for: more may come without further input */
};

static enum status cannot_read(const struct unpacker *unpacker, const char *why)
{
    return context_fail(unpacker->context, STATUS_FILE, "%s: cannot be read: %s", unpacker->file->path, why);
}

static enum status open_stream(struct unpacker *unpacker, int64_t begin)
{
    const char *path = unpacker->file->path;
    if (unpacker->file->packing == DOCUMENTS_GZIP) {
        unpacker->gzip = gzopen(path, "rb");
        return unpacker->gzip ? STATUS_OK : cannot_read(unpacker, strerror(errno));
    }
    unpacker->stream = fopen(path, "rb");
    if (!unpacker->stream || fseeko(unpacker->stream, begin, SEEK_SET) != 0)
        return cannot_read(unpacker, strerror(errno));
    if (unpacker->file->packing != DOCUMENTS_ZSTD)
        return STATUS_OK;
    unpacker->packed = memory_allocate(unpacker->context, BLOCK, MEMORY_OTHER);
    if (!unpacker->packed)
        return STATUS_MEMORY;
    unpacker->input.src = unpacker->packed;
    unpacker->zstd = ZSTD_createDStream();
    return unpacker->zstd ? STATUS_OK
                          : context_fail(unpacker->context, STATUS_MEMORY, "%s: out of memory to unpack it", path);
}

enum status unpacker_open(struct context *context, const struct document_file *file, int64_t begin,
                          struct unpacker **unpacker)
{
    struct unpacker *opened = *unpacker = memory_allocate(context, sizeof *opened, MEMORY_OTHER);
    if (!opened)
        return STATUS_MEMORY;
    opened->context = context;
    opened->file = file;
    enum status status = open_stream(opened, begin);
    if (status != STATUS_OK)
        unpacker_close(unpacker);
    return status;
}

void unpacker_close(struct unpacker **unpacker)
{
    struct unpacker *old = *unpacker;
    if (!old)
        return;
    if (old->gzip)
        gzclose(old->gzip);
    if (old->stream)
        fclose(old->stream);
    ZSTD_freeDStream(old->zstd);
    memory_free(old->context, old->packed);
    memory_free(old->context, old);
    *unpacker = NULL;
}

static enum status read_gzip(struct unpacker *unpacker, struct bytes *to)
{
    int code;
    int got = gzread(unpacker->gzip, to->data + to->count, BLOCK);
    const char *why = gzerror(unpacker->gzip, &code);
    if (got < 0 || (code != Z_OK && code != Z_STREAM_END))
        return context_fail(unpacker->context, STATUS_FILE, "%s: the gzip file is damaged or cut off: %s",
                            unpacker->file->path, code == Z_ERRNO ? strerror(errno) : why);
    to->count += got;
    return STATUS_OK;
}

static enum status read_zstd(struct unpacker *unpacker, struct bytes *to)
{
    ZSTD_inBuffer *input = &unpacker->input;
    for (;;) {
        if (input->pos == input->size && !unpacker->full) {
            input->size = fread(unpacker->packed, 1, BLOCK, unpacker->stream);
            input->pos = 0;
            if (input->size == 0 && ferror(unpacker->stream))
                return cannot_read(unpacker, strerror(errno));
            if (input->size == 0)
                return !unpacker->inside
                           ? STATUS_OK
                           : context_fail(unpacker->context, STATUS_FILE, "%s: the zstd file is cut off; copy it again",
                                          unpacker->file->path);
        }
        ZSTD_outBuffer output = {.dst = to->data + to->count, .size = BLOCK};
        size_t left = ZSTD_decompressStream(unpacker->zstd, &output, input);
        if (ZSTD_isError(left))
            return context_fail(unpacker->context, STATUS_FILE, "%s: the zstd file is damaged: %s",
                                unpacker->file->path, ZSTD_getErrorName(left));
        unpacker->inside = left != 0;
        unpacker->full = output.pos == output.size;
        to->count += (int64_t)output.pos;
        if (output.pos > 0)
            return STATUS_OK;
    }
}

enum status unpacker_read(struct unpacker *unpacker, struct bytes *to)
{
    CHECK(bytes_reserve(to, BLOCK));
    if (unpacker->gzip)
        return read_gzip(unpacker, to);
    if (unpacker->zstd)
        return read_zstd(unpacker, to);
    to->count += (int64_t)fread(to->data + to->count, 1, BLOCK, unpacker->stream);
    return ferror(unpacker->stream) ? cannot_read(unpacker, strerror(errno)) : STATUS_OK;
}
