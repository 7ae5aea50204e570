#include "io/checkpoint/transfer.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "dist/mesh/mesh_mpi.h"
#include "io/checkpoint/cursor.h"
#include "io/checkpoint/file.h"
#include "io/checkpoint/hash.h"
#include "io/checkpoint/layout.h"
#include "io/checkpoint/runs.h"

static int64_t limit_elements(int64_t bytes)
{
    return integer_max(bytes / (int64_t)sizeof(double), 1) * 2;
}

enum status transfer_check(struct context *context, const struct state_array *datasets, int count)
{
    for (int i = 0; i < count; i++) {
        const struct state_array *dataset = &datasets[i];
        bool good = dataset->rank >= 1 && dataset->rank <= TENSOR_RANK && dataset->name[0] == '/' &&
                    memchr(dataset->name, 0, sizeof dataset->name) && dataset->piece_count >= 0;
        for (int d = 0; good && d < dataset->rank; d++)
            good = dataset->shape[d] >= 0;
        for (int p = 0; good && p < dataset->piece_count; p++) {
            const struct box *box = &dataset->pieces[p].box;
            for (int d = 0; d < dataset->rank; d++)
                good = good && box->offset[d] >= 0 && box->extent[d] >= 0 &&
                       box->extent[d] <= dataset->shape[d] - box->offset[d];
        }
        if (!good)
            return context_fail(context, STATUS_INTERNAL, "checkpoint: dataset %d, %.128s, has a piece outside of it",
                                i, dataset->name);
    }
    return STATUS_OK;
}

int64_t dataset_elements(const struct state_array *dataset)
{
    int64_t elements = 1;
    for (int i = 0; i < dataset->rank; i++)
        elements *= dataset->shape[i];
    return elements;
}

int64_t checkpoint_bytes(const struct state_array *datasets, int count)
{
    int64_t bytes = 0;
    for (int i = 0; i < count; i++)
        bytes += dataset_elements(&datasets[i]) * (int64_t)sizeof(float);
    return bytes;
}

enum status transfer_complete(struct context *context, const struct state_array *datasets, int count,
                              const int64_t *elements)
{
    for (int i = 0; i < count; i++)
        if (elements[i] != dataset_elements(&datasets[i]))
            return context_fail(context, STATUS_INTERNAL,
                                "checkpoint: the ranks hold %" PRId64 " elements of %s, which has %" PRId64,
                                elements[i], datasets[i].name, dataset_elements(&datasets[i]));
    return STATUS_OK;
}

void hashes_join(struct mesh *mesh, const struct state_array *datasets, int count, uint64_t *hashes)
{
    if (count > 0)
        mesh_all_reduce(mesh, MESH_TEAM, hashes, count, DTYPE_I64, MESH_XOR);
    for (int i = 0; i < count; i++)
        hashes[i] = hash_whole(hashes[i], dataset_elements(&datasets[i]));
}

void transfer_plan(struct mesh *mesh, const struct state_array *datasets, int count, int64_t limit, int64_t *rounds)
{
    for (int i = 0; i < count; i++) {
        struct cursor cursor = {.dataset = &datasets[i], .limit = limit_elements(limit)};
        float *data;
        int64_t elements;
        rounds[i] = 0;
        while (cursor_settle(&cursor)) {
            (void)cursor_next(&cursor, -1, &data, &elements);
            rounds[i]++;
        }
    }
    if (count > 0)
        mesh_all_reduce(mesh, MESH_TEAM, rounds, count, DTYPE_I64, MESH_MAX);
}

enum status transfer_visible(struct context *context, struct mesh *mesh, const char *path, bool write, int64_t size)
{
    int descriptor;
    int64_t seen;
    enum status status = file_open(context, path, write, &descriptor, &seen);
    if (status == STATUS_OK && seen != size)
        status = context_fail(context, STATUS_FILE,
                              "%s: rank %d sees %" PRId64 " bytes and rank 0 %" PRId64
                              "; the folder must be on a file system that all ranks share",
                              path, mesh_rank(mesh, MESH_TEAM), seen, size);
    if (descriptor >= 0)
        close(descriptor);
    return mesh_agree(mesh, context, status);
}

static enum status move_fail(struct context *context, const struct transfer *transfer)
{
    if (transfer->write && file_disk_full(transfer->path))
        return context_fail(context, STATUS_FILE, "%s: cannot be written: No space left on device", transfer->path);
    return layout_fail(context, transfer->path, transfer->write ? "written" : "read");
}

/* Takes part in every round whatever happens in the ones before, since the others do. Collective if `properties` are;
 * local status. */
static enum status dataset_move(struct context *context, const struct transfer *transfer, hid_t file, hid_t properties,
                                int index)
{
    enum status status = STATUS_OK;
    const struct state_array *dataset = &transfer->datasets[index];
    struct cursor cursor = {.dataset = dataset, .limit = limit_elements(transfer->limit)};
    hid_t type = dataset->doubles ? H5T_NATIVE_DOUBLE : H5T_NATIVE_FLOAT;
    hid_t opened = H5Dopen2(file, dataset->name, H5P_DEFAULT);
    hid_t space = opened >= 0 ? H5Dget_space(opened) : -1;
    if (space < 0)
        status = layout_fail(context, transfer->path, "opened");
    for (int64_t round = 0; space >= 0 && round < transfer->rounds[index]; round++) {
        float *data;
        int64_t count;
        double nothing = 0;
        bool done = cursor_next(&cursor, space, &data, &count);
        location_touch(&context->location);
        hsize_t size = (hsize_t)integer_max(count / (dataset->doubles ? 2 : 1), 1);
        hid_t memory = H5Screate_simple(1, &size, NULL);
        if (count == 0)
            done = H5Sselect_none(memory) >= 0 && done;
        void *buffer = count ? (void *)data : &nothing;
        herr_t moved = transfer->write ? H5Dwrite(opened, type, memory, space, properties, buffer)
                                       : H5Dread(opened, type, memory, space, properties, buffer);
        if (status == STATUS_OK && (!done || moved < 0))
            status = move_fail(context, transfer);
        layout_release(memory);
        if (transfer->reading)
            reading_add(transfer->reading, count);
    }
    layout_release(space);
    layout_release(opened);
    return status;
}

/* -- All together -- */

/* Collective; local status. */
static enum status file_open_all(struct context *context, struct mesh *mesh, const struct transfer *transfer,
                                 hid_t *file)
{
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    *file = -1;
    if (H5Pset_fapl_mpio(access, mesh_communicator(mesh, MESH_TEAM), MPI_INFO_NULL) >= 0 &&
        H5Pset_libver_bounds(access, H5F_LIBVER_V18, H5F_LIBVER_V110) >= 0 &&
        H5Pset_all_coll_metadata_ops(access, 1) >= 0 && H5Pset_coll_metadata_write(access, 1) >= 0)
        *file = H5Fopen(transfer->path, transfer->write ? H5F_ACC_RDWR : H5F_ACC_RDONLY, access);
    enum status status = *file < 0 ? layout_fail(context, transfer->path, "opened by all ranks") : STATUS_OK;
    layout_release(access);
    return status;
}

static enum status run_together(struct context *context, struct mesh *mesh, const struct transfer *transfer)
{
    hid_t file = -1;
    bool opened = false;
    enum status status;
    hid_t properties = H5Pcreate(H5P_DATASET_XFER);
    status = H5Pset_dxpl_mpio(properties, H5FD_MPIO_COLLECTIVE) < 0 ? layout_fail(context, transfer->path, "opened")
                                                                    : STATUS_OK;
    TRY(mesh_agree(mesh, context, status));
    TRY(mesh_agree(mesh, context, file_open_all(context, mesh, transfer, &file)));
    opened = true;
    for (int i = 0; i < transfer->count; i++)
        if (transfer->rounds[i] > 0)
            TRY(mesh_agree(mesh, context, dataset_move(context, transfer, file, properties, i)));
    if (transfer->write) {
        status =
            H5Fflush(file, H5F_SCOPE_GLOBAL) < 0 ? layout_fail(context, transfer->path, "written to disk") : STATUS_OK;
        TRY(mesh_agree(mesh, context, status));
    }
done:
    /* Closing waits for all ranks; where only some have the file open it stays so until the end of the job. */
    if (opened) {
        enum status closed = H5Fclose(file) < 0 ? layout_fail(context, transfer->path, "closed") : STATUS_OK;
        closed = mesh_agree(mesh, context, closed);
        status = status == STATUS_OK ? closed : status;
    }
    layout_release(properties);
    return status;
}

/* -- Each rank by itself -- */

static enum status read_alone(struct context *context, const struct transfer *transfer)
{
    enum status status = STATUS_OK;
    hid_t file = layout_open(transfer->path);
    if (file < 0)
        return layout_fail(context, transfer->path, "opened");
    for (int i = 0; status == STATUS_OK && i < transfer->count; i++)
        if (transfer->datasets[i].piece_count > 0)
            status = dataset_move(context, transfer, file, H5P_DEFAULT, i);
    layout_release(file);
    return status;
}

static enum status write_alone(struct context *context, const struct transfer *transfer)
{
    int descriptor;
    int64_t size;
    const int64_t bytes = sizeof(float);
    enum status status;
    TRY(file_open(context, transfer->path, true, &descriptor, &size));
    for (int i = 0; i < transfer->count; i++) {
        const struct state_array *dataset = &transfer->datasets[i];
        for (int p = 0; p < dataset->piece_count; p++) {
            const struct state_piece *piece = &dataset->pieces[p];
            struct runs runs = runs_of_box(&piece->box, dataset->rank, dataset->shape);
            location_touch(&context->location);
            for (int64_t r = 0; r < runs.count; r++) {
                int64_t begin = runs_begin(&runs, &piece->box, dataset->rank, dataset->shape, r);
                TRY(file_write(context, descriptor, transfer->path, transfer->offsets[i] + begin * bytes,
                               piece->data + r * runs.length, runs.length * bytes));
            }
        }
    }
    TRY(file_sync(context, descriptor, transfer->path));
done:
    if (descriptor >= 0)
        close(descriptor);
    return status;
}

enum status transfer_run(struct context *context, struct mesh *mesh, const struct transfer *transfer)
{
    /* Here ranks wait for each other as well as for the disk. */
    if (transfer->collective)
        return run_together(context, mesh, transfer);
    location_enter_files(&context->location);
    enum status status = transfer->write ? write_alone(context, transfer) : read_alone(context, transfer);
    location_leave_files(&context->location);
    return mesh_agree(mesh, context, status);
}
