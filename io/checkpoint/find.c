#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/checkpoint/folder.h"
#include "io/checkpoint/verify.h"
#include "src/core/text.h"

/* What rank 0 knows about a file and all ranks need. */
struct contents {
    struct layout_entry *entries;
    int64_t count;
};

/* Seal and list of datasets on rank 0, then on all. Collective; agreed status. */
static enum status contents_share(struct context *context, struct mesh *mesh, const char *path,
                                  struct contents *contents)
{
    bool first = mesh_rank(mesh, MESH_TEAM) == 0;
    enum status status = STATUS_OK;
    if (first) {
        struct seal seal;
        int count = 0;
        status = seal_check(context, path, &seal);
        if (status == STATUS_OK)
            status = layout_list(context, path, &seal, &contents->entries, &count);
        contents->count = count;
    }
    CHECK(mesh_agree(mesh, context, status));
    mesh_broadcast(mesh, MESH_TEAM, 0, &contents->count, 1, DTYPE_I64);
    size_t bytes = (size_t)contents->count * sizeof *contents->entries;
    if (!first) {
        contents->entries = memory_allocate(context, bytes, MEMORY_OTHER);
        status = contents->entries ? STATUS_OK : STATUS_MEMORY;
    }
    CHECK(mesh_agree(mesh, context, status));
    mesh_broadcast(mesh, MESH_TEAM, 0, contents->entries, (int64_t)bytes, DTYPE_BYTE);
    return STATUS_OK;
}

enum status checkpoint_verify(struct context *context, struct mesh *mesh, const char *path)
{
    struct contents contents = {0};
    uint64_t *joined = NULL;
    int64_t total = 0;
    enum status status;
    layout_quiet();
    TRY(contents_share(context, mesh, path, &contents));
    int count = (int)contents.count;
    joined = memory_allocate(context, (size_t)count * sizeof *joined, MEMORY_OTHER);
    for (int i = 0; i < count; i++)
        total += contents.entries[i].count;
    status = joined ? STATUS_OK : STATUS_MEMORY;
    if (status == STATUS_OK)
        status = verify_part(context, path, contents.entries, count,
                             range_partition(total, mesh_size(mesh, MESH_TEAM), mesh_rank(mesh, MESH_TEAM)), joined);
    TRY(mesh_agree(mesh, context, status));
    mesh_all_reduce(mesh, MESH_TEAM, joined, count, DTYPE_I64, MESH_XOR);
    TRY(mesh_agree(mesh, context, verify_hashes(context, path, contents.entries, count, joined)));
done:
    memory_free(context, joined);
    memory_free(context, contents.entries);
    return status;
}

/* Those that rank 0 finds. */
enum status checkpoint_steps(struct context *context, struct mesh *mesh, const char *folder, int64_t **steps,
                             int64_t *count)
{
    bool first = mesh_rank(mesh, MESH_TEAM) == 0;
    enum status status = STATUS_OK;
    *steps = NULL;
    *count = 0;
    if (first) {
        int found = 0;
        status = folder_steps(context, folder, steps, &found);
        *count = found;
    }
    CHECK(mesh_agree(mesh, context, status));
    mesh_broadcast(mesh, MESH_TEAM, 0, count, 1, DTYPE_I64);
    if (!first) {
        *steps = memory_allocate(context, (size_t)*count * sizeof **steps, MEMORY_OTHER);
        status = *steps ? STATUS_OK : STATUS_MEMORY;
    }
    CHECK(mesh_agree(mesh, context, status));
    mesh_broadcast(mesh, MESH_TEAM, 0, *steps, *count, DTYPE_I64);
    return STATUS_OK;
}

void checkpoint_clean(struct context *context, struct mesh *mesh, const char *folder)
{
    if (mesh_rank(mesh, MESH_TEAM) == 0)
        folder_clean(context, folder);
}

enum status checkpoint_find(struct context *context, struct mesh *mesh, const char *folder, bool *found,
                            char path[CHECKPOINT_PATH])
{
    return checkpoint_find_before(context, mesh, folder, INT64_MAX, found, path);
}

enum status checkpoint_find_before(struct context *context, struct mesh *mesh, const char *folder, int64_t before,
                                   bool *found, char path[CHECKPOINT_PATH])
{
    char name[FOLDER_NAME];
    char partial[CHECKPOINT_PATH];
    int64_t *steps = NULL;
    int64_t count = 0;
    enum status status;
    *found = false;
    int64_t first = 0;
    TRY(checkpoint_steps(context, mesh, folder, &steps, &count));
    while (first < count && steps[first] >= before)
        first++;
    for (int64_t i = first; i < count && !*found; i++) {
        TRY(mesh_agree(mesh, context, folder_paths(context, folder, steps[i], name, path, partial)));
        /* Files that differ among ranks are not damaged. */
        TRY(team_same_file(mesh_team(mesh), context, "checkpoint", path));
        status = checkpoint_verify(context, mesh, path);
        *found = status == STATUS_OK;
        if (status != STATUS_OK && status != STATUS_FILE)
            goto done;
        if (status == STATUS_FILE) {
            size_t prefix = strlen(path) + 2;
            const char *why = strlen(context->text) > prefix ? context->text + prefix : context->text;
            context_log(context, "checkpoint %s is damaged (%s)%s", path, why,
                        i + 1 < count ? "; trying the one before" : "");
            context_clear(context);
        }
    }
    status = STATUS_OK;
    count -= first;
    if (count > 0 && !*found)
        status = context_fail(context, STATUS_FILE,
                              "all %" PRId64 " checkpoints in %s are damaged; remove them or start with --resume none",
                              count, folder);
    status = mesh_agree(mesh, context, status);
done:
    memory_free(context, steps);
    return status;
}

/* The folder of checkpoints of a run, or the folder itself; false for what is no folder. */
static bool find_folder(const char *name, char folder[CHECKPOINT_PATH])
{
    struct stat entry;
    if (stat(name, &entry) != 0 || !S_ISDIR(entry.st_mode))
        return false;
    if (snprintf(folder, CHECKPOINT_PATH, "%s/checkpoints", name) >= CHECKPOINT_PATH || stat(folder, &entry) != 0)
        (void)text_copy(folder, CHECKPOINT_PATH, name);
    return true;
}

enum status checkpoint_named(struct context *context, struct mesh *mesh, const char *name, char path[CHECKPOINT_PATH])
{
    char folder[CHECKPOINT_PATH] = "";
    bool first = mesh_rank(mesh, MESH_TEAM) == 0;
    bool found = false;
    enum status status = STATUS_OK;
    if (!text_copy(path, CHECKPOINT_PATH, name))
        status = context_fail(context, STATUS_USAGE, "%s: the name is too long", name);
    CHECK(mesh_agree(mesh, context, status));
    int32_t is_folder = first && find_folder(name, folder);
    mesh_broadcast(mesh, MESH_TEAM, 0, &is_folder, 1, DTYPE_I32);
    if (!is_folder) {
        CHECK(team_same_file(mesh_team(mesh), context, "checkpoint", path));
        return checkpoint_verify(context, mesh, path);
    }
    mesh_broadcast(mesh, MESH_TEAM, 0, folder, CHECKPOINT_PATH, DTYPE_BYTE);
    CHECK(checkpoint_find(context, mesh, folder, &found, path));
    return mesh_agree(mesh, context,
                      found ? STATUS_OK : context_fail(context, STATUS_FILE, "%s: no checkpoint there", name));
}

enum status checkpoint_newest(struct context *context, const char *name, char path[CHECKPOINT_PATH])
{
    char folder[CHECKPOINT_PATH];
    char file[FOLDER_NAME];
    char partial[CHECKPOINT_PATH];
    int64_t *steps = NULL;
    int count = 0;
    if (!text_copy(path, CHECKPOINT_PATH, name))
        return context_fail(context, STATUS_USAGE, "%s: the name is too long", name);
    if (!find_folder(name, folder))
        return STATUS_OK;
    enum status status = folder_steps(context, folder, &steps, &count);
    if (status == STATUS_OK)
        status = count > 0 ? folder_paths(context, folder, steps[0], file, path, partial)
                           : context_fail(context, STATUS_FILE, "%s: no checkpoint there", name);
    memory_free(context, steps);
    return status;
}

void checkpoint_prune(struct context *context, struct mesh *mesh, const char *folder, int64_t keep_last,
                      int64_t keep_every)
{
    if (mesh_rank(mesh, MESH_TEAM) == 0)
        folder_prune(context, folder, keep_last, keep_every);
}
