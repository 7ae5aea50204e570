#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "io/config/config.h"
#include "io/config/settings.h"

enum { FILE_SIZE_LIMIT = 1 << 20, GOT_LENGTH = 80, PATH_LENGTH = 512 };

/* The walk over the events of one YAML text. It follows the sections of the table and no others, so its depth and the
 * memory it needs are bounded whatever the text holds. */
struct reader {
    struct setting_source source;
    const char *text;
    size_t length;
    struct config *config;
    yaml_parser_t parser;
    yaml_event_t event;                 /* the present one; released by the next */
    size_t section_line[SETTING_LIMIT]; /* where a section began, at its first row's index; 0 when it has not */
    char path[PATH_LENGTH];             /* of the present key */
};

/* Libyaml gives the place of an encoding error in bytes, of all others as a line. */
static size_t problem_line(const struct reader *reader)
{
    if (reader->parser.error != YAML_READER_ERROR)
        return reader->parser.problem_mark.line + 1;
    size_t line = 1;
    for (size_t i = 0; i < reader->length && i < reader->parser.problem_offset; i++)
        line += reader->text[i] == '\n';
    return line;
}

static size_t event_line(const struct reader *reader)
{
    return reader->event.start_mark.line + 1;
}

static enum status reader_fail(const struct reader *reader, const char *problem)
{
    return context_fail(reader->source.context, STATUS_USAGE, "%s:%zu: %s", reader->source.name, event_line(reader),
                        problem);
}

/* Goes to the next event; refuses what settings have no use for. */
static enum status reader_next(struct reader *reader)
{
    yaml_event_t *event = &reader->event;
    struct context *context = reader->source.context;
    yaml_event_delete(event);
    if (!yaml_parser_parse(&reader->parser, event)) {
        memset(event, 0, sizeof *event);
        if (reader->parser.error == YAML_MEMORY_ERROR)
            return context_fail(context, STATUS_MEMORY, "%s: out of memory while reading", reader->source.name);
        return context_fail(context, STATUS_USAGE, "%s:%zu: not valid YAML: %s", reader->source.name,
                            problem_line(reader), reader->parser.problem ? reader->parser.problem : "unknown problem");
    }
    bool has_anchor = (event->type == YAML_SCALAR_EVENT && event->data.scalar.anchor) ||
                      (event->type == YAML_SEQUENCE_START_EVENT && event->data.sequence_start.anchor) ||
                      (event->type == YAML_MAPPING_START_EVENT && event->data.mapping_start.anchor);
    bool has_tag = (event->type == YAML_SCALAR_EVENT && event->data.scalar.tag) ||
                   (event->type == YAML_SEQUENCE_START_EVENT && event->data.sequence_start.tag) ||
                   (event->type == YAML_MAPPING_START_EVENT && event->data.mapping_start.tag);
    if (has_anchor || event->type == YAML_ALIAS_EVENT)
        return reader_fail(reader, "anchors and aliases (& and *) are not accepted; write the value out");
    if (has_tag)
        return reader_fail(reader, "tags (!) are not accepted; the key decides the type");
    return STATUS_OK;
}

static const char *scalar_text(const struct reader *reader)
{
    return (const char *)reader->event.data.scalar.value;
}

static bool is_scalar(const struct reader *reader)
{
    return reader->event.type == YAML_SCALAR_EVENT;
}

static bool is_plain(const struct reader *reader)
{
    return is_scalar(reader) && reader->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
}

/* A value that is not there, or is spelt as YAML's null. */
static bool is_nothing(const struct reader *reader)
{
    const char *text = is_plain(reader) ? scalar_text(reader) : "none";
    return !text[0] || strcmp(text, "~") == 0 || strcmp(text, "null") == 0;
}

/* What stands at the present event, for a message. */
static void describe_event(const struct reader *reader, char *text, size_t size)
{
    char quoted[GOT_LENGTH - 16];
    const char *what = reader->event.type == YAML_MAPPING_START_EVENT    ? "a map"
                       : reader->event.type == YAML_SEQUENCE_START_EVENT ? "a list"
                       : is_nothing(reader)                              ? "nothing"
                                                                         : NULL;
    if (what) {
        snprintf(text, size, "%s", what);
        return;
    }
    config_quote(scalar_text(reader), reader->event.data.scalar.length, quoted, sizeof quoted);
    snprintf(text, size, "%s%s", is_plain(reader) ? "" : "the text ", quoted);
}

/* Refuses the present event as the value of a setting. */
static enum status refuse_event(const struct reader *reader, const struct setting *setting)
{
    char expected[MESSAGE_LENGTH / 2];
    char got[GOT_LENGTH];
    setting_expectation(setting, false, expected, sizeof expected);
    describe_event(reader, got, sizeof got);
    return setting_fail(&reader->source, setting, "expected %s, got %s", expected, got);
}

static enum status read_scalar(struct reader *reader, const struct setting *setting)
{
    bool takes_quotes = setting->type == SETTING_TEXT || setting->type == SETTING_LIST || setting->type == SETTING_WORD;
    reader->source.line[setting - setting_table] = event_line(reader);
    if (!is_scalar(reader) || is_nothing(reader) || (!takes_quotes && !is_plain(reader)))
        return refuse_event(reader, setting);
    const char *text = scalar_text(reader);
    size_t length = reader->event.data.scalar.length;
    if (!setting_read(setting, text, length, reader->config))
        return setting_refuse(&reader->source, setting, text, length);
    return STATUS_OK;
}

static enum status read_value(struct reader *reader, const struct setting *setting)
{
    if (setting->type != SETTING_LIST)
        return read_scalar(reader, setting);
    setting_clear(setting, reader->config);
    if (reader->event.type != YAML_SEQUENCE_START_EVENT)
        return read_scalar(reader, setting);
    reader->source.line[setting - setting_table] = event_line(reader);
    for (;;) {
        CHECK(reader_next(reader));
        if (reader->event.type == YAML_SEQUENCE_END_EVENT)
            return STATUS_OK;
        CHECK(read_scalar(reader, setting));
    }
}

/* Appends the key at the present event to the path. */
static enum status read_key(struct reader *reader, size_t prefix)
{
    char got[GOT_LENGTH];
    char place[MESSAGE_LENGTH];
    if (!is_scalar(reader) || scalar_text(reader)[0] == '\0') {
        char problem[GOT_LENGTH * 2];
        describe_event(reader, got, sizeof got);
        snprintf(problem, sizeof problem, "expected a key, got %s", got);
        return reader_fail(reader, problem);
    }
    const char *key = scalar_text(reader);
    size_t length = reader->event.data.scalar.length;
    bool is_sane = strlen(key) == length && length < KEY_LENGTH;
    struct config_writer path = {.text = reader->path, .size = sizeof reader->path, .length = prefix};
    config_print(&path, "%.*s", KEY_LENGTH, key);
    if (is_sane && !strchr(key, '.') && (setting_find(reader->path) || setting_section(reader->path) >= 0))
        return STATUS_OK;
    snprintf(place, sizeof place, "%s:%zu: ", reader->source.name, event_line(reader));
    if (is_sane && strchr(key, '.')) {
        config_quote(key, length, got, sizeof got);
        return context_fail(reader->source.context, STATUS_USAGE,
                            "%s%s: unknown key; write nested maps, the point works in --set only", place, got);
    }
    return setting_refuse_key(reader->source.context, place, reader->path);
}

static enum status refuse_duplicate(const struct reader *reader, size_t first)
{
    return context_fail(reader->source.context, STATUS_USAGE, "%s:%zu: %s: given twice; the first is in line %zu",
                        reader->source.name, event_line(reader), reader->path, first);
}

/* Reads the keys of a map whose start is the present event; `prefix` bytes of the path lead to it. */
static enum status read_map(struct reader *reader, size_t prefix)
{
    for (;;) {
        CHECK(reader_next(reader));
        if (reader->event.type == YAML_MAPPING_END_EVENT)
            return STATUS_OK;
        CHECK(read_key(reader, prefix));
        const struct setting *setting = setting_find(reader->path);
        size_t *first = setting ? &reader->source.line[setting - setting_table]
                                : &reader->section_line[setting_section(reader->path)];
        if (*first)
            return refuse_duplicate(reader, *first);
        *first = event_line(reader);
        CHECK(reader_next(reader));
        if (setting) {
            CHECK(read_value(reader, setting));
        } else if (reader->event.type == YAML_MAPPING_START_EVENT) {
            size_t length = strlen(reader->path);
            reader->path[length] = '.';
            reader->path[length + 1] = '\0';
            CHECK(read_map(reader, length + 1));
        } else if (!is_nothing(reader)) {
            char got[GOT_LENGTH];
            describe_event(reader, got, sizeof got);
            return context_fail(reader->source.context, STATUS_USAGE, "%s:%zu: %s: expected a map of keys, got %s",
                                reader->source.name, event_line(reader), reader->path, got);
        }
    }
}

static enum status read_document(struct reader *reader)
{
    struct context *context = reader->source.context;
    char got[GOT_LENGTH];
    CHECK(reader_next(reader)); /* the start of the file */
    CHECK(reader_next(reader));
    if (reader->event.type == YAML_STREAM_END_EVENT)
        return context_fail(context, STATUS_USAGE, "%s: empty; expected a map of settings", reader->source.name);
    CHECK(reader_next(reader));
    if (reader->event.type != YAML_MAPPING_START_EVENT) {
        describe_event(reader, got, sizeof got);
        return context_fail(context, STATUS_USAGE, "%s:%zu: expected a map of settings, got %s", reader->source.name,
                            event_line(reader), got);
    }
    CHECK(read_map(reader, 0));
    CHECK(reader_next(reader)); /* the end of the document */
    CHECK(reader_next(reader));
    if (reader->event.type != YAML_STREAM_END_EVENT)
        return reader_fail(reader, "a second document; expected one");
    return STATUS_OK;
}

static enum status read_text(struct reader *reader)
{
    struct context *context = reader->source.context;
    if (reader->length > FILE_SIZE_LIMIT)
        return context_fail(context, STATUS_USAGE, "%s: larger than %d bytes, which no configuration is",
                            reader->source.name, FILE_SIZE_LIMIT);
    if (!yaml_parser_initialize(&reader->parser))
        return context_fail(context, STATUS_MEMORY, "%s: out of memory while reading", reader->source.name);
    yaml_parser_set_input_string(&reader->parser, (const unsigned char *)reader->text, reader->length);
    enum status status = read_document(reader);
    yaml_event_delete(&reader->event);
    yaml_parser_delete(&reader->parser);
    return status;
}

static enum status apply_override(struct setting_source *source, const char *override, struct config *config)
{
    char key[KEY_LENGTH];
    char quoted[GOT_LENGTH];
    size_t length = strcspn(override, "=");
    config_quote(override, strlen(override), quoted, sizeof quoted);
    if (override[length] == '\0' || length == 0)
        return context_fail(source->context, STATUS_USAGE, "--set %s: expected key.path=value", quoted);
    snprintf(key, sizeof key, "%.*s", (int)(length < sizeof key ? length : sizeof key), override);
    const struct setting *setting = length < sizeof key ? setting_find(key) : NULL;
    if (!setting)
        return setting_refuse_key(source->context, "--set ", key);
    const char *value = override + length + 1;
    source->override[setting - setting_table] = override;
    if (!setting_assign(setting, value, config))
        return setting_refuse(source, setting, value, strlen(value));
    return STATUS_OK;
}

static enum status set_defaults(const struct setting_source *source, struct config *config)
{
    memset(config, 0, sizeof *config);
    for (int i = 0; i < setting_count; i++)
        if (setting_table[i].default_kind == DEFAULT_GIVEN &&
            !setting_assign(&setting_table[i], setting_table[i].standard, config))
            return context_fail(source->context, STATUS_INTERNAL, "%s: its default is refused", setting_table[i].key);
    return STATUS_OK;
}

static enum status parse(struct setting_source source, const char *text, size_t length, const char *const *overrides,
                         int override_count, struct config *config)
{
    struct reader reader = {.source = source, .text = text, .length = length, .config = config};
    CHECK(set_defaults(&reader.source, config));
    CHECK(read_text(&reader));
    for (int i = 0; i < override_count; i++)
        CHECK(apply_override(&reader.source, overrides[i], config));
    return config_check(&reader.source, config);
}

enum status config_parse(struct context *context, const char *name, const char *text, size_t length,
                         const char *const *overrides, int override_count, struct config *config)
{
    struct setting_source source = {.context = context, .name = name};
    return parse(source, text, length, overrides, override_count, config);
}

enum status config_parse_model(struct context *context, const char *name, const char *text, size_t length,
                               struct model_config *model)
{
    struct setting_source source = {.context = context, .name = name, .model_only = true};
    struct config *config = memory_allocate(context, sizeof *config, MEMORY_OTHER);
    if (!config)
        return context->status;
    enum status status = parse(source, text, length, NULL, 0, config);
    if (status == STATUS_OK)
        *model = config->model;
    memory_free(context, config);
    return status;
}

enum status config_load(struct context *context, const char *path, const char *const *overrides, int override_count,
                        struct config *config)
{
    enum status status = STATUS_OK;
    char *text = NULL;
    size_t length = 0;
    FILE *file = fopen(path, "rb");
    if (!file)
        return context_fail(context, STATUS_USAGE, "%s: cannot be opened: %s", path, strerror(errno));
    text = memory_allocate(context, FILE_SIZE_LIMIT + 1, MEMORY_OTHER);
    if (!text) {
        status = context->status;
        goto done;
    }
    length = fread(text, 1, FILE_SIZE_LIMIT + 1, file);
    if (ferror(file)) {
        status = context_fail(context, STATUS_USAGE, "%s: cannot be read: %s", path, strerror(errno));
        goto done;
    }
    status = config_parse(context, path, text, length, overrides, override_count, config);
done:
    memory_free(context, text);
    fclose(file);
    return status;
}
