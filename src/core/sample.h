/* A file in a few words, by which its copies on different hosts are compared. */
#ifndef CAIRN_CORE_SAMPLE_H
#define CAIRN_CORE_SAMPLE_H

#include <stddef.h>
#include <stdint.h>

/* FNV-1a over bytes; `hash` is what came before, SAMPLE_HASH_BEGIN at first. */
#define SAMPLE_HASH_BEGIN UINT64_C(0xcbf29ce484222325)
uint64_t sample_hash(uint64_t hash, const void *bytes, size_t count);

/* "1234 bytes, sample 0123456789abcdef": the size, and a hash of its first and last bytes and of blocks between them;
 * or why it cannot be read. 80 bytes of text are enough. */
void sample_describe(const char *path, char *text, size_t size);

#endif
