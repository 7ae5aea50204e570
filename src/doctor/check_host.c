/* Checks of what a host has: memory, limits, file systems. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "src/doctor/doctor_private.h"

static const int64_t MIB = INT64_C(1) << 20;
static const int64_t GIB = INT64_C(1) << 30;

/* The processes of MPI and the smallest of models. */
static const int64_t MEMORY_A_RANK = INT64_C(256) << 20;
/* Open MPI's own segment (btl_vader_segment_size, 4 MiB), and as much again for collectives. */
static const int64_t SHARED_A_RANK = INT64_C(8) << 20;
static const double CLOCK_SECONDS = 1;

const char *text_of_bytes(int64_t bytes, char *text, size_t size)
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = (double)bytes;
    size_t unit = 0;
    for (; value >= 1024 && unit + 1 < sizeof units / sizeof *units; unit++)
        value /= 1024;
    snprintf(text, size, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
    return text;
}

bool check_memory_small(const struct group *group, char *detail, size_t size)
{
    char text[DOCTOR_WORD];
    int64_t limit = group->ranks->memory_limit;
    snprintf(detail, size, "the control group allows %s for %d rank%s", text_of_bytes(limit, text, sizeof text),
             group->count, group->count == 1 ? "" : "s");
    return limit >= 0 && limit / group->count < MEMORY_A_RANK;
}

bool check_memory_limit(const struct group *group, char *detail, size_t size)
{
    char text[DOCTOR_WORD], whole[DOCTOR_WORD];
    int64_t limit = group->ranks->memory_limit;
    snprintf(detail, size, "the control group allows %s of %s, for %d rank%s", text_of_bytes(limit, text, sizeof text),
             text_of_bytes(group->ranks->memory, whole, sizeof whole), group->count, group->count == 1 ? "" : "s");
    return limit >= 0 && limit < group->ranks->memory && limit / group->count >= MEMORY_A_RANK;
}

/* Address space is more than what is used: libraries and MPI reserve some. */
bool check_address_limit(const struct group *group, char *detail, size_t size)
{
    char text[DOCTOR_WORD];
    int64_t limit = group->ranks->address_limit;
    snprintf(detail, size, "a process may map %s (ulimit -v)", text_of_bytes(limit, text, sizeof text));
    return limit >= 0 && limit < INT64_MAX && limit < group->ranks->memory;
}

bool check_locked_limit(const struct group *group, char *detail, size_t size)
{
    char text[DOCTOR_WORD];
    int64_t limit = group->ranks->locked_limit;
    snprintf(detail, size, "a process may lock %s (ulimit -l), and InfiniBand sends from locked memory",
             text_of_bytes(limit, text, sizeof text));
    return group->ranks->infiniband && limit >= 0 && limit < INT64_MAX;
}

bool check_open_files(const struct group *group, char *detail, size_t size)
{
    const struct doctor_facts *first = group->ranks;
    snprintf(detail, size, "a process may open %lld files (ulimit -n); over TCP each of %d ranks is one",
             (long long)first->open_files_limit, first->ranks);
    return first->open_files_limit >= 0 && first->open_files_limit < first->ranks + 256;
}

bool check_core_dumps(const struct group *group, char *detail, size_t size)
{
    snprintf(detail, size, "a crash leaves no core dump (ulimit -c is 0)");
    return group->ranks->core_dump_limit == 0;
}

bool check_shared_small(const struct group *group, char *detail, size_t size)
{
    char text[DOCTOR_WORD];
    int64_t available = group->ranks->shared_free;
    snprintf(detail, size, "/dev/shm has %s left for the messages of %d ranks",
             text_of_bytes(available, text, sizeof text), group->count);
    return group->count > 1 && available >= 0 && available < group->count * SHARED_A_RANK;
}

bool check_temporary_small(const struct group *group, char *detail, size_t size)
{
    char text[DOCTOR_WORD];
    int64_t available = group->ranks->temporary_free;
    snprintf(detail, size, "the folder of MPI's session (TMPDIR) has %s left",
             text_of_bytes(available, text, sizeof text));
    return available >= 0 && available < 16 * MIB;
}

/* Open MPI knows hosts by name: two with one name try to share memory that they do not have. */
bool check_names(const struct group *group, char *detail, size_t size)
{
    for (int i = 1; i < group->count; i++) {
        const struct doctor_facts *a = &group->ranks[i - 1], *b = &group->ranks[i];
        if (strcmp(a->host, b->host) == 0 && a->shared_identity != b->shared_identity) {
            snprintf(detail, size, "ranks %d and %d are both on \"%s\", with different /dev/shm", a->rank, b->rank,
                     a->host);
            return true;
        }
    }
    return false;
}

bool check_clock(const struct group *group, char *detail, size_t size)
{
    const struct doctor_facts *farthest = group->ranks;
    for (int i = 1; i < group->count; i++)
        if (fabs(group->ranks[i].clock) > fabs(farthest->clock))
            farthest = &group->ranks[i];
    snprintf(detail, size, "the clock of %s is %.1f s %s that of %s", farthest->host, fabs(farthest->clock),
             farthest->clock > 0 ? "ahead of" : "behind", group->ranks->host);
    return fabs(farthest->clock) > CLOCK_SECONDS;
}

/* The errno of the first rank that has one there. */
static int32_t failure_of(const struct group *group, size_t offset)
{
    for (int i = 0; i < group->count; i++) {
        int32_t failure;
        memcpy(&failure, (const char *)&group->ranks[i].folder + offset, sizeof failure);
        if (failure > 0)
            return failure;
    }
    return 0;
}

static bool fails(const struct group *group, size_t offset, const char *what, char *detail, size_t size)
{
    int32_t failure = failure_of(group, offset);
    if (failure)
        snprintf(detail, size, "%s: %s (%s)", what, strerror(failure), group->ranks->folder.type);
    return failure != 0;
}

bool check_folder_write(const struct group *group, char *detail, size_t size)
{
    return fails(group, offsetof(struct folder_facts, write), "a file cannot be written", detail, size);
}

bool check_folder_rename(const struct group *group, char *detail, size_t size)
{
    return fails(group, offsetof(struct folder_facts, rename), "a file cannot take the place of another", detail, size);
}

bool check_folder_flush(const struct group *group, char *detail, size_t size)
{
    return fails(group, offsetof(struct folder_facts, flush), "a file or its folder cannot be flushed", detail, size);
}

bool check_folder_direct(const struct group *group, char *detail, size_t size)
{
    return fails(group, offsetof(struct folder_facts, direct), "no writing past the cache", detail, size);
}

bool check_folder_differs(const struct group *group, char *detail, size_t size)
{
    snprintf(detail, size, "what the first rank writes there is not seen from here");
    for (int i = 0; i < group->count; i++)
        if (group->ranks[i].folder.differs)
            return true;
    return false;
}

static bool is_full(const struct folder_facts *folder)
{
    return (folder->free >= 0 && folder->free < 64 * MIB) || (folder->files >= 0 && folder->files < 16);
}

bool check_folder_full(const struct group *group, char *detail, size_t size)
{
    char text[DOCTOR_WORD];
    const struct folder_facts *folder = &group->ranks->folder;
    if (folder->files >= 0 && folder->files < 16)
        snprintf(detail, size, "room for %lld more files", (long long)folder->files);
    else
        snprintf(detail, size, "%s free", text_of_bytes(folder->free, text, sizeof text));
    return is_full(folder);
}

bool check_folder_low(const struct group *group, char *detail, size_t size)
{
    char text[DOCTOR_WORD];
    const struct folder_facts *folder = &group->ranks->folder;
    snprintf(detail, size, "%s free", text_of_bytes(folder->free, text, sizeof text));
    return folder->free >= 0 && folder->free < 4 * GIB && !is_full(folder);
}

bool check_folder_network(const struct group *group, char *detail, size_t size)
{
    snprintf(detail, size, "the file system is %s", group->ranks->folder.type);
    return strncmp(group->ranks->folder.type, "nfs", 3) == 0;
}
