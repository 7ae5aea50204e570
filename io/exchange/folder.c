/* Which files a folder's model is in, and what they hold. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/exchange/exchange_private.h"
#include "src/core/text.h"

static const int64_t header_most = 100000000;
static const int64_t index_most = 100000000;
static const char single[] = "model.safetensors";
static const char index_name[] = "model.safetensors.index.json";

enum { FILES_MOST = 100000 };

bool exchange_read_at(int descriptor, void *data, int64_t bytes, int64_t at)
{
    for (int64_t done = 0; done < bytes;) {
        ssize_t got = pread(descriptor, (char *)data + done, (size_t)(bytes - done), (off_t)(at + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got == 0)
            errno = 0;
        if (got <= 0)
            return false;
        done += got;
    }
    return true;
}

/* -- Rank 0: the files' headers, one behind the other in one text -- */

struct bundle {
    char *bytes;
    int64_t length, room;
};

/* Room for more bytes at the end; NULL when memory is out. */
static char *extend(struct context *context, struct bundle *bundle, int64_t more)
{
    if (bundle->length + more > bundle->room) {
        int64_t room = 2 * bundle->room + more;
        char *larger = memory_allocate(context, (size_t)room, MEMORY_OTHER);
        if (!larger)
            return NULL;
        if (bundle->length > 0)
            memcpy(larger, bundle->bytes, (size_t)bundle->length);
        memory_free(context, bundle->bytes);
        bundle->bytes = larger;
        bundle->room = room;
    }
    bundle->length += more;
    return bundle->bytes + bundle->length - more;
}

/* What stands in front of a header. */
struct leaf {
    char file[EXCHANGE_FILE];
    int64_t size;
    int64_t length;
};

static enum status read_header(const struct exchange_folder *folder, const char *file, int descriptor,
                               struct bundle *bundle)
{
    struct context *context = folder->context;
    struct leaf leaf = {0};
    struct stat facts;
    unsigned char bytes[8];
    uint64_t length = 0;
    text_copy(leaf.file, sizeof leaf.file, file);
    if (fstat(descriptor, &facts) != 0 || !S_ISREG(facts.st_mode))
        return context_fail(context, STATUS_FILE, "%s/%s: is no file", folder->path, file);
    leaf.size = facts.st_size;
    if (leaf.size < 8 || !exchange_read_at(descriptor, bytes, 8, 0))
        return context_fail(context, STATUS_FILE, "%s/%s: %lld bytes are too few for a safetensors file", folder->path,
                            file, (long long)leaf.size);
    for (int i = 7; i >= 0; i--)
        length = length << 8 | bytes[i];
    if (length > (uint64_t)header_most || (int64_t)length > leaf.size - 8)
        return context_fail(context, STATUS_FILE,
                            "%s/%s: the header is said to have %llu bytes, in a file of %lld; it is damaged or no "
                            "safetensors file",
                            folder->path, file, (unsigned long long)length, (long long)leaf.size);
    leaf.length = (int64_t)length;
    char *place = extend(context, bundle, (int64_t)sizeof leaf + leaf.length);
    if (!place)
        return STATUS_MEMORY;
    memcpy(place, &leaf, sizeof leaf);
    if (!exchange_read_at(descriptor, place + sizeof leaf, leaf.length, 8))
        return context_fail(context, STATUS_FILE, "%s/%s: %s", folder->path, file, strerror(errno));
    return STATUS_OK;
}

static enum status add_file(const struct exchange_folder *folder, const char *file, struct bundle *bundle)
{
    char path[EXCHANGE_PATH + EXCHANGE_FILE];
    snprintf(path, sizeof path, "%s/%s", folder->path, file);
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return context_fail(folder->context, STATUS_FILE, "%s: %s", path, strerror(errno));
    enum status status = read_header(folder, file, descriptor, bundle);
    close(descriptor);
    return status;
}

static bool is_plain(const char *file)
{
    size_t length = strlen(file);
    return length > 0 && length < EXCHANGE_FILE && file[0] != '.' && !strchr(file, '/') && !strchr(file, '\\');
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Each file of the map once, in the order of their names. */
static enum status add_shards(const struct exchange_folder *folder, json_t *map, struct bundle *bundle)
{
    struct context *context = folder->context;
    size_t count = 0;
    const char *name;
    json_t *value;
    const char **files = memory_allocate(context, json_object_size(map) * sizeof *files, MEMORY_OTHER);
    enum status status = files ? STATUS_OK : STATUS_MEMORY;
    json_object_foreach(map, name, value)
    {
        const char *file = json_string_value(value);
        if (status == STATUS_OK && (!file || !is_plain(file)))
            status = context_fail(context, STATUS_FILE, "%s/%s: %.100s: expected the plain name of a file beside it",
                                  folder->path, index_name, name);
        if (status == STATUS_OK)
            files[count++] = file;
    }
    if (status == STATUS_OK)
        qsort(files, count, sizeof *files, by_text);
    int added = 0;
    for (size_t i = 0; status == STATUS_OK && i < count; i++) {
        if (i > 0 && strcmp(files[i], files[i - 1]) == 0)
            continue;
        status = ++added > FILES_MOST ? context_fail(context, STATUS_FILE, "%s/%s: more than %d files", folder->path,
                                                     index_name, FILES_MOST)
                                      : add_file(folder, files[i], bundle);
    }
    memory_free(context, files);
    return status;
}

/* Every name of the map is in the file that it names, and no file has others. */
static enum status check_map(struct exchange_folder *folder, json_t *map)
{
    struct context *context = folder->context;
    for (int64_t i = 0; i < folder->count; i++) {
        const struct exchange_tensor *tensor = &folder->tensors[i];
        const char *file = json_string_value(json_object_get(map, tensor->name));
        if (!file || strcmp(file, folder->files[tensor->file]) != 0)
            return context_fail(context, STATUS_FILE, "%s/%s: tensor %s: not there by %s", folder->path,
                                folder->files[tensor->file], tensor->name, index_name);
    }
    const char *name;
    json_t *value;
    json_object_foreach(map, name, value)
    {
        if (!exchange_find(folder, name))
            return context_fail(context, STATUS_FILE, "%s/%s: has no tensor %.100s, which %s looks for there",
                                folder->path, json_string_value(value), name, index_name);
    }
    return STATUS_OK;
}

/* -- All ranks -- */

static int by_name(const void *a, const void *b)
{
    const struct exchange_tensor *x = a;
    const struct exchange_tensor *y = b;
    return strcmp(x->name, y->name);
}

static enum status count_files(struct exchange_folder *folder, const struct bundle *bundle)
{
    struct leaf leaf;
    int count = 0;
    for (int64_t at = 0; at < bundle->length; at += (int64_t)sizeof leaf + leaf.length, count++)
        memcpy(&leaf, bundle->bytes + at, sizeof leaf);
    folder->files = memory_allocate(folder->context, (size_t)count * sizeof *folder->files, MEMORY_OTHER);
    folder->descriptors = memory_allocate(folder->context, (size_t)count * sizeof *folder->descriptors, MEMORY_OTHER);
    if (!folder->files || !folder->descriptors)
        return STATUS_MEMORY;
    for (int i = 0; i < count; i++)
        folder->descriptors[i] = -1;
    folder->file_count = count;
    return STATUS_OK;
}

static enum status unfold(struct exchange_folder *folder, const struct bundle *bundle)
{
    struct leaf leaf;
    CHECK(count_files(folder, bundle));
    int64_t at = 0;
    for (int file = 0; file < folder->file_count; file++) {
        memcpy(&leaf, bundle->bytes + at, sizeof leaf);
        text_copy(folder->files[file], EXCHANGE_FILE, leaf.file);
        at += (int64_t)sizeof leaf + leaf.length;
        CHECK(exchange_parse(folder, file, bundle->bytes + at - leaf.length, leaf.length, leaf.size));
    }
    if (folder->count > 0)
        qsort(folder->tensors, (size_t)folder->count, sizeof *folder->tensors, by_name);
    for (int64_t i = 1; i < folder->count; i++)
        if (strcmp(folder->tensors[i].name, folder->tensors[i - 1].name) == 0)
            return context_fail(folder->context, STATUS_FILE, "%s: tensor %s: in %s and in %s", folder->path,
                                folder->tensors[i].name, folder->files[folder->tensors[i - 1].file],
                                folder->files[folder->tensors[i].file]);
    return STATUS_OK;
}

static enum status read_index(struct exchange_folder *folder, const char *path, json_t **map)
{
    json_error_t error;
    struct stat facts;
    if (stat(path, &facts) != 0 || facts.st_size > index_most)
        return context_fail(folder->context, STATUS_FILE, "%s: too large", path);
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    *map = json_incref(json_object_get(root, "weight_map"));
    json_decref(root);
    if (!root)
        return context_fail(folder->context, STATUS_FILE, "%s:%d: %s", path, error.line, error.text);
    if (!json_is_object(*map))
        return context_fail(folder->context, STATUS_FILE, "%s: expected a weight_map of files by tensor", path);
    return STATUS_OK;
}

static bool has(const struct exchange_folder *folder, const char *file)
{
    char path[EXCHANGE_PATH + EXCHANGE_FILE];
    snprintf(path, sizeof path, "%s/%s", folder->path, file);
    return access(path, F_OK) == 0;
}

static enum status collect(struct exchange_folder *folder, json_t **map, struct bundle *bundle)
{
    char path[EXCHANGE_PATH + EXCHANGE_FILE];
    if (has(folder, single))
        return add_file(folder, single, bundle);
    if (has(folder, index_name)) {
        snprintf(path, sizeof path, "%s/%s", folder->path, index_name);
        CHECK(read_index(folder, path, map));
        return add_shards(folder, *map, bundle);
    }
    if (has(folder, "adapter_config.json"))
        return context_fail(folder->context, STATUS_FILE, "%s: holds an adapter; name the folder of a whole model",
                            folder->path);
    if (has(folder, "pytorch_model.bin") || has(folder, "pytorch_model.bin.index.json"))
        return context_fail(folder->context, STATUS_FILE,
                            "%s: holds a pickled pytorch_model.bin only, which is a program rather than data; convert "
                            "it to safetensors, as model.save_pretrained of transformers does",
                            folder->path);
    return context_fail(folder->context, STATUS_FILE, "%s: neither %s nor %s is there", folder->path, single,
                        index_name);
}

enum status exchange_open(struct context *context, struct mesh *mesh, const char *path, struct exchange_folder *folder)
{
    struct bundle bundle = {0};
    json_t *map = NULL; /* rank 0 only */
    bool first = mesh_rank(mesh, MESH_TEAM) == 0;
    enum status status = STATUS_OK;
    *folder = (struct exchange_folder){.context = context};
    if (!text_copy(folder->path, sizeof folder->path, path))
        status = context_fail(context, STATUS_USAGE, "%.100s...: the name is too long", path);
    if (status == STATUS_OK && first)
        status = collect(folder, &map, &bundle);
    TRY(mesh_agree(mesh, context, status));
    mesh_broadcast(mesh, MESH_TEAM, 0, &bundle.length, 1, DTYPE_I64);
    if (!first)
        bundle.bytes = memory_allocate(context, (size_t)bundle.length, MEMORY_OTHER);
    TRY(mesh_agree(mesh, context, bundle.bytes || bundle.length == 0 ? STATUS_OK : STATUS_MEMORY));
    mesh_broadcast(mesh, MESH_TEAM, 0, bundle.bytes, bundle.length, DTYPE_BYTE);
    status = unfold(folder, &bundle);
    if (status == STATUS_OK && map)
        status = check_map(folder, map);
    TRY(mesh_agree(mesh, context, status));
done:
    json_decref(map);
    memory_free(context, bundle.bytes);
    return status;
}

void exchange_close(struct exchange_folder *folder)
{
    for (int i = 0; i < folder->file_count; i++)
        if (folder->descriptors[i] >= 0)
            close(folder->descriptors[i]);
    if (folder->context) {
        memory_free(folder->context, folder->tensors);
        memory_free(folder->context, folder->files);
        memory_free(folder->context, folder->descriptors);
    }
    *folder = (struct exchange_folder){0};
}

const struct exchange_tensor *exchange_find(const struct exchange_folder *folder, const char *name)
{
    struct exchange_tensor wanted = {0};
    if (folder->count == 0 || !text_copy(wanted.name, sizeof wanted.name, name))
        return NULL;
    return bsearch(&wanted, folder->tensors, (size_t)folder->count, sizeof wanted, by_name);
}
