#include "io/checkpoint/seal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "io/checkpoint/file.h"
#include "src/core/integer.h"

#define SEAL_TITLE "cairn-checkpoint 1\n"

enum { SEAL_LAST = 22, BLOCK = 16384 }; /* the last line, "seal " and 16 digits; bytes read at a time */

static void seal_format(const struct seal *seal, char text[SEAL_SIZE])
{
    char line[SEAL_SIZE];
    memset(text, ' ', SEAL_SIZE);
    int length = snprintf(line, sizeof line,
                          SEAL_TITLE "size %" PRId64 "\ndata %" PRId64 " %" PRId64 "\nmetadata %016" PRIx64 "\n",
                          seal->size, seal->data_begin, seal->data_end, seal->metadata);
    memcpy(text, line, (size_t)length);
    text[SEAL_SIZE - SEAL_LAST - 1] = '\n';
    XXH64_hash_t hash = XXH64(text, SEAL_SIZE - SEAL_LAST, 0);
    snprintf(line, sizeof line, "seal %016" PRIx64 "\n", (uint64_t)hash);
    memcpy(text + SEAL_SIZE - SEAL_LAST, line, SEAL_LAST);
}

static enum status metadata_hash(struct context *context, int descriptor, const char *path, const struct seal *seal,
                                 uint64_t *hash)
{
    char buffer[BLOCK];
    const int64_t part[2][2] = {{SEAL_SIZE, seal->data_begin}, {seal->data_end, seal->size}};
    XXH64_state_t state;
    XXH64_reset(&state, 0);
    for (int i = 0; i < 2; i++) {
        for (int64_t at = part[i][0]; at < part[i][1]; at += BLOCK) {
            int64_t bytes = integer_min(BLOCK, part[i][1] - at);
            CHECK(file_read(context, descriptor, path, at, buffer, bytes));
            XXH64_update(&state, buffer, (size_t)bytes);
        }
    }
    *hash = XXH64_digest(&state);
    return STATUS_OK;
}

enum status seal_write(struct context *context, const char *path, int64_t data_begin, int64_t data_end)
{
    struct seal seal = {.data_begin = data_begin, .data_end = data_end};
    char text[SEAL_SIZE];
    int descriptor;
    enum status status;
    TRY(file_open(context, path, true, &descriptor, &seal.size));
    if (data_begin < SEAL_SIZE || data_begin > data_end || data_end > seal.size) {
        status = context_fail(context, STATUS_INTERNAL, "%s: the data do not lie inside the file", path);
        goto done;
    }
    TRY(metadata_hash(context, descriptor, path, &seal, &seal.metadata));
    seal_format(&seal, text);
    TRY(file_write(context, descriptor, path, 0, text, SEAL_SIZE));
    TRY(file_sync(context, descriptor, path));
done:
    if (descriptor >= 0)
        close(descriptor);
    return status;
}

/* True if the text is one that seal_format writes. */
static bool seal_parse(const char text[SEAL_SIZE], struct seal *seal)
{
    char copy[SEAL_SIZE + 1];
    char expected[SEAL_SIZE];
    memcpy(copy, text, SEAL_SIZE);
    copy[SEAL_SIZE] = '\0';
    int fields = sscanf(copy, SEAL_TITLE "size %18" SCNd64 " data %18" SCNd64 " %18" SCNd64 " metadata %16" SCNx64,
                        &seal->size, &seal->data_begin, &seal->data_end, &seal->metadata);
    if (fields != 4)
        return false;
    seal_format(seal, expected);
    return memcmp(text, expected, SEAL_SIZE) == 0;
}

enum status seal_check(struct context *context, const char *path, struct seal *seal)
{
    char text[SEAL_SIZE];
    int descriptor;
    int64_t size;
    uint64_t hash;
    enum status status;
    TRY(file_open(context, path, false, &descriptor, &size));
    if (size < SEAL_SIZE) {
        status =
            context_fail(context, STATUS_FILE, "%s: not a checkpoint, or cut off: only %" PRId64 " bytes", path, size);
        goto done;
    }
    TRY(file_read(context, descriptor, path, 0, text, SEAL_SIZE));
    if (memcmp(text, SEAL_TITLE, strlen(SEAL_TITLE)) != 0) {
        status =
            context_fail(context, STATUS_FILE, "%s: not a checkpoint of this version, or its start is damaged", path);
        goto done;
    }
    if (!seal_parse(text, seal) || seal->data_begin < SEAL_SIZE || seal->data_begin > seal->data_end ||
        seal->data_end > seal->size) {
        status = context_fail(context, STATUS_FILE, "%s: damaged: the seal in its first %d bytes is broken", path,
                              SEAL_SIZE);
        goto done;
    }
    if (size != seal->size) {
        status = context_fail(context, STATUS_FILE, "%s: damaged: it has %" PRId64 " bytes instead of %" PRId64, path,
                              size, seal->size);
        goto done;
    }
    TRY(metadata_hash(context, descriptor, path, seal, &hash));
    if (hash != seal->metadata)
        status = context_fail(context, STATUS_FILE, "%s: damaged: the metadata do not match the seal", path);
done:
    if (descriptor >= 0)
        close(descriptor);
    return status;
}

bool seal_absent(const char *path)
{
    static const unsigned char signature[8] = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n'};
    unsigned char start[sizeof signature] = {0};
    FILE *file = fopen(path, "rb");
    if (!file)
        return false;
    size_t got = fread(start, 1, sizeof start, file);
    fclose(file);
    return got == sizeof start && memcmp(start, signature, sizeof start) == 0;
}
