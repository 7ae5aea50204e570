#include "src/train/run_folder.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "io/checkpoint/checkpoint.h"
#include "io/config/config.h"
#include "src/core/folder.h"
#include "src/core/text.h"

enum { PATH_LENGTH = 700 };

enum status run_folder_make(struct context *context, const char *path)
{
    CHECK(folder_make(context, "run.folder: ", path));
    if (access(path, W_OK) != 0)
        return context_fail(context, STATUS_FILE, "run.folder: %s: %s", path, strerror(errno));
    return STATUS_OK;
}

void run_folder_free_name(const char *path, char *name, size_t size)
{
    char numbered[PATH_LENGTH + 64];
    int number = 1;
    do
        snprintf(numbered, sizeof numbered, "%s.%d", path, number++);
    while (access(numbered, F_OK) == 0);
    (void)text_copy(name, size, numbered);
}

enum status run_folder_write(struct context *context, const char *path, const char *text)
{
    char partial[PATH_LENGTH + 32];
    snprintf(partial, sizeof partial, "%s.%d.partial", path, (int)getpid());
    FILE *file = fopen(partial, "w");
    bool failed = !file || fputs(text, file) == EOF || fflush(file) != 0 || fsync(fileno(file)) != 0;
    int code = errno;
    if (file && fclose(file) != 0 && !failed) {
        failed = true;
        code = errno;
    }
    if (!failed && rename(partial, path) != 0) {
        failed = true;
        code = errno;
    }
    if (!failed)
        return STATUS_OK;
    (void)unlink(partial);
    return context_fail(context, STATUS_FILE, "%s: cannot write it: %s", path, strerror(code));
}

/* The file gets the first free number behind its name. */
static enum status move_aside(struct context *context, const char *folder, const char *name)
{
    char from[PATH_LENGTH];
    char to[PATH_LENGTH + 16];
    snprintf(from, sizeof from, "%s/%s", folder, name);
    if (access(from, F_OK) != 0)
        return STATUS_OK;
    run_folder_free_name(from, to, sizeof to);
    if (rename(from, to) != 0)
        return context_fail(context, STATUS_FILE, "%s: cannot move it aside: %s", from, strerror(errno));
    context_log(context, "moved %s to %s", from, to);
    return STATUS_OK;
}

enum status run_folder_move_aside(struct context *context, const char *folder)
{
    CHECK(move_aside(context, folder, "checkpoints"));
    CHECK(move_aside(context, folder, "metrics.jsonl"));
    CHECK(move_aside(context, folder, "starts.jsonl"));
    return move_aside(context, folder, "config.yaml");
}
