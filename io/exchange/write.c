/* Arrays into a folder. Sizes are known before, so rank 0 makes the files with their headers, every rank writes its
 * slices where they belong, and rank 0 renames what is complete. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/exchange/exchange_private.h"
#include "src/core/text.h"

enum { BUFFER = 4 << 20 };

static bool exchange_write_at(int descriptor, const void *data, int64_t bytes, int64_t at)
{
    for (int64_t done = 0; done < bytes;) {
        ssize_t put = pwrite(descriptor, (const char *)data + done, (size_t)(bytes - done), (off_t)(at + done));
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return false;
        done += put;
    }
    return true;
}

/* -- What goes where: the same on all ranks -- */

struct shard_file {
    char *header; /* with spaces up to a multiple of 8 bytes */
    int64_t header_bytes;
    int64_t bytes; /* of tensors */
    int descriptor;
};

struct writing {
    struct context *context;
    struct mesh *mesh;
    const char *path;
    enum exchange_type type;
    const struct exchange_place **tensors; /* one for each name, in their order */
    int *owner;                            /* of each place: its tensor */
    int *shard;                            /* of each tensor */
    int64_t *begin;                        /* of each tensor, behind the header */
    int tensor_count;
    struct shard_file *files;
    int file_count;
    bool first; /* rank 0 */
    unsigned char *buffer;
};

static int64_t bytes_of(const struct writing *writing, const struct exchange_place *place)
{
    int64_t count = exchange_size(writing->type);
    for (int d = 0; d < place->rank; d++)
        count *= place->shape[d];
    return count;
}

/* Parts of a fused tensor follow each other. */
static void find_tensors(struct writing *writing, const struct exchange_place *places, int count)
{
    for (int i = 0; i < count; i++) {
        int t = writing->tensor_count - 1;
        while (t >= 0 && strcmp(writing->tensors[t]->name, places[i].name) != 0)
            t--;
        if (t < 0) {
            t = writing->tensor_count++;
            writing->tensors[t] = &places[i];
        }
        writing->owner[i] = t;
    }
}

static void divide(struct writing *writing, int64_t shard_bytes)
{
    int64_t used = 0;
    int shard = 0;
    for (int t = 0; t < writing->tensor_count; t++) {
        int64_t bytes = bytes_of(writing, writing->tensors[t]);
        if (used > 0 && used + bytes > shard_bytes) {
            shard++;
            used = 0;
        }
        writing->shard[t] = shard;
        writing->begin[t] = used;
        used += bytes;
    }
    writing->file_count = shard + 1;
}

static void file_name(const struct writing *writing, int file, const char *suffix, char name[EXCHANGE_PATH])
{
    if (writing->file_count == 1)
        snprintf(name, EXCHANGE_PATH, "%s/model.safetensors%s", writing->path, suffix);
    else
        snprintf(name, EXCHANGE_PATH, "%s/model-%05d-of-%05d.safetensors%s", writing->path, file + 1,
                 writing->file_count, suffix);
}

static json_t *describe(const struct writing *writing, int tensor)
{
    const struct exchange_place *place = writing->tensors[tensor];
    json_int_t begin = writing->begin[tensor];
    json_t *shape = json_array();
    for (int d = 0; d < place->rank; d++)
        json_array_append_new(shape, json_integer(place->shape[d]));
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", writing->type == EXCHANGE_F32 ? "F32" : "BF16", "shape", shape,
                     "data_offsets", begin, begin + (json_int_t)bytes_of(writing, place));
}

static enum status make_header(struct writing *writing, int file)
{
    struct shard_file *shard = &writing->files[file];
    json_t *root = json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
    for (int t = 0; t < writing->tensor_count; t++)
        if (writing->shard[t] == file) {
            json_object_set_new(root, writing->tensors[t]->name, describe(writing, t));
            shard->bytes += bytes_of(writing, writing->tensors[t]);
        }
    size_t length = json_dumpb(root, NULL, 0, JSON_COMPACT);
    shard->header_bytes = integer_round_up((int64_t)length, 8);
    shard->header = length ? memory_allocate(writing->context, (size_t)shard->header_bytes, MEMORY_OTHER) : NULL;
    if (shard->header) {
        memset(shard->header, ' ', (size_t)shard->header_bytes);
        json_dumpb(root, shard->header, length, JSON_COMPACT);
    }
    json_decref(root);
    return shard->header ? STATUS_OK : STATUS_MEMORY;
}

static enum status plan(struct writing *writing, int64_t shard_bytes, const struct exchange_place *places, int count)
{
    struct context *context = writing->context;
    size_t room = (size_t)count;
    writing->tensors = memory_allocate(context, room * sizeof *writing->tensors, MEMORY_OTHER);
    writing->owner = memory_allocate(context, room * sizeof *writing->owner, MEMORY_OTHER);
    writing->shard = memory_allocate(context, room * sizeof *writing->shard, MEMORY_OTHER);
    writing->begin = memory_allocate(context, room * sizeof *writing->begin, MEMORY_OTHER);
    writing->buffer = memory_allocate(context, BUFFER, MEMORY_OTHER);
    if (!writing->tensors || !writing->owner || !writing->shard || !writing->begin || !writing->buffer)
        return STATUS_MEMORY;
    find_tensors(writing, places, count);
    divide(writing, shard_bytes);
    writing->files = memory_allocate(context, (size_t)writing->file_count * sizeof *writing->files, MEMORY_OTHER);
    if (!writing->files)
        return STATUS_MEMORY;
    for (int file = 0; file < writing->file_count; file++)
        writing->files[file].descriptor = -1;
    for (int file = 0; file < writing->file_count; file++)
        CHECK(make_header(writing, file));
    return STATUS_OK;
}

/* -- Files -- */

static enum status fail_file(const struct writing *writing, int file)
{
    char name[EXCHANGE_PATH];
    file_name(writing, file, "", name);
    return context_fail(writing->context, STATUS_FILE, "%s: cannot be written: %s", name, strerror(errno));
}

static enum status open_files(struct writing *writing)
{
    char name[EXCHANGE_PATH];
    for (int file = 0; file < writing->file_count; file++) {
        struct shard_file *shard = &writing->files[file];
        unsigned char length[8];
        file_name(writing, file, ".partial", name);
        shard->descriptor = open(name, O_WRONLY | O_CLOEXEC | (writing->first ? O_CREAT | O_TRUNC : 0), 0666);
        if (shard->descriptor < 0)
            return fail_file(writing, file);
        if (!writing->first)
            continue;
        for (int i = 0; i < 8; i++)
            length[i] = (unsigned char)((uint64_t)shard->header_bytes >> 8 * i);
        if (!exchange_write_at(shard->descriptor, length, 8, 0) ||
            !exchange_write_at(shard->descriptor, shard->header, shard->header_bytes, 8) ||
            ftruncate(shard->descriptor, (off_t)(8 + shard->header_bytes + shard->bytes)) != 0)
            return fail_file(writing, file);
    }
    return STATUS_OK;
}

struct writer {
    struct writing *writing;
    const struct state_piece *piece;
    int tensor;
};

static void encode(const struct writer *writer, int64_t memory, unsigned char *bytes)
{
    const struct state_piece *piece = writer->piece;
    float value = piece->data ? piece->data[memory] : bf16_to_float(piece->values[memory]);
    uint32_t bits;
    int size = (int)exchange_size(writer->writing->type);
    memcpy(&bits, &value, sizeof bits);
    if (writer->writing->type == EXCHANGE_BF16)
        bits = bf16_from_float(value);
    for (int i = 0; i < size; i++)
        bytes[i] = (unsigned char)(bits >> 8 * i);
}

/* What lies together in the file is written together, as much as the buffer takes. */
static enum status write_plane(void *self, const struct exchange_plane *whole)
{
    const struct writer *writer = self;
    const struct writing *writing = writer->writing;
    int file = writing->shard[writer->tensor];
    const struct shard_file *shard = &writing->files[file];
    int64_t size = exchange_size(writing->type);
    struct exchange_plane plane = *whole;
    if (plane.length == plane.pitch && plane.line_step == plane.length && plane.value_step == 1) {
        plane.length *= plane.lines;
        plane.lines = 1;
    }
    for (int64_t line = 0; line < plane.lines; line++)
        for (int64_t part = 0; part < plane.length; part += BUFFER / size) {
            int64_t count = integer_min(BUFFER / size, plane.length - part);
            int64_t memory = plane.memory + line * plane.line_step + part * plane.value_step;
            int64_t at = writing->begin[writer->tensor] + (plane.begin + line * plane.pitch + part) * size;
            for (int64_t i = 0; i < count; i++)
                encode(writer, memory + i * plane.value_step, writing->buffer + i * size);
            if (!exchange_write_at(shard->descriptor, writing->buffer, count * size, 8 + shard->header_bytes + at))
                return fail_file(writing, file);
        }
    return STATUS_OK;
}

static enum status write_pieces(struct writing *writing, const struct state_array *arrays,
                                const struct exchange_place *places, int count)
{
    struct writer writer = {.writing = writing};
    for (int i = 0; i < count; i++) {
        writer.tensor = writing->owner[i];
        for (int p = 0; p < arrays[i].piece_count; p++) {
            writer.piece = &arrays[i].pieces[p];
            CHECK(exchange_planes(&places[i], &arrays[i], &writer.piece->box, write_plane, &writer));
        }
    }
    return STATUS_OK;
}

static enum status close_files(struct writing *writing)
{
    enum status status = STATUS_OK;
    for (int file = 0; writing->files && file < writing->file_count; file++) {
        int descriptor = writing->files[file].descriptor;
        writing->files[file].descriptor = -1;
        if (descriptor >= 0 && (fsync(descriptor) != 0) | (close(descriptor) != 0))
            status = fail_file(writing, file);
    }
    return status;
}

static enum status write_index(const struct writing *writing)
{
    char name[EXCHANGE_PATH];
    json_t *map = json_object();
    json_int_t total = 0;
    for (int t = 0; t < writing->tensor_count; t++) {
        file_name(writing, writing->shard[t], "", name);
        json_object_set_new(map, writing->tensors[t]->name, json_string(strrchr(name, '/') + 1));
        total += bytes_of(writing, writing->tensors[t]);
    }
    json_t *root = json_pack("{s:{s:I}, s:o}", "metadata", "total_size", total, "weight_map", map);
    snprintf(name, sizeof name, "%s/model.safetensors.index.json", writing->path);
    int failed = json_dump_file(root, name, JSON_INDENT(2) | JSON_SORT_KEYS);
    json_decref(root);
    return failed ? context_fail(writing->context, STATUS_FILE, "%s: cannot be written", name) : STATUS_OK;
}

static enum status name_files(const struct writing *writing)
{
    char from[EXCHANGE_PATH];
    char to[EXCHANGE_PATH];
    for (int file = 0; file < writing->file_count; file++) {
        file_name(writing, file, ".partial", from);
        file_name(writing, file, "", to);
        if (rename(from, to) != 0)
            return fail_file(writing, file);
    }
    return writing->file_count > 1 ? write_index(writing) : STATUS_OK;
}

static void remove_files(const struct writing *writing)
{
    char name[EXCHANGE_PATH];
    for (int file = 0; file < writing->file_count; file++) {
        file_name(writing, file, ".partial", name);
        unlink(name);
    }
}

static void release(struct writing *writing)
{
    for (int file = 0; writing->files && file < writing->file_count; file++)
        memory_free(writing->context, writing->files[file].header);
    memory_free(writing->context, writing->tensors);
    memory_free(writing->context, writing->owner);
    memory_free(writing->context, writing->shard);
    memory_free(writing->context, writing->begin);
    memory_free(writing->context, writing->files);
    memory_free(writing->context, writing->buffer);
}

enum status exchange_write(struct context *context, struct mesh *mesh, const char *path, enum exchange_type type,
                           int64_t shard_bytes, const struct state_array *arrays, const struct exchange_place *places,
                           int count)
{
    struct writing writing = {
        .context = context, .mesh = mesh, .path = path, .type = type, .first = mesh_rank(mesh, MESH_TEAM) == 0};
    enum status status;
    TRY(mesh_agree(mesh, context, plan(&writing, shard_bytes, places, count)));
    TRY(mesh_agree(mesh, context, writing.first ? open_files(&writing) : STATUS_OK));
    TRY(mesh_agree(mesh, context, writing.first ? STATUS_OK : open_files(&writing)));
    TRY(mesh_agree(mesh, context, write_pieces(&writing, arrays, places, count)));
    TRY(mesh_agree(mesh, context, close_files(&writing)));
    TRY(mesh_agree(mesh, context, writing.first ? name_files(&writing) : STATUS_OK));
done:
    if (status != STATUS_OK) {
        (void)!close_files(&writing);
        if (writing.first && writing.files)
            remove_files(&writing);
    }
    release(&writing);
    return status;
}
