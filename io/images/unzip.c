/* Files that may be compressed by gzip, read once from the beginning to the end. */
#include "io/images/images_private.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* No byte of deflate makes more than this many. */
enum { INFLATE_MOST = 1032 };

enum status image_file_refuse(struct context *context, const char *path)
{
    if (errno == ENOENT || errno == ENOTDIR)
        return context_fail(context, STATUS_FILE, "%s: no such file; check its name", path);
    return context_fail(context, STATUS_FILE, "%s: cannot be read: %s; check its permissions", path, strerror(errno));
}

static enum status check_file(struct context *context, const char *path, int descriptor, int64_t *bytes)
{
    struct stat information;
    if (fstat(descriptor, &information) != 0)
        return image_file_refuse(context, path);
    if (S_ISDIR(information.st_mode))
        return context_fail(context, STATUS_FILE, "%s: is a folder; name a file", path);
    if (!S_ISREG(information.st_mode))
        return context_fail(context, STATUS_FILE, "%s: is not a regular file; copy it into one", path);
    if (information.st_size == 0)
        return context_fail(context, STATUS_FILE, "%s: is empty; copy it again or leave it out", path);
    *bytes = information.st_size;
    return STATUS_OK;
}

enum status image_file_open(struct context *context, const char *path, int *descriptor, int64_t *bytes)
{
    /* A pipe without a writer must be refused, not waited for. */
    *descriptor = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (*descriptor < 0)
        return image_file_refuse(context, path);
    enum status status = check_file(context, path, *descriptor, bytes);
    if (status != STATUS_OK)
        close(*descriptor);
    return status;
}

enum status image_file_read(struct context *context, const char *path, int descriptor, uint8_t *bytes, int64_t count)
{
    int64_t got = 0;
    while (got < count) {
        ssize_t result = read(descriptor, bytes + got, (size_t)(count - got));
        if (result < 0 && errno == EINTR)
            continue;
        if (result < 0)
            return context_fail(context, STATUS_FILE, "%s: cannot be read: %s", path, strerror(errno));
        if (result == 0)
            return context_fail(context, STATUS_FILE, "%s: has become shorter while it was read; copy it again", path);
        got += result;
    }
    return STATUS_OK;
}

enum status unzip_open(struct context *context, const char *path, struct unzip *unzip)
{
    int descriptor;
    int64_t bytes = 0;
    *unzip = (struct unzip){.context = context, .path = path};
    CHECK(image_file_open(context, path, &descriptor, &bytes));
    unzip->file = gzdopen(descriptor, "rb");
    if (!unzip->file) {
        close(descriptor);
        return context_fail(context, STATUS_MEMORY, "%s: out of memory for reading", path);
    }
    (void)gzbuffer(unzip->file, 1 << 17);
    unzip->bytes_most = gzdirect(unzip->file) ? bytes : bytes * INFLATE_MOST;
    return STATUS_OK;
}

void unzip_close(struct unzip *unzip)
{
    if (unzip->file)
        gzclose_r(unzip->file);
    unzip->file = NULL;
}

enum status unzip_read(struct unzip *unzip, void *bytes, int64_t count, int64_t *got)
{
    enum { PIECE = 1 << 26 };
    *got = 0;
    while (*got < count) {
        int64_t piece = count - *got < PIECE ? count - *got : PIECE;
        int result = gzread(unzip->file, (char *)bytes + *got, (unsigned)piece);
        int code = Z_OK;
        const char *reason = gzerror(unzip->file, &code);
        if (result < 0 || (code != Z_OK && code != Z_STREAM_END))
            return context_fail(unzip->context, STATUS_FILE, "%s: is %s; copy or prepare it again", unzip->path,
                                code == Z_BUF_ERROR ? "truncated: its gzip data has no end"
                                : code == Z_ERRNO   ? strerror(errno)
                                                    : reason);
        *got += result;
        if (result == 0)
            break;
    }
    return STATUS_OK;
}

enum status unzip_read_all(struct unzip *unzip, void *bytes, int64_t count)
{
    int64_t got = 0;
    CHECK(unzip_read(unzip, bytes, count, &got));
    if (got < count)
        return context_fail(unzip->context, STATUS_FILE,
                            "%s: is truncated: %" PRId64 " more bytes should follow; copy or prepare it again",
                            unzip->path, count - got);
    return STATUS_OK;
}

enum status unzip_expect_end(struct unzip *unzip)
{
    char more;
    int64_t got = 0;
    CHECK(unzip_read(unzip, &more, 1, &got));
    if (got > 0)
        return context_fail(unzip->context, STATUS_FILE,
                            "%s: goes on behind what its header counts; it is damaged, copy or prepare it again",
                            unzip->path);
    return STATUS_OK;
}
