/* Files of samples: a header, then bytes. */
#include "io/data/corpus_files.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { SAMPLES_VERSION = 1 };

static const char magic[16] = "cairn-samples";

struct samples_header {
    char magic[16];
    int64_t version, samples, length, answer;
};

bool samples_recognize(const struct mapping *mapping)
{
    return mapping->bytes >= (int64_t)sizeof magic && memcmp(mapping->address, magic, sizeof magic) == 0;
}

enum status samples_open(struct context *context, struct corpus_file *file)
{
    struct samples_header header;
    int64_t bytes = file->mapping.bytes - (int64_t)sizeof header;
    if (!samples_recognize(&file->mapping) || bytes < 0)
        return context_fail(context, STATUS_FILE,
                            "%s: is not a file of samples; write it with `cairn data passkey`, or set data.format",
                            file->path);
    memcpy(&header, file->mapping.address, sizeof header);
    if (header.version != SAMPLES_VERSION)
        return context_fail(context, STATUS_FILE, "%s: version %" PRId64 " of the samples' format is not known",
                            file->path, header.version);
    bool sound = header.samples > 0 && header.length > 1 && header.answer > 0 && header.answer < header.length;
    if (!sound || bytes % header.length != 0 || bytes / header.length != header.samples)
        return context_fail(context, STATUS_FILE,
                            "%s: the header says %" PRId64 " samples of %" PRId64 " bytes, %" PRId64 " of them the "
                            "answer, but the file has %" PRId64 " bytes of samples; it is damaged or truncated",
                            file->path, header.samples, header.length, header.answer, bytes);
    file->sample_length = header.length;
    file->sample_answer = header.answer;
    return corpus_file_set_span(context, file, TOKEN_UINT8, (int64_t)sizeof header, bytes);
}

enum status samples_add_documents(struct corpus *corpus, const struct corpus_file *file)
{
    for (int64_t token = 0; token < file->count; token += file->sample_length)
        CHECK(corpus_add_document(corpus, file, file->first + token));
    return STATUS_OK;
}

enum status samples_write(struct context *context, const char *path, int64_t samples, int64_t length, int64_t answer,
                          void (*sample)(const void *self, int64_t index, unsigned char *bytes), const void *self)
{
    struct samples_header header = {.version = SAMPLES_VERSION, .samples = samples, .length = length, .answer = answer};
    memcpy(header.magic, magic, sizeof magic);
    unsigned char *bytes = memory_allocate(context, (size_t)length, MEMORY_BUFFERS);
    if (!bytes)
        return STATUS_MEMORY;
    FILE *file = fopen(path, "wb");
    bool written = file && fwrite(&header, sizeof header, 1, file) == 1;
    for (int64_t i = 0; written && i < samples; i++) {
        sample(self, i, bytes);
        written = fwrite(bytes, (size_t)length, 1, file) == 1;
    }
    int code = errno;
    if (file && fclose(file) != 0 && written) {
        written = false;
        code = errno;
    }
    memory_free(context, bytes);
    return written ? STATUS_OK : context_fail(context, STATUS_FILE, "%s: cannot write it: %s", path, strerror(code));
}
