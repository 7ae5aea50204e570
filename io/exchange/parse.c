/* The header of a safetensors file. Nothing in it is believed: sizes follow from shapes, and tensors have to cover the
 * rest of the file without holes and overlaps, so that a small file cannot stand for a large one or hide another. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/exchange/exchange_private.h"
#include "src/core/text.h"

static const struct {
    const char *name;
    int bits;
    enum exchange_type type;
} types[] = {
    {"F32", 32, EXCHANGE_F32},          {"F16", 16, EXCHANGE_F16},      {"BF16", 16, EXCHANGE_BF16},
    {"F64", 64, EXCHANGE_OTHER},        {"C64", 64, EXCHANGE_OTHER},    {"I64", 64, EXCHANGE_OTHER},
    {"U64", 64, EXCHANGE_OTHER},        {"I32", 32, EXCHANGE_OTHER},    {"U32", 32, EXCHANGE_OTHER},
    {"I16", 16, EXCHANGE_OTHER},        {"U16", 16, EXCHANGE_OTHER},    {"I8", 8, EXCHANGE_OTHER},
    {"U8", 8, EXCHANGE_OTHER},          {"BOOL", 8, EXCHANGE_OTHER},    {"F8_E5M2", 8, EXCHANGE_OTHER},
    {"F8_E4M3", 8, EXCHANGE_OTHER},     {"F8_E8M0", 8, EXCHANGE_OTHER}, {"F8_E4M3FNUZ", 8, EXCHANGE_OTHER},
    {"F8_E5M2FNUZ", 8, EXCHANGE_OTHER}, {"F6_E2M3", 6, EXCHANGE_OTHER}, {"F6_E3M2", 6, EXCHANGE_OTHER},
    {"F4", 4, EXCHANGE_OTHER},
};

enum { TYPES = sizeof types / sizeof *types };

const char *exchange_shape_text(const int64_t *shape, int rank, char text[EXCHANGE_NAME])
{
    int used = snprintf(text, EXCHANGE_NAME, "[");
    for (int d = 0; d < rank && used < EXCHANGE_NAME; d++)
        used += snprintf(text + used, (size_t)(EXCHANGE_NAME - used), "%s%lld", d ? ", " : "", (long long)shape[d]);
    if (used < EXCHANGE_NAME)
        snprintf(text + used, (size_t)(EXCHANGE_NAME - used), "]");
    return text;
}

/* What is being read. */
struct parsing {
    struct exchange_folder *folder;
    int file;
    int64_t data; /* where the tensors begin */
    int64_t size;
};

#define REFUSE(parsing, name, ...) refuse(parsing, name, __VA_ARGS__)

static PRINTF_LIKE(3, 4) enum status refuse(const struct parsing *parsing, const char *name, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return context_fail(parsing->folder->context, STATUS_FILE, "%s/%s: %s%.100s%s%s", parsing->folder->path,
                        parsing->folder->files[parsing->file], name ? "tensor " : "", name ? name : "",
                        name ? ": " : "", text);
}

static enum status read_shape(const struct parsing *parsing, const json_t *shape, int bits,
                              struct exchange_tensor *tensor)
{
    if (!json_is_array(shape) || json_array_size(shape) > EXCHANGE_RANK)
        return REFUSE(parsing, tensor->name, "expected a shape of at most %d dimensions", EXCHANGE_RANK);
    int64_t total = bits;
    tensor->rank = (int)json_array_size(shape);
    for (int d = 0; d < tensor->rank; d++) {
        const json_t *extent = json_array_get(shape, (size_t)d);
        tensor->shape[d] = json_integer_value(extent);
        if (!json_is_integer(extent) || tensor->shape[d] < 0 || __builtin_mul_overflow(total, tensor->shape[d], &total))
            return REFUSE(parsing, tensor->name, "the shape is no shape of a tensor");
    }
    if (total % 8 != 0)
        return REFUSE(parsing, tensor->name, "%lld bits are no whole bytes", (long long)total);
    tensor->bytes = total / 8;
    return STATUS_OK;
}

static enum status read_offsets(const struct parsing *parsing, const json_t *offsets, struct exchange_tensor *tensor)
{
    const json_t *first = json_array_get(offsets, 0);
    const json_t *last = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(first) || !json_is_integer(last))
        return REFUSE(parsing, tensor->name, "expected data_offsets [BEGIN, END]");
    int64_t begin = json_integer_value(first);
    int64_t end = json_integer_value(last);
    if (begin < 0 || end < begin || end > parsing->size - parsing->data)
        return REFUSE(parsing, tensor->name, "data_offsets [%lld, %lld] are outside of the %lld bytes of tensors",
                      (long long)begin, (long long)end, (long long)(parsing->size - parsing->data));
    if (end - begin != tensor->bytes)
        return REFUSE(parsing, tensor->name, "%lld bytes by its shape, but %lld by its data_offsets",
                      (long long)tensor->bytes, (long long)(end - begin));
    tensor->begin = parsing->data + begin;
    return STATUS_OK;
}

static enum status read_tensor(const struct parsing *parsing, const char *name, const json_t *value,
                               struct exchange_tensor *tensor)
{
    const char *type = json_string_value(json_object_get(value, "dtype"));
    *tensor = (struct exchange_tensor){.file = parsing->file};
    if (!text_copy(tensor->name, sizeof tensor->name, name))
        return REFUSE(parsing, name, "the name is longer than %d bytes", EXCHANGE_NAME - 1);
    if (!type)
        return REFUSE(parsing, name, "has no dtype");
    for (int i = 0; i < TYPES; i++)
        if (strcmp(type, types[i].name) == 0) {
            tensor->type = types[i].type;
            text_copy(tensor->type_name, sizeof tensor->type_name, type);
            CHECK(read_shape(parsing, json_object_get(value, "shape"), types[i].bits, tensor));
            return read_offsets(parsing, json_object_get(value, "data_offsets"), tensor);
        }
    return REFUSE(parsing, name, "unknown dtype \"%.32s\"", type);
}

static int by_offset(const void *a, const void *b)
{
    const struct exchange_tensor *x = a;
    const struct exchange_tensor *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

/* In the order of their bytes each begins where the last one ended. */
static enum status check_cover(const struct parsing *parsing, int64_t first)
{
    struct exchange_tensor *tensors = parsing->folder->tensors;
    int64_t count = parsing->folder->count;
    int64_t next = parsing->data;
    if (count > first)
        qsort(tensors + first, (size_t)(count - first), sizeof *tensors, by_offset);
    for (int64_t i = first; i < count; i++) {
        if (tensors[i].begin != next)
            return REFUSE(parsing, tensors[i].name, "%s of %lld bytes before it",
                          tensors[i].begin < next ? "an overlap" : "a hole",
                          llabs((long long)(tensors[i].begin - next)));
        next += tensors[i].bytes;
    }
    if (next != parsing->size)
        return REFUSE(parsing, NULL, "%lld bytes too many behind the last tensor", (long long)(parsing->size - next));
    return STATUS_OK;
}

static enum status make_room(struct exchange_folder *folder, int64_t more)
{
    if (folder->count + more <= folder->room)
        return STATUS_OK;
    struct exchange_tensor *larger =
        memory_allocate(folder->context, (size_t)(folder->count + more) * sizeof *larger, MEMORY_OTHER);
    if (!larger)
        return STATUS_MEMORY;
    if (folder->count > 0)
        memcpy(larger, folder->tensors, (size_t)folder->count * sizeof *larger);
    memory_free(folder->context, folder->tensors);
    folder->tensors = larger;
    folder->room = folder->count + more;
    return STATUS_OK;
}

static enum status check_metadata(const struct parsing *parsing, json_t *metadata)
{
    const char *key;
    json_t *value;
    if (!json_is_object(metadata))
        return REFUSE(parsing, NULL, "__metadata__: expected texts by name");
    json_object_foreach(metadata, key, value) if (!json_is_string(value)) return REFUSE(
        parsing, NULL, "__metadata__: %.100s is no text", key);
    return STATUS_OK;
}

static enum status read_tensors(const struct parsing *parsing, json_t *header)
{
    struct exchange_folder *folder = parsing->folder;
    int64_t before = folder->count;
    const char *name;
    json_t *value;
    CHECK(make_room(folder, (int64_t)json_object_size(header)));
    json_object_foreach(header, name, value)
    {
        if (strcmp(name, "__metadata__") == 0)
            CHECK(check_metadata(parsing, value));
        else
            CHECK(read_tensor(parsing, name, value, &folder->tensors[folder->count++]));
    }
    return check_cover(parsing, before);
}

enum status exchange_parse(struct exchange_folder *folder, int file, const char *header, int64_t length, int64_t size)
{
    struct parsing parsing = {.folder = folder, .file = file, .data = 8 + length, .size = size};
    json_error_t error;
    if (length < 1 || header[0] != '{')
        return REFUSE(&parsing, NULL, "the header is no JSON object; it is no safetensors file");
    /* Without this jansson takes the last of several. */
    json_t *object = json_loadb(header, (size_t)length, JSON_REJECT_DUPLICATES, &error);
    if (!object)
        return REFUSE(&parsing, NULL, "the header is no JSON: %s", error.text);
    enum status status = read_tensors(&parsing, object);
    json_decref(object);
    return status;
}
