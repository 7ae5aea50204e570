/* Sets of images: opening whatever the names stand for, and what is known of each image. */
#include "io/images/images_private.h"

#include "src/core/text.h"

#include <glob.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

const char *image_format_name(enum image_format format)
{
    static const char *const names[] = {
        [IMAGES_AUTO] = "auto",         [IMAGES_IDX] = "idx",       [IMAGES_CIFAR10] = "cifar10",
        [IMAGES_CIFAR100] = "cifar100", [IMAGES_FOLDER] = "folder", [IMAGES_LIST] = "list",
    };
    return names[format];
}

/* -- What the formats fill in -- */

enum status room_grow(struct context *context, void **array, size_t *room, size_t used, size_t bytes)
{
    if (bytes <= *room)
        return STATUS_OK;
    /* The first time exactly: most sets are one file. */
    size_t wanted = *room == 0 || bytes > 2 * *room ? bytes : 2 * *room;
    void *grown = memory_allocate(context, wanted, MEMORY_OTHER);
    if (!grown)
        return STATUS_MEMORY;
    if (used > 0)
        memcpy(grown, *array, used);
    memory_free(context, *array);
    *array = grown;
    *room = wanted;
    return STATUS_OK;
}

enum status set_keep_text(struct image_set *set, const char *text, int64_t *place)
{
    size_t length = strlen(text) + 1;
    size_t used = (size_t)set->text_bytes;
    void *texts = set->texts;
    enum status status =
        room_grow(set->context, &texts, &set->text_room, used, used + (length < 4096 && !used ? 4096 : length));
    set->texts = texts;
    if (status != STATUS_OK)
        return status;
    memcpy(set->texts + used, text, length);
    *place = set->text_bytes;
    set->text_bytes += (int64_t)length;
    return STATUS_OK;
}

const char *set_text(const struct image_set *set, int64_t place)
{
    return set->texts + place;
}

enum status set_add_class(struct image_set *set, const char *name)
{
    size_t used = (size_t)set->facts.classes * sizeof *set->class_names;
    void *names = set->class_names;
    if (set->facts.classes == IMAGE_CLASSES)
        return context_fail(set->context, STATUS_FILE, "%s: there are more than %d classes", name, IMAGE_CLASSES);
    enum status status = room_grow(set->context, &names, &set->class_room, used, used + sizeof *set->class_names);
    set->class_names = names;
    if (status != STATUS_OK)
        return status;
    CHECK(set_keep_text(set, name, &set->class_names[set->facts.classes]));
    set->facts.classes++;
    return STATUS_OK;
}

enum status set_number_classes(struct image_set *set, int64_t count)
{
    set->facts.classes = 0;
    for (int64_t i = 0; i < count; i++) {
        char name[32];
        snprintf(name, sizeof name, "%" PRId64, i);
        CHECK(set_add_class(set, name));
    }
    return STATUS_OK;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

enum status set_take_classes(struct image_set *set, const char **names, int64_t count)
{
    qsort(names, (size_t)count, sizeof *names, compare_names);
    for (int64_t i = 0; i < count; i++)
        if (i == 0 || strcmp(names[i], names[i - 1]) != 0)
            CHECK(set_add_class(set, names[i]));
    return STATUS_OK;
}

int32_t set_find_class(const struct image_set *set, const char *name)
{
    int64_t low = 0;
    int64_t high = set->facts.classes - 1;
    while (low <= high) {
        int64_t middle = (low + high) / 2;
        int order = strcmp(name, set_text(set, set->class_names[middle]));
        if (order == 0)
            return (int32_t)middle;
        if (order < 0)
            high = middle - 1;
        else
            low = middle + 1;
    }
    return -1;
}

static enum status check_size(const struct image_set *set, const char *path, int64_t rows, int64_t columns,
                              int64_t channels)
{
    const struct image_set_facts *facts = &set->facts;
    if (rows > IMAGE_SIDE || columns > IMAGE_SIDE || rows * columns > IMAGE_PIXELS || channels > IMAGE_CHANNELS)
        return context_fail(set->context, STATUS_FILE,
                            "%s: its images have %" PRId64 " x %" PRId64 " pixels of %" PRId64 " channels, where %d of "
                            "%d channels are the most; it is damaged, or no file of images",
                            path, rows, columns, channels, IMAGE_PIXELS, IMAGE_CHANNELS);
    if (facts->count > 0 && (rows != facts->rows || columns != facts->columns || channels != facts->channels))
        return context_fail(set->context, STATUS_FILE,
                            "%s: its images are %" PRId64 " x %" PRId64 " x %" PRId64 ", those before %" PRId64
                            " x %" PRId64 " x %" PRId64 " (rows x columns x channels); files of one set must agree",
                            path, rows, columns, channels, facts->rows, facts->columns, facts->channels);
    return STATUS_OK;
}

enum status set_add_origin(struct image_set *set, const char *path, int64_t count, int64_t rows, int64_t columns,
                           int64_t channels)
{
    struct image_set_facts *facts = &set->facts;
    CHECK(check_size(set, path, rows, columns, channels));
    size_t image_bytes = (size_t)(rows * columns * channels);
    size_t before = (size_t)facts->count;
    void *pixels = set->pixels;
    void *labels = set->labels;
    void *origins = set->origins;
    size_t origin_bytes = (size_t)set->origin_count * sizeof *set->origins;
    enum status status = room_grow(set->context, &pixels, &set->pixel_room, before * image_bytes,
                                   (before + (size_t)count) * image_bytes);
    if (status == STATUS_OK)
        status = room_grow(set->context, &labels, &set->label_room, before * sizeof *set->labels,
                           (before + (size_t)count) * sizeof *set->labels);
    if (status == STATUS_OK)
        status =
            room_grow(set->context, &origins, &set->origin_room, origin_bytes, origin_bytes + sizeof *set->origins);
    set->pixels = pixels;
    set->labels = labels;
    set->origins = origins;
    if (status != STATUS_OK)
        return status;
    struct image_origin *origin = &set->origins[set->origin_count];
    origin->begin = facts->count;
    CHECK(set_keep_text(set, path, &origin->name));
    set->origin_count++;
    facts->count += count;
    facts->rows = facts->rows_most = rows;
    facts->columns = facts->columns_most = columns;
    facts->channels = channels;
    facts->pixels_most = rows * columns;
    return STATUS_OK;
}

/* -- Opening -- */

/* Plain text holds no other bytes below a blank. */
static bool is_text(const unsigned char *bytes, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        if (bytes[i] < 0x20 && !memchr("\t\n\r", bytes[i], 3))
            return false;
    return count > 0;
}

/* AUTO stands for one of CIFAR's, which the size of the whole file tells apart. */
static enum status recognize(struct context *context, const char *path, enum image_format *format)
{
    unsigned char bytes[LOOK];
    int64_t count = 0;
    struct stat information;
    if (stat(path, &information) != 0)
        return image_file_refuse(context, path);
    *format = IMAGES_FOLDER;
    if (S_ISDIR(information.st_mode))
        return STATUS_OK;
    struct unzip unzip;
    enum status status = unzip_open(context, path, &unzip);
    if (status == STATUS_OK)
        status = unzip_read(&unzip, bytes, sizeof bytes, &count);
    unzip_close(&unzip);
    if (status != STATUS_OK)
        return status;
    if (count >= 4 && (memcmp(bytes, "\x89PNG", 4) == 0 || memcmp(bytes, "\xff\xd8\xff", 3) == 0))
        return context_fail(context, STATUS_FILE,
                            "%s: is one image; name the folder that holds a folder for each class, or a list of images "
                            "with their classes",
                            path);
    bool idx = count >= 4 && bytes[0] == 0 && bytes[1] == 0 && bytes[2] >= 8 && bytes[2] <= 14 && bytes[3] >= 1 &&
               bytes[3] <= 4;
    *format = idx ? IMAGES_IDX : is_text(bytes, count) ? IMAGES_LIST : IMAGES_AUTO;
    return STATUS_OK;
}

static enum status add_paths(struct image_set *set, char *const *paths, int64_t count)
{
    switch (set->facts.format) {
    case IMAGES_FOLDER:
        return folder_add(set, paths, count);
    case IMAGES_LIST:
        return list_add(set, paths, count);
    case IMAGES_IDX:
        for (int64_t i = 0; i < count; i++)
            CHECK(idx_add(set, paths[i]));
        return set_number_classes(set, set->facts.classes);
    case IMAGES_AUTO:
    case IMAGES_CIFAR10:
    case IMAGES_CIFAR100:
        for (int64_t i = 0; i < count; i++)
            CHECK(cifar_add(set, paths[i]));
        break;
    }
    return cifar_name_classes(set);
}

static enum status check_found(const struct image_set *set, const char *path)
{
    if (set->facts.count == 0 && set->facts.skipped > 0)
        return context_fail(set->context, STATUS_FILE, "%s: none of its %" PRId64 " images is good; the first: %s",
                            path, set->facts.skipped, image_set_bad(set, 0));
    if (set->facts.count == 0)
        return context_fail(set->context, STATUS_FILE, "%s: holds no images", path);
    if (set->facts.skipped > 0)
        context_log(set->context, "%s: %" PRId64 " bad images are left out; the first: %s", path, set->facts.skipped,
                    image_set_bad(set, 0));
    return STATUS_OK;
}

enum status image_set_open(struct context *context, const struct text_list *names, enum image_format format,
                           bool skip_bad, struct image_set **set)
{
    enum status status = STATUS_OK;
    glob_t found = {0};
    *set = NULL;
    if (names->count == 0)
        return context_fail(context, STATUS_FILE, "no images are named; set data.train");
    struct image_set *made = memory_allocate(context, sizeof *made, MEMORY_OTHER);
    if (!made)
        return STATUS_MEMORY;
    made->context = context;
    made->skip_bad = skip_bad;
    made->facts.format = format;
    for (int i = 0; i < names->count; i++)
        if (glob(names->item[i], GLOB_NOCHECK | (i > 0 ? GLOB_APPEND : 0), NULL, &found) != 0) {
            status =
                context_fail(context, STATUS_FILE, "%s: cannot be looked for; check its permissions", names->item[i]);
            goto done;
        }
    if (format == IMAGES_AUTO)
        TRY(recognize(context, found.gl_pathv[0], &made->facts.format));
    TRY(add_paths(made, found.gl_pathv, (int64_t)found.gl_pathc));
    memory_free(context, made->look);
    made->look = NULL;
    TRY(check_found(made, found.gl_pathv[0]));
    *set = made;
    made = NULL;
done:
    globfree(&found);
    image_set_close(&made);
    return status;
}

void image_set_close(struct image_set **set)
{
    struct image_set *old = *set;
    if (!old)
        return;
    struct context *context = old->context;
    void *const arrays[] = {old->pixels, old->labels, old->origins,     old->files,
                            old->look,   old->texts,  old->class_names, old};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        memory_free(context, arrays[i]);
    *set = NULL;
}

/* -- What is known -- */

const struct image_set_facts *image_set_facts(const struct image_set *set)
{
    return &set->facts;
}

int32_t image_set_label(const struct image_set *set, int64_t index)
{
    return set->files ? set->files[index].label : set->labels[index];
}

const char *image_set_class_name(const struct image_set *set, int64_t label)
{
    return set_text(set, set->class_names[label]);
}

const char *image_set_bad(const struct image_set *set, int64_t i)
{
    return set_text(set, set->bad[i]);
}

void image_set_name(const struct image_set *set, int64_t index, char *text, size_t size)
{
    if (set->files) {
        (void)text_copy(text, size, set_text(set, set->files[index].name));
        return;
    }
    int64_t i = set->origin_count - 1;
    while (i > 0 && set->origins[i].begin > index)
        i--;
    snprintf(text, size, "%s: image %" PRId64, set_text(set, set->origins[i].name), index - set->origins[i].begin);
}
