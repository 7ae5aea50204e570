/* Which format a file has, and where its tokens lie. */
#include "io/data/corpus_files.h"

#include "src/core/text.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    GPT2_END_OF_TEXT = 50256,
    LLAMA3_BEGIN_OF_TEXT = 128000,
    LLMC_HEADER_BYTES = 1024,
    LLMC_MAGIC_GPT2 = 20240520,
    LLMC_VERSION_GPT2 = 1,
    LLMC_MAGIC_LLAMA3 = 20240801,
    LLMC_VERSION_LLAMA3 = 7,
};

static enum status file_check(struct context *context, const char *path, int descriptor, struct mapping *mapping)
{
    struct stat information;
    if (fstat(descriptor, &information) != 0)
        return context_fail(context, STATUS_FILE, "%s: cannot be read: %s", path, strerror(errno));
    if (S_ISDIR(information.st_mode))
        return context_fail(context, STATUS_FILE, "%s: is a directory; name the token files inside it", path);
    if (!S_ISREG(information.st_mode))
        return context_fail(context, STATUS_FILE, "%s: is not a regular file and cannot be mapped; copy it into one",
                            path);
    if (information.st_size == 0)
        return context_fail(context, STATUS_FILE, "%s: is empty; prepare it again or leave it out", path);
    mapping->bytes = information.st_size;
    mapping->inode = (uint64_t)information.st_ino;
    return STATUS_OK;
}

enum status mapping_open(struct context *context, const char *path, struct mapping *mapping)
{
    enum status status = STATUS_OK;
    /* A pipe without a writer must be refused, not waited for. */
    int descriptor = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (descriptor < 0) {
        if (errno == ENOENT || errno == ENOTDIR)
            return context_fail(context, STATUS_FILE, "%s: no such file; check data.train and data.validation", path);
        return context_fail(context, STATUS_FILE, "%s: cannot be read: %s; check its permissions", path,
                            strerror(errno));
    }
    TRY(file_check(context, path, descriptor, mapping));
    void *address = mmap(NULL, (size_t)mapping->bytes, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (address == MAP_FAILED) {
        status = context_fail(context, STATUS_FILE, "%s: cannot be mapped into memory: %s", path, strerror(errno));
        goto done;
    }
    mapping->address = address;
done:
    close(descriptor);
    return status;
}

void mapping_close(struct mapping *mapping)
{
    if (mapping->address)
        munmap((void *)mapping->address, (size_t)mapping->bytes);
    *mapping = (struct mapping){0};
}

enum status corpus_file_set_span(struct context *context, struct corpus_file *file, enum token_kind kind,
                                 int64_t offset, int64_t count)
{
    file->spans = memory_allocate(context, sizeof *file->spans, MEMORY_OTHER);
    if (!file->spans)
        return STATUS_MEMORY;
    file->spans[0] = (struct token_span){.address = file->mapping.address + offset, .kind = kind, .count = count};
    file->span_count = 1;
    file->count = count;
    return STATUS_OK;
}

static enum status nanogpt_open(struct context *context, struct corpus_file *file)
{
    if (file->mapping.bytes % 2 != 0)
        return context_fail(context, STATUS_FILE,
                            "%s: its %" PRId64 " bytes are not a whole number of 2-byte tokens; the file is truncated, "
                            "or data.format is not nanogpt",
                            file->path, file->mapping.bytes);
    file->delimiter = GPT2_END_OF_TEXT;
    file->delimiter_place = DELIMITER_LAST;
    return corpus_file_set_span(context, file, TOKEN_UINT16, 0, file->mapping.bytes / 2);
}

static bool llmc_recognize(const struct mapping *mapping)
{
    if (mapping->bytes < 4)
        return false;
    int32_t magic;
    memcpy(&magic, mapping->address, sizeof magic);
    return magic == LLMC_MAGIC_GPT2 || magic == LLMC_MAGIC_LLAMA3;
}

static enum status llmc_open(struct context *context, struct corpus_file *file)
{
    const struct mapping *mapping = &file->mapping;
    if (!llmc_recognize(mapping))
        return context_fail(context, STATUS_FILE,
                            "%s: is not a token file of llm.c: it does not begin with the magic number %d or %d; "
                            "prepare it again or set data.format",
                            file->path, LLMC_MAGIC_GPT2, LLMC_MAGIC_LLAMA3);
    if (mapping->bytes < LLMC_HEADER_BYTES)
        return context_fail(context, STATUS_FILE,
                            "%s: is truncated: %" PRId64 " bytes, where the header alone has %d; copy it again",
                            file->path, mapping->bytes, LLMC_HEADER_BYTES);
    int32_t header[3]; /* magic, version, tokens */
    memcpy(header, mapping->address, sizeof header);
    bool llama3 = header[0] == LLMC_MAGIC_LLAMA3;
    int32_t version = llama3 ? LLMC_VERSION_LLAMA3 : LLMC_VERSION_GPT2;
    if (header[1] != version)
        return context_fail(context, STATUS_FILE,
                            "%s: version %" PRId32 " of llm.c's format %" PRId32 " is not known, only %" PRId32
                            "; prepare it again with llm.c's current scripts",
                            file->path, header[1], header[0], version);
    enum token_kind kind = llama3 ? TOKEN_UINT32 : TOKEN_UINT16;
    int64_t bytes = LLMC_HEADER_BYTES + header[2] * token_bytes(kind);
    if (header[2] < 1 || bytes != mapping->bytes)
        return context_fail(context, STATUS_FILE,
                            "%s: the header counts %" PRId32 " tokens, which makes %" PRId64 " bytes, but the file has "
                            "%" PRId64 "; it is %s, copy or prepare it again",
                            file->path, header[2], bytes, mapping->bytes,
                            header[2] < 1 || bytes < mapping->bytes ? "damaged" : "truncated");
    file->delimiter = llama3 ? LLAMA3_BEGIN_OF_TEXT : GPT2_END_OF_TEXT;
    file->delimiter_place = DELIMITER_FIRST;
    return corpus_file_set_span(context, file, kind, LLMC_HEADER_BYTES, header[2]);
}

bool name_ends(const char *name, const char *end)
{
    size_t length = strlen(name);
    return length >= strlen(end) && strcmp(name + length - strlen(end), end) == 0;
}

static enum status format_recognize(struct context *context, const char *name, const struct corpus_file *file,
                                    int64_t vocabulary, enum data_format *format)
{
    *format = samples_recognize(&file->mapping) ? DATA_SAMPLES : DATA_LLMC;
    if (*format == DATA_SAMPLES || llmc_recognize(&file->mapping))
        return STATUS_OK;
    CHECK(corpus_recognize(context, name, file, format));
    if (*format == DATA_BYTES && vocabulary > UINT8_MAX + 1)
        return context_fail(context, STATUS_FILE,
                            "%s: text is read as bytes, of which there are 256, but model.vocabulary is %" PRId64
                            "; name token files, set model.vocabulary to 256, or confirm with data.format=bytes",
                            file->path, vocabulary);
    return STATUS_OK;
}

enum status corpus_file_open(struct context *context, const char *name, enum data_format format, int64_t vocabulary,
                             struct corpus_file *file)
{
    if (format == DATA_MEGATRON || (format == DATA_AUTO && megatron_recognize(name)))
        return megatron_open(context, name, file);
    if (!text_copy(file->path, sizeof file->path, name))
        return context_fail(context, STATUS_FILE, "%s: the name is too long", name);
    CHECK(mapping_open(context, file->path, &file->mapping));
    if (format == DATA_AUTO)
        CHECK(format_recognize(context, name, file, vocabulary, &format));
    if (format == DATA_SAMPLES)
        return samples_open(context, file);
    if (format == DATA_LLMC)
        return llmc_open(context, file);
    if (format == DATA_NANOGPT)
        return nanogpt_open(context, file);
    return corpus_file_set_span(context, file, TOKEN_UINT8, 0, file->mapping.bytes);
}

void corpus_file_close(struct context *context, struct corpus_file *file)
{
    memory_free(context, file->spans);
    mapping_close(&file->mapping);
    mapping_close(&file->index.mapping);
}
