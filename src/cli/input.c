#include "src/cli/input.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 1 << 16 };

enum status input_read(struct context *context, const char *name, struct bytes *text)
{
    bool standard = strcmp(name, "-") == 0;
    FILE *file = standard ? stdin : fopen(name, "rb");
    if (!file)
        return context_fail(context, STATUS_FILE, "%s: cannot be read: %s", name, strerror(errno));
    enum status status = STATUS_OK;
    for (size_t got = 1; got > 0 && status == STATUS_OK;) {
        status = bytes_reserve(text, BLOCK);
        got = status == STATUS_OK ? fread(text->data + text->count, 1, BLOCK, file) : 0;
        text->count += (int64_t)got;
    }
    if (status == STATUS_OK && ferror(file))
        status = context_fail(context, STATUS_FILE, "%s: cannot be read: %s", standard ? "standard input" : name,
                              strerror(errno));
    if (!standard)
        fclose(file);
    return status;
}

enum status input_numbers(struct context *context, const char *what, const char *text, int64_t largest,
                          struct bytes *numbers)
{
    static const char blanks[] = " ,[]\t\r\n";
    for (const char *next = text + strspn(text, blanks); *next; next += strspn(next, blanks)) {
        char *end;
        long long value = strtoll(next, &end, 10);
        if (end == next || value < 0 || value > largest || (*end && !strchr(blanks, *end)))
            return context_fail(context, STATUS_USAGE,
                                "%s: expected token numbers from 0 to %lld, as in \"464 995\", "
                                "got \"%.32s\"",
                                what, (long long)largest, next);
        CHECK(bytes_add(numbers, &(int32_t){(int32_t)value}, sizeof(int32_t)));
        next = end;
    }
    return STATUS_OK;
}
