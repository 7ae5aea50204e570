#include "src/core/text.h"

#include <ctype.h>
#include <errno.h>
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
    if (!text[0] || isspace((unsigned char)text[0]))
        return false;
    errno = 0;
    double parsed = strtod(text, &end);
    if ((errno == ERANGE && (parsed > 1.0 || parsed < -1.0)) || *end || end == text)
        return false;
    *value = parsed;
    return true;
}
