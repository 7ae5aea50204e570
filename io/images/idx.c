/* IDX, the format of MNIST: two zero bytes, the type of the elements, the number of dimensions; the dimensions as
 * big-endian numbers of 4 bytes; the elements. Images are read with the labels beside them. */
#include "io/images/images_private.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DIMENSIONS = 4, UNSIGNED_BYTES = 8 };

struct idx_header {
    int dimensions;
    int64_t size[DIMENSIONS]; /* 1 where there is none */
    int64_t elements;
};

static enum status read_sizes(struct unzip *unzip, struct idx_header *header)
{
    unsigned char sizes[4 * DIMENSIONS];
    CHECK(unzip_read_all(unzip, sizes, 4 * header->dimensions));
    header->elements = 1;
    for (int i = 0; i < DIMENSIONS; i++)
        header->size[i] = 1;
    for (int i = 0; i < header->dimensions; i++) {
        const unsigned char *at = sizes + (ptrdiff_t)4 * i;
        header->size[i] = (int64_t)at[0] << 24 | at[1] << 16 | at[2] << 8 | at[3];
        if (header->size[i] == 0)
            return context_fail(unzip->context, STATUS_FILE, "%s: dimension %d is 0: there is nothing in it",
                                unzip->path, i + 1);
        if (__builtin_mul_overflow(header->elements, header->size[i], &header->elements))
            header->elements = INT64_MAX;
    }
    if (header->elements > unzip->bytes_most)
        return context_fail(unzip->context, STATUS_FILE,
                            "%s: is truncated or damaged: its header counts more elements than the file can hold; copy "
                            "or prepare it again",
                            unzip->path);
    return STATUS_OK;
}

static enum status read_header(struct unzip *unzip, struct idx_header *header)
{
    unsigned char magic[4];
    CHECK(unzip_read_all(unzip, magic, 4));
    if (magic[0] != 0 || magic[1] != 0 || magic[3] < 1)
        return context_fail(unzip->context, STATUS_FILE,
                            "%s: is no IDX file: it does not begin with two zero bytes, a type and a number of "
                            "dimensions; name an IDX file or set data.format",
                            unzip->path);
    if (magic[2] != UNSIGNED_BYTES)
        return context_fail(unzip->context, STATUS_FILE,
                            "%s: holds elements of type 0x%02x, where images and labels are unsigned bytes (0x08)",
                            unzip->path, magic[2]);
    header->dimensions = magic[3];
    if (header->dimensions > DIMENSIONS)
        return context_fail(unzip->context, STATUS_FILE, "%s: has %d dimensions, where images have 3 or 4", unzip->path,
                            header->dimensions);
    return read_sizes(unzip, header);
}

/* "...images-idx3-ubyte.gz" to "...labels-idx1-ubyte.gz"; false where the name says nothing. */
static bool labels_name(const char *path, char *text, size_t size)
{
    const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    const char *images = NULL;
    for (const char *at = strstr(base, "images"); at; at = strstr(at + 1, "images"))
        images = at;
    if (!images || snprintf(text, size, "%.*slabels%s", (int)(images - path), path, images + 6) >= (int)size)
        return false;
    char *dimensions = strstr(text + (images - path), "idx");
    if (dimensions && dimensions[3])
        dimensions[3] = '1';
    return true;
}

/* The same name, with or without .gz, whichever there is. */
static enum status find_labels(struct context *context, const char *path, char *text, size_t size)
{
    if (!labels_name(path, text, size - 4))
        return context_fail(context, STATUS_FILE,
                            "%s: no labels can be found: they lie beside the images, in a file with \"labels\" in its "
                            "name where that of the images has \"images\"",
                            path);
    if (access(text, F_OK) == 0)
        return STATUS_OK;
    size_t length = strlen(text);
    bool compressed = length > 3 && strcmp(text + length - 3, ".gz") == 0;
    strcpy(compressed ? text + length - 3 : text + length, compressed ? "" : ".gz");
    if (access(text, F_OK) == 0)
        return STATUS_OK;
    strcpy(compressed ? text + length - 3 : text + length, compressed ? ".gz" : "");
    return context_fail(context, STATUS_FILE, "%s: no such file: the labels of %s", text, path);
}

static enum status read_labels(struct image_set *set, const char *path, int64_t begin, int64_t count)
{
    char name[PATH_ROOM];
    struct unzip unzip = {0};
    struct idx_header header = {0};
    uint8_t *bytes = NULL;
    CHECK(find_labels(set->context, path, name, sizeof name));
    enum status status = unzip_open(set->context, name, &unzip);
    if (status != STATUS_OK)
        return status;
    TRY(read_header(&unzip, &header));
    if (header.dimensions != 1) {
        status = context_fail(set->context, STATUS_FILE, "%s: has %d dimensions, where labels have 1", name,
                              header.dimensions);
        goto done;
    }
    if (header.elements != count) {
        status = context_fail(set->context, STATUS_FILE, "%s: %" PRId64 " labels for the %" PRId64 " images of %s",
                              name, header.elements, count, path);
        goto done;
    }
    bytes = memory_allocate(set->context, (size_t)count, MEMORY_OTHER);
    if (!bytes) {
        status = STATUS_MEMORY;
        goto done;
    }
    TRY(unzip_read_all(&unzip, bytes, count));
    TRY(unzip_expect_end(&unzip));
    for (int64_t i = 0; i < count; i++) {
        set->labels[begin + i] = bytes[i];
        if (bytes[i] >= set->facts.classes)
            set->facts.classes = bytes[i] + 1;
    }
done:
    memory_free(set->context, bytes);
    unzip_close(&unzip);
    return status;
}

enum status idx_add(struct image_set *set, const char *path)
{
    struct unzip unzip;
    struct idx_header header = {0};
    enum status status = unzip_open(set->context, path, &unzip);
    if (status != STATUS_OK)
        return status;
    TRY(read_header(&unzip, &header));
    if (header.dimensions < 3) {
        status = context_fail(set->context, STATUS_FILE, "%s: has %d dimensions, where images have 3 or 4%s", path,
                              header.dimensions,
                              header.dimensions == 1 ? "; labels are found by themselves, name the images" : "");
        goto done;
    }
    int64_t begin = set->facts.count;
    TRY(set_add_origin(set, path, header.size[0], header.size[1], header.size[2], header.size[3]));
    TRY(unzip_read_all(&unzip, set->pixels + begin * (header.elements / header.size[0]), header.elements));
    TRY(unzip_expect_end(&unzip));
    TRY(read_labels(set, path, begin, header.size[0]));
done:
    unzip_close(&unzip);
    return status;
}
