#include "src/train/run_folder.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/checkpoint/checkpoint.h"
#include "io/config/config.h"
#include "src/core/text.h"

enum { PATH_LENGTH = 700 };

enum status run_folder_make(struct context *context, const char *path)
{
    char part[PATH_LENGTH];
    text_copy(part, sizeof part, path);
    for (char *c = part + 1;; c++) {
        char end = *c;
        if (end != '/' && end != '\0')
            continue;
        *c = '\0';
        if (mkdir(part, 0777) != 0 && errno != EEXIST)
            return context_fail(context, STATUS_FILE, "run.folder: cannot make %s: %s", part, strerror(errno));
        *c = end;
        if (end == '\0')
            break;
    }
    struct stat status;
    if (stat(path, &status) != 0 || !S_ISDIR(status.st_mode))
        return context_fail(context, STATUS_FILE, "run.folder: %s is not a folder; choose another", path);
    if (access(path, W_OK) != 0)
        return context_fail(context, STATUS_FILE, "run.folder: %s: %s", path, strerror(errno));
    return STATUS_OK;
}

/* The file gets the first free number behind its name. */
static enum status move_aside(struct context *context, const char *folder, const char *name)
{
    char from[PATH_LENGTH];
    char to[PATH_LENGTH + 16];
    snprintf(from, sizeof from, "%s/%s", folder, name);
    if (access(from, F_OK) != 0)
        return STATUS_OK;
    int number = 1;
    do
        snprintf(to, sizeof to, "%s.%d", from, number++);
    while (access(to, F_OK) == 0);
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

enum status run_folder_write_config(struct context *context, const struct config *config)
{
    char path[PATH_LENGTH];
    size_t size = CHECKPOINT_CONFIG_SIZE;
    snprintf(path, sizeof path, "%s/config.yaml", config->run.folder);
    char *text = memory_allocate(context, size, MEMORY_OTHER);
    if (!text)
        return STATUS_MEMORY;
    config_format(config, text, size);
    FILE *file = fopen(path, "w");
    bool failed = !file || fputs(text, file) == EOF;
    int code = errno;
    if (file && fclose(file) != 0 && !failed) {
        failed = true;
        code = errno;
    }
    memory_free(context, text);
    if (failed)
        return context_fail(context, STATUS_FILE, "%s: cannot write it: %s", path, strerror(code));
    return STATUS_OK;
}
