#include <stdlib.h>
#include <string.h>

#include "io/config/config.h"
#include "io/config/settings.h"

/* The value of a setting on one line; the items of a list are separated by commas. */
static void value_of(const struct setting *setting, const struct config *config, char *text, size_t size)
{
    struct config_writer writer = {.text = text, .size = size};
    const struct text_list *list = (const struct text_list *)(const void *)((const char *)config + setting->offset);
    int items = setting->type == SETTING_LIST ? list->count : 1;
    text[0] = '\0';
    for (int i = 0; i < items; i++) {
        config_print(&writer, "%s", i ? ", " : "");
        setting_write(setting, config, i, &writer);
    }
}

void config_visit(const struct config *config, void (*visit)(void *self, const char *key, const char *value),
                  void *self)
{
    enum { LONGEST = 8 * TEXT_LENGTH * TEXT_LIST_ITEMS }; /* every byte escaped */
    char *value = malloc(LONGEST);
    for (int i = 0; i < setting_count && value; i++) {
        if (!setting_belongs(&setting_table[i], config->model.family))
            continue;
        value_of(&setting_table[i], config, value, LONGEST);
        visit(self, setting_table[i].key, value);
    }
    free(value);
}

/* What is shown is cut; texts may differ behind that. */
static bool texts_alike(const struct setting *setting, const struct config *a, const struct config *b)
{
    const char *first = (const char *)a + setting->offset;
    const char *second = (const char *)b + setting->offset;
    if (setting->type == SETTING_TEXT)
        return strcmp(first, second) == 0;
    if (setting->type != SETTING_LIST)
        return true;
    const struct text_list *list = (const struct text_list *)(const void *)first;
    const struct text_list *other = (const struct text_list *)(const void *)second;
    bool alike = list->count == other->count;
    for (int i = 0; i < list->count && alike; i++)
        alike = strcmp(list->item[i], other->item[i]) == 0;
    return alike;
}

void config_differences(const struct config *const *configs, int count, config_visitor visit, void *self)
{
    enum { MOST = 64 };
    char values[MOST][CONFIG_VALUE];
    if (count > MOST)
        count = MOST;
    for (int i = 0; i < setting_count; i++) {
        bool alike = true;
        for (int j = 0; j < count; j++) {
            value_of(&setting_table[i], configs[j], values[j], sizeof values[j]);
            alike =
                alike && strcmp(values[j], values[0]) == 0 && texts_alike(&setting_table[i], configs[j], configs[0]);
        }
        if (!alike)
            visit(self, setting_table[i].key, (const char(*)[CONFIG_VALUE])values, count);
    }
}
