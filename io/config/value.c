#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/config/settings.h"
#include "io/config/unicode.h"
#include "src/core/text.h"
#include "src/core/utf8.h"

static void *field_of(const struct setting *setting, struct config *config)
{
    return (char *)config + setting->offset;
}

/* As the setting will be used. */
static double rounded(const struct setting *setting, double value)
{
    float single = (float)value;
    return !setting->single || value == 0.0 ? value : isnormal(single) ? (double)single : NAN;
}

static bool is_in_range(const struct setting *setting, double value)
{
    return isfinite(value) && (setting->above ? value > setting->minimum : value >= setting->minimum) &&
           (setting->below ? value < setting->maximum : value <= setting->maximum);
}

/* Only decimal digits, no leading zero: YAML 1.1 and 1.2 disagree on what 010 is. */
static bool is_plain_integer(const char *text)
{
    return text[0] != '\0' && text[strspn(text, "0123456789")] == '\0' && (text[0] != '0' || text[1] == '\0');
}

static int64_t automatic_value(const struct setting *setting)
{
    return (int64_t)setting->minimum - 1;
}

static bool read_integer(const struct setting *setting, const char *text, int64_t *value)
{
    int64_t parsed = 0;
    if (setting->automatic && strcmp(text, "auto") == 0) {
        *value = automatic_value(setting);
        return true;
    }
    if (!is_plain_integer(text[0] == '-' ? text + 1 : text) || !text_to_integer(text, &parsed) ||
        !is_in_range(setting, (double)parsed))
        return false;
    *value = parsed;
    return true;
}

static bool read_seed(const char *text, uint64_t *value)
{
    if (!is_plain_integer(text))
        return false;
    errno = 0;
    unsigned long long parsed = strtoull(text, NULL, 10);
    if (errno)
        return false;
    *value = parsed;
    return true;
}

static bool read_real(const struct setting *setting, const char *text, double *value)
{
    double parsed = 0.0;
    if (!text_to_real(text, &parsed) || !is_in_range(setting, parsed) ||
        !is_in_range(setting, rounded(setting, parsed)))
        return false;
    *value = parsed;
    return true;
}

bool setting_is_lost(const struct setting *setting, const char *text)
{
    double parsed = 0.0;
    return text_to_real(text, &parsed) && is_in_range(setting, parsed) &&
           !is_in_range(setting, rounded(setting, parsed));
}

static bool read_boolean(const char *text, bool *value)
{
    bool is_true = strcmp(text, "true") == 0;
    if (!is_true && strcmp(text, "false") != 0)
        return false;
    *value = is_true;
    return true;
}

static bool read_word(const struct setting *setting, const char *text, int *value)
{
    for (int i = 0; i < WORD_LIMIT && setting->words[i]; i++) {
        if (strcmp(text, setting->words[i]) == 0) {
            *value = i;
            return true;
        }
    }
    return false;
}

static bool read_text(const struct setting *setting, const char *text, size_t minimum, char *value)
{
    char whole[TEXT_LENGTH];
    size_t length = strlen(text);
    if (length < minimum || length >= TEXT_LENGTH || !config_text_is_valid(text, length) ||
        (setting->path && !text_expand_home(whole, sizeof whole, text)))
        return false;
    return text_copy(value, TEXT_LENGTH, setting->path ? whole : text);
}

static bool read_item(const struct setting *setting, const char *text, struct text_list *list)
{
    if (list->count >= TEXT_LIST_ITEMS || !read_text(setting, text, 1, list->item[list->count]))
        return false;
    list->count++;
    return true;
}

bool setting_read(const struct setting *setting, const char *text, size_t length, struct config *config)
{
    void *field = field_of(setting, config);
    if (strlen(text) != length)
        return false;
    switch (setting->type) {
    case SETTING_INTEGER:
        return read_integer(setting, text, field);
    case SETTING_REAL:
        return read_real(setting, text, field);
    case SETTING_BOOLEAN:
        return read_boolean(text, field);
    case SETTING_WORD:
        return read_word(setting, text, field);
    case SETTING_TEXT:
        return read_text(setting, text, (size_t)setting->minimum, field);
    case SETTING_LIST:
        return read_item(setting, text, field);
    case SETTING_SEED:
        return read_seed(text, field);
    }
    return false;
}

void setting_clear(const struct setting *setting, struct config *config)
{
    struct text_list *list = field_of(setting, config);
    memset(list, 0, sizeof *list);
}

/* Items between commas. In brackets, as YAML writes them, blanks around an item do not count. */
static bool assign_list(const struct setting *setting, const char *text, struct config *config)
{
    size_t end = strlen(text);
    bool in_brackets = end >= 2 && text[0] == '[' && text[end - 1] == ']';
    const char *stop = text + end - in_brackets;
    text += in_brackets;
    setting_clear(setting, config);
    if (in_brackets && strspn(text, " ") == (size_t)(stop - text))
        return true;
    while (text < stop) {
        char item[TEXT_LENGTH];
        size_t length = strcspn(text, ",");
        bool is_last = text + length >= stop;
        length = is_last ? (size_t)(stop - text) : length;
        size_t blanks = in_brackets ? strspn(text, " ") : 0;
        size_t kept = length > blanks ? length - blanks : 0;
        while (in_brackets && kept > 0 && text[blanks + kept - 1] == ' ')
            kept--;
        if (kept >= sizeof item || (!is_last && text + length + 1 == stop))
            return false;
        memcpy(item, text + blanks, kept);
        item[kept] = '\0';
        if (!setting_read(setting, item, kept, config))
            return false;
        text += is_last ? length : length + 1;
    }
    return true;
}

bool setting_assign(const struct setting *setting, const char *text, struct config *config)
{
    if (setting->type != SETTING_LIST)
        return setting_read(setting, text, strlen(text), config);
    return assign_list(setting, text, config);
}

/* A short text that reads back as the same number; with a point, without which YAML 1.1 takes 1e-05 for a text. */
static void write_real(double value, struct config_writer *writer)
{
    char text[40];
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    size_t mantissa = strcspn(text, "e");
    bool has_point = memchr(text, '.', mantissa) != NULL;
    config_print(writer, "%.*s%s%s", (int)mantissa, text, has_point ? "" : ".0", text + mantissa);
}

static void write_text(const char *text, struct config_writer *writer)
{
    size_t length = strlen(text);
    config_print(writer, "\"");
    for (size_t i = 0; i < length;) {
        uint32_t code = 0;
        size_t bytes = utf8_decode(text + i, length - i, &code);
        if (bytes == 0)
            config_print(writer, "\\uFFFD"); /* YAML cannot hold a byte that is no text */
        else if (code == '"' || code == '\\')
            config_print(writer, "\\%c", (char)code);
        else if (code == '\n')
            config_print(writer, "\\n");
        else if (config_character_is_printable(code))
            config_print(writer, "%.*s", (int)bytes, text + i);
        else if (code <= 0xffff)
            config_print(writer, "\\u%04X", (unsigned)code);
        else
            config_print(writer, "\\U%08X", (unsigned)code);
        i += bytes ? bytes : 1;
    }
    config_print(writer, "\"");
}

void setting_write(const struct setting *setting, const struct config *config, int item, struct config_writer *writer)
{
    const void *field = (const char *)config + setting->offset;
    switch (setting->type) {
    case SETTING_INTEGER:
        if (setting->automatic && *(const int64_t *)field == automatic_value(setting))
            config_print(writer, "auto");
        else
            config_print(writer, "%lld", (long long)*(const int64_t *)field);
        break;
    case SETTING_REAL:
        write_real(*(const double *)field, writer);
        break;
    case SETTING_BOOLEAN:
        config_print(writer, "%s", *(const bool *)field ? "true" : "false");
        break;
    case SETTING_WORD:
        config_print(writer, "%s", setting->words[*(const int *)field]);
        break;
    case SETTING_TEXT:
        write_text(field, writer);
        break;
    case SETTING_LIST:
        write_text(((const struct text_list *)field)->item[item], writer);
        break;
    case SETTING_SEED:
        config_print(writer, "%llu", (unsigned long long)*(const uint64_t *)field);
        break;
    }
}
