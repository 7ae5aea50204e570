/* libFuzzer: any bytes as a checkpoint, and a good checkpoint with bytes changed. Reading must neither crash nor hang,
 * and no change may go unnoticed. One process, no mesh.
 *
 * The input is taken as a file of its own, and as a list of changes of a good file: four bytes of position, one that
 * is exclusive-ored. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/checkpoint/hash.h"
#include "io/checkpoint/verify.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { COUNT = 24, CHANGE = 5 };

struct sample {
    char path[64];
    uint8_t *bytes;
    size_t size;
};

static void expect(bool truth, const char *what)
{
    if (truth)
        return;
    fprintf(stderr, "fuzz_checkpoint: %s\n", what);
    abort();
}

static void file_put(const char *path, const uint8_t *bytes, size_t size)
{
    int descriptor = open(path, O_WRONLY | O_TRUNC);
    expect(descriptor >= 0 && write(descriptor, bytes, size) == (ssize_t)size, "the temporary file cannot be written");
    close(descriptor);
}

static void sample_create(struct sample *sample)
{
    static const struct checkpoint_header header = {.step = 7, .config = "model: {}\n", .created = "now", .mesh = "1"};
    static const struct state_array datasets[] = {
        {.name = "/parameters/a", .rank = 2, .shape = {4, 3}},
        {.name = "/optimizer/m/a", .rank = 1, .shape = {12}},
    };
    struct context context;
    float values[COUNT];
    uint64_t hashes[2];
    int64_t offsets[2];
    int64_t begin = 0;
    int64_t end = 0;
    context_create(&context);
    for (int i = 0; i < COUNT; i++)
        values[i] = (float)i / 7;
    for (int i = 0; i < 2; i++)
        hashes[i] = hash_whole(hash_range(values + i * COUNT / 2, 0, COUNT / 2, COUNT / 2), COUNT / 2);
    snprintf(sample->path, sizeof sample->path, "/tmp/fuzz-checkpoint-XXXXXX");
    int descriptor = mkstemp(sample->path);
    layout_quiet();
    expect(descriptor >= 0 &&
               layout_create(&context, sample->path, &header, datasets, 2, hashes, offsets, &begin, &end) == STATUS_OK,
           "the good file cannot be created");
    expect(pwrite(descriptor, values, sizeof values, begin) == sizeof values, "the good file cannot be written");
    expect(seal_write(&context, sample->path, begin, end) == STATUS_OK, "the good file cannot be sealed");
    expect(verify_file(&context, sample->path) == STATUS_OK, "the good file is not good");
    sample->size = (size_t)lseek(descriptor, 0, SEEK_END);
    sample->bytes = malloc(sample->size);
    expect(sample->bytes && pread(descriptor, sample->bytes, sample->size, 0) == (ssize_t)sample->size,
           "the good file cannot be read");
    close(descriptor);
    expect(freopen("/dev/null", "w", stdout) != NULL, "/dev/null cannot be opened");
}

static enum status file_examine(const char *path)
{
    struct context context;
    struct checkpoint_difference difference;
    context_create(&context);
    enum status status = verify_file(&context, path);
    expect(status == STATUS_OK || status == STATUS_FILE, "another error than of a file");
    context_clear(&context);
    enum status shown = checkpoint_inspect(&context, path, true);
    expect((shown == STATUS_OK) == (status == STATUS_OK), "verify and inspect do not agree");
    context_clear(&context);
    (void)!checkpoint_diff(&context, path, path, 0, &difference);
    expect(context.memory.bytes_total == 0, "memory is not released");
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct sample sample;
    if (!sample.bytes)
        sample_create(&sample);
    file_put(sample.path, data, size);
    (void)file_examine(sample.path);

    uint8_t *changed = malloc(sample.size);
    expect(changed, "no memory");
    memcpy(changed, sample.bytes, sample.size);
    for (size_t at = 0; at + CHANGE <= size; at += CHANGE) {
        uint32_t position;
        memcpy(&position, data + at, sizeof position);
        changed[position % sample.size] ^= data[at + CHANGE - 1];
    }
    file_put(sample.path, changed, sample.size);
    bool same = memcmp(changed, sample.bytes, sample.size) == 0;
    expect((file_examine(sample.path) == STATUS_OK) == same, "a change goes unnoticed");
    free(changed);
    return 0;
}
