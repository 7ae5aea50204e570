#include "src/core/folder.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "src/core/text.h"

enum status folder_make(struct context *context, const char *label, const char *path)
{
    char part[FOLDER_PATH];
    struct stat info;
    if (!path[0] || !text_copy(part, sizeof part, path))
        return context_fail(context, STATUS_FILE, "%s\"%s\": not a usable name for a folder", label, path);
    for (char *c = part + 1;; c++) {
        char end = *c;
        if (end != '/' && end != '\0')
            continue;
        *c = '\0';
        if (mkdir(part, 0777) != 0 && errno != EEXIST)
            return context_fail(context, STATUS_FILE, "%s%s: cannot be created: %s", label, part, strerror(errno));
        *c = end;
        if (end == '\0')
            break;
    }
    if (stat(path, &info) != 0)
        return context_fail(context, STATUS_FILE, "%s%s: %s", label, path, strerror(errno));
    if (!S_ISDIR(info.st_mode))
        return context_fail(context, STATUS_FILE, "%s%s: is not a folder; choose another", label, path);
    return STATUS_OK;
}
