/* PNG and JPEG files of a set: what their headers say when the set is opened. */
#include "io/images/images_private.h"

#include "src/core/text.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

static enum status look_at(struct image_set *set, const char *path, int descriptor, int64_t bytes,
                           struct image_header *header)
{
    struct context *context = set->context;
    bool more = false;
    int64_t first = bytes < LOOK_HEADER ? bytes : LOOK_HEADER;
    CHECK(image_file_read(context, path, descriptor, set->look, first));
    CHECK(image_header_read(context, path, set->look, first, first == bytes, header, &more));
    if (!more)
        return STATUS_OK;
    uint8_t *all = memory_allocate(context, (size_t)bytes, MEMORY_OTHER);
    if (!all)
        return STATUS_MEMORY;
    memcpy(all, set->look, (size_t)first);
    enum status status = image_file_read(context, path, descriptor, all + first, bytes - first);
    if (status == STATUS_OK)
        status = image_header_read(context, path, all, bytes, true, header, &more);
    memory_free(context, all);
    return status;
}

static enum status read_header(struct image_set *set, const char *path, int64_t *bytes, struct image_header *header)
{
    int descriptor;
    if (!set->look) {
        set->look = memory_allocate(set->context, LOOK_HEADER, MEMORY_OTHER);
        if (!set->look)
            return STATUS_MEMORY;
    }
    CHECK(image_file_open(set->context, path, &descriptor, bytes));
    enum status status = STATUS_OK;
    if (*bytes > IMAGE_FILE_BYTES)
        status = context_fail(set->context, STATUS_FILE, "%s: has %" PRId64 " bytes, where an image has %d at most",
                              path, *bytes, IMAGE_FILE_BYTES);
    if (status == STATUS_OK)
        status = look_at(set, path, descriptor, *bytes, header);
    close(descriptor);
    return status;
}

static void set_note_size(struct image_set_facts *facts, const struct image_file *file)
{
    bool first = facts->count == 0;
    facts->channels = first || file->channels > facts->channels ? file->channels : facts->channels;
    facts->rows = first || facts->rows == file->rows ? file->rows : 0;
    facts->columns = first || facts->columns == file->columns ? file->columns : 0;
    facts->rows_most = file->rows > facts->rows_most ? file->rows : facts->rows_most;
    facts->columns_most = file->columns > facts->columns_most ? file->columns : facts->columns_most;
    int64_t pixels = (int64_t)file->rows * file->columns;
    facts->pixels_most = pixels > facts->pixels_most ? pixels : facts->pixels_most;
    facts->file_bytes_most = file->bytes > facts->file_bytes_most ? file->bytes : facts->file_bytes_most;
}

enum status set_add_file(struct image_set *set, const char *path, int32_t label)
{
    struct image_header header = {0};
    int64_t bytes = 0;
    enum status status = read_header(set, path, &bytes, &header);
    if (status == STATUS_FILE && set->skip_bad) {
        char reason[1024];
        (void)text_copy(reason, sizeof reason, set->context->text);
        context_clear(set->context);
        if (set->facts.skipped < IMAGE_BAD_TEXTS)
            CHECK(set_keep_text(set, reason, &set->bad[set->facts.skipped]));
        set->facts.skipped++;
        return STATUS_OK;
    }
    if (status != STATUS_OK)
        return status;
    size_t used = (size_t)set->facts.count * sizeof *set->files;
    void *files = set->files;
    status = room_grow(set->context, &files, &set->file_room, used, used + sizeof *set->files);
    set->files = files;
    if (status != STATUS_OK)
        return status;
    struct image_file *file = &set->files[set->facts.count];
    *file = (struct image_file){.bytes = bytes,
                                .label = label,
                                .rows = (int32_t)header.rows,
                                .columns = (int32_t)header.columns,
                                .channels = (int32_t)header.channels};
    CHECK(set_keep_text(set, path, &file->name));
    set_note_size(&set->facts, file);
    set->facts.count++;
    return STATUS_OK;
}
