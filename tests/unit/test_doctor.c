#include "tests/support/support.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "src/doctor/doctor.h"

enum { RANKS = 4 };

/* Two hosts with two ranks each, on cores of their own. */
static void make_healthy(struct doctor_facts ranks[RANKS])
{
    memset(ranks, 0, RANKS * sizeof *ranks);
    for (int i = 0; i < RANKS; i++) {
        struct doctor_facts *rank = &ranks[i];
        rank->rank = i;
        rank->ranks = RANKS;
        rank->host_first = i / 2 * 2;
        snprintf(rank->host, sizeof rank->host, "node%d", i / 2);
        core_set_add(&rank->granted, i % 2 ? "4-7" : "0-3");
        rank->cores = rank->threads = 4;
        rank->online = 8;
        rank->domains = 1;
        strcpy(rank->isa, "amx");
        strcpy(rank->best, "amx");
        rank->launched = RANKS;
        strcpy(rank->launcher, "PMI_SIZE");
        rank->cores_asked = -1;
        rank->kill_pause = 5;
        strcpy(rank->io_component, "^ompio");
        rank->memory = INT64_C(64) << 30;
        rank->memory_limit = rank->address_limit = rank->locked_limit = rank->core_dump_limit = INT64_MAX;
        rank->open_files_limit = 65536;
        rank->shared_identity = 7 + (uint64_t)(i / 2);
        rank->shared_free = INT64_C(32) << 30;
        rank->temporary_free = INT64_C(32) << 30;
        rank->folder = (struct folder_facts){.type = "lustre", .free = INT64_C(1) << 40, .files = 1 << 20};
    }
}

static const struct doctor_finding *find(const struct doctor_findings *findings, const char *name)
{
    for (int i = 0; i < findings->count; i++)
        if (strcmp(findings->list[i].name, name) == 0)
            return &findings->list[i];
    return NULL;
}

static void cores_of(struct doctor_facts *rank, const char *list)
{
    memset(&rank->granted, 0, sizeof rank->granted);
    core_set_add(&rank->granted, list);
    rank->cores = core_set_count(&rank->granted);
}

static void test_healthy(void **state)
{
    (void)state;
    struct doctor_facts ranks[RANKS];
    struct doctor_findings findings;
    make_healthy(ranks);
    doctor_check(ranks, RANKS, &findings);
    if (findings.count != 0)
        fail_msg("%s: %s", findings.list[0].name, findings.list[0].detail);
    assert_int_equal(findings.serious, 0);
    /* One rank alone on a machine that tells nothing. */
    memset(ranks, 0, sizeof ranks);
    ranks[0] = (struct doctor_facts){.host = "bare",
                                     .kill_pause = -1,
                                     .ranks = 1,
                                     .online = -1,
                                     .threads = 2,
                                     .isa = "portable",
                                     .launched = -1,
                                     .cores_asked = -1,
                                     .io_component = "^ompio",
                                     .copy = -1,
                                     .memory = -1,
                                     .memory_limit = INT64_MAX,
                                     .address_limit = -1,
                                     .locked_limit = -1,
                                     .open_files_limit = -1,
                                     .core_dump_limit = -1,
                                     .shared_free = -1,
                                     .temporary_free = -1,
                                     .folder = {.free = -1, .files = -1}};
    doctor_check(ranks, 1, &findings);
    if (findings.count != 0)
        fail_msg("%s: %s", findings.list[0].name, findings.list[0].detail);
}

/* Each fault is one of the last host or of all; the number of hosts it is reported for, 0 for all together. */
static void break_launcher(struct doctor_facts *ranks)
{
    for (int i = 0; i < RANKS; i++)
        ranks[i].ranks = 1;
}
static void strand(struct doctor_facts *ranks)
{
    ranks[0].stranded = 1;
}
static void break_cores_asked(struct doctor_facts *ranks)
{
    ranks[3].cores_asked = 7;
}
static void break_threads(struct doctor_facts *ranks)
{
    ranks[3].threads = 5;
}
static void grant_fewer(struct doctor_facts *ranks)
{
    ranks[3].threads_wanted = 9;
    ranks[3].thread_limit = 4;
}
static void vary_threads(struct doctor_facts *ranks)
{
    ranks[2].dynamic = ranks[3].dynamic = 1;
}
static void limit_quota(struct doctor_facts *ranks)
{
    ranks[2].quota = ranks[3].quota = 750;
}
static void break_crowd(struct doctor_facts *ranks)
{
    cores_of(&ranks[3], "0-3");
    ranks[2].yields = ranks[3].yields = 1;
}
static void hasten_kills(struct doctor_facts *ranks)
{
    ranks[0].kill_pause = 1;
}
static void break_yield(struct doctor_facts *ranks)
{
    cores_of(&ranks[3], "0-3");
}
static void break_binding(struct doctor_facts *ranks)
{
    cores_of(&ranks[2], "0-7");
    cores_of(&ranks[3], "0-7");
}
static void break_domains(struct doctor_facts *ranks)
{
    ranks[3].domains = 2;
}
static void break_permission(struct doctor_facts *ranks)
{
    ranks[2].refused = ranks[3].refused = 1;
    strcpy(ranks[2].isa, "bf16");
    strcpy(ranks[3].isa, "bf16");
}
static void break_forced(struct doctor_facts *ranks)
{
    ranks[2].forced = 1;
    strcpy(ranks[2].isa, "avx2");
}
static void break_unused(struct doctor_facts *ranks)
{
    strcpy(ranks[2].isa, "avx512");
}
static void break_alike(struct doctor_facts *ranks)
{
    strcpy(ranks[3].isa, "bf16");
    strcpy(ranks[3].best, "bf16");
}
static void break_io(struct doctor_facts *ranks)
{
    strcpy(ranks[2].io_component, "ompio");
}
static void break_copy(struct doctor_facts *ranks)
{
    ranks[3].copy = EPERM;
}
static void break_memory(struct doctor_facts *ranks)
{
    ranks[2].memory_limit = 256 << 20;
}
static void limit_memory(struct doctor_facts *ranks)
{
    ranks[2].memory_limit = INT64_C(32) << 30;
}
static void limit_addresses(struct doctor_facts *ranks)
{
    ranks[2].address_limit = INT64_C(4) << 30;
}
static void limit_locked(struct doctor_facts *ranks)
{
    ranks[2].locked_limit = 65536;
    ranks[2].infiniband = 1;
}
static void limit_files(struct doctor_facts *ranks)
{
    ranks[2].open_files_limit = 256;
}
static void limit_dumps(struct doctor_facts *ranks)
{
    ranks[2].core_dump_limit = 0;
}
static void break_shared(struct doctor_facts *ranks)
{
    ranks[2].shared_free = 15 << 20;
}
static void break_temporary(struct doctor_facts *ranks)
{
    ranks[2].temporary_free = 1 << 20;
}
static void break_names(struct doctor_facts *ranks)
{
    for (int i = 2; i < RANKS; i++)
        strcpy(ranks[i].host, "node0");
}
static void break_clock(struct doctor_facts *ranks)
{
    ranks[3].clock = -2.5;
}
static void break_write(struct doctor_facts *ranks)
{
    ranks[3].folder.write = EROFS;
}
static void break_shared_folder(struct doctor_facts *ranks)
{
    ranks[3].folder.differs = 1;
}
static void fill_folder(struct doctor_facts *ranks)
{
    ranks[2].folder.free = 1 << 20;
}
static void fill_table(struct doctor_facts *ranks)
{
    ranks[2].folder.files = 2;
}
static void lower_folder(struct doctor_facts *ranks)
{
    ranks[2].folder.free = INT64_C(1) << 30;
}
static void break_rename(struct doctor_facts *ranks)
{
    ranks[3].folder.rename = EIO;
}
static void break_flush(struct doctor_facts *ranks)
{
    ranks[3].folder.flush = EINVAL;
}
static void break_type(struct doctor_facts *ranks)
{
    strcpy(ranks[2].folder.type, "nfs4");
}
static void break_direct(struct doctor_facts *ranks)
{
    ranks[2].folder.direct = EINVAL;
}

static const struct {
    const char *name;
    void (*apply)(struct doctor_facts *ranks);
    enum doctor_severity severity;
    bool of_host;
    const char *also;   /* a finding that has to come with it */
    const char *detail; /* a part of what it says */
} faults[] = {
    {"launcher-mismatch", break_launcher, DOCTOR_SERIOUS, false, NULL, "PMI_SIZE says that 4 ranks"},
    {"launcher-mismatch", strand, DOCTOR_SERIOUS, false, NULL, "without PMIx"},
    {"cores-not-granted", break_cores_asked, DOCTOR_SERIOUS, true, NULL, "7 cores a task"},
    {"threads-exceed-cores", break_threads, DOCTOR_SERIOUS, true, NULL, "5 threads and 4 cores"},
    {"threads-not-granted", grant_fewer, DOCTOR_SERIOUS, true, NULL, "9 threads and is granted 4 (OMP_THREAD_LIMIT=4)"},
    {"threads-vary", vary_threads, DOCTOR_NOTE, true, NULL, "OMP_DYNAMIC"},
    {"cores-limited", limit_quota, DOCTOR_SERIOUS, true, NULL, "7.50 cores for 8 threads of 2 ranks"},
    {"cores-crowded", break_crowd, DOCTOR_SERIOUS, true, NULL, "2 ranks with 8 threads share 4 cores"},
    {"term-kills-soon", hasten_kills, DOCTOR_NOTE, false, NULL, "kills the ranks after 2 s"},
    {"yield-missing", break_yield, DOCTOR_WARNING, true, "cores-crowded", ""},
    {"ranks-unbound", break_binding, DOCTOR_NOTE, true, NULL, ""},
    {"numa-spanned", break_domains, DOCTOR_WARNING, true, NULL, "4 cores of a rank lie in 2"},
    {"amx-refused", break_permission, DOCTOR_SERIOUS, true, "instructions-differ", "bf16 kernels run"},
    {"instructions-forced", break_forced, DOCTOR_WARNING, true, "instructions-differ", "avx2 kernels"},
    {"instructions-unused", break_unused, DOCTOR_WARNING, true, "instructions-differ", "with amx"},
    {"instructions-differ", break_alike, DOCTOR_WARNING, false, NULL, "node1 runs bf16"},
    {"mpi-io-component", break_io, DOCTOR_SERIOUS, true, NULL, "OMPI_MCA_io=ompio"},
    {"single-copy-refused", break_copy, DOCTOR_NOTE, true, NULL, ""},
    {"memory-too-small", break_memory, DOCTOR_SERIOUS, true, NULL, "256.0 MiB for 2 ranks"},
    {"memory-limited", limit_memory, DOCTOR_NOTE, true, NULL, "32.0 GiB of 64.0 GiB"},
    {"address-space-limited", limit_addresses, DOCTOR_WARNING, true, NULL, "4.0 GiB"},
    {"locked-memory-limited", limit_locked, DOCTOR_WARNING, true, NULL, "64.0 KiB"},
    {"open-files-limited", limit_files, DOCTOR_WARNING, true, NULL, "256 files"},
    {"core-dumps-off", limit_dumps, DOCTOR_NOTE, true, NULL, ""},
    {"shared-memory-small", break_shared, DOCTOR_SERIOUS, true, NULL, "15.0 MiB"},
    {"session-folder-small", break_temporary, DOCTOR_WARNING, true, NULL, "1.0 MiB"},
    {"host-names-shared", break_names, DOCTOR_SERIOUS, false, NULL, "ranks 1 and 2 are both on \"node0\""},
    {"clocks-differ", break_clock, DOCTOR_NOTE, false, NULL, "2.5 s behind"},
    {"folder-not-writable", break_write, DOCTOR_SERIOUS, true, NULL, "Read-only file system"},
    {"folder-differs", break_shared_folder, DOCTOR_SERIOUS, true, NULL, ""},
    {"folder-full", fill_folder, DOCTOR_SERIOUS, true, NULL, "1.0 MiB free"},
    {"folder-full", fill_table, DOCTOR_SERIOUS, true, NULL, "room for 2 more files"},
    {"folder-low", lower_folder, DOCTOR_NOTE, true, NULL, "1.0 GiB free"},
    {"rename-broken", break_rename, DOCTOR_SERIOUS, true, NULL, ""},
    {"flush-broken", break_flush, DOCTOR_SERIOUS, true, NULL, ""},
    {"folder-on-nfs", break_type, DOCTOR_NOTE, true, NULL, "nfs4"},
    {"direct-io-missing", break_direct, DOCTOR_NOTE, true, NULL, ""},
};

enum { FAULTS = sizeof faults / sizeof *faults };

static void test_faults(void **state)
{
    (void)state;
    for (int i = 0; i < FAULTS; i++) {
        struct doctor_facts ranks[RANKS];
        struct doctor_findings findings;
        make_healthy(ranks);
        faults[i].apply(ranks);
        doctor_check(ranks, RANKS, &findings);
        const struct doctor_finding *finding = find(&findings, faults[i].name);
        if (!finding)
            fail_msg("%s was not found", faults[i].name);
        if (findings.count != (faults[i].also ? 2 : 1) || (faults[i].also && !find(&findings, faults[i].also)))
            fail_msg("%s: %d findings, the first is %s", faults[i].name, findings.count, findings.list[0].name);
        if (!strstr(finding->detail, faults[i].detail))
            fail_msg("%s: %s", faults[i].name, finding->detail);
        assert_int_equal(finding->severity, faults[i].severity);
        assert_string_equal(finding->names, faults[i].of_host ? "node1" : "");
        assert_true(strlen(finding->remedy) > 10);
    }
    for (int i = 0; doctor_check_name(i); i++) {
        bool provoked = false;
        for (int j = 0; j < FAULTS; j++)
            provoked = provoked || strcmp(faults[j].name, doctor_check_name(i)) == 0;
        if (!provoked)
            fail_msg("%s: no fault provokes it", doctor_check_name(i));
    }
}

/* What is not a fault, though it is near one. */
static void test_borders(void **state)
{
    (void)state;
    struct doctor_facts ranks[RANKS];
    struct doctor_findings findings;
    make_healthy(ranks);
    ranks[0].locked_limit = 65536;              /* without InfiniBand */
    strcpy(ranks[0].io_component, "romio321");  /* no ompio */
    strcpy(ranks[2].io_component, "^romio321"); /* ompio, but */
    ranks[2].individual = 1;                    /* no collective writes */
    ranks[0].shared_free = 16 << 20;
    ranks[1].cores_asked = 4;
    ranks[3].clock = 0.9;
    doctor_check(ranks, RANKS, &findings);
    if (findings.count != 0)
        fail_msg("%s: %s", findings.list[0].name, findings.list[0].detail);
    ranks[2].individual = 0;
    doctor_check(ranks, RANKS, &findings);
    assert_non_null(find(&findings, "mpi-io-component"));
    /* One rank alone has no messages. */
    make_healthy(ranks);
    ranks[0].ranks = ranks[0].launched = 1;
    ranks[0].shared_free = 1 << 20;
    doctor_check(ranks, 1, &findings);
    assert_null(find(&findings, "shared-memory-small"));
    /* A limit that is not what cuts the threads is not named. */
    ranks[0].threads_wanted = 9;
    ranks[0].thread_limit = 9;
    doctor_check(ranks, 1, &findings);
    assert_string_equal(find(&findings, "threads-not-granted")->detail, "a rank wants 9 threads and is granted 4");
    ranks[0].thread_limit = 8;
    doctor_check(ranks, 1, &findings);
    assert_non_null(strstr(find(&findings, "threads-not-granted")->detail, "(OMP_THREAD_LIMIT=8)"));
    /* A crowd on some cores, while others are idle; and one that only all cores together show. */
    make_healthy(ranks);
    cores_of(&ranks[0], "0");
    cores_of(&ranks[1], "0-7");
    ranks[0].threads = 1;
    ranks[1].threads = 7;
    doctor_check(ranks, RANKS, &findings);
    assert_null(find(&findings, "cores-crowded"));
    cores_of(&ranks[0], "0-4");
    cores_of(&ranks[1], "3-7");
    ranks[0].threads = ranks[1].threads = 5;
    doctor_check(ranks, RANKS, &findings);
    assert_non_null(strstr(find(&findings, "cores-crowded")->detail, "10 threads share 8 cores"));
}

static void test_hosts_alike(void **state)
{
    (void)state;
    enum { HOSTS = 5 };
    static struct doctor_facts many[HOSTS * RANKS];
    static struct doctor_findings findings;
    for (int host = 0; host < HOSTS; host++) {
        make_healthy(&many[host * RANKS]);
        for (int i = host * RANKS; i < (host + 1) * RANKS; i++) {
            many[i].host_first = host * RANKS;
            snprintf(many[i].host, sizeof many[i].host, "n%d", host);
            cores_of(&many[i], i % 4 == 0 ? "0-3" : i % 4 == 1 ? "4-7" : i % 4 == 2 ? "8-11" : "12-15");
            many[i].shared_identity = (uint64_t)host;
            many[i].core_dump_limit = 0;
        }
    }
    many[17].core_dump_limit = INT64_MAX;
    many[4].threads = 6;
    doctor_check(many, HOSTS * RANKS, &findings);
    assert_int_equal(findings.count, 2);
    assert_string_equal(findings.list[0].name, "threads-exceed-cores"); /* the serious ones first */
    assert_string_equal(findings.list[0].names, "n1");
    assert_string_equal(findings.list[1].names, "n0, n1, n2");
    assert_int_equal(findings.list[1].hosts, HOSTS);
    assert_int_equal(findings.serious, 1);
    json_t *json = doctor_json(many, HOSTS * RANKS, &findings);
    assert_int_equal(json_integer_value(json_object_get(json, "hosts")), HOSTS);
    assert_int_equal(json_integer_value(json_object_get(json, "serious")), 1);
    assert_int_equal(json_array_size(json_object_get(json, "findings")), 2);
    json_decref(json);
}

/* -- A machine of files -- */

struct tree {
    char root[64];
};

static int set_up(void **state)
{
    static struct tree tree;
    strcpy(tree.root, "/tmp/cairn-doctor-XXXXXX");
    *state = &tree;
    return mkdtemp(tree.root) ? 0 : -1;
}

static int tear_down(void **state)
{
    struct tree *tree = *state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", tree->root);
    return system(command) == 0 ? 0 : -1;
}

static void put(const struct tree *tree, const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s%s", tree->root, name);
    for (char *slash = path + strlen(tree->root) + 1; (slash = strchr(slash, '/')); *slash++ = '/') {
        *slash = '\0';
        mkdir(path, 0700);
    }
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void put_machine(const struct tree *tree)
{
    put(tree, "/proc/self/status", "Name:\tcairn\nCpus_allowed:\tff\nCpus_allowed_list:\t2-5,8\n");
    put(tree, "/sys/devices/system/cpu/online", "0-15\n");
    put(tree, "/sys/devices/system/node/node0/cpulist", "0-3\n");
    put(tree, "/sys/devices/system/node/node1/cpulist", "4-7\n");
    put(tree, "/sys/devices/system/node/node3/cpulist", "12-15\n");
    put(tree, "/proc/cpuinfo",
        "processor : 0\nflags\t\t: fpu avx2 fma f16c bmi2 avx512f avx512bw avx512dq avx512vl avx512cd\n");
    put(tree, "/proc/meminfo", "MemTotal:       1048576 kB\nMemFree: 1 kB\n");
    put(tree, "/proc/self/limits",
        "Limit                     Soft Limit           Hard Limit           Units     \n"
        "Max core file size        0                    unlimited            bytes     \n"
        "Max open files            1024                 20000                files     \n"
        "Max locked memory         unlimited            unlimited            bytes     \n"
        "Max address space         8589934592           unlimited            bytes     \n");
    put(tree, "/proc/sys/kernel/random/boot_id", "2f5e0b0c\n");
}

static void test_files(void **state)
{
    const struct tree *tree = *state;
    struct doctor_facts facts = {0};
    put_machine(tree);
    put(tree, "/proc/self/cgroup", "0::/job/step\n");
    put(tree, "/sys/fs/cgroup/job/step/memory.max", "max\n");
    put(tree, "/sys/fs/cgroup/job/step/cpu.max", "max 100000\n");
    put(tree, "/sys/fs/cgroup/job/cpu.max", "250000 100000\n");
    put(tree, "/sys/fs/cgroup/job/memory.max", "536870912\n");
    doctor_read(tree->root, &facts);
    assert_int_equal(facts.cores, 5);
    assert_int_equal(facts.online, 16);
    assert_int_equal(facts.domains, 2);
    assert_string_equal(facts.best, "avx512");
    assert_false(facts.refused);
    assert_int_equal(facts.memory, 1 << 30);
    assert_int_equal(facts.memory_limit, 1 << 29);
    assert_int_equal(facts.quota, 250);
    assert_int_equal(facts.core_dump_limit, 0);
    assert_int_equal(facts.open_files_limit, 1024);
    assert_true(facts.locked_limit == INT64_MAX);
    assert_int_equal(facts.address_limit, INT64_C(8) << 30);
    assert_int_equal(facts.shared_free, -1);
    assert_false(facts.infiniband);
    /* Version 1 of control groups; other processors and another system. */
    struct doctor_facts other = {0};
    put(tree, "/proc/self/cgroup", "9:name=systemd:/\n4:memory:/slurm/job_1\n0::/\n");
    put(tree, "/sys/fs/cgroup/memory/slurm/job_1/memory.limit_in_bytes", "268435456\n");
    put(tree, "/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    put(tree, "/proc/cpuinfo", "flags : avx2 fma f16c bmi2x avx512f\n");
    put(tree, "/sys/class/infiniband/mlx5_0", "");
    put(tree, "/dev/shm/file", "");
    put(tree, "/proc/sys/kernel/random/boot_id", "another\n");
    doctor_read(tree->root, &other);
    assert_int_equal(other.memory_limit, 1 << 28);
    assert_string_equal(other.best, "");
    assert_true(other.infiniband);
    assert_true(other.shared_free > 0);
    assert_true(other.shared_identity != facts.shared_identity);
}

/* An empty machine, and lists that are none. */
static void test_nothing(void **state)
{
    const struct tree *tree = *state;
    struct doctor_facts facts = {0};
    doctor_read(tree->root, &facts);
    assert_int_equal(facts.cores, 0);
    assert_int_equal(facts.online, -1);
    assert_true(facts.memory_limit == INT64_MAX);
    assert_int_equal(facts.open_files_limit, -1);
    const char *const lists[] = {"", "x", "3-", "-1", ",", "5-2", "99999999999999999999"};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        struct core_set set = {0};
        core_set_add(&set, lists[i]);
        assert_int_equal(core_set_count(&set), 0);
    }
    struct core_set set = {0};
    core_set_add(&set, "0-2000");
    assert_int_equal(core_set_count(&set), DOCTOR_CORES);
}

static void test_environment(void **state)
{
    (void)state;
    struct doctor_facts facts = {0};
    static const char *const names[] = {"OMPI_COMM_WORLD_SIZE",
                                        "PMI_SIZE",
                                        "SLURM_STEP_NUM_TASKS",
                                        "SRUN_CPUS_PER_TASK",
                                        "PMIX_RANK",
                                        "PMI_RANK",
                                        "OMPI_COMM_WORLD_RANK",
                                        "SLURM_STEP_ID",
                                        "CAIRN_CHECKPOINT_IO",
                                        "OMPI_MCA_mpi_yield_when_idle",
                                        "OMPI_MCA_mpi_oversubscribe",
                                        "CAIRN_CPU",
                                        "OMP_DYNAMIC",
                                        "OMP_MAX_ACTIVE_LEVELS",
                                        "OMP_THREAD_LIMIT"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unsetenv(names[i]);
    setenv("SLURM_NTASKS", "4", 1);
    setenv("SLURM_CPUS_PER_TASK", "7", 1);
    setenv("OMPI_MCA_io", "ompio", 1);
    doctor_read_environment(&facts);
    assert_int_equal(facts.launched, 4);
    assert_string_equal(facts.launcher, "SLURM_NTASKS");
    assert_int_equal(facts.cores_asked, 7);
    assert_string_equal(facts.io_component, "ompio");
    assert_false(facts.yields);
    assert_false(facts.forced);
    assert_false(facts.dynamic);
    assert_int_equal(facts.thread_limit, -1);
    setenv("OMP_DYNAMIC", "TRUE", 1);
    setenv("OMP_THREAD_LIMIT", "3", 1);
    doctor_read_environment(&facts);
    assert_true(facts.dynamic);
    assert_int_equal(facts.thread_limit, 3);
    setenv("OMP_DYNAMIC", "false", 1);
    setenv("OMP_MAX_ACTIVE_LEVELS", "0", 1);
    doctor_read_environment(&facts);
    assert_true(facts.dynamic);
    assert_false(facts.stranded);
    setenv("SLURM_STEP_ID", "0", 1);
    doctor_read_environment(&facts);
    assert_true(facts.stranded);
    setenv("PMIX_RANK", "0", 1);
    doctor_read_environment(&facts);
    assert_false(facts.stranded);
    setenv("OMPI_COMM_WORLD_SIZE", "1", 1); /* mpirun within the job */
    setenv("SRUN_CPUS_PER_TASK", "7", 1);
    setenv("OMPI_MCA_mpi_oversubscribe", "1", 1);
    setenv("CAIRN_CPU", "avx2", 1);
    doctor_read_environment(&facts);
    assert_int_equal(facts.launched, 1);
    assert_int_equal(facts.cores_asked, -1);
    assert_true(facts.yields);
    assert_true(facts.forced);
    setenv("OMPI_MCA_mpi_yield_when_idle", "0", 1);
    doctor_read_environment(&facts);
    assert_false(facts.yields);
}

static void test_folder(void **state)
{
    const struct tree *tree = *state;
    char wanted[128], path[DOCTOR_PATH], mounts[256];
    struct folder_facts facts;
    snprintf(wanted, sizeof wanted, "%s/runs/new", tree->root);
    assert_true(doctor_find_folder(wanted, path));
    assert_string_equal(path, tree->root);
    snprintf(mounts, sizeof mounts, "/dev/a / ext4 rw 0 0\nserver:/b %s nfs4 rw 0 0\nc %sx tmpfs rw 0 0\n", tree->root,
             tree->root);
    put(tree, "/proc/self/mounts", mounts);
    doctor_read_folder(tree->root, path, 3, &facts);
    assert_string_equal(facts.type, "nfs4");
    assert_int_equal(facts.write, 0);
    assert_int_equal(facts.rename, 0);
    assert_int_equal(facts.flush, 0);
    assert_true(facts.free > 0);
    assert_int_equal(doctor_write_token(path, "here"), 0);
    assert_true(doctor_sees_token(path, "here"));
    assert_false(doctor_sees_token(path, "there"));
    doctor_remove_token(path, "here");
    assert_false(doctor_sees_token(path, "here"));
    /* Nothing is left; only what this test made itself. */
    snprintf(mounts, sizeof mounts, "test \"$(ls -A '%s')\" = proc", tree->root);
    assert_int_equal(system(mounts), 0);
    doctor_read_folder(tree->root, "/nowhere/at/all", 0, &facts);
    assert_int_equal(facts.write, ENOENT);
    assert_int_equal(facts.rename, -1);
    assert_string_equal(facts.type, "ext4");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_healthy),
        cmocka_unit_test(test_faults),
        cmocka_unit_test(test_borders),
        cmocka_unit_test(test_hosts_alike),
        cmocka_unit_test_setup_teardown(test_files, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nothing, set_up, tear_down),
        cmocka_unit_test(test_environment),
        cmocka_unit_test_setup_teardown(test_folder, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
