#include <ctype.h>
#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "io/config/settings.h"

enum { QUOTE_LENGTH = 80 };

void config_print(struct config_writer *writer, const char *format, ...)
{
    bool has_room = writer->length < writer->size;
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(has_room ? writer->text + writer->length : NULL,
                           has_room ? writer->size - writer->length : 0, format, arguments);
    va_end(arguments);
    if (length > 0)
        writer->length += (size_t)length;
}

void config_quote(const char *from, size_t length, char *to, size_t size)
{
    size_t room = size - sizeof "\"...\"";
    size_t shown = length;
    if (shown > room) {
        shown = room;
        while (shown > 0 && ((unsigned char)from[shown] & 0xc0) == 0x80)
            shown--;
    }
    size_t used = 0;
    to[used++] = '"';
    for (size_t i = 0; i < shown; i++)
        to[used++] = iscntrl((unsigned char)from[i]) ? '?' : from[i];
    snprintf(to + used, size - used, "%s\"", shown < length ? "..." : "");
}

static void expect_integer(const struct setting *setting, bool exact, struct config_writer *writer)
{
    /* Larger limits guard arithmetic; a reader of the message gains nothing from them. */
    if (setting->maximum < 2147483647.0 || exact)
        config_print(writer, "an integer from %.0f to %.0f", setting->minimum, setting->maximum);
    else
        config_print(writer, "an integer of at least %.0f", setting->minimum);
    if (setting->automatic)
        config_print(writer, " or auto");
}

static void expect_limits(const struct setting *setting, struct config_writer *writer)
{
    bool is_bounded = isfinite(setting->maximum);
    if (is_bounded && !setting->above && !setting->below) {
        config_print(writer, "a number from %g to %g", setting->minimum, setting->maximum);
        return;
    }
    config_print(writer, "a number %s %g", setting->above ? "above" : "of at least", setting->minimum);
    if (is_bounded)
        config_print(writer, "%s %g", setting->below ? " and below" : ", at most", setting->maximum);
}

static void expect_real(const struct setting *setting, bool exact, struct config_writer *writer)
{
    expect_limits(setting, writer);
    if (setting->single && exact)
        config_print(writer,
                     " in single precision, which knows 0, numbers from %.4g to %.4g, and none between %.8g and 1",
                     (double)FLT_MIN, (double)FLT_MAX, (double)nextafterf(1.0f, 0.0f));
}

void setting_expectation(const struct setting *setting, bool exact, char *text, size_t size)
{
    static const char text_rules[] = " of UTF-8 without a zero byte";
    struct config_writer writer = {.text = text, .size = size};
    switch (setting->type) {
    case SETTING_INTEGER:
        expect_integer(setting, exact, &writer);
        break;
    case SETTING_REAL:
        expect_real(setting, exact, &writer);
        break;
    case SETTING_BOOLEAN:
        config_print(&writer, "true or false");
        break;
    case SETTING_WORD:
        config_print(&writer, "%s", setting->words[1] ? "one of " : "");
        for (int i = 0; i < WORD_LIMIT && setting->words[i]; i++)
            config_print(&writer, "%s%s", i ? ", " : "", setting->words[i]);
        break;
    case SETTING_TEXT:
        config_print(&writer, "text of %s%d bytes%s", setting->minimum > 0 ? "1 to " : "at most ", TEXT_LENGTH - 1,
                     exact ? text_rules : "");
        break;
    case SETTING_LIST:
        config_print(&writer, "at most %d texts of 1 to %d bytes%s", TEXT_LIST_ITEMS, TEXT_LENGTH - 1,
                     exact ? text_rules : "");
        break;
    case SETTING_SEED:
        config_print(&writer, "an integer from 0 to %llu", (unsigned long long)UINT64_MAX);
        break;
    }
}

enum status setting_fail(const struct setting_source *source, const struct setting *setting, const char *format, ...)
{
    char message[MESSAGE_LENGTH];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    ptrdiff_t row = setting - setting_table;
    const char *override = source->override[row];
    if (override) {
        char quoted[QUOTE_LENGTH * 2];
        config_quote(override, strlen(override), quoted, sizeof quoted);
        /* The quotes guard the rest of the line, which is not YAML: they are left out. */
        return context_fail(source->context, STATUS_USAGE, "--set %.*s: %s", (int)(strlen(quoted) - 2), quoted + 1,
                            message);
    }
    if (source->line[row])
        return context_fail(source->context, STATUS_USAGE, "%s:%zu: %s: %s", source->name, source->line[row],
                            setting->key, message);
    return context_fail(source->context, STATUS_USAGE, "%s: %s: %s", source->name, setting->key, message);
}

enum status setting_refuse(const struct setting_source *source, const struct setting *setting, const char *text,
                           size_t length)
{
    char expected[MESSAGE_LENGTH / 2];
    char quoted[QUOTE_LENGTH];
    bool is_text = setting->type == SETTING_TEXT || setting->type == SETTING_LIST;
    bool is_digits = length > 0 && text[strspn(text, "0123456789")] == '\0';
    bool is_lost = setting->type == SETTING_REAL && setting_is_lost(setting, text);
    setting_expectation(setting, is_text || is_lost || (is_digits && setting->type == SETTING_INTEGER), expected,
                        sizeof expected);
    config_quote(text, length, quoted, sizeof quoted);
    if (setting->path && text[0] == '~')
        return setting_fail(
            source, setting,
            "only ~ and ~/... stand for a home directory, that of HOME, within %d bytes; write the path "
            "out (or ./~... for a name), got %s",
            TEXT_LENGTH - 1, quoted);
    return setting_fail(source, setting, "expected %s, got %s", expected, quoted);
}
