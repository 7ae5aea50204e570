#define _GNU_SOURCE /* fallocate: posix_fallocate writes every block where the file system has no such call */
#include "io/checkpoint/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "io/checkpoint/checkpoint.h"

enum status file_open(struct context *context, const char *path, bool write, int *descriptor, int64_t *size)
{
    struct stat info;
    *descriptor = open(path, (write ? O_RDWR : O_RDONLY) | O_CLOEXEC);
    if (*descriptor < 0 || fstat(*descriptor, &info) != 0)
        return context_fail(context, STATUS_FILE, "%s: cannot be opened: %s", path, strerror(errno));
    if (!S_ISREG(info.st_mode))
        return context_fail(context, STATUS_FILE, "%s: not a file", path);
    *size = info.st_size;
    return STATUS_OK;
}

enum status file_read(struct context *context, int descriptor, const char *path, int64_t offset, void *buffer,
                      int64_t bytes)
{
    char *to = buffer;
    while (bytes > 0) {
        ssize_t got = pread(descriptor, to, (size_t)bytes, offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return context_fail(context, STATUS_FILE, "%s: cannot be read: %s", path, strerror(errno));
        if (got == 0)
            return context_fail(context, STATUS_FILE, "%s: damaged: it ends at byte %lld", path, (long long)offset);
        to += got;
        offset += got;
        bytes -= got;
    }
    return STATUS_OK;
}

enum status file_write(struct context *context, int descriptor, const char *path, int64_t offset, const void *buffer,
                       int64_t bytes)
{
    const char *from = buffer;
    while (bytes > 0) {
        ssize_t done = pwrite(descriptor, from, (size_t)bytes, offset);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return context_fail(context, STATUS_FILE, "%s: cannot be written: %s", path, strerror(errno));
        from += done;
        offset += done;
        bytes -= done;
    }
    return STATUS_OK;
}

enum status file_sync(struct context *context, int descriptor, const char *path)
{
    /* File systems that cannot synchronise (EINVAL, for folders) do not lose what was written either. */
    location_enter_files(&context->location);
    bool failed = fsync(descriptor) != 0 && errno != EINVAL;
    location_leave_files(&context->location);
    if (failed)
        return context_fail(context, STATUS_FILE, "%s: cannot be written to disk: %s", path, strerror(errno));
    return STATUS_OK;
}

enum status file_reserve(struct context *context, const char *path, bool *reserved)
{
    int descriptor;
    int64_t size;
    enum status status;
    *reserved = false;
    TRY(file_open(context, path, true, &descriptor, &size));
    *reserved = size == 0 || fallocate(descriptor, 0, 0, size) == 0;
    if (!*reserved && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG || errno == EIO))
        status = context_fail(context, STATUS_FILE, "%s: no space for %.1f MiB: %s", path, (double)size / (1 << 20),
                              strerror(errno));
done:
    if (descriptor >= 0)
        close(descriptor);
    return status;
}

bool file_disk_full(const char *path)
{
    struct statvfs info;
    return statvfs(path, &info) == 0 && info.f_bavail == 0;
}

static enum status folder_sync(struct context *context, const char *folder)
{
    int descriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0)
        return context_fail(context, STATUS_FILE, "%s: cannot be opened: %s", folder, strerror(errno));
    enum status status = file_sync(context, descriptor, folder);
    close(descriptor);
    return status;
}

enum status file_rename(struct context *context, const char *folder, const char *from, const char *to)
{
    int failed = rename(from, to);
    if (failed && errno == EISDIR)
        return context_fail(context, STATUS_FILE, "%s: is a folder, in the place of a file: move it away", to);
    if (failed)
        return context_fail(context, STATUS_FILE, "%s: cannot be renamed to %s: %s", from, to, strerror(errno));
    return folder_sync(context, folder);
}

enum status file_replace(struct context *context, const char *folder, const char *name, const char *text)
{
    char path[CHECKPOINT_PATH];
    char partial[CHECKPOINT_PATH];
    int64_t length = (int64_t)strlen(text);
    enum status status = STATUS_OK;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (snprintf(partial, sizeof partial, "%s/.%s.partial", folder, name) >= (int)sizeof partial)
        return context_fail(context, STATUS_FILE, "%s: the path is too long", folder);
    int descriptor = open(partial, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (descriptor < 0)
        return context_fail(context, STATUS_FILE, "%s: cannot be created: %s", partial, strerror(errno));
    TRY(file_write(context, descriptor, partial, 0, text, length));
    TRY(file_sync(context, descriptor, partial));
    TRY(file_rename(context, folder, partial, path));
done:
    close(descriptor);
    if (status != STATUS_OK)
        unlink(partial);
    return status;
}

enum status folder_has_space(struct context *context, const char *folder, int64_t bytes)
{
    struct statvfs info;
    if (statvfs(folder, &info) != 0)
        return context_fail(context, STATUS_FILE, "%s: %s", folder, strerror(errno));
    double mebi = 1 << 20;
    double available = (double)info.f_bavail * (double)info.f_frsize;
    if (available < (double)bytes)
        return context_fail(context, STATUS_FILE, "checkpoint needs %.1f MiB, %s has %.1f MiB free",
                            (double)bytes / mebi, folder, available / mebi);
    return STATUS_OK;
}

void reading_begin(struct reading *reading, const struct context *context, int64_t all)
{
    *reading = (struct reading){.all = all};
    notice_begin(&reading->notice, context, "reading", "MiB");
}

void reading_add(struct reading *reading, int64_t elements)
{
    const double mebibytes = (double)sizeof(float) / (1 << 20);
    reading->done += elements;
    notice_show(&reading->notice, mebibytes * (double)reading->done, mebibytes * (double)reading->all);
}
