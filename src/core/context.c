#include "src/core/context.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define ALIGNMENT 64
#define HUGE_PAGE ((size_t)2 << 20)

/* Stands in front of every allocation, so that freeing can settle the account. */
struct memory_header {
    size_t bytes;
    enum memory_kind kind;
};

_Static_assert(sizeof(struct memory_header) <= ALIGNMENT, "the header must fit in front of the aligned block");

void context_create(struct context *context)
{
    memset(context, 0, sizeof *context);
    context->time.since = clock_seconds();
}

enum status context_fail(struct context *context, enum status status, const char *format, ...)
{
    if (context->status == STATUS_OK) {
        context->status = status;
        context->agreed = false;
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(context->text, sizeof context->text, format, arguments);
        va_end(arguments);
    }
    return status;
}

void context_keep(struct context *context, enum status status)
{
    if (status != STATUS_OK && context->status == STATUS_OK)
        context_fail(context, status, "a call failed and gave no reason");
}

void context_clear(struct context *context)
{
    context->status = STATUS_OK;
    context->agreed = false;
    context->text[0] = '\0';
}

void context_log(const struct context *context, const char *format, ...)
{
    if (context->quiet)
        return;
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
}

const char *memory_kind_name(enum memory_kind kind)
{
    static const char *const names[MEMORY_KINDS] = {
        [MEMORY_PARAMETERS] = "parameters",   [MEMORY_GRADIENTS] = "gradients", [MEMORY_OPTIMIZER] = "optimizer",
        [MEMORY_ACTIVATIONS] = "activations", [MEMORY_BUFFERS] = "buffers",     [MEMORY_OTHER] = "other",
    };
    return names[kind];
}

int64_t memory_resident(void)
{
    long pages_total = 0;
    long pages_resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file)
        return 0;
    if (fscanf(file, "%ld %ld", &pages_total, &pages_resident) != 2)
        pages_resident = 0;
    fclose(file);
    return (int64_t)pages_resident * sysconf(_SC_PAGESIZE);
}

int64_t memory_resident_peak(void)
{
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? (int64_t)usage.ru_maxrss * 1024 : 0;
}

/* What a dry run hardly touches need not exist. */
static void *block_create(const struct context *context, size_t total)
{
    if (context->dry) {
        void *block = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        return block == MAP_FAILED ? NULL : block;
    }
    bool large = total >= 2 * HUGE_PAGE;
    void *block = NULL;
    if (posix_memalign(&block, large ? HUGE_PAGE : ALIGNMENT, total) != 0)
        return NULL;
    if (large)
        (void)madvise(block, total, MADV_HUGEPAGE); /* fewer misses of the translation cache, where that is allowed */
    memset(block, 0, total);
    return block;
}

static size_t block_bytes(size_t bytes)
{
    return (bytes + 2 * ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

void *memory_allocate(struct context *context, size_t bytes, enum memory_kind kind)
{
    if (bytes > SIZE_MAX - 2 * ALIGNMENT) {
        context_fail(context, STATUS_MEMORY, "out of memory: %zu bytes for %s", bytes, memory_kind_name(kind));
        return NULL;
    }
    char *block = block_create(context, block_bytes(bytes));
    if (!block) {
        context_fail(context, STATUS_MEMORY,
                     "out of memory: %zu bytes for %s; use more ranks, a smaller micro-batch or recomputation", bytes,
                     memory_kind_name(kind));
        return NULL;
    }
    struct memory_header *header = (struct memory_header *)block;
    header->bytes = bytes;
    header->kind = kind;
    struct memory_account *account = &context->memory;
    account->allocations++;
    account->bytes[kind] += (int64_t)bytes;
    account->bytes_total += (int64_t)bytes;
    if (account->bytes_total > account->bytes_peak)
        account->bytes_peak = account->bytes_total;
    return block + ALIGNMENT;
}

void memory_free(struct context *context, void *pointer)
{
    if (!pointer)
        return;
    char *block = (char *)pointer - ALIGNMENT;
    const struct memory_header *header = (const struct memory_header *)block;
    context->memory.bytes[header->kind] -= (int64_t)header->bytes;
    context->memory.bytes_total -= (int64_t)header->bytes;
    if (context->dry)
        munmap(block, block_bytes(header->bytes));
    else
        free(block);
}
