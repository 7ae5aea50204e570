/* What is known of the files of a set as bytes, so that one process reads their headers for many. */
#include "io/images/images_private.h"

#include <string.h>

/* Behind it stand the files, the places of the classes' names, and the texts. */
struct packed {
    struct image_set_facts facts;
    int64_t text_bytes;
    int64_t bad[IMAGE_BAD_TEXTS];
    int32_t skip_bad;
};

/* The arrays of a set, one behind the other. */
enum { ARRAYS = 3 };

static void list_arrays(const struct packed *header, size_t bytes[ARRAYS])
{
    bytes[0] = (size_t)header->facts.count * sizeof(struct image_file);
    bytes[1] = (size_t)header->facts.classes * sizeof(int64_t);
    bytes[2] = (size_t)header->text_bytes;
}

int64_t image_set_packed_bytes(const struct image_set *set)
{
    if (!set->files)
        return 0;
    size_t bytes[ARRAYS];
    list_arrays(&(struct packed){.facts = set->facts, .text_bytes = set->text_bytes}, bytes);
    return (int64_t)(sizeof(struct packed) + bytes[0] + bytes[1] + bytes[2]);
}

void image_set_pack(const struct image_set *set, void *packed)
{
    struct packed header;
    memset(&header, 0, sizeof header);
    header.facts = set->facts;
    header.text_bytes = set->text_bytes;
    header.skip_bad = set->skip_bad;
    memcpy(header.bad, set->bad, sizeof header.bad);
    size_t bytes[ARRAYS];
    list_arrays(&header, bytes);
    const void *const arrays[ARRAYS] = {set->files, set->class_names, set->texts};
    char *place = packed;
    memcpy(place, &header, sizeof header);
    place += sizeof header;
    for (int i = 0; i < ARRAYS; i++) {
        memcpy(place, arrays[i], bytes[i]);
        place += bytes[i];
    }
}

enum status image_set_unpack(struct context *context, const void *packed, struct image_set **set)
{
    struct packed header;
    *set = NULL;
    memcpy(&header, packed, sizeof header);
    struct image_set *made = memory_allocate(context, sizeof *made, MEMORY_OTHER);
    if (!made)
        return STATUS_MEMORY;
    made->context = context;
    made->facts = header.facts;
    made->skip_bad = header.skip_bad;
    made->text_bytes = header.text_bytes;
    memcpy(made->bad, header.bad, sizeof made->bad);
    size_t bytes[ARRAYS];
    void *arrays[ARRAYS];
    list_arrays(&header, bytes);
    const char *place = (const char *)packed + sizeof header;
    bool enough = true;
    for (int i = 0; i < ARRAYS; i++) {
        arrays[i] = memory_allocate(context, bytes[i], MEMORY_OTHER);
        enough = enough && arrays[i];
        if (arrays[i])
            memcpy(arrays[i], place, bytes[i]);
        place += bytes[i];
    }
    made->files = arrays[0];
    made->class_names = arrays[1];
    made->texts = arrays[2];
    made->file_room = bytes[0];
    made->class_room = bytes[1];
    made->text_room = bytes[2];
    if (enough)
        *set = made;
    else
        image_set_close(&made);
    return enough ? STATUS_OK : STATUS_MEMORY;
}
