#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "io/checkpoint/file.h"
#include "io/checkpoint/hash.h"
#include "io/checkpoint/memories.h"
#include "io/checkpoint/verify.h"

enum { BLOCK = 1 << 20, NAME_WIDTH = 56 }; /* elements read at a time; columns of the table */

static enum status dataset_scan(struct context *context, int descriptor, const char *path,
                                const struct layout_entry *entry, float *buffer, double *norm, uint64_t *hash,
                                struct reading *reading)
{
    double squares = 0;
    uint64_t joined = 0;
    for (int64_t at = 0; at < entry->count; at += BLOCK) {
        int64_t count = integer_min(BLOCK, entry->count - at);
        CHECK(file_read(context, descriptor, path, entry->offset + at * (int64_t)sizeof(float), buffer,
                        count * (int64_t)sizeof(float)));
        joined ^= hash_range(buffer, at, count, entry->count);
        reading_add(reading, count);
        const double *doubles = (const double *)(const void *)buffer;
        for (int64_t i = 0; i < count / (entry->doubles ? 2 : 1); i++)
            squares += entry->doubles ? doubles[i] * doubles[i] : (double)buffer[i] * buffer[i];
    }
    *norm = sqrt(squares);
    *hash = hash_whole(joined, entry->count);
    return STATUS_OK;
}

static void header_print(const char *path, const struct checkpoint_header *header, const struct seal *seal,
                         const struct layout_entry *entries, int count)
{
    int64_t parameters = 0;
    for (int i = 0; i < count; i++)
        if (strncmp(entries[i].name, "/parameters/", 12) == 0)
            parameters += entries[i].count;
    printf("file            %s\n", path);
    printf("size            %" PRId64 " bytes\n", seal->size);
    printf("format          cairn-checkpoint 1\n");
    printf("step            %" PRId64 "\n", header->step);
    printf("tokens          %" PRId64 "\n", header->tokens);
    printf("created         %s\n", header->created);
    printf("mesh            %s\n", header->mesh);
    printf("sequences       %" PRId64 "\n", header->sequences);
    printf("skipped         %" PRId64 "\n", header->skipped);
    printf("skipped in row  %" PRId64 "\n", header->skipped_in_row);
    printf("updates         %" PRId64 "\n", header->updates);
    printf("seed            %" PRId64 "\n", header->seed);
    if (header->data[0])
        printf("data            %s\n", header->data);
    printf("parameters      %" PRId64 "\n", parameters);
    printf("datasets        %d\n\n", count);
}

static enum status table_print(struct context *context, const char *path, const struct layout_entry *entries, int count)
{
    int descriptor = -1;
    int64_t size;
    int damaged = 0;
    struct reading reading;
    int64_t all = 0;
    enum status status = STATUS_OK;
    float *buffer = memory_allocate(context, BLOCK * sizeof *buffer, MEMORY_OTHER);
    if (!buffer)
        return STATUS_MEMORY;
    TRY(file_open(context, path, false, &descriptor, &size));
    for (int i = 0; i < count; i++)
        all += entries[i].count;
    reading_begin(&reading, context, all);
    printf("%-*s %-24s %13s  %s\n", NAME_WIDTH, "dataset", "shape", "norm", "hash");
    for (int i = 0; i < count; i++) {
        char shape[LAYOUT_SHAPE];
        double norm;
        uint64_t hash;
        TRY(dataset_scan(context, descriptor, path, &entries[i], buffer, &norm, &hash, &reading));
        bool good = hash == entries[i].hash;
        printf("%-*s %-24s %13.6g  %016" PRIx64 "%s\n", NAME_WIDTH, entries[i].name,
               layout_shape_text(entries[i].rank, entries[i].shape, entries[i].doubles, shape), norm, entries[i].hash,
               good ? "" : "  DAMAGED");
        damaged += !good;
    }
    notice_end(&reading.notice);
    if (damaged > 0)
        status = context_fail(context, STATUS_FILE, "%s: damaged: %d of %d datasets do not match their hashes", path,
                              damaged, count);
done:
    if (descriptor >= 0)
        close(descriptor);
    memory_free(context, buffer);
    return status;
}

enum status checkpoint_inspect(struct context *context, const char *path, bool verbose)
{
    struct seal seal;
    struct layout_entry *entries = NULL;
    int count = 0;
    enum status status;
    struct checkpoint_header *header = memory_allocate(context, sizeof *header, MEMORY_OTHER);
    if (!header)
        return STATUS_MEMORY;
    layout_quiet();
    TRY(seal_check(context, path, &seal));
    TRY(layout_header(context, path, header));
    TRY(layout_list(context, path, &seal, &entries, &count));
    header_print(path, header, &seal, entries, count);
    status = table_print(context, path, entries, count);
    if (status == STATUS_OK)
        status = memories_print(context, path, entries, count, verbose);
    printf("\nconfig\n%s", header->config);
done:
    memory_free(context, entries);
    memory_free(context, header);
    return status;
}
