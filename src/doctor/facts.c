/* What files and environment tell about a process and its host. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "src/core/text.h"
#include "src/doctor/doctor.h"

void core_set_add(struct core_set *set, const char *list)
{
    while (*list) {
        char *end;
        long first = strtol(list, &end, 10);
        if (end == list)
            return;
        long last = first;
        if (*end == '-') {
            const char *second = end + 1;
            last = strtol(second, &end, 10);
            if (end == second)
                return;
        }
        for (long core = first < 0 ? 0 : first; core <= last && core < DOCTOR_CORES; core++)
            set->bits[core / 64] |= UINT64_C(1) << core % 64;
        if (*end != ',')
            return;
        list = end + 1;
    }
}

int core_set_count(const struct core_set *set)
{
    int count = 0;
    for (int i = 0; i < DOCTOR_CORES / 64; i++)
        count += __builtin_popcountll(set->bits[i]);
    return count;
}

static bool sets_meet(const struct core_set *a, const struct core_set *b)
{
    for (int i = 0; i < DOCTOR_CORES / 64; i++)
        if (a->bits[i] & b->bits[i])
            return true;
    return false;
}

static FILE *open_below(const char *root, const char *name)
{
    char path[DOCTOR_PATH];
    int length = snprintf(path, sizeof path, "%s%s", root, name);
    return length < (int)sizeof path ? fopen(path, "r") : NULL;
}

/* The first line of the file that begins with the key, without it; "" is the first line. False if there is none. */
static bool read_line(const char *root, const char *name, const char *key, char *line, size_t size)
{
    FILE *file = open_below(root, name);
    bool found = false;
    size_t length = strlen(key);
    char *text = NULL;
    size_t room = 0;
    while (file && !found && getline(&text, &room, file) > 0)
        found = strncmp(text, key, length) == 0;
    if (found)
        (void)text_copy(line, size, text + length);
    free(text);
    if (file)
        fclose(file);
    return found;
}

/* A limit as Linux writes it: a number, or the word for none. */
static int64_t limit_of(const char *text)
{
    char *end;
    uintmax_t value = strtoumax(text, &end, 10);
    return end == text || value > INT64_MAX ? INT64_MAX : (int64_t)value;
}

static int64_t soft_limit(const char *root, const char *key)
{
    char line[256];
    return read_line(root, "/proc/self/limits", key, line, sizeof line) ? limit_of(line + strspn(line, " ")) : -1;
}

static void read_cores(const char *root, struct doctor_facts *facts)
{
    char line[4096];
    if (read_line(root, "/proc/self/status", "Cpus_allowed_list:", line, sizeof line))
        core_set_add(&facts->granted, line + strspn(line, " \t"));
    facts->cores = core_set_count(&facts->granted);
    facts->online = -1;
    if (read_line(root, "/sys/devices/system/cpu/online", "", line, sizeof line)) {
        struct core_set online = {0};
        core_set_add(&online, line);
        facts->online = core_set_count(&online);
    }
    facts->domains = 0;
    for (int domain = 0; domain < DOCTOR_CORES; domain++) {
        char name[80];
        struct core_set cores = {0};
        snprintf(name, sizeof name, "/sys/devices/system/node/node%d/cpulist", domain);
        if (!read_line(root, name, "", line, sizeof line))
            continue;
        core_set_add(&cores, line);
        facts->domains += sets_meet(&cores, &facts->granted);
    }
}

/* Whether the line of /proc/cpuinfo has all these words. */
static bool has_flags(const char *line, const char *const *words)
{
    for (; *words; words++) {
        size_t length = strlen(*words);
        const char *at = line;
        while ((at = strstr(at, *words)) && (at[length] != ' ' && at[length] != '\n' && at[length] != '\0'))
            at += length;
        if (!at)
            return false;
    }
    return true;
}

/* As src/ops/engine.c asks the processor, but before it asks for permission. */
static void read_best(const char *root, struct doctor_facts *facts)
{
    static const struct {
        const char *name;
        const char *flags[6]; /* up to NULL */
    } sets[] = {
        {"avx2", {" avx2", " fma", " f16c", " bmi2"}},
        {"avx512", {" avx512f", " avx512bw", " avx512dq", " avx512vl", " avx512cd"}},
        {"bf16", {" avx512_bf16"}},
        {"amx", {" amx_tile", " amx_bf16"}},
    };
    char line[8192];
    if (!read_line(root, "/proc/cpuinfo", "flags", line, sizeof line))
        return;
    for (size_t i = 0; i < sizeof sets / sizeof *sets && has_flags(line, sets[i].flags); i++)
        (void)text_copy(facts->best, sizeof facts->best, sets[i].name);
}

/* Control groups limit a process by their own limit and by those of all groups above. */
static int64_t group_limit(const char *root, const char *mount, const char *group, const char *file)
{
    char path[DOCTOR_PATH], name[DOCTOR_PATH + 128], line[64];
    int64_t limit = INT64_MAX;
    (void)text_copy(path, sizeof path, group);
    path[strcspn(path, "\n")] = '\0';
    for (;;) {
        snprintf(name, sizeof name, "%s%s/%s", mount, path, file);
        if (read_line(root, name, "", line, sizeof line) && limit_of(line) < limit)
            limit = limit_of(line);
        char *last = strrchr(path, '/');
        if (!last)
            return limit;
        *last = '\0';
    }
}

/* Hundredths of a core in "200000 100000", the quota and the period of a control group; 0 without a quota. */
static int64_t quota_of(const char *line)
{
    char *rest;
    int64_t quota = strtoll(line, &rest, 10);
    int64_t period = strtoll(rest, NULL, 10);
    return rest == line || quota <= 0 || period <= 0 ? 0 : 100 * quota / period;
}

/* Of the group and of all above it the smallest, as group_limit looks for it. */
static void read_quota(const char *root, struct doctor_facts *facts)
{
    char path[DOCTOR_PATH], name[DOCTOR_PATH + 128], line[64];
    if (!read_line(root, "/proc/self/cgroup", "0::", path, sizeof path))
        return;
    path[strcspn(path, "\n")] = '\0';
    for (;;) {
        snprintf(name, sizeof name, "/sys/fs/cgroup%s/cpu.max", path);
        int64_t quota = read_line(root, name, "", line, sizeof line) ? quota_of(line) : 0;
        if (quota > 0 && (facts->quota == 0 || quota < facts->quota))
            facts->quota = (int32_t)(quota < INT32_MAX ? quota : INT32_MAX);
        char *last = strrchr(path, '/');
        if (!last)
            return;
        *last = '\0';
    }
}

static void read_memory(const char *root, struct doctor_facts *facts)
{
    char line[256], group[DOCTOR_PATH];
    facts->memory = -1;
    if (read_line(root, "/proc/meminfo", "MemTotal:", line, sizeof line))
        facts->memory = strtoll(line, NULL, 10) * 1024;
    facts->memory_limit = INT64_MAX;
    if (read_line(root, "/proc/self/cgroup", "0::", group, sizeof group))
        facts->memory_limit = group_limit(root, "/sys/fs/cgroup", group, "memory.max");
    FILE *file = open_below(root, "/proc/self/cgroup");
    while (file && fgets(group, sizeof group, file)) {
        char *path = strstr(group, ":memory:");
        int64_t limit =
            path ? group_limit(root, "/sys/fs/cgroup/memory", path + 8, "memory.limit_in_bytes") : INT64_MAX;
        facts->memory_limit = limit < facts->memory_limit ? limit : facts->memory_limit;
    }
    if (file)
        fclose(file);
    /* Version 1 writes none as the most that it can count. */
    if (facts->memory > 0 && facts->memory_limit >= facts->memory)
        facts->memory_limit = INT64_MAX;
    facts->address_limit = soft_limit(root, "Max address space");
    facts->locked_limit = soft_limit(root, "Max locked memory");
    facts->open_files_limit = soft_limit(root, "Max open files");
    facts->core_dump_limit = soft_limit(root, "Max core file size");
}

static int64_t free_of(const char *root, const char *name)
{
    char path[DOCTOR_PATH];
    struct statvfs system;
    snprintf(path, sizeof path, "%s%s", root, name);
    return statvfs(path, &system) == 0 ? (int64_t)system.f_bavail * (int64_t)system.f_frsize : -1;
}

/* FNV-1a: https://datatracker.ietf.org/doc/html/draft-eastlake-fnv */
static uint64_t hash_of(const char *text, uint64_t hash)
{
    for (; *text; text++)
        hash = (hash ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
    return hash;
}

static void read_shared(const char *root, struct doctor_facts *facts)
{
    char path[DOCTOR_PATH], boot[64] = "", device[64] = "";
    struct stat entry;
    const char *session = getenv("OMPI_MCA_orte_tmpdir_base");
    if (!session)
        session = getenv("TMPDIR");
    facts->shared_free = free_of(root, "/dev/shm");
    facts->temporary_free = free_of(root, session ? session : "/tmp");
    (void)read_line(root, "/proc/sys/kernel/random/boot_id", "", boot, sizeof boot);
    snprintf(path, sizeof path, "%s/dev/shm", root);
    if (stat(path, &entry) == 0)
        snprintf(device, sizeof device, "%ju", (uintmax_t)entry.st_dev);
    facts->shared_identity = hash_of(device, hash_of(boot, UINT64_C(0xcbf29ce484222325)));
    snprintf(path, sizeof path, "%s/sys/class/infiniband", root);
    facts->infiniband = stat(path, &entry) == 0;
}

/* Asking again changes nothing for a process that has asked. */
static bool matrix_refused(void)
{
#if defined(__linux__) && defined(SYS_arch_prctl) && defined(__x86_64__)
    const long request_permission = 0x1023, tile_data = 18;
    return syscall(SYS_arch_prctl, request_permission, tile_data) != 0;
#else
    return false;
#endif
}

void doctor_read(const char *root, struct doctor_facts *facts)
{
    read_cores(root, facts);
    read_quota(root, facts);
    read_best(root, facts);
    read_memory(root, facts);
    read_shared(root, facts);
    facts->refused = strcmp(facts->best, "amx") == 0 && matrix_refused();
}

static int32_t integer_of(const char *name)
{
    const char *text = getenv(name);
    int64_t value;
    return text && text_to_integer(text, &value) && value >= 0 && value <= INT32_MAX ? (int32_t)value : -1;
}

static bool is_true(const char *text)
{
    return text && (strcmp(text, "1") == 0 || strcmp(text, "true") == 0 || strcmp(text, "yes") == 0);
}

bool doctor_is_stranded(void)
{
    static const char *const ranks[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"};
    for (size_t i = 0; i < sizeof ranks / sizeof *ranks; i++)
        if (getenv(ranks[i]))
            return false;
    return getenv("SLURM_STEP_ID") != NULL;
}

void doctor_read_environment(struct doctor_facts *facts)
{
    facts->kill_pause = integer_of("OMPI_MCA_odls_base_sigkill_timeout");
    if (facts->kill_pause < 0)
        facts->kill_pause = 1; /* its default */
    if (!getenv("OMPI_COMM_WORLD_SIZE"))
        facts->kill_pause = -1;
    /* The launcher closest to the process first: mpirun may run within a job of Slurm. */
    static const char *const launchers[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"};
    facts->launched = -1;
    for (size_t i = 0; i < sizeof launchers / sizeof *launchers && facts->launched < 0; i++) {
        facts->launched = integer_of(launchers[i]);
        (void)text_copy(facts->launcher, sizeof facts->launcher, launchers[i]);
    }
    facts->stranded = doctor_is_stranded();
    facts->cores_asked = getenv("SRUN_CPUS_PER_TASK") ? -1 : integer_of("SLURM_CPUS_PER_TASK");
    const char *component = getenv("OMPI_MCA_io");
    (void)text_copy(facts->io_component, sizeof facts->io_component, component ? component : "");
    const char *io = getenv("CAIRN_CHECKPOINT_IO");
    facts->individual = io && strcmp(io, "individual") == 0;
    const char *yields = getenv("OMPI_MCA_mpi_yield_when_idle");
    const char *dynamic = getenv("OMP_DYNAMIC");
    const char *levels = getenv("OMP_MAX_ACTIVE_LEVELS");
    facts->dynamic = (dynamic && strcasecmp(dynamic, "true") == 0) || (levels && strcmp(levels, "0") == 0);
    facts->thread_limit = integer_of("OMP_THREAD_LIMIT");
    facts->yields = is_true(yields ? yields : getenv("OMPI_MCA_mpi_oversubscribe"));
    const char *forced = getenv("CAIRN_CPU");
    facts->forced = forced && *forced;
}
