/* Which work there is: files, and ranges of those that divide. It follows from the files alone, so that it is the same
 * however many ranks share it and however often it is begun. */
#include <inttypes.h>
#include <stdio.h>

#include "src/prepare/prepare_private.h"

enum { LEAST_UNIT = 4 << 20, MOST_UNITS = 4096 };

static enum status find_files(struct work *work, char *const *names)
{
    for (int64_t i = 0; i < work->file_count; i++)
        CHECK(document_file_find(work->context, names[i], work->options->format, &work->files[i]));
    return STATUS_OK;
}

static int64_t units_of(const struct document_file *file, int64_t size)
{
    return document_file_divides(file) ? integer_max(1, integer_divide_up(file->bytes, size)) : 1;
}

static int64_t unit_size(const struct work *work)
{
    int64_t bytes = 0;
    for (int64_t i = 0; i < work->file_count; i++)
        bytes += work->files[i].bytes;
    return integer_max(LEAST_UNIT, bytes / MOST_UNITS);
}

static void list_units(struct work *work, int64_t size)
{
    int64_t unit = 0;
    for (int64_t i = 0; i < work->file_count; i++) {
        int64_t count = units_of(&work->files[i], size);
        for (int64_t u = 0; u < count; u++)
            work->units[unit++] =
                (struct unit){.file = i, .begin = u * size, .end = u + 1 < count ? (u + 1) * size : INT64_MAX};
    }
}

enum status work_find(struct work *work, char *const *names)
{
    struct context *context = work->context;
    struct mesh *mesh = work->mesh;
    enum { FACTS = 3 };
    int64_t *facts = memory_allocate(context, (size_t)(FACTS * work->file_count + 1) * sizeof *facts, MEMORY_OTHER);
    work->files = memory_allocate(context, (size_t)work->file_count * sizeof *work->files, MEMORY_OTHER);
    enum status status = facts && work->files ? STATUS_OK : STATUS_MEMORY;
    if (status == STATUS_OK && mesh_rank(mesh, MESH_TEAM) == 0)
        status = find_files(work, names);
    TRY(mesh_agree(mesh, context, status));
    for (int64_t i = 0; i < work->file_count; i++) {
        const struct document_file *file = &work->files[i];
        facts[FACTS * i] = file->format;
        facts[FACTS * i + 1] = file->packing;
        facts[FACTS * i + 2] = file->bytes;
    }
    mesh_broadcast(mesh, MESH_TEAM, 0, facts, FACTS * work->file_count, DTYPE_I64);
    for (int64_t i = 0; i < work->file_count; i++) {
        struct document_file *file = &work->files[i];
        snprintf(file->path, sizeof file->path, "%s", names[i]);
        file->format = (enum document_format)facts[FACTS * i];
        file->packing = (enum document_packing)facts[FACTS * i + 1];
        file->bytes = facts[FACTS * i + 2];
    }
    int64_t size = unit_size(work);
    for (int64_t i = 0; i < work->file_count; i++)
        work->unit_count += units_of(&work->files[i], size);
    size_t count = (size_t)work->unit_count;
    work->units = memory_allocate(context, count * sizeof *work->units, MEMORY_OTHER);
    work->numbers = memory_allocate(context, count * PART_NUMBERS * sizeof *work->numbers, MEMORY_OTHER);
    TRY(mesh_agree(mesh, context, work->units && work->numbers ? STATUS_OK : STATUS_MEMORY));
    list_units(work, size);
done:
    memory_free(context, facts);
    return status;
}
