#include "src/evolve/clean.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/checkpoint/checkpoint.h"
#include "src/train/run_folder.h"

/* Removes the files of a folder that `goes` says; folders in it stay. */
static void remove_files(const char *folder, bool (*goes)(const void *self, const char *name), const void *self)
{
    DIR *open = opendir(folder);
    struct dirent *entry;
    while (open && (entry = readdir(open)))
        if (entry->d_name[0] != '.' && goes(self, entry->d_name)) {
            char path[CHECKPOINT_PATH + 256];
            snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
            (void)unlink(path);
        }
    if (open)
        closedir(open);
}

static bool is_partial(const void *self, const char *name)
{
    size_t length = strlen(name);
    (void)self;
    return length > 8 && strcmp(name + length - 8, ".partial") == 0;
}

static bool is_any(const void *self, const char *name)
{
    (void)self;
    (void)name;
    return true;
}

static bool is_unnamed(const void *self, const char *name)
{
    char *end;
    int64_t id = strtoll(name, &end, 10);
    return end == name || strcmp(end, ".h5") != 0 || !system_component(self, id);
}

/* The folders in which groups write, with all that is in them. */
static void remove_groups(const char *children)
{
    for (int group = 0;; group++) {
        char path[CHECKPOINT_PATH];
        snprintf(path, sizeof path, "%.700s/group-%d", children, group);
        if (access(path, F_OK) != 0)
            return;
        remove_files(path, is_any, NULL);
        (void)rmdir(path);
    }
}

enum status clean_prepare(struct context *context, const char *folder)
{
    static const char *const parts[] = {"components", "children"};
    char path[CHECKPOINT_PATH];
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%.700s/%s", folder, parts[i]);
        CHECK(run_folder_make(context, path));
        remove_files(path, is_partial, NULL);
    }
    remove_files(folder, is_partial, NULL);
    remove_groups(path);
    return STATUS_OK;
}

void clean_unnamed(const struct system *system, const char *folder)
{
    char path[CHECKPOINT_PATH];
    snprintf(path, sizeof path, "%.700s/children", folder);
    remove_files(path, is_any, NULL);
    remove_groups(path);
    snprintf(path, sizeof path, "%.700s/components", folder);
    remove_files(path, is_unnamed, system);
}

void clean_agents(const struct system *system, const char *folder)
{
    char path[CHECKPOINT_PATH];
    for (int t = 0; t < system->task_count; t++) {
        snprintf(path, sizeof path, "%.600s/agents/%s", folder, system->tasks[t].name);
        remove_files(path, is_any, NULL);
        (void)rmdir(path);
    }
    snprintf(path, sizeof path, "%.600s/agents", folder);
    (void)rmdir(path);
}
