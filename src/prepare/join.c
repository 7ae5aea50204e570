/* Parts to PREFIX.bin and PREFIX.idx: every rank writes what is its own at its place. The index gets its name last. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "src/prepare/prepare_private.h"

enum { HEADER = 34, BLOCK = 1 << 20 };

struct joining {
    struct work *work;
    char tokens_path[PREPARE_PATH], index_path[PREPARE_PATH];
    int tokens, index;    /* descriptors */
    int64_t documents;    /* of all parts */
    unsigned char *block; /* [BLOCK] */
};

static enum status cannot_write(const struct joining *joining, const char *path)
{
    return context_fail(joining->work->context, STATUS_FILE, "%s: cannot be written: %s", path, strerror(errno));
}

static enum status put(const struct joining *joining, int file, const void *data, int64_t bytes, int64_t at)
{
    const char *next = data;
    while (bytes > 0) {
        ssize_t done = pwrite(file, next, (size_t)bytes, at);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return cannot_write(joining, file == joining->index ? joining->index_path : joining->tokens_path);
        next += done;
        at += done;
        bytes -= done;
    }
    return STATUS_OK;
}

/* Lengths, places and numbers of `count` documents from number `document` on, the first of which begins at byte `at`.
 */
static enum status put_index(const struct joining *joining, const int32_t *lengths, int64_t count, int64_t document,
                             int64_t *at)
{
    enum { PIECE = 4096 };
    int64_t values[PIECE];
    int64_t places = HEADER + 4 * joining->documents;
    int64_t numbers = places + 8 * joining->documents;
    CHECK(put(joining, joining->index, lengths, 4 * count, HEADER + 4 * document));
    for (int64_t done = 0; done < count;) {
        int64_t piece = integer_min(PIECE, count - done);
        for (int64_t i = 0; i < piece; i++) {
            values[i] = *at;
            *at += lengths[done + i] * joining->work->width;
        }
        CHECK(put(joining, joining->index, values, 8 * piece, places + 8 * (document + done)));
        for (int64_t i = 0; i < piece; i++)
            values[i] = document + done + i;
        CHECK(put(joining, joining->index, values, 8 * piece, numbers + 8 * (document + done)));
        done += piece;
    }
    return STATUS_OK;
}

/* The part's tokens, then its documents. */
static enum status copy_part(const struct joining *joining, FILE *part, const int64_t *numbers, int64_t token,
                             int64_t document)
{
    int64_t width = joining->work->width;
    int64_t at = token * width;
    if (fseeko(part, (off_t)sizeof(struct part_header), SEEK_SET) != 0)
        return cannot_write(joining, joining->tokens_path);
    for (int64_t left = numbers[PART_TOKENS] * width, to = at; left > 0;) {
        int64_t bytes = integer_min(BLOCK, left);
        if (fread(joining->block, 1, (size_t)bytes, part) != (size_t)bytes)
            return context_fail(joining->work->context, STATUS_FILE, "%s: a part has changed; start again",
                                joining->work->folder);
        CHECK(put(joining, joining->tokens, joining->block, bytes, to));
        to += bytes;
        left -= bytes;
    }
    for (int64_t done = 0; done < numbers[PART_DOCUMENTS];) {
        int64_t count = integer_min(BLOCK / 4, numbers[PART_DOCUMENTS] - done);
        if (fread(joining->block, 4, (size_t)count, part) != (size_t)count)
            return context_fail(joining->work->context, STATUS_FILE, "%s: a part has changed; start again",
                                joining->work->folder);
        CHECK(put_index(joining, (const int32_t *)(const void *)joining->block, count, document + done, &at));
        done += count;
    }
    return STATUS_OK;
}

static enum status copy_mine(const struct joining *joining)
{
    const struct work *work = joining->work;
    int64_t token = 0;
    int64_t document = 0;
    for (int64_t unit = 0; unit < work->unit_count; unit++) {
        const int64_t *numbers = work->numbers + unit * PART_NUMBERS;
        char path[PREPARE_PATH];
        if (work_is_mine(work, unit)) {
            part_path(work, unit, "", path);
            FILE *part = fopen(path, "rb");
            if (!part)
                return context_fail(work->context, STATUS_FILE, "%s: cannot be read: %s", path, strerror(errno));
            enum status status = copy_part(joining, part, numbers, token, document);
            fclose(part);
            CHECK(status);
        }
        token += numbers[PART_TOKENS];
        document += numbers[PART_DOCUMENTS];
    }
    return STATUS_OK;
}

static enum status open_both(struct joining *joining, bool create)
{
    int flags = O_WRONLY | O_CLOEXEC | (create ? O_CREAT | O_TRUNC : 0);
    joining->tokens = open(joining->tokens_path, flags, 0666);
    if (joining->tokens < 0)
        return cannot_write(joining, joining->tokens_path);
    joining->index = open(joining->index_path, flags, 0666);
    return joining->index >= 0 ? STATUS_OK : cannot_write(joining, joining->index_path);
}

/* On rank 0: the files, and what stands in the index once. */
static enum status begin_files(struct joining *joining)
{
    unsigned char header[HEADER] = "MMIDIDX";
    int64_t sequences = joining->documents;
    int64_t entries = sequences + 1;
    CHECK(open_both(joining, true));
    header[9] = 1;
    header[17] = joining->work->width == 2 ? 8 : 4;
    memcpy(header + 18, &sequences, sizeof sequences);
    memcpy(header + 26, &entries, sizeof entries);
    CHECK(put(joining, joining->index, header, HEADER, 0));
    return put(joining, joining->index, &sequences, sizeof sequences, HEADER + 20 * sequences);
}

static void close_both(struct joining *joining)
{
    if (joining->tokens >= 0)
        close(joining->tokens);
    if (joining->index >= 0)
        close(joining->index);
    joining->tokens = joining->index = -1;
}

static enum status flush_both(struct joining *joining)
{
    if (fsync(joining->tokens) != 0)
        return cannot_write(joining, joining->tokens_path);
    return fsync(joining->index) == 0 ? STATUS_OK : cannot_write(joining, joining->index_path);
}

static enum status name_both(const struct joining *joining)
{
    char path[PREPARE_PATH];
    snprintf(path, sizeof path, "%.1000s.bin", joining->work->options->prefix);
    if (rename(joining->tokens_path, path) != 0)
        return cannot_write(joining, path);
    snprintf(path, sizeof path, "%.1000s.idx", joining->work->options->prefix);
    return rename(joining->index_path, path) == 0 ? STATUS_OK : cannot_write(joining, path);
}

enum status parts_join(struct work *work)
{
    struct context *context = work->context;
    bool first = mesh_rank(work->mesh, MESH_TEAM) == 0;
    struct joining joining = {.work = work, .tokens = -1, .index = -1};
    snprintf(joining.tokens_path, PREPARE_PATH, "%.1000s.bin.tmp", work->options->prefix);
    snprintf(joining.index_path, PREPARE_PATH, "%.1000s.idx.tmp", work->options->prefix);
    for (int64_t unit = 0; unit < work->unit_count; unit++)
        joining.documents += work->numbers[unit * PART_NUMBERS + PART_DOCUMENTS];
    joining.block = memory_allocate(context, BLOCK, MEMORY_OTHER);
    enum status status = joining.block ? STATUS_OK : STATUS_MEMORY;
    if (status == STATUS_OK && joining.documents == 0)
        status = context_fail(context, STATUS_FILE, "%s: the files have no document with a token", work->files[0].path);
    if (status == STATUS_OK && first)
        status = begin_files(&joining);
    TRY(mesh_agree(work->mesh, context, status));
    status = first ? STATUS_OK : open_both(&joining, false);
    if (status == STATUS_OK)
        status = copy_mine(&joining);
    if (status == STATUS_OK)
        status = flush_both(&joining);
    TRY(mesh_agree(work->mesh, context, status));
    close_both(&joining);
    TRY(mesh_agree(work->mesh, context, first ? name_both(&joining) : STATUS_OK));
done:
    close_both(&joining);
    memory_free(context, joining.block);
    return status;
}
