#include <stdio.h>
#include <string.h>

#include "io/config/config.h"
#include "io/config/settings.h"

enum { LINE_WIDTH = 99 };

/* The bytes of a key path before its last point: its section. */
static size_t section_length(const char *key)
{
    return (size_t)(strrchr(key, '.') - key);
}

static int depth_of(const char *key, size_t length)
{
    int depth = 0;
    for (size_t i = 0; i < length; i++)
        depth += key[i] == '.';
    return depth;
}

/* Opens the maps of `key` that are not open since the row before it. */
static void write_sections(const char *key, const char *before, struct config_writer *writer)
{
    for (const char *end = strchr(key, '.'); end; end = strchr(end + 1, '.')) {
        size_t length = (size_t)(end - key);
        if (strncmp(key, before, length + 1) == 0)
            continue;
        int depth = depth_of(key, length);
        size_t start = length;
        while (start > 0 && key[start - 1] != '.')
            start--;
        config_print(writer, "%*s%.*s:\n", depth * 2, "", (int)(length - start), key + start);
    }
}

static void write_list(const struct setting *setting, const struct config *config, int indent,
                       struct config_writer *writer)
{
    const struct text_list *list = (const struct text_list *)(const void *)((const char *)config + setting->offset);
    if (list->count == 0)
        config_print(writer, " []");
    for (int i = 0; i < list->count; i++) {
        config_print(writer, "\n%*s- ", indent + 2, "");
        setting_write(setting, config, i, writer);
    }
}

size_t config_format(const struct config *config, char *text, size_t size)
{
    struct config_writer writer = {.text = text, .size = size};
    if (size > 0)
        text[0] = '\0';
    const char *before = "";
    for (int i = 0; i < setting_count; i++) {
        const struct setting *setting = &setting_table[i];
        int indent = 2 * depth_of(setting->key, strlen(setting->key));
        if (!setting_belongs(setting, config->model.family))
            continue;
        write_sections(setting->key, before, &writer);
        before = setting->key;
        config_print(&writer, "%*s%s:", indent, "", strrchr(setting->key, '.') + 1);
        if (setting->type == SETTING_LIST) {
            write_list(setting, config, indent, &writer);
        } else {
            config_print(&writer, " ");
            setting_write(setting, config, 0, &writer);
        }
        config_print(&writer, "\n");
    }
    return writer.length;
}

size_t config_value(const struct config *config, const char *key, char *text, size_t size)
{
    const struct setting *setting = setting_find(key);
    struct config_writer writer = {.text = text, .size = size};
    int items = 1;
    if (setting->type == SETTING_LIST)
        items = ((const struct text_list *)(const void *)((const char *)config + setting->offset))->count;
    if (size > 0)
        text[0] = '\0';
    for (int i = 0; i < items; i++) {
        config_print(&writer, "%s", i > 0 ? ", " : "");
        setting_write(setting, config, i, &writer);
    }
    return writer.length;
}

static size_t model_value(const struct setting *setting, const struct model_config *model, char *text, size_t size)
{
    /* Rows count from the start of struct config, of which the model is the first part. */
    _Static_assert(offsetof(struct config, model) == 0, "the model stands first");
    struct config_writer writer = {.text = text, .size = size};
    setting_write(setting, (const struct config *)(const void *)model, 0, &writer);
    return writer.length;
}

enum status config_same_model(struct context *context, const struct model_config *a, const struct model_config *b,
                              const char *name_a, const char *name_b)
{
    for (int i = 0; i < setting_count; i++) {
        char value_a[TEXT_LENGTH + 2];
        char value_b[TEXT_LENGTH + 2];
        if (setting_table[i].offset >= sizeof(struct model_config))
            continue;
        model_value(&setting_table[i], a, value_a, sizeof value_a);
        model_value(&setting_table[i], b, value_b, sizeof value_b);
        if (strcmp(value_a, value_b) != 0)
            return context_fail(context, STATUS_USAGE, "%s: %s in %s, but %s in %s", setting_table[i].key, value_a,
                                name_a, value_b, name_b);
    }
    return STATUS_OK;
}

static const char *name_of(const struct setting *setting)
{
    return strrchr(setting->key, '.') + 1;
}

/* Where explanations begin: behind the longest name. */
static int help_column(void)
{
    size_t longest = 0;
    for (int i = 0; i < setting_count; i++)
        if (strlen(name_of(&setting_table[i])) > longest)
            longest = strlen(name_of(&setting_table[i]));
    return (int)longest + 4;
}

/* Prints words from column `begin` on, breaking lines there. */
static void print_wrapped(FILE *out, const char *text, int begin)
{
    int column = begin;
    while (text[0]) {
        int length = (int)strcspn(text, " ");
        if (column > begin && column + 1 + length > LINE_WIDTH) {
            fprintf(out, "\n%*s", begin, "");
            column = begin;
        }
        if (column > begin) {
            fputc(' ', out);
            column++;
        }
        fprintf(out, "%.*s", length, text);
        column += length;
        text += length;
        text += strspn(text, " ");
    }
}

static void describe_setting(FILE *out, const struct setting *setting)
{
    char value[MESSAGE_LENGTH];
    struct config_writer writer = {.text = value, .size = sizeof value};
    const char *const *words = setting_at(offsetof(struct config, model.family))->words;
    int families = 0;
    setting_expectation(setting, false, value, sizeof value);
    writer.length = strlen(value);
    if (setting->default_kind == DEFAULT_REQUIRED)
        config_print(&writer, "; required");
    else if (setting->standard[0] == '\0')
        config_print(&writer, "; default empty");
    else
        config_print(&writer, "; default %s", setting->standard);
    for (int family = 0; family < FAMILIES; family++)
        if (setting->standard_of[family])
            config_print(&writer, " (%s: %s)", words[family], setting->standard_of[family]);
    for (int family = 0; family < FAMILIES; family++)
        if (setting->families && setting_belongs(setting, (enum model_family)family)) {
            config_print(&writer, "%s%s", families++ ? " or " : "; family ", words[family]);
        }
    int column = help_column();
    fprintf(out, "  %-*s", column - 2, name_of(setting));
    print_wrapped(out, value, column);
    fprintf(out, "\n%*s", column, "");
    print_wrapped(out, setting->help, column);
    fputc('\n', out);
}

/* Whether a person who writes `words` means this setting: its path, its name alone, or a section around it. */
static bool is_meant(const struct setting *setting, const char *words)
{
    size_t length = strlen(words);
    return !words[0] || strcmp(setting->key, words) == 0 || strcmp(name_of(setting), words) == 0 ||
           (strncmp(setting->key, words, length) == 0 && setting->key[length] == '.');
}

enum status config_describe(struct context *context, FILE *out, const char *words)
{
    const struct setting *last = NULL;
    for (int i = 0; i < setting_count; i++) {
        const struct setting *setting = &setting_table[i];
        size_t length = section_length(setting->key);
        if (!is_meant(setting, words))
            continue;
        if (!last || section_length(last->key) != length || strncmp(last->key, setting->key, length) != 0)
            fprintf(out, "%s%.*s\n", last ? "\n" : "", (int)length, setting->key);
        describe_setting(out, setting);
        last = setting;
    }
    return last ? STATUS_OK : setting_refuse_key(context, "", words);
}
