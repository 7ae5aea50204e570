/* Pixels of one image after the other, from memory or from its file. */
#include "io/images/images_private.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

struct image_reader {
    struct context *context; /* of its memory */
    struct context *errors;  /* of its errors: the same, unless a thread has one of its own */
    const struct image_set *set;
    uint8_t *bytes;  /* [file_bytes_most] of a file */
    uint8_t *pixels; /* [pixels_most, channels] */
};

enum status image_reader_create(struct context *context, const struct image_set *set, struct image_reader **reader)
{
    *reader = memory_allocate(context, sizeof **reader, MEMORY_OTHER);
    if (!*reader)
        return STATUS_MEMORY;
    (*reader)->context = context;
    (*reader)->errors = context;
    (*reader)->set = set;
    if (!set->files)
        return STATUS_OK;
    const struct image_set_facts *facts = &set->facts;
    (*reader)->bytes = memory_allocate(context, (size_t)facts->file_bytes_most, MEMORY_OTHER);
    (*reader)->pixels = memory_allocate(context, (size_t)(facts->pixels_most * facts->channels), MEMORY_OTHER);
    if ((*reader)->bytes && (*reader)->pixels)
        return STATUS_OK;
    image_reader_destroy(reader);
    return STATUS_MEMORY;
}

void reader_set_errors(struct image_reader *reader, struct context *errors)
{
    reader->errors = errors;
}

void image_reader_destroy(struct image_reader **reader)
{
    if (!*reader)
        return;
    struct context *context = (*reader)->context;
    memory_free(context, (*reader)->bytes);
    memory_free(context, (*reader)->pixels);
    memory_free(context, *reader);
    *reader = NULL;
}

static enum status read_file(struct image_reader *reader, const struct image_file *file)
{
    const char *path = set_text(reader->set, file->name);
    int descriptor;
    int64_t bytes = 0;
    CHECK(image_file_open(reader->errors, path, &descriptor, &bytes));
    enum status status = STATUS_OK;
    if (bytes != file->bytes)
        status = context_fail(reader->errors, STATUS_FILE,
                              "%s: has changed since the set was opened: %" PRId64 " bytes, not %" PRId64
                              "; start again with files that stay",
                              path, bytes, file->bytes);
    if (status == STATUS_OK)
        status = image_file_read(reader->errors, path, descriptor, reader->bytes, bytes);
    close(descriptor);
    return status;
}

enum status image_reader_read(struct image_reader *reader, int64_t index, struct image *image)
{
    const struct image_set *set = reader->set;
    const struct image_set_facts *facts = &set->facts;
    if (!set->files) {
        *image = (struct image){set->pixels + index * facts->rows * facts->columns * facts->channels, facts->rows,
                                facts->columns, facts->channels};
        return STATUS_OK;
    }
    const struct image_file *file = &set->files[index];
    const struct image_header header = {.rows = file->rows, .columns = file->columns, .channels = file->channels};
    CHECK(read_file(reader, file));
    CHECK(image_decode(reader->errors, set_text(set, file->name), reader->bytes, file->bytes, &header, facts->channels,
                       reader->pixels));
    *image = (struct image){reader->pixels, file->rows, file->columns, facts->channels};
    return STATUS_OK;
}

/* The header's and the image's bytes are the same here. */
static enum status decode_file(struct context *context, const char *path, const uint8_t *bytes, int64_t count,
                               int64_t channels, struct image *image)
{
    struct image_header header = {0};
    bool more;
    CHECK(image_header_read(context, path, bytes, count, true, &header, &more));
    uint8_t *pixels = memory_allocate(context, (size_t)(header.rows * header.columns * channels), MEMORY_OTHER);
    if (!pixels)
        return STATUS_MEMORY;
    enum status status = image_decode(context, path, bytes, count, &header, channels, pixels);
    if (status == STATUS_OK)
        *image = (struct image){pixels, header.rows, header.columns, channels};
    else
        memory_free(context, pixels);
    return status;
}

enum status image_read_file(struct context *context, const char *path, int64_t channels, struct image *image)
{
    int descriptor;
    int64_t count = 0;
    CHECK(image_file_open(context, path, &descriptor, &count));
    if (count > IMAGE_FILE_BYTES) {
        close(descriptor);
        return context_fail(context, STATUS_FILE, "%s: is larger than any image; name a PNG or JPEG file", path);
    }
    uint8_t *bytes = memory_allocate(context, (size_t)count, MEMORY_OTHER);
    enum status status = bytes ? image_file_read(context, path, descriptor, bytes, count) : STATUS_MEMORY;
    close(descriptor);
    if (status == STATUS_OK)
        status = decode_file(context, path, bytes, count, channels, image);
    memory_free(context, bytes);
    return status;
}
