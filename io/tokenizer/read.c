/* The file tokenizer.json: its parts in their order, and what they share. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "io/tokenizer/tokenizer_private.h"

enum { LARGEST_FILE = 1 << 28 };

enum status reading_refuse(const struct reading *reading, const char *where, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return context_fail(reading->context, STATUS_FILE, "%s: %s%s%s", reading->name, where, *where ? ": " : "", text);
}

enum status reading_flag(const struct reading *reading, const char *where, const json_t *object, const char *key,
                         bool *flag)
{
    const json_t *value = json_object_get(object, key);
    if (!value || json_is_null(value))
        return STATUS_OK;
    if (!json_is_boolean(value))
        return reading_refuse(reading, where, "%s: expected true or false", key);
    *flag = json_is_true(value);
    return STATUS_OK;
}

enum status reading_text(const struct reading *reading, const char *where, const json_t *object, const char *key,
                         const char **text)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_string(value))
        return reading_refuse(reading, where, "expected a text as \"%s\"", key);
    *text = json_string_value(value);
    if (strlen(*text) != json_string_length(value))
        return reading_refuse(reading, where, "%s: has a NUL inside", key);
    return STATUS_OK;
}

enum status reading_pattern(const struct reading *reading, const char *where, const json_t *object,
                            struct pattern **pattern)
{
    char name[1280];
    const json_t *form = json_object_get(object, "pattern");
    bool plain = json_object_get(form, "String") != NULL;
    const char *text = "";
    CHECK(reading_text(reading, where, form, plain ? "String" : "Regex", &text));
    snprintf(name, sizeof name, "%.1000s: %s", reading->name, where);
    return pattern_create(reading->context, name, text, (int64_t)strlen(text), plain, pattern);
}

/* -- The whole -- */

static enum status read_root(const struct reading *reading, json_t *root)
{
    CHECK(read_normalizer(reading, json_object_get(root, "normalizer")));
    CHECK(read_split(reading, json_object_get(root, "pre_tokenizer")));
    CHECK(read_model(reading, json_object_get(root, "model")));
    CHECK(read_added(reading, json_object_get(root, "added_tokens")));
    CHECK(read_frame(reading, json_object_get(root, "post_processor")));
    CHECK(read_decoder(reading, json_object_get(root, "decoder")));
    return tokenizer_finish(reading, root);
}

enum status tokenizer_parse(struct context *context, const char *name, const char *text, int64_t length,
                            struct tokenizer **tokenizer)
{
    json_error_t error;
    struct reading reading = {.context = context, .name = name};
    json_t *root = json_loadb(text, (size_t)length, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    *tokenizer = NULL;
    if (!root)
        return reading_refuse(&reading, "", "is no JSON: line %d: %s", error.line, error.text);
    enum status status = STATUS_OK;
    if (!json_is_object(json_object_get(root, "model")))
        status = reading_refuse(&reading, "", "is no tokenizer.json: it has no \"model\"");
    else if (!(*tokenizer = reading.tokenizer = tokenizer_create(context)))
        status = STATUS_MEMORY;
    if (status == STATUS_OK)
        status = read_root(&reading, root);
    json_decref(root);
    if (status != STATUS_OK)
        tokenizer_close(tokenizer);
    return status;
}

static enum status read_file(struct context *context, const char *path, FILE *file, struct bytes *text)
{
    struct stat entry;
    if (fstat(fileno(file), &entry) != 0 || !S_ISREG(entry.st_mode))
        return context_fail(context, STATUS_FILE, "%s: is not a file; name a tokenizer.json", path);
    if (entry.st_size > LARGEST_FILE)
        return context_fail(context, STATUS_FILE, "%s: its %lld bytes are more than a tokenizer.json has (%d)", path,
                            (long long)entry.st_size, LARGEST_FILE);
    CHECK(bytes_reserve(text, entry.st_size + 1));
    text->count = (int64_t)fread(text->data, 1, (size_t)entry.st_size, file);
    if (text->count != entry.st_size)
        return context_fail(context, STATUS_FILE, "%s: cannot be read: %s", path, strerror(errno));
    return STATUS_OK;
}

enum status tokenizer_open(struct context *context, const char *path, struct tokenizer **tokenizer)
{
    struct bytes text = {.context = context};
    FILE *file = fopen(path, "rb");
    *tokenizer = NULL;
    if (!file)
        return context_fail(context, STATUS_FILE, "%s: cannot be read: %s", path, strerror(errno));
    enum status status = read_file(context, path, file, &text);
    fclose(file);
    if (status == STATUS_OK)
        status = tokenizer_parse(context, path, text.data, text.count, tokenizer);
    bytes_release(&text);
    return status;
}
