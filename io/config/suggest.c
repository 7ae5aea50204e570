#include <stdio.h>
#include <string.h>

#include "io/config/settings.h"
#include "src/core/suggest.h"

enum { SHOWN_LENGTH = 160 };

/* The name that row `index` gives inside the section of `prefix` bytes ("attention" of "model.attention.segment");
 * false when the row is outside it or the row before has the same. */
static bool name_in_section(const char *section, size_t prefix, int index, char *name)
{
    const char *key = setting_table[index].key;
    if (strncmp(key, section, prefix) != 0)
        return false;
    size_t length = strcspn(key + prefix, ".");
    memcpy(name, key + prefix, length);
    name[length] = '\0';
    return index == 0 || strncmp(setting_table[index - 1].key, key, prefix + length) != 0 ||
           (setting_table[index - 1].key[prefix + length] != '.' &&
            setting_table[index - 1].key[prefix + length] != '\0');
}

/* The bytes of `key` that name an existing section, its point included. */
static size_t known_prefix(const char *key)
{
    char path[KEY_LENGTH];
    size_t prefix = 0;
    for (;;) {
        size_t length = prefix + strcspn(key + prefix, ".");
        if (key[length] != '.' || length >= sizeof path)
            return prefix;
        memcpy(path, key, length);
        path[length] = '\0';
        if (setting_section(path) < 0)
            return prefix;
        prefix = length + 1;
    }
}

/* The key a person may have meant: one of the same section that is close, or the same name in another section. */
static bool suggest_key(const char *key, size_t prefix, char *suggestion)
{
    char wrong[KEY_LENGTH];
    char name[KEY_LENGTH];
    size_t length = strcspn(key + prefix, ".");
    if (length == 0 || length >= sizeof wrong)
        return false;
    memcpy(wrong, key + prefix, length);
    wrong[length] = '\0';
    size_t limit = suggest_limit(length);
    size_t best = limit + 1;
    for (int i = 0; i < setting_count; i++) {
        if (!name_in_section(key, prefix, i, name))
            continue;
        size_t distance = suggest_distance(wrong, name);
        if (distance < best) {
            best = distance;
            snprintf(suggestion, KEY_LENGTH, "%.*s", (int)(prefix + strlen(name)), setting_table[i].key);
        }
    }
    for (int i = 0; i < setting_count && best > limit; i++) {
        if (strcmp(strrchr(setting_table[i].key, '.') + 1, wrong) == 0) {
            best = 0;
            snprintf(suggestion, KEY_LENGTH, "%s", setting_table[i].key);
        }
    }
    return best <= limit;
}

enum status setting_refuse_key(struct context *context, const char *place, const char *key)
{
    char suggestion[KEY_LENGTH];
    char quoted[SHOWN_LENGTH];
    char list[MESSAGE_LENGTH];
    char name[KEY_LENGTH];
    struct config_writer writer = {.text = list, .size = sizeof list};
    size_t prefix = known_prefix(key);
    config_quote(key, strlen(key), quoted, sizeof quoted);
    quoted[strlen(quoted) - 1] = '\0';
    if (setting_section(key) >= 0)
        return context_fail(context, STATUS_USAGE, "%s%s: a map of keys, not a value", place, quoted + 1);
    if (suggest_key(key, prefix, suggestion))
        return context_fail(context, STATUS_USAGE, "%s%s: unknown key; did you mean %s?", place, quoted + 1,
                            suggestion);
    for (int i = 0; i < setting_count; i++)
        if (name_in_section(key, prefix, i, name))
            config_print(&writer, "%s%s", writer.length ? ", " : "", name);
    return context_fail(context, STATUS_USAGE, "%s%s: unknown key; expected one of %s", place, quoted + 1, list);
}
