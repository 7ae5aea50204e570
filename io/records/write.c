#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/records/records.h"

enum { PATH_LENGTH = 1024, ROOM_FIRST = 1 << 14, ROOM_MOST = 64 << 20 };
/* Tries that fail take one part in so many of the time, and are this far apart at most. A try with nearly every line
 * leaves little to be lost with a process that is killed when the disk has room again. */
#define RETRY_SHARE 20.0
#define RETRY_SECONDS 1.0

struct record {
    struct context *context;
    char path[PATH_LENGTH];
    size_t digits; /* of numbers that are not whole */
    int file;      /* -1: not open */
    int64_t end;   /* of what is in it */
    bool half;     /* behind that there is half a line that could not be taken away */
    char *waiting; /* lines */
    size_t used, room;
    int64_t lines; /* that wait */
    int64_t lost;  /* that had no room to wait in */
    bool failing;
    double tried; /* when it failed */
    double pause; /* until it is tried again */
};

static bool record_no_room(int code)
{
    return code == ENOSPC || code == EDQUOT || code == EFBIG || code == EIO;
}

/* -- The file -- */

/* Takes a file that was just opened. */
static bool begin_file(struct record *record, int file)
{
    char last = '\n';
    struct stat entry;
    if (fstat(file, &entry) != 0)
        return false;
    if (entry.st_size > 0 && pread(file, &last, 1, entry.st_size - 1) != 1)
        return false;
    record->file = file;
    record->end = entry.st_size;
    record->half = last != '\n';
    return true;
}

static bool open_file(struct record *record)
{
    int file = open(record->path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (file < 0)
        return false;
    if (begin_file(record, file))
        return true;
    close(file);
    return false;
}

static bool write_all(int file, const char *from, size_t bytes)
{
    while (bytes > 0) {
        ssize_t done = write(file, from, bytes);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return false;
        from += done;
        bytes -= (size_t)done;
    }
    return true;
}

/* All of the old file, which has no name any more, into a new one. */
static bool copy_file(struct record *record, int old)
{
    char block[1 << 14];
    int64_t at = 0;
    int64_t size = record->end;
    int file = open(record->path, O_RDWR | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
    if (file < 0)
        return false;
    while (at < size) {
        ssize_t got = pread(old, block, sizeof block, at);
        if (got <= 0 || !write_all(file, block, (size_t)got))
            break;
        at += got;
    }
    if (at >= size && begin_file(record, file))
        return true;
    int code = errno;
    close(file);
    unlink(record->path);
    errno = code;
    return false;
}

/* Makes sure that what is written goes to the file of that name: it may have been removed, or another put in its place
 * by an editor. */
static bool find_file(struct record *record)
{
    struct stat there;
    struct stat own;
    if (record->file < 0)
        return open_file(record);
    if (stat(record->path, &there) == 0 && fstat(record->file, &own) == 0 && there.st_ino == own.st_ino &&
        there.st_dev == own.st_dev)
        return true;
    int old = record->file;
    bool found = access(record->path, F_OK) == 0 ? open_file(record) : copy_file(record, old);
    if (found)
        close(old);
    return found;
}

static bool write_waiting(struct record *record)
{
    if (!find_file(record))
        return false;
    if ((!record->half || write_all(record->file, "\n", 1)) && write_all(record->file, record->waiting, record->used)) {
        record->end += (int64_t)(record->used + record->half);
        record->half = false;
        return true;
    }
    int code = errno;
    struct stat entry;
    /* Half a line is taken away again, or ended before the next. */
    if (ftruncate(record->file, record->end) != 0 && fstat(record->file, &entry) == 0 && entry.st_size > record->end) {
        record->end = entry.st_size;
        record->half = true;
    }
    errno = code;
    return false;
}

/* -- Lines -- */

static void flush(struct record *record)
{
    if (record->used == 0)
        return;
    double began = clock_seconds();
    if (!write_waiting(record)) {
        int code = errno;
        record->tried = clock_seconds();
        record->pause = fmin(RETRY_SECONDS, RETRY_SHARE * (record->tried - began));
        errno = code;
        if (!record->failing)
            context_log(record->context,
                        "%s: cannot be written: %s; its lines wait in memory, and are written when that is possible",
                        record->path, strerror(errno));
        record->failing = true;
        return;
    }
    if (record->failing && record->lost > 0)
        context_log(record->context, "%s: written again, with %lld lines that waited; %lld had no room to wait in",
                    record->path, (long long)record->lines, (long long)record->lost);
    else if (record->failing)
        context_log(record->context, "%s: written again, with %lld lines that waited", record->path,
                    (long long)record->lines);
    record->failing = false;
    record->used = 0;
    record->lines = record->lost = 0;
}

static bool make_room(struct record *record, size_t bytes)
{
    size_t room = record->room;
    while (room < record->used + bytes)
        room *= 2;
    if (room == record->room)
        return true;
    char *waiting = memory_allocate(record->context, room, MEMORY_OTHER);
    if (!waiting)
        return false;
    memcpy(waiting, record->waiting, record->used);
    memory_free(record->context, record->waiting);
    record->waiting = waiting;
    record->room = room;
    return true;
}

enum status record_add(struct record *record, json_t *object)
{
    const size_t flags = JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(record->digits);
    size_t bytes = object ? json_dumpb(object, NULL, 0, flags) : 0;
    enum status status = STATUS_OK;
    if (bytes == 0)
        status = context_fail(record->context, STATUS_MEMORY, "%s: no memory for a line", record->path);
    else if (record->used + bytes + 1 > ROOM_MOST)
        record->lost++;
    else if (!make_room(record, bytes + 1))
        status = STATUS_MEMORY;
    else {
        json_dumpb(object, record->waiting + record->used, bytes, flags);
        record->used += bytes + 1;
        record->waiting[record->used - 1] = '\n';
        record->lines++;
    }
    json_decref(object);
    record_retry(record);
    return status;
}

void record_retry(struct record *record)
{
    if (!record->failing || clock_seconds() - record->tried >= record->pause)
        flush(record);
}

/* -- Creation and end -- */

enum status record_open(struct context *context, const char *path, int digits, struct record **record)
{
    struct record *opened = memory_allocate(context, sizeof *opened, MEMORY_OTHER);
    *record = opened;
    if (!opened)
        return STATUS_MEMORY;
    opened->context = context;
    opened->digits = (size_t)digits;
    opened->file = -1;
    opened->room = ROOM_FIRST;
    opened->waiting = memory_allocate(context, ROOM_FIRST, MEMORY_OTHER);
    if (!opened->waiting)
        return STATUS_MEMORY;
    if (snprintf(opened->path, sizeof opened->path, "%s", path) >= (int)sizeof opened->path)
        return context_fail(context, STATUS_FILE, "%s: the path is too long", path);
    if (!open_file(opened) && !record_no_room(errno))
        return context_fail(context, STATUS_FILE, "%s: cannot open it: %s", path, strerror(errno));
    return STATUS_OK;
}

void record_close(struct record **record)
{
    struct record *closed = *record;
    if (!closed)
        return;
    flush(closed);
    if (closed->used > 0)
        context_log(closed->context, "%s: the last %lld lines could not be written", closed->path,
                    (long long)(closed->lines + closed->lost));
    if (closed->file >= 0)
        close(closed->file);
    memory_free(closed->context, closed->waiting);
    memory_free(closed->context, closed);
    *record = NULL;
}
