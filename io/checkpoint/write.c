#include "io/checkpoint/write.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/checkpoint/hash.h"
#include "io/checkpoint/layout.h"
#include "io/checkpoint/partial.h"
#include "io/checkpoint/staging.h"
#include "io/checkpoint/transfer.h"

struct writer {
    struct context *context;
    struct mesh *mesh;
    const struct checkpoint_header *header;
    const struct state_array *datasets;
    int count;
    const struct write_tuning *tuning;
    struct partial partial;
    /* Of the datasets, first of this rank, then of all. */
    uint64_t *hashes;
    int64_t *elements;
    int64_t *rounds;
    int64_t *offsets;
};

static enum status writer_prepare(struct writer *writer, const char *folder)
{
    struct context *context = writer->context;
    size_t count = (size_t)writer->count;
    CHECK(transfer_check(context, writer->datasets, writer->count));
    CHECK(partial_name(context, folder, writer->header->step, &writer->partial));
    writer->hashes = memory_allocate(context, count * sizeof *writer->hashes, MEMORY_OTHER);
    writer->elements = memory_allocate(context, count * sizeof *writer->elements, MEMORY_OTHER);
    writer->rounds = memory_allocate(context, count * sizeof *writer->rounds, MEMORY_OTHER);
    writer->offsets = memory_allocate(context, count * sizeof *writer->offsets, MEMORY_OTHER);
    return writer->hashes && writer->elements && writer->rounds && writer->offsets ? STATUS_OK : STATUS_MEMORY;
}

/* Hashes what is in memory, so that nothing between memory and disk goes unnoticed. Collective. */
static enum status writer_hash(struct writer *writer)
{
    for (int i = 0; i < writer->count; i++) {
        const struct state_array *dataset = &writer->datasets[i];
        for (int p = 0; p < dataset->piece_count; p++) {
            const struct state_piece *piece = &dataset->pieces[p];
            writer->hashes[i] ^= hash_box(piece->data, &piece->box, dataset->rank, dataset->shape);
            writer->elements[i] += box_count(&piece->box, dataset->rank);
        }
    }
    hashes_join(writer->mesh, writer->datasets, writer->count, writer->hashes);
    if (writer->count > 0)
        mesh_all_reduce(writer->mesh, MESH_TEAM, writer->elements, writer->count, DTYPE_I64, MESH_SUM);
    return transfer_complete(writer->context, writer->datasets, writer->count, writer->elements);
}

/* On rank 0. */
static enum status writer_create(struct writer *writer)
{
    const struct partial_tuning tuning = {.check_space = writer->tuning->check_space,
                                          .reserve_space = writer->tuning->reserve_space};
    return partial_create(writer->context, writer->header, writer->datasets, writer->count, writer->hashes, tuning,
                          writer->offsets, &writer->partial);
}

/* Collective; agreed status. */
static enum status writer_transfer(struct writer *writer)
{
    struct mesh *mesh = writer->mesh;
    struct partial *partial = &writer->partial;
    mesh_broadcast(mesh, MESH_TEAM, 0, &partial->place, PARTIAL_PLACE, DTYPE_I64);
    mesh_broadcast(mesh, MESH_TEAM, 0, writer->offsets, writer->count, DTYPE_I64);
    transfer_plan(mesh, writer->datasets, writer->count, writer->tuning->transfer_bytes, writer->rounds);
    CHECK(transfer_visible(writer->context, mesh, partial->partial, true, partial->place.size));
    enum write_method method = writer->tuning->method;
    const struct transfer transfer = {
        .path = partial->partial,
        .datasets = writer->datasets,
        .count = writer->count,
        .write = true,
        .collective = method == WRITE_TOGETHER || (method == WRITE_AS_FITS && partial->place.reserved),
        .limit = writer->tuning->transfer_bytes,
        .rounds = writer->rounds,
        .offsets = writer->offsets,
    };
    return transfer_run(writer->context, mesh, &transfer);
}

enum status checkpoint_write_tuned(struct context *context, struct mesh *mesh, const char *folder,
                                   const struct checkpoint_header *header, const struct state_array *datasets,
                                   int count, const struct write_tuning *tuning)
{
    struct staging staging;
    struct writer writer = {.context = context, .mesh = mesh, .header = header, .count = count, .tuning = tuning};
    bool first = mesh_rank(mesh, MESH_TEAM) == 0;
    bool created = false;
    enum status status;
    layout_quiet();
    TRY(mesh_agree(mesh, context, staging_create(context, datasets, count, NULL, &staging)));
    staging_fill(&staging);
    writer.datasets = staging.arrays;
    TRY(mesh_agree(mesh, context, writer_prepare(&writer, folder)));
    TRY(mesh_agree(mesh, context, writer_hash(&writer)));
    created = true;
    TRY(mesh_agree(mesh, context, first ? writer_create(&writer) : STATUS_OK));
    TRY(writer_transfer(&writer));
    TRY(mesh_agree(mesh, context, first ? partial_finish(context, &writer.partial) : STATUS_OK));
done:
    if (status != STATUS_OK && created && first)
        unlink(writer.partial.partial);
    staging_destroy(context, &staging);
    memory_free(context, writer.offsets);
    memory_free(context, writer.rounds);
    memory_free(context, writer.elements);
    memory_free(context, writer.hashes);
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
                             const struct checkpoint_header *header, const struct state_array *datasets, int count)
{
    /* Ranks may be started with different environments. */
    int32_t method = (int32_t)write_method_wanted();
    mesh_broadcast(mesh, MESH_TEAM, 0, &method, 1, DTYPE_I32);
    const struct write_tuning tuning = {.method = (enum write_method)method,
                                        .transfer_bytes = TRANSFER_BYTES,
                                        .check_space = true,
                                        .reserve_space = true};
    return checkpoint_write_tuned(context, mesh, folder, header, datasets, count, &tuning);
}
