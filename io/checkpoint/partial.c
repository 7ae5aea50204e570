#include "io/checkpoint/partial.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "io/checkpoint/file.h"
#include "io/checkpoint/layout.h"
#include "io/checkpoint/transfer.h"
#include "src/core/folder.h"

enum status partial_name(struct context *context, const char *folder, int64_t step, struct partial *partial)
{
    *partial = (struct partial){.folder = folder};
    return folder_paths(context, folder, step, partial->name, partial->path, partial->partial);
}

enum status partial_create(struct context *context, const struct checkpoint_header *header,
                           const struct state_array *datasets, int count, const uint64_t *hashes,
                           struct partial_tuning tuning, int64_t *offsets, struct partial *partial)
{
    struct checkpoint_header dated = *header;
    int64_t bytes = layout_overhead(header, count) + checkpoint_bytes(datasets, count);
    if (dated.created[0] == '\0') {
        time_t now = time(NULL);
        struct tm utc;
        strftime(dated.created, sizeof dated.created, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    }
    CHECK(folder_make(context, "", partial->folder));
    if (tuning.check_space)
        CHECK(folder_has_space(context, partial->folder, bytes + bytes / 100));
    struct partial_place *place = &partial->place;
    CHECK(
        layout_create(context, partial->partial, &dated, datasets, count, hashes, offsets, &place->begin, &place->end));
    bool reserved = false;
    if (tuning.reserve_space)
        CHECK(file_reserve(context, partial->partial, &reserved));
    place->reserved = reserved;
    int descriptor;
    enum status status = file_open(context, partial->partial, false, &descriptor, &place->size);
    if (descriptor >= 0)
        close(descriptor);
    return status;
}

enum status partial_finish(struct context *context, const struct partial *partial)
{
    char text[FOLDER_NAME + 1];
    CHECK(seal_write(context, partial->partial, partial->place.begin, partial->place.end));
    CHECK(file_rename(context, partial->folder, partial->partial, partial->path));
    snprintf(text, sizeof text, "%s\n", partial->name);
    enum status status = file_replace(context, partial->folder, "latest", text);
    if (status != STATUS_FILE)
        return status;
    /* It is for people: what goes on from here looks at the files. */
    context_log(context, "%s is complete, but %s/latest does not name it: %s", partial->path, partial->folder,
                context->text);
    context_clear(context);
    return STATUS_OK;
}
