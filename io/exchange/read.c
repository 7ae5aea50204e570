/* This rank's slices out of a folder, through a buffer of a few MiB. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "io/exchange/exchange_private.h"

enum { BUFFER = 4 << 20 };

static const int64_t long_line = 1 << 16; /* bytes from which on lines are read one by one */

static float half_to_float(uint16_t half)
{
    uint32_t sign = (uint32_t)(half >> 15) << 31;
    uint32_t exponent = half >> 10 & 31;
    uint32_t fraction = half & 1023;
    uint32_t bits;
    float value;
    if (exponent == 0) { /* subnormal: fraction times 2^-24 */
        value = (float)fraction * 0x1p-24f;
        return sign ? -value : value;
    }
    bits = exponent == 31 ? sign | 0x7f800000 | fraction << 13 : sign | (exponent + 112) << 23 | fraction << 13;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static float decode(enum exchange_type type, const unsigned char *bytes)
{
    uint32_t low = (uint32_t)(bytes[0] | bytes[1] << 8);
    float value;
    if (type == EXCHANGE_F16)
        return half_to_float((uint16_t)low);
    if (type == EXCHANGE_BF16)
        return bf16_to_float((bf16)low);
    low |= (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
    memcpy(&value, &low, sizeof value);
    return value;
}

struct reader {
    struct exchange_folder *folder;
    const struct exchange_tensor *tensor;
    const struct state_piece *piece;
    unsigned char *buffer;
};

static enum status find_descriptor(const struct reader *reader, int *descriptor)
{
    struct exchange_folder *folder = reader->folder;
    int file = reader->tensor->file;
    char path[EXCHANGE_PATH + EXCHANGE_FILE];
    if (folder->descriptors[file] < 0) {
        snprintf(path, sizeof path, "%s/%s", folder->path, folder->files[file]);
        folder->descriptors[file] = open(path, O_RDONLY | O_CLOEXEC);
        if (folder->descriptors[file] < 0)
            return context_fail(folder->context, STATUS_FILE, "%s: %s", path, strerror(errno));
    }
    *descriptor = folder->descriptors[file];
    return STATUS_OK;
}

/* Elements from `first` of the tensor on into the buffer. */
static enum status fetch(const struct reader *reader, int64_t first, int64_t count)
{
    const struct exchange_folder *folder = reader->folder;
    int64_t size = exchange_size(reader->tensor->type);
    int descriptor;
    CHECK(find_descriptor(reader, &descriptor));
    if (exchange_read_at(descriptor, reader->buffer, count * size, reader->tensor->begin + first * size))
        return STATUS_OK;
    return context_fail(folder->context, STATUS_FILE, "%s/%s: tensor %s: %s", folder->path,
                        folder->files[reader->tensor->file], reader->tensor->name,
                        errno ? strerror(errno) : "the file has become shorter");
}

static void store(const struct reader *reader, int64_t from, int64_t count, int64_t memory, int64_t step)
{
    enum exchange_type type = reader->tensor->type;
    int64_t size = exchange_size(type);
    const struct state_piece *piece = reader->piece;
    for (int64_t i = 0; i < count; i++) {
        float value = decode(type, reader->buffer + (from + i) * size);
        if (piece->data)
            piece->data[memory + i * step] = value;
        else
            piece->values[memory + i * step] = bf16_from_float(value);
    }
}

/* Short lines are read with what lies between them, as many as the buffer takes; long ones in parts. */
static enum status read_plane(void *self, const struct exchange_plane *plane)
{
    const struct reader *reader = self;
    int64_t size = exchange_size(reader->tensor->type);
    int64_t most = BUFFER / size;
    bool together = plane->length * size < long_line || plane->length == plane->pitch;
    int64_t lines = together && plane->pitch <= most ? 1 + (most - plane->length) / plane->pitch : 1;
    for (int64_t line = 0; line < plane->lines; line += lines) {
        int64_t count = integer_min(lines, plane->lines - line);
        int64_t first = plane->begin + line * plane->pitch;
        for (int64_t part = 0; part < plane->length; part += most) {
            int64_t length = integer_min(most, plane->length - part);
            CHECK(fetch(reader, first + part, (count - 1) * plane->pitch + length));
            for (int64_t i = 0; i < count; i++)
                store(reader, i * plane->pitch, length,
                      plane->memory + (line + i) * plane->line_step + part * plane->value_step, plane->value_step);
        }
    }
    return STATUS_OK;
}

static enum status check_tensor(const struct exchange_folder *folder, const struct exchange_place *place,
                                const struct exchange_tensor *tensor)
{
    char given[EXCHANGE_NAME];
    char wanted[EXCHANGE_NAME];
    if (!tensor)
        return context_fail(folder->context, STATUS_FILE, "%s: has no tensor %s", folder->path, place->name);
    bool same = tensor->rank == place->rank;
    for (int d = 0; same && d < place->rank; d++)
        same = tensor->shape[d] == place->shape[d];
    if (!same)
        return context_fail(folder->context, STATUS_FILE, "%s/%s: tensor %s: has shape %s, but config.json says %s",
                            folder->path, folder->files[tensor->file], place->name,
                            exchange_shape_text(tensor->shape, tensor->rank, given),
                            exchange_shape_text(place->shape, place->rank, wanted));
    if (tensor->type == EXCHANGE_OTHER)
        return context_fail(folder->context, STATUS_FILE,
                            "%s/%s: tensor %s: has dtype %s; expected F32, F16 or BF16, for quantised models are not "
                            "read",
                            folder->path, folder->files[tensor->file], place->name, tensor->type_name);
    return STATUS_OK;
}

enum status exchange_read(struct exchange_folder *folder, const struct state_array *arrays,
                          const struct exchange_place *places, int count)
{
    struct reader reader = {.folder = folder, .buffer = memory_allocate(folder->context, BUFFER, MEMORY_OTHER)};
    enum status status = reader.buffer ? STATUS_OK : STATUS_MEMORY;
    for (int i = 0; status == STATUS_OK && i < count; i++) {
        reader.tensor = exchange_find(folder, places[i].name);
        status = check_tensor(folder, &places[i], reader.tensor);
        for (int p = 0; status == STATUS_OK && p < arrays[i].piece_count; p++) {
            reader.piece = &arrays[i].pieces[p];
            status = exchange_planes(&places[i], &arrays[i], &reader.piece->box, read_plane, &reader);
        }
    }
    memory_free(folder->context, reader.buffer);
    return status;
}

enum status exchange_same(struct exchange_folder *folder, const struct exchange_tensor *a,
                          const struct exchange_tensor *b, bool *same)
{
    struct reader first = {.folder = folder, .tensor = a};
    struct reader second = {.folder = folder, .tensor = b};
    *same = a->bytes == b->bytes && a->type == b->type && a->type != EXCHANGE_OTHER;
    if (!*same)
        return STATUS_OK;
    int64_t size = exchange_size(a->type);
    first.buffer = memory_allocate(folder->context, BUFFER, MEMORY_OTHER);
    second.buffer = memory_allocate(folder->context, BUFFER, MEMORY_OTHER);
    enum status status = first.buffer && second.buffer ? STATUS_OK : STATUS_MEMORY;
    for (int64_t at = 0; status == STATUS_OK && *same && at < a->bytes; at += BUFFER) {
        int64_t bytes = integer_min(BUFFER, a->bytes - at);
        status = fetch(&first, at / size, bytes / size);
        if (status == STATUS_OK)
            status = fetch(&second, at / size, bytes / size);
        *same = memcmp(first.buffer, second.buffer, (size_t)bytes) == 0;
    }
    memory_free(folder->context, first.buffer);
    memory_free(folder->context, second.buffer);
    return status;
}
