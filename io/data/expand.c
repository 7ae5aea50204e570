/* The files that names stand for: themselves, what lies in a folder, or what a pattern matches. */
#include "io/data/corpus_files.h"

#include <dirent.h>
#include <errno.h>
#include <glob.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "src/core/sample.h"

static bool names_add(struct context *context, struct corpus_names *names, const char *name)
{
    if (names->count == names->room) {
        int room = names->room ? 2 * names->room : 64;
        char **list = memory_allocate(context, (size_t)room * sizeof *list, MEMORY_OTHER);
        if (!list)
            return false;
        if (names->count > 0)
            memcpy(list, names->name, (size_t)names->count * sizeof *list);
        memory_free(context, names->name);
        names->name = list;
        names->room = room;
    }
    size_t size = strlen(name) + 1;
    char *copy = memory_allocate(context, size, MEMORY_OTHER);
    if (!copy)
        return false;
    memcpy(copy, name, size);
    names->name[names->count++] = copy;
    return true;
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The same on every host, whatever its language and file system. */
static void names_sort(struct corpus_names *names, int first)
{
    if (names->count > first)
        qsort(names->name + first, (size_t)(names->count - first), sizeof *names->name, compare);
}

/* An index belongs to the file of tokens beside it, by which the pair is named. */
static bool is_index_of_pair(const char *path)
{
    char pair[PATH_LENGTH + 256];
    size_t length = strlen(path);
    if (!name_ends(path, ".idx") || length + 1 > sizeof pair)
        return false;
    memcpy(pair, path, length - 4);
    memcpy(pair + length - 4, ".bin", 5);
    return access(pair, F_OK) == 0;
}

static bool add_if_file(struct context *context, struct corpus_names *names, const char *path)
{
    struct stat entry;
    if (stat(path, &entry) != 0 || !S_ISREG(entry.st_mode) || is_index_of_pair(path))
        return true;
    return names_add(context, names, path);
}

static enum status expand_folder(struct context *context, const char *folder, struct corpus_names *names)
{
    int first = names->count;
    bool whole = true;
    const struct dirent *entry;
    DIR *entries = opendir(folder);
    if (!entries)
        return context_fail(context, STATUS_FILE, "%s: cannot be read: %s", folder, strerror(errno));
    while (whole && (entry = readdir(entries))) {
        char path[PATH_LENGTH + 256];
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        whole = entry->d_name[0] == '.' || add_if_file(context, names, path);
    }
    closedir(entries);
    if (!whole)
        return STATUS_MEMORY;
    names_sort(names, first);
    if (names->count == first)
        return context_fail(context, STATUS_FILE, "%s: no files in this folder; name one that has text or tokens",
                            folder);
    return STATUS_OK;
}

static enum status expand_pattern(struct context *context, const char *pattern, struct corpus_names *names)
{
    int first = names->count;
    glob_t found = {0};
    int code = glob(pattern, GLOB_NOSORT, NULL, &found);
    bool whole = code == 0 || code == GLOB_NOMATCH;
    for (size_t i = 0; whole && code == 0 && i < found.gl_pathc; i++)
        whole = add_if_file(context, names, found.gl_pathv[i]);
    globfree(&found);
    if (!whole)
        return context_fail(context, STATUS_FILE, "%s: the pattern cannot be followed", pattern);
    names_sort(names, first);
    if (names->count == first)
        return context_fail(context, STATUS_FILE,
                            "%s: no file matches this pattern; check data.train and "
                            "data.validation",
                            pattern);
    return STATUS_OK;
}

enum status corpus_names_create(struct context *context, const struct text_list *files, struct corpus_names *names)
{
    *names = (struct corpus_names){0};
    for (int i = 0; i < files->count; i++) {
        const char *name = files->item[i];
        struct stat entry;
        bool there = stat(name, &entry) == 0;
        enum status status = STATUS_OK;
        if (there && S_ISDIR(entry.st_mode))
            status = expand_folder(context, name, names);
        else if (!there && name[strcspn(name, "*?[")])
            status = expand_pattern(context, name, names);
        else if (!names_add(context, names, name))
            status = STATUS_MEMORY;
        if (status != STATUS_OK) {
            corpus_names_destroy(context, names);
            return status;
        }
    }
    return STATUS_OK;
}

void corpus_names_destroy(struct context *context, struct corpus_names *names)
{
    for (int i = 0; i < names->count; i++)
        memory_free(context, names->name[i]);
    memory_free(context, names->name);
    *names = (struct corpus_names){0};
}

/* A name may stand for a pair of files. Takes in those that are there. */
static void sample_files(const char *name, int64_t *bytes, uint64_t *hash)
{
    static const char *const ends[] = {"", ".bin", ".idx"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        char path[TEXT_LENGTH + 300];
        char words[96];
        long long size = 0;
        snprintf(path, sizeof path, "%s%s", name, ends[i]);
        if (access(path, F_OK) != 0)
            continue;
        sample_describe(path, words, sizeof words);
        *bytes += sscanf(words, "%lld bytes", &size) == 1 ? size : 0;
        *hash = sample_hash(*hash, words, strlen(words));
    }
}

void corpus_names_describe(struct context *context, const struct text_list *files, char *text, size_t size)
{
    struct corpus_names names;
    int64_t bytes = 0;
    uint64_t hash = SAMPLE_HASH_BEGIN;
    if (corpus_names_create(context, files, &names) != STATUS_OK) {
        snprintf(text, size, "cannot be read");
        context_clear(context);
        return;
    }
    for (int i = 0; i < names.count; i++)
        sample_files(names.name[i], &bytes, &hash);
    snprintf(text, size, "%d file%s, %" PRId64 " bytes, sample %016" PRIx64, names.count, names.count == 1 ? "" : "s",
             bytes, hash);
    corpus_names_destroy(context, &names);
}
