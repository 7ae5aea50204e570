#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/report/report.h"
#include "src/core/text.h"

enum status report_folder(struct context *context, const char *path)
{
    char part[REPORT_PATH];
    struct stat entry;
    if (!path[0] || !text_copy(part, sizeof part, path))
        return context_fail(context, STATUS_USAGE, "%s: no name for a folder", path);
    for (char *c = part + 1;; c++) {
        char end = *c;
        if (end != '/' && end != '\0')
            continue;
        *c = '\0';
        if (mkdir(part, 0777) != 0 && errno != EEXIST)
            return context_fail(context, STATUS_FILE, "%s: cannot make the folder: %s", part, strerror(errno));
        *c = end;
        if (end == '\0')
            break;
    }
    if (stat(path, &entry) != 0 || !S_ISDIR(entry.st_mode))
        return context_fail(context, STATUS_FILE, "%s: is not a folder; choose another", path);
    return STATUS_OK;
}

enum status report_file_open(struct context *context, const char *path, struct report_file *file)
{
    file->stream = NULL;
    if (!text_copy(file->path, sizeof file->path, path))
        return context_fail(context, STATUS_FILE, "%s: the name is too long", path);
    /* Jobs on several nodes may write the same file. */
    char host[16] = "";
    (void)gethostname(host, sizeof host - 1);
    snprintf(file->partial, sizeof file->partial, "%s.%.12s-%d", path, host, (int)getpid());
    file->stream = fopen(file->partial, "w");
    if (!file->stream)
        return context_fail(context, STATUS_FILE, "%s: cannot write it: %s", path, strerror(errno));
    return STATUS_OK;
}

enum status report_file_close(struct context *context, struct report_file *file)
{
    FILE *stream = file->stream;
    if (!stream)
        return context->status;
    file->stream = NULL;
    errno = 0;
    bool failed = fflush(stream) != 0 || ferror(stream) || fsync(fileno(stream)) != 0;
    int code = errno;
    if (fclose(stream) != 0 && !failed) {
        failed = true;
        code = errno;
    }
    if (!failed && rename(file->partial, file->path) != 0) {
        failed = true;
        code = errno;
    }
    if (!failed)
        return STATUS_OK;
    unlink(file->partial);
    return context_fail(context, STATUS_FILE, "%s: cannot write it: %s", file->path, strerror(code));
}
