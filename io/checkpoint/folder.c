#include "io/checkpoint/folder.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/checkpoint/file.h"

enum status folder_paths(struct context *context, const char *folder, int64_t step, char name[FOLDER_NAME],
                         char path[CHECKPOINT_PATH], char partial[CHECKPOINT_PATH])
{
    snprintf(name, FOLDER_NAME, "step-%08" PRId64 ".h5", step);
    snprintf(path, CHECKPOINT_PATH, "%s/%s", folder, name);
    if (snprintf(partial, CHECKPOINT_PATH, "%s/.%s.partial", folder, name) >= CHECKPOINT_PATH)
        return context_fail(context, STATUS_FILE, "%s: the path is too long", folder);
    return STATUS_OK;
}

/* The step of a name that folder_paths makes; -1 for any other. */
static int64_t name_step(const char *name)
{
    int64_t step = -1;
    char expected[FOLDER_NAME];
    if (sscanf(name, "step-%18" SCNd64, &step) != 1 || step < 0)
        return -1;
    snprintf(expected, sizeof expected, "step-%08" PRId64 ".h5", step);
    return strcmp(name, expected) == 0 ? step : -1;
}

static int step_compare(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a;
    int64_t right = *(const int64_t *)b;
    return (left < right) - (left > right);
}

enum status folder_steps(struct context *context, const char *folder, int64_t **steps, int *count)
{
    enum status status = STATUS_OK;
    int space = 0;
    const struct dirent *entry;
    *steps = NULL;
    *count = 0;
    DIR *entries = opendir(folder);
    if (!entries && errno == ENOENT)
        return STATUS_OK;
    if (!entries)
        return context_fail(context, STATUS_FILE, "%s: cannot be read: %s", folder, strerror(errno));
    while ((entry = readdir(entries)))
        space += name_step(entry->d_name) >= 0;
    rewinddir(entries);
    *steps = memory_allocate(context, (size_t)space * sizeof **steps, MEMORY_OTHER);
    if (!*steps) {
        status = STATUS_MEMORY;
        goto done;
    }
    while (*count < space && (entry = readdir(entries))) {
        int64_t step = name_step(entry->d_name);
        if (step >= 0)
            (*steps)[(*count)++] = step;
    }
    qsort(*steps, (size_t)*count, sizeof **steps, step_compare);
done:
    closedir(entries);
    return status;
}

void folder_clean(const struct context *context, const char *folder)
{
    static const char ending[] = ".partial";
    const struct dirent *entry;
    char path[CHECKPOINT_PATH];
    DIR *entries = opendir(folder);
    if (!entries)
        return;
    while ((entry = readdir(entries))) {
        const char *name = entry->d_name;
        size_t length = strlen(name);
        bool ours = strncmp(name, ".step-", 6) == 0 || strncmp(name, ".latest.", 8) == 0;
        if (!ours || length < sizeof ending || strcmp(name + length - (sizeof ending - 1), ending) != 0)
            continue;
        if (snprintf(path, sizeof path, "%s/%s", folder, name) < (int)sizeof path && unlink(path) == 0)
            context_log(context, "removed %s, which an interrupted write left", path);
    }
    closedir(entries);
}

/* The step of the file that FOLDER/latest names; -1 if there is none. */
static int64_t latest_step(const char *folder)
{
    char path[CHECKPOINT_PATH];
    int64_t step = -1;
    snprintf(path, sizeof path, "%s/latest", folder);
    FILE *file = fopen(path, "r");
    if (!file)
        return -1;
    if (fscanf(file, "step-%18" SCNd64, &step) != 1)
        step = -1;
    fclose(file);
    return step;
}

int64_t checkpoint_step(const char *path)
{
    const char *last = strrchr(path, '/');
    return name_step(last ? last + 1 : path);
}

static enum status move_one(struct context *context, const char *folder, int64_t step, const char *aside)
{
    char name[FOLDER_NAME];
    char from[CHECKPOINT_PATH];
    char partial[CHECKPOINT_PATH];
    char to[2 * CHECKPOINT_PATH];
    CHECK(folder_paths(context, folder, step, name, from, partial));
    snprintf(to, sizeof to, "%s/%s", aside, name);
    if ((mkdir(aside, 0777) != 0 && errno != EEXIST) || rename(from, to) != 0)
        return context_fail(context, STATUS_FILE, "%s: cannot be moved to %s: %s", from, aside, strerror(errno));
    return STATUS_OK;
}

/* FOLDER/latest names the step; none if it is -1. */
static enum status point_at(struct context *context, const char *folder, int64_t step)
{
    char text[FOLDER_NAME + 2];
    char path[CHECKPOINT_PATH];
    if (step >= 0) {
        snprintf(text, sizeof text, "step-%08" PRId64 ".h5\n", step);
        return file_replace(context, folder, "latest", text);
    }
    snprintf(path, sizeof path, "%s/latest", folder);
    if (unlink(path) != 0 && errno != ENOENT)
        return context_fail(context, STATUS_FILE, "%s: cannot be removed: %s", path, strerror(errno));
    return STATUS_OK;
}

enum status checkpoint_set_aside(struct context *context, const char *folder, int64_t step, const char *aside)
{
    int64_t *steps = NULL;
    int count = 0;
    int moved = 0;
    enum status status;
    TRY(folder_steps(context, folder, &steps, &count));
    for (; moved < count && steps[moved] > step; moved++)
        TRY(move_one(context, folder, steps[moved], aside));
    if (moved > 0) {
        context_log(context, "moved %d checkpoint%s of another line of the run from %s to %s", moved,
                    moved == 1 ? "" : "s", folder, aside);
        TRY(point_at(context, folder, moved < count ? steps[moved] : -1));
    }
done:
    memory_free(context, steps);
    return status;
}

void folder_prune(const struct context *context, const char *folder, int64_t keep_last, int64_t keep_every)
{
    struct context own;
    char name[FOLDER_NAME];
    char path[CHECKPOINT_PATH];
    char partial[CHECKPOINT_PATH];
    int64_t *steps = NULL;
    int count = 0;
    context_create(&own); /* so that a failure here is not taken for one of the run */
    if (folder_steps(&own, folder, &steps, &count) != STATUS_OK)
        context_log(context, "old checkpoints stay: %s", own.text);
    int64_t latest = latest_step(folder);
    for (int i = 0; i < count; i++) {
        bool keep = i == 0 || i < keep_last || steps[i] == latest || (keep_every > 0 && steps[i] % keep_every == 0);
        if (keep || folder_paths(&own, folder, steps[i], name, path, partial) != STATUS_OK)
            continue;
        if (unlink(path) != 0)
            context_log(context, "%s: cannot be removed: %s", path, strerror(errno));
    }
    memory_free(&own, steps);
}
