/* Probes of the file system that a run would write to. */
#define _GNU_SOURCE /* O_DIRECT */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <mntent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "src/core/text.h"
#include "src/doctor/doctor.h"

enum { BLOCK = 4096 };

static int write_file(const char *path, const char *text)
{
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (file < 0)
        return errno;
    errno = 0;
    bool written = write(file, text, strlen(text)) == (ssize_t)strlen(text);
    int failure = written ? 0 : errno ? errno : ENOSPC;
    if (close(file) != 0 && failure == 0)
        failure = errno;
    return failure;
}

static int flush(const char *path, int flags)
{
    int file = open(path, flags);
    int failure = file < 0 || fsync(file) != 0 ? errno : 0;
    if (file >= 0)
        close(file);
    return failure;
}

/* A file that takes the place of another has its content, and its own name is gone. */
static int probe_rename(const char *from, const char *to)
{
    char text[8] = "";
    int failure = write_file(to, "old");
    if (failure == 0)
        failure = write_file(from, "new");
    if (failure == 0 && rename(from, to) != 0)
        failure = errno;
    if (failure)
        return failure;
    int file = open(to, O_RDONLY);
    ssize_t length = file < 0 ? -1 : read(file, text, sizeof text - 1);
    if (file >= 0)
        close(file);
    return length == 3 && strcmp(text, "new") == 0 && access(from, F_OK) != 0 ? 0 : EIO;
}

static int probe_direct(const char *path)
{
#ifdef O_DIRECT
    int file = open(path, O_WRONLY | O_CREAT | O_DIRECT, 0600);
    if (file < 0)
        return errno;
    void *block = NULL;
    int failure = posix_memalign(&block, BLOCK, BLOCK);
    if (failure == 0) {
        memset(block, 0, BLOCK);
        failure = write(file, block, BLOCK) == BLOCK ? 0 : errno;
    }
    free(block);
    close(file);
    return failure;
#else
    (void)path;
    return ENOTSUP;
#endif
}

/* The type of the mount that holds the path: the longest mount point above it, of equals the last. */
static void find_type(const char *root, const char *path, char *type, size_t size)
{
    char mounts[DOCTOR_PATH];
    size_t longest = 0;
    snprintf(mounts, sizeof mounts, "%s/proc/self/mounts", root);
    FILE *file = setmntent(mounts, "r");
    struct mntent entry;
    char strings[8192];
    while (file && getmntent_r(file, &entry, strings, sizeof strings)) {
        size_t length = strlen(entry.mnt_dir);
        if (length == 1)
            length = 0; /* "/" is above everything */
        bool above = strncmp(path, entry.mnt_dir, length) == 0 && (path[length] == '/' || path[length] == '\0');
        if (above && length >= longest) {
            longest = length;
            (void)text_copy(type, size, entry.mnt_type);
        }
    }
    if (file)
        endmntent(file);
}

bool doctor_find_folder(const char *folder, char path[DOCTOR_PATH])
{
    char way[DOCTOR_PATH], found[PATH_MAX];
    if (!text_copy(way, sizeof way, folder))
        return false;
    while (!realpath(way, found)) {
        char *last = strrchr(way, '/');
        if (errno != ENOENT || strcmp(way, ".") == 0)
            return text_copy(path, DOCTOR_PATH, folder);
        if (last)
            last[last == way] = '\0'; /* "/x" becomes "/" */
        else
            strcpy(way, ".");
    }
    return text_copy(path, DOCTOR_PATH, found);
}

void doctor_read_folder(const char *root, const char *path, int rank, struct folder_facts *facts)
{
    char first[DOCTOR_PATH + 64], second[DOCTOR_PATH + 80];
    struct statvfs system;
    *facts = (struct folder_facts){.rename = -1, .flush = -1, .direct = -1, .free = -1, .files = -1};
    find_type(root, path, facts->type, sizeof facts->type);
    if (statvfs(path, &system) == 0 && system.f_blocks > 0) { /* /proc and its like have no blocks */
        facts->free = (int64_t)system.f_bavail * (int64_t)system.f_frsize;
        facts->files = system.f_files > 0 ? (int64_t)system.f_favail : -1; /* some have no table of them */
    }
    snprintf(first, sizeof first, "%s/.cairn-doctor-%d-%ld", path, rank, (long)getpid());
    snprintf(second, sizeof second, "%s-to", first);
    facts->write = write_file(first, "probe");
    if (facts->write == 0) {
        facts->flush = flush(first, O_WRONLY);
        if (facts->flush == 0)
            facts->flush = flush(path, O_RDONLY | O_DIRECTORY);
        facts->rename = probe_rename(first, second);
        facts->direct = probe_direct(second);
    }
    (void)unlink(first);
    (void)unlink(second);
}

static void token_path(const char *path, const char *token, char name[2 * DOCTOR_PATH])
{
    snprintf(name, (size_t)2 * DOCTOR_PATH, "%s/.cairn-doctor-%s", path, token);
}

int doctor_write_token(const char *path, const char *token)
{
    char name[2 * DOCTOR_PATH];
    token_path(path, token, name);
    int failure = write_file(name, token);
    return failure ? failure : flush(name, O_WRONLY);
}

bool doctor_sees_token(const char *path, const char *token)
{
    char name[2 * DOCTOR_PATH], text[DOCTOR_NAME] = "";
    token_path(path, token, name);
    int file = open(name, O_RDONLY);
    if (file < 0)
        return false;
    bool same = read(file, text, sizeof text - 1) == (ssize_t)strlen(token) && strcmp(text, token) == 0;
    close(file);
    return same;
}

void doctor_remove_token(const char *path, const char *token)
{
    char name[2 * DOCTOR_PATH];
    token_path(path, token, name);
    (void)unlink(name);
}
