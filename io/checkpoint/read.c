#include <string.h>
#include <unistd.h>

#include "io/checkpoint/file.h"
#include "io/checkpoint/layout.h"
#include "io/checkpoint/staging.h"
#include "io/checkpoint/transfer.h"
#include "io/checkpoint/write.h"

enum status checkpoint_read_header(struct context *context, struct mesh *mesh, const char *path,
                                   struct checkpoint_header *header)
{
    enum status status = STATUS_OK;
    layout_quiet();
    if (mesh_rank(mesh, MESH_TEAM) == 0) {
        struct seal seal;
        status = seal_check(context, path, &seal);
        if (status == STATUS_OK)
            status = layout_header(context, path, header);
    }
    CHECK(mesh_agree(mesh, context, status));
    mesh_broadcast(mesh, MESH_TEAM, 0, header, sizeof *header, DTYPE_BYTE);
    return STATUS_OK;
}

/* On rank 0. A file without a seal is not one of ours, but may hold datasets under these names. */
static enum status shapes_read(struct context *context, const char *path, const struct state_array *datasets, int count,
                               struct layout_entry *entries, int64_t *size)
{
    struct seal seal;
    int descriptor;
    enum status status = file_open(context, path, false, &descriptor, size);
    if (descriptor >= 0)
        close(descriptor);
    CHECK(status);
    if (!seal_absent(path))
        CHECK(seal_check(context, path, &seal));
    return layout_shapes(context, path, datasets, count, entries);
}

static enum status shapes_compare(struct context *context, const char *path, const struct state_array *datasets,
                                  int count, const struct layout_entry *entries)
{
    char in_file[LAYOUT_SHAPE];
    char wanted[LAYOUT_SHAPE];
    for (int i = 0; i < count; i++) {
        if (entries[i].rank < 0 && datasets[i].optional)
            continue;
        if (entries[i].rank < 0)
            return context_fail(context, STATUS_FILE, "%s: no dataset %s", path, datasets[i].name);
        bool same = entries[i].rank == datasets[i].rank;
        for (int d = 0; same && d < datasets[i].rank; d++)
            same = entries[i].shape[d] == datasets[i].shape[d];
        if (!same)
            return context_fail(context, STATUS_FILE, "%s: %s has shape %s, the model's is %s", path, datasets[i].name,
                                layout_shape_text(entries[i].rank, entries[i].shape, entries[i].doubles, in_file),
                                layout_shape_text(datasets[i].rank, datasets[i].shape, datasets[i].doubles, wanted));
    }
    return STATUS_OK;
}

/* This rank's share. */
static int64_t elements_of_pieces(const struct state_array *datasets, int count)
{
    int64_t elements = 0;
    for (int i = 0; i < count; i++)
        for (int p = 0; p < datasets[i].piece_count; p++)
            elements += box_count(&datasets[i].pieces[p].box, datasets[i].rank);
    return elements;
}

/* Which are left out, because they are optional and not in the file. */
static enum status find_missing(struct context *context, const char *path, const struct state_array *datasets,
                                int count, const struct layout_entry *entries, bool *missing)
{
    int sum = 0;
    int first = 0;
    CHECK(shapes_compare(context, path, datasets, count, entries));
    for (int i = 0; i < count; i++) {
        missing[i] = entries[i].rank < 0;
        if (missing[i] && sum++ == 0)
            first = i;
    }
    if (sum > 0)
        context_log(context, "%s has no %s%s: what it lacks begins anew", path, datasets[first].name,
                    sum > 1 ? " and others like it" : "");
    return STATUS_OK;
}

/* What is known of the file on rank 0 goes to all. */
static enum status share_shapes(struct context *context, struct mesh *mesh, const char *path,
                                const struct state_array *datasets, int count, struct layout_entry *entries,
                                int64_t *size)
{
    enum status status = STATUS_OK;
    if (mesh_rank(mesh, MESH_TEAM) == 0)
        status = shapes_read(context, path, datasets, count, entries, size);
    CHECK(mesh_agree(mesh, context, status));
    mesh_broadcast(mesh, MESH_TEAM, 0, size, 1, DTYPE_I64);
    mesh_broadcast(mesh, MESH_TEAM, 0, entries, (int64_t)((size_t)count * sizeof *entries), DTYPE_BYTE);
    return STATUS_OK;
}

enum status checkpoint_read_tuned(struct context *context, struct mesh *mesh, const char *path,
                                  const struct state_array *datasets, int count, bool together, int64_t transfer_bytes)
{
    struct staging staging = {0};
    int64_t size = 0;
    enum status status;
    layout_quiet();
    struct layout_entry *entries = memory_allocate(context, (size_t)count * sizeof *entries, MEMORY_OTHER);
    int64_t *rounds = memory_allocate(context, (size_t)count * sizeof *rounds, MEMORY_OTHER);
    bool *missing = memory_allocate(context, (size_t)count * sizeof *missing, MEMORY_OTHER);
    status = entries && rounds && missing ? transfer_check(context, datasets, count) : STATUS_MEMORY;
    TRY(mesh_agree(mesh, context, status));
    TRY(share_shapes(context, mesh, path, datasets, count, entries, &size));
    TRY(mesh_agree(mesh, context, find_missing(context, path, datasets, count, entries, missing)));
    TRY(mesh_agree(mesh, context, staging_create(context, datasets, count, missing, &staging)));
    TRY(transfer_visible(context, mesh, path, false, size));
    transfer_plan(mesh, staging.arrays, staging.count, transfer_bytes, rounds);
    struct reading reading;
    reading_begin(&reading, context, elements_of_pieces(staging.arrays, staging.count));
    const struct transfer transfer = {.path = path,
                                      .datasets = staging.arrays,
                                      .count = staging.count,
                                      .collective = together,
                                      .limit = transfer_bytes,
                                      .rounds = rounds,
                                      .reading = &reading};
    status = transfer_run(context, mesh, &transfer);
    notice_end(&reading.notice);
    if (status == STATUS_OK)
        staging_take(&staging);
done:
    staging_destroy(context, &staging);
    memory_free(context, missing);
    memory_free(context, rounds);
    memory_free(context, entries);
    return status;
}

enum status checkpoint_read(struct context *context, struct mesh *mesh, const char *path,
                            const struct state_array *datasets, int count)
{
    int32_t method = (int32_t)write_method_wanted();
    mesh_broadcast(mesh, MESH_TEAM, 0, &method, 1, DTYPE_I32);
    return checkpoint_read_tuned(context, mesh, path, datasets, count, method != WRITE_ALONE, TRANSFER_BYTES);
}
