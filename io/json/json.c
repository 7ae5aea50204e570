#include "io/json/json.h"

#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_LENGTH = 160 };

/* Bytes of the character that the text begins with; 0 when they are no UTF-8. jansson knows best what it takes. */
static size_t character_bytes(const char *text)
{
    size_t rest = strnlen(text, 4);
    for (size_t bytes = 1; bytes <= rest; bytes++) {
        json_t *one = json_stringn(text, bytes);
        json_decref(one);
        if (one)
            return bytes;
    }
    return 0;
}

json_t *json_text(const char *text)
{
    static const char replacement[] = "\xef\xbf\xbd";
    json_t *whole = json_string(text);
    if (whole)
        return whole;
    char *clean = malloc(3 * strlen(text) + 1);
    size_t length = 0;
    while (clean && *text) {
        size_t bytes = character_bytes(text);
        memcpy(clean + length, bytes ? text : replacement, bytes ? bytes : 3);
        length += bytes ? bytes : 3;
        text += bytes ? bytes : 1;
    }
    whole = clean ? json_stringn(clean, length) : NULL;
    free(clean);
    return whole;
}

void json_set_number(json_t *object, const char *key, double value)
{
    char reason[KEY_LENGTH];
    if (isfinite(value)) {
        json_object_set_new(object, key, json_real(value));
        return;
    }
    snprintf(reason, sizeof reason, "%s_reason", key);
    json_object_set_new(object, key, json_null());
    json_object_set_new(object, reason,
                        json_string(isnan(value) ? "not a number"
                                    : value > 0  ? "infinite"
                                                 : "-infinite"));
}

/* What is left of a format and of its arguments. */
struct form {
    const char *format;
    va_list arguments;
};

static char next_letter(struct form *form)
{
    form->format += strspn(form->format, " :,");
    return *form->format ? *form->format++ : '\0';
}

static json_t *form_value(struct form *form, char letter);

static json_t *form_object(struct form *form)
{
    json_t *object = json_object();
    bool whole = object != NULL;
    for (char letter = next_letter(form); letter == 's'; letter = next_letter(form)) {
        const char *key = va_arg(form->arguments, const char *);
        char kind = next_letter(form);
        if (kind == 'f') {
            json_set_number(object, key, va_arg(form->arguments, double));
            continue;
        }
        /* Arguments are taken to the end, so that none that is handed over is lost. */
        whole = json_object_set_new(object, key, form_value(form, kind)) == 0 && whole;
    }
    if (whole)
        return object;
    json_decref(object);
    return NULL;
}

static json_t *form_value(struct form *form, char letter)
{
    double real;
    switch (letter) {
    case '{':
        return form_object(form);
    case 's':
        return json_text(va_arg(form->arguments, const char *));
    case 'i':
        return json_integer(va_arg(form->arguments, int));
    case 'I':
        return json_integer(va_arg(form->arguments, json_int_t));
    case 'b':
        return json_boolean(va_arg(form->arguments, int));
    case 'o':
        return va_arg(form->arguments, json_t *);
    case 'f':
        real = va_arg(form->arguments, double);
        return isfinite(real) ? json_real(real) : json_null();
    default:
        return NULL;
    }
}

json_t *json_form(const char *format, ...)
{
    struct form form = {.format = format};
    va_start(form.arguments, format);
    json_t *value = form_value(&form, next_letter(&form));
    va_end(form.arguments);
    return value;
}
