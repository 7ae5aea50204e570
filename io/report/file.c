#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "io/report/report.h"
#include "src/core/text.h"

enum status report_file_open(struct context *context, const char *path, struct report_file *file)
{
    file->out = NULL;
    if (!text_copy(file->path, sizeof file->path, path))
        return context_fail(context, STATUS_FILE, "%s: the name is too long", path);
    /* Jobs on several nodes may write the same file. */
    char host[16] = "";
    (void)gethostname(host, sizeof host - 1);
    snprintf(file->partial, sizeof file->partial, "%s.%.12s-%d", path, host, (int)getpid());
    file->out = fopen(file->partial, "w");
    if (!file->out)
        return context_fail(context, STATUS_FILE, "%s: cannot write it: %s", path, strerror(errno));
    return STATUS_OK;
}

enum status report_file_close(struct context *context, struct report_file *file)
{
    FILE *out = file->out;
    if (!out)
        return context->status;
    file->out = NULL;
    errno = 0;
    bool failed = fflush(out) != 0 || ferror(out) || fsync(fileno(out)) != 0;
    int code = errno;
    if (fclose(out) != 0 && !failed) {
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
