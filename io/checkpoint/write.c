#include "io/checkpoint/write.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "io/checkpoint/file.h"
#include "io/checkpoint/folder.h"
#include "io/checkpoint/hash.h"
#include "io/checkpoint/layout.h"
#include "io/checkpoint/transfer.h"

struct writer {
    struct context *context;
    struct mesh *mesh;
    const char *folder;
    const struct checkpoint_header *header;
    const struct checkpoint_dataset *datasets;
    int count;
    const struct write_tuning *tuning;
    char name[FOLDER_NAME];
    char path[CHECKPOINT_PATH];
    char partial[CHECKPOINT_PATH];
    int64_t *sums; /* hash and number of elements of each dataset, first of this rank, then of all */
    uint64_t *hashes;
    int64_t *rounds;
    int64_t *offsets;
    int64_t data[2]; /* begin and end in the file; of rank 0 */
    int64_t size;
    int64_t reserved;
};

static enum status writer_prepare(struct writer *writer)
{
    struct context *context = writer->context;
    size_t count = (size_t)writer->count;
    CHECK(transfer_check(context, writer->datasets, writer->count));
    CHECK(folder_paths(context, writer->folder, writer->header->step, writer->name, writer->path, writer->partial));
    writer->sums = memory_allocate(context, 2 * count * sizeof *writer->sums, MEMORY_OTHER);
    writer->hashes = memory_allocate(context, count * sizeof *writer->hashes, MEMORY_OTHER);
    writer->rounds = memory_allocate(context, count * sizeof *writer->rounds, MEMORY_OTHER);
    writer->offsets = memory_allocate(context, count * sizeof *writer->offsets, MEMORY_OTHER);
    return writer->sums && writer->hashes && writer->rounds && writer->offsets ? STATUS_OK : STATUS_MEMORY;
}

/* Hashes what is in memory, so that nothing between memory and disk goes unnoticed. Collective. */
static enum status writer_hash(struct writer *writer)
{
    for (int i = 0; i < writer->count; i++) {
        const struct checkpoint_dataset *dataset = &writer->datasets[i];
        uint64_t hash = 0;
        for (int p = 0; p < dataset->piece_count; p++) {
            const struct checkpoint_piece *piece = &dataset->pieces[p];
            hash += hash_box(piece->data, &piece->box, dataset->rank, dataset->shape);
            writer->sums[2 * i + 1] += box_count(&piece->box, dataset->rank);
        }
        memcpy(&writer->sums[2 * i], &hash, sizeof hash);
    }
    if (writer->count > 0)
        mesh_all_reduce(writer->mesh, MESH_WORLD, writer->sums, 2 * (int64_t)writer->count, DTYPE_I64, MESH_SUM);
    for (int i = 0; i < writer->count; i++) {
        const struct checkpoint_dataset *dataset = &writer->datasets[i];
        int64_t elements = 1;
        for (int d = 0; d < dataset->rank; d++)
            elements *= dataset->shape[d];
        if (writer->sums[2 * i + 1] != elements)
            return context_fail(writer->context, STATUS_INTERNAL,
                                "checkpoint: the ranks hold %" PRId64 " elements of %s, which has %" PRId64,
                                writer->sums[2 * i + 1], dataset->name, elements);
        memcpy(&writer->hashes[i], &writer->sums[2 * i], sizeof writer->hashes[i]);
    }
    return STATUS_OK;
}

/* On rank 0: the file with all but its elements, and disk space for those. */
static enum status writer_create(struct writer *writer)
{
    struct context *context = writer->context;
    struct checkpoint_header header = *writer->header;
    int64_t bytes = layout_overhead(&header, writer->count);
    if (header.created[0] == '\0') {
        time_t now = time(NULL);
        struct tm utc;
        strftime(header.created, sizeof header.created, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    }
    for (int i = 0; i < writer->count; i++)
        bytes += writer->sums[2 * i + 1] * (int64_t)sizeof(float);
    CHECK(folder_make(context, writer->folder));
    if (writer->tuning->check_space)
        CHECK(folder_has_space(context, writer->folder, bytes + bytes / 100));
    CHECK(layout_create(context, writer->partial, &header, writer->datasets, writer->count, writer->hashes,
                        writer->offsets, &writer->data[0], &writer->data[1]));
    bool reserved = false;
    if (writer->tuning->reserve_space)
        CHECK(file_reserve(context, writer->partial, &reserved));
    writer->reserved = reserved;
    int descriptor;
    enum status status = file_open(context, writer->partial, false, &descriptor, &writer->size);
    if (descriptor >= 0)
        close(descriptor);
    return status;
}

/* Collective; agreed status. */
static enum status writer_transfer(struct writer *writer)
{
    struct mesh *mesh = writer->mesh;
    mesh_broadcast(mesh, MESH_WORLD, 0, &writer->size, 1, DTYPE_I64);
    mesh_broadcast(mesh, MESH_WORLD, 0, &writer->reserved, 1, DTYPE_I64);
    mesh_broadcast(mesh, MESH_WORLD, 0, writer->offsets, writer->count, DTYPE_I64);
    transfer_plan(mesh, writer->datasets, writer->count, writer->tuning->transfer_bytes, writer->rounds);
    CHECK(transfer_visible(writer->context, mesh, writer->partial, true, writer->size));
    enum write_method method = writer->tuning->method;
    const struct transfer transfer = {
        .path = writer->partial,
        .datasets = writer->datasets,
        .count = writer->count,
        .write = true,
        .collective = method == WRITE_TOGETHER || (method == WRITE_AS_FITS && writer->reserved),
        .limit = writer->tuning->transfer_bytes,
        .rounds = writer->rounds,
        .offsets = writer->offsets,
    };
    return transfer_run(writer->context, mesh, &transfer);
}

/* On rank 0: a partial file becomes a checkpoint, and the newest. */
static enum status writer_finish(struct writer *writer)
{
    struct context *context = writer->context;
    char text[FOLDER_NAME + 1];
    CHECK(seal_write(context, writer->partial, writer->data[0], writer->data[1]));
    CHECK(file_rename(context, writer->folder, writer->partial, writer->path));
    snprintf(text, sizeof text, "%s\n", writer->name);
    return file_replace(context, writer->folder, "latest", text);
}

enum status checkpoint_write_tuned(struct context *context, struct mesh *mesh, const char *folder,
                                   const struct checkpoint_header *header, const struct checkpoint_dataset *datasets,
                                   int count, const struct write_tuning *tuning)
{
    struct writer writer = {.context = context,
                            .mesh = mesh,
                            .folder = folder,
                            .header = header,
                            .datasets = datasets,
                            .count = count,
                            .tuning = tuning};
    bool first = mesh_rank(mesh, MESH_WORLD) == 0;
    bool created = false;
    enum status status;
    layout_quiet();
    TRY(mesh_agree(mesh, context, writer_prepare(&writer)));
    TRY(mesh_agree(mesh, context, writer_hash(&writer)));
    created = true;
    TRY(mesh_agree(mesh, context, first ? writer_create(&writer) : STATUS_OK));
    TRY(writer_transfer(&writer));
    TRY(mesh_agree(mesh, context, first ? writer_finish(&writer) : STATUS_OK));
done:
    if (status != STATUS_OK && created && first)
        unlink(writer.partial);
    memory_free(context, writer.offsets);
    memory_free(context, writer.rounds);
    memory_free(context, writer.hashes);
    memory_free(context, writer.sums);
    return status;
}

enum write_method write_method_wanted(void)
{
    const char *wanted = getenv("CAIRN_CHECKPOINT_IO");
    if (wanted && strcmp(wanted, "individual") == 0)
        return WRITE_ALONE;
    return wanted && strcmp(wanted, "collective") == 0 ? WRITE_TOGETHER : WRITE_AS_FITS;
}

enum status checkpoint_write(struct context *context, struct mesh *mesh, const char *folder,
                             const struct checkpoint_header *header, const struct checkpoint_dataset *datasets,
                             int count)
{
    /* Ranks may be started with different environments. */
    int32_t method = (int32_t)write_method_wanted();
    mesh_broadcast(mesh, MESH_WORLD, 0, &method, 1, DTYPE_I32);
    const struct write_tuning tuning = {.method = (enum write_method)method,
                                        .transfer_bytes = TRANSFER_BYTES,
                                        .check_space = true,
                                        .reserve_space = true};
    return checkpoint_write_tuned(context, mesh, folder, header, datasets, count, &tuning);
}
