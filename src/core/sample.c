#include "src/core/sample.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* So many blocks, evenly over the file, the first and the last of which are its ends. */
enum { BLOCK = 16384, BLOCKS = 16 };

uint64_t sample_hash(uint64_t hash, const void *bytes, size_t count)
{
    const unsigned char *byte = bytes;
    for (size_t i = 0; i < count; i++)
        hash = (hash ^ byte[i]) * UINT64_C(0x100000001b3);
    return hash;
}

void sample_describe(const char *path, char *text, size_t size)
{
    char block[BLOCK];
    struct stat entry;
    uint64_t hash = SAMPLE_HASH_BEGIN;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0 || fstat(file, &entry) != 0) {
        snprintf(text, size, "%s", strerror(errno));
        if (file >= 0)
            close(file);
        return;
    }
    int64_t last = entry.st_size > BLOCK ? (int64_t)entry.st_size - BLOCK : 0;
    for (int i = 0; i < BLOCKS && S_ISREG(entry.st_mode); i++) {
        ssize_t count =
            pread(file, block, sizeof block, (off_t)(last / (BLOCKS - 1) * i + last % (BLOCKS - 1) * i / (BLOCKS - 1)));
        if (count > 0)
            hash = sample_hash(hash, block, (size_t)count);
    }
    close(file);
    snprintf(text, size, "%" PRId64 " bytes, sample %016" PRIx64, (int64_t)entry.st_size, hash);
}
