#include "src/core/text.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool text_copy(char *to, size_t size, const char *from)
{
    size_t length = strlen(from);
    bool fits = length < size;
    if (!fits)
        length = size - 1;
    memcpy(to, from, length);
    to[length] = '\0';
    return fits;
}

bool text_expand_home(char *to, size_t size, const char *path)
{
    const char *home = getenv("HOME");
    if (path[0] != '~')
        return text_copy(to, size, path);
    if ((path[1] != '\0' && path[1] != '/') || !home || !home[0])
        return false;
    int length = snprintf(to, size, "%s%s", home, path + 1);
    return length >= 0 && (size_t)length < size;
}

bool text_to_integer(const char *text, int64_t *value)
{
    char *end;
    if (!text[0] || isspace((unsigned char)text[0]))
        return false;
    errno = 0;
    long long parsed = strtoll(text, &end, 10);
    if (errno || *end || end == text)
        return false;
    *value = parsed;
    return true;
}

bool text_to_real(const char *text, double *value)
{
    char *end;
    /* Keeps out what strtod also takes: nan, infinity, hexadecimal, blanks in front. */
    if (!text[0] || text[strspn(text, "0123456789.eE+-")] != '\0')
        return false;
    errno = 0;
    double parsed = strtod(text, &end);
    if ((errno == ERANGE && (parsed > 1.0 || parsed < -1.0)) || *end || end == text)
        return false;
    *value = parsed;
    return true;
}

void text_from_duration(double seconds, char *text, size_t size)
{
    long total = (long)(seconds + 0.5);
    if (total >= 86400)
        snprintf(text, size, "%ldd %02ldh", total / 86400, total / 3600 % 24);
    else if (total >= 3600)
        snprintf(text, size, "%ldh %02ldm", total / 3600, total / 60 % 60);
    else
        snprintf(text, size, "%ldm %02lds", total / 60, total % 60);
}

/* Digits and nothing else, up to a sign that ends the field. */
static bool take_field(const char **text, double *value)
{
    size_t length = strspn(*text, "0123456789");
    if (length == 0 || length > 9)
        return false;
    *value = (double)strtol(*text, NULL, 10);
    *text += length;
    return true;
}

bool text_to_time_limit(const char *text, double *seconds)
{
    enum { FIELDS = 3 };
    double field[FIELDS] = {0.0};
    double days = 0.0;
    bool has_days = strchr(text, '-') != NULL;
    int count = 0;
    if (has_days && (!take_field(&text, &days) || *text++ != '-'))
        return false;
    do {
        if (count == FIELDS || !take_field(&text, &field[count++]))
            return false;
    } while (*text == ':' && *text++);
    if (*text)
        return false;
    /* One field is minutes, two are minutes and seconds; behind days they begin with hours. */
    int first = has_days || count == FIELDS ? 0 : 1;
    double unit[FIELDS] = {3600.0, 60.0, 1.0};
    double total = 86400.0 * days;
    for (int i = 0; i < count; i++) {
        double most = first + i > 0 ? 59.0 : 23.0;
        if ((i > 0 || has_days) && field[i] > most)
            return false;
        total += unit[first + i] * field[i];
    }
    if (!(total > 0.0))
        return false;
    *seconds = total;
    return true;
}
