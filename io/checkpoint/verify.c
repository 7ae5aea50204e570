#include "io/checkpoint/verify.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "io/checkpoint/file.h"
#include "io/checkpoint/hash.h"

enum { BLOCK = 1 << 20 }; /* elements read at a time */

static enum status dataset_hash(struct context *context, int descriptor, const char *path,
                                const struct layout_entry *entry, struct range part, float *buffer, uint64_t *joined,
                                struct reading *reading)
{
    int64_t end = part.begin + part.count;
    for (int64_t at = part.begin; at < end; at += BLOCK) {
        int64_t count = integer_min(BLOCK, end - at);
        CHECK(file_read(context, descriptor, path, entry->offset + at * (int64_t)sizeof(float), buffer,
                        count * (int64_t)sizeof(float)));
        *joined ^= hash_range(buffer, at, count, entry->count);
        reading_add(reading, count);
    }
    return STATUS_OK;
}

enum status verify_part(struct context *context, const char *path, const struct layout_entry *entries, int count,
                        struct range part, uint64_t *joined)
{
    int descriptor = -1;
    int64_t size;
    int64_t begin = 0;
    struct reading reading;
    enum status status = STATUS_OK;
    float *buffer = memory_allocate(context, BLOCK * sizeof *buffer, MEMORY_OTHER);
    if (!buffer)
        return STATUS_MEMORY;
    TRY(file_open(context, path, false, &descriptor, &size));
    reading_begin(&reading, context, part.count);
    for (int i = 0; i < count; i++) {
        struct range mine = range_intersect(part, (struct range){.begin = begin, .count = entries[i].count});
        mine.begin -= begin;
        if (mine.count > 0)
            TRY(dataset_hash(context, descriptor, path, &entries[i], mine, buffer, &joined[i], &reading));
        begin += entries[i].count;
    }
    notice_end(&reading.notice);
done:
    if (descriptor >= 0)
        close(descriptor);
    memory_free(context, buffer);
    return status;
}

enum status verify_hashes(struct context *context, const char *path, const struct layout_entry *entries, int count,
                          const uint64_t *joined)
{
    char names[512] = "";
    size_t length = 0;
    int damaged = 0;
    for (int i = 0; i < count; i++) {
        if (hash_whole(joined[i], entries[i].count) == entries[i].hash)
            continue;
        if (length + strlen(entries[i].name) + 3 < sizeof names)
            length +=
                (size_t)snprintf(names + length, sizeof names - length, "%s%s", damaged ? ", " : "", entries[i].name);
        damaged++;
    }
    if (damaged == 0)
        return STATUS_OK;
    return context_fail(context, STATUS_FILE, "%s: damaged: %d of %d datasets do not match their hashes: %s", path,
                        damaged, count, names);
}

enum status verify_file(struct context *context, const char *path)
{
    struct seal seal;
    struct layout_entry *entries = NULL;
    uint64_t *joined = NULL;
    int count = 0;
    enum status status;
    layout_quiet();
    TRY(seal_check(context, path, &seal));
    TRY(layout_list(context, path, &seal, &entries, &count));
    joined = memory_allocate(context, (size_t)count * sizeof *joined, MEMORY_OTHER);
    status = joined ? STATUS_OK : STATUS_MEMORY;
    if (status == STATUS_OK)
        status =
            verify_part(context, path, entries, count,
                        (struct range){.count = (seal.data_end - seal.data_begin) / (int64_t)sizeof(float)}, joined);
    if (status == STATUS_OK)
        status = verify_hashes(context, path, entries, count, joined);
done:
    memory_free(context, joined);
    memory_free(context, entries);
    return status;
}
