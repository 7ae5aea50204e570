/* A library to be loaded before the system's (LD_PRELOAD): writes each write, flush and rename of files below a folder
 * "checkpoints" to the file $ORDER_LOG, a line "PROCESS CALL FILE [FILE]", and makes the flush of a file whose name has
 * $ORDER_FAIL in it fail, and the renaming of one to a name with $ORDER_FAIL_NAME in it. With $ORDER_DELAY, threads but
 * the first take so many microseconds longer for each copy of a page or more. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_LENGTH = 1024 };

ssize_t pwrite64(int file, const void *from, size_t bytes, off64_t at);

static void note(const char *call, const char *path, const char *to)
{
    char line[3 * PATH_LENGTH];
    const char *log = getenv("ORDER_LOG");
    int length = snprintf(line, sizeof line, "%d %s %s %s\n", (int)getpid(), call, path, to);
    int file = log ? open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666) : -1;
    if (file < 0)
        return;
    if (write(file, line, (size_t)length) != length)
        abort();
    close(file);
}

/* Whether the descriptor is of a file to be noted. */
static int find(int file, char path[PATH_LENGTH])
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, PATH_LENGTH - 1);
    path[length > 0 ? length : 0] = '\0';
    return strstr(path, "/checkpoints") != NULL;
}

static ssize_t write_at(const char *symbol, int file, const void *from, size_t bytes, off64_t at)
{
    char path[PATH_LENGTH];
    ssize_t (*call)(int, const void *, size_t, off64_t);
    *(void **)&call = dlsym(RTLD_NEXT, symbol);
    if (find(file, path))
        note(at == 0 ? "begin" : "write", path, "");
    return call(file, from, bytes, at);
}

ssize_t pwrite(int file, const void *from, size_t bytes, off_t at)
{
    return write_at("pwrite", file, from, bytes, at);
}

ssize_t pwrite64(int file, const void *from, size_t bytes, off64_t at)
{
    return write_at("pwrite64", file, from, bytes, at);
}

int fsync(int file)
{
    char path[PATH_LENGTH];
    int (*call)(int);
    const char *fail = getenv("ORDER_FAIL");
    *(void **)&call = dlsym(RTLD_NEXT, "fsync");
    if (!find(file, path))
        return call(file);
    note("flush", path, "");
    if (!fail || !strstr(path, fail))
        return call(file);
    errno = EIO;
    return -1;
}

void *memcpy(void *restrict to, const void *restrict from, size_t bytes)
{
    enum { PAGE = 4096 };
    const char *delay = bytes >= PAGE && gettid() != getpid() ? getenv("ORDER_DELAY") : NULL;
    if (delay)
        usleep((useconds_t)atoi(delay));
    return memmove(to, from, bytes);
}

int rename(const char *from, const char *to)
{
    int (*call)(const char *, const char *);
    const char *fail = getenv("ORDER_FAIL_NAME");
    *(void **)&call = dlsym(RTLD_NEXT, "rename");
    if (strstr(to, "checkpoints"))
        note("rename", from, to);
    if (!fail || !strstr(to, fail))
        return call(from, to);
    errno = EIO;
    return -1;
}
