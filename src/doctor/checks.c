/* The table of checks, and applying them to each host and to all hosts together. */
#include <stdio.h>
#include <string.h>

#include "src/doctor/doctor_private.h"

enum scope { EACH_HOST, ALL_HOSTS };

struct check {
    const char *name;
    enum doctor_severity severity;
    enum scope scope;
    check_function *find;
    const char *remedy;
};

static const struct check checks[] = {
    {"launcher-mismatch", DOCTOR_SERIOUS, ALL_HOSTS, check_launcher,
     "start with srun --mpi=pmix (srun --mpi=list has to name it), or with the mpirun of the MPI that Cairn was built "
     "with"},
    {"term-kills-soon", DOCTOR_NOTE, ALL_HOSTS, check_term,
     "OMPI_MCA_odls_base_sigkill_timeout=10 leaves 20 s, and as long to a run that fails; USR1 to mpirun or the file "
     "RUN/stop leaves all the time that saving takes"},
    {"cores-not-granted", DOCTOR_SERIOUS, EACH_HOST, check_cores_asked,
     "export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK before srun, or srun --cpus-per-task; srun does not take it from "
     "the job"},
    {"threads-exceed-cores", DOCTOR_SERIOUS, EACH_HOST, check_threads,
     "lower OMP_NUM_THREADS or compute.threads, or grant more cores: srun --cpus-per-task, mpirun --map-by slot:PE=N"},
    {"threads-not-granted", DOCTOR_SERIOUS, EACH_HOST, check_threads_granted,
     "raise or unset OMP_THREAD_LIMIT, or the limit of processes: ulimit -u, pids.max of the control group"},
    {"threads-vary", DOCTOR_NOTE, EACH_HOST, check_threads_vary, "unset them: they only hide what a run will do"},
    {"cores-limited", DOCTOR_SERIOUS, EACH_HOST, check_quota,
     "start fewer ranks or threads, or raise cpu.max: sbatch --cpus-per-task, docker run --cpus"},
    {"cores-crowded", DOCTOR_SERIOUS, EACH_HOST, check_crowded,
     "start fewer ranks or threads, or bind them apart: mpirun --map-by slot:PE=N --bind-to core, srun "
     "--cpus-per-task=N --cpu-bind=cores"},
    {"yield-missing", DOCTOR_WARNING, EACH_HOST, check_yield,
     "OMPI_MCA_mpi_yield_when_idle=1 where ranks have to share cores"},
    {"ranks-unbound", DOCTOR_NOTE, EACH_HOST, check_floating,
     "bind each rank to cores of its own: mpirun --map-by slot:PE=N --bind-to core, srun --cpu-bind=cores"},
    {"numa-spanned", DOCTOR_WARNING, EACH_HOST, check_domains,
     "start a rank for each NUMA domain: mpirun --map-by numa --bind-to numa, srun --ntasks-per-node=DOMAINS "
     "--cpu-bind=ldoms"},
    {"amx-refused", DOCTOR_SERIOUS, EACH_HOST, check_permission,
     "Linux 5.16 or newer; in a container or sandbox, allow the system call arch_prctl"},
    {"instructions-forced", DOCTOR_WARNING, EACH_HOST, check_forced, "unset CAIRN_CPU"},
    {"instructions-unused", DOCTOR_WARNING, EACH_HOST, check_unused,
     "build Cairn with a compiler that knows them (GCC 12 or newer)"},
    {"instructions-differ", DOCTOR_WARNING, ALL_HOSTS, check_isa_differs,
     "choose hosts that are alike (srun --constraint), or CAIRN_CPU that all have: the slowest sets the pace, and bits "
     "of results depend on the instructions"},
    {"mpi-io-component", DOCTOR_SERIOUS, EACH_HOST, check_io_component,
     "unset OMPI_MCA_io, for Cairn chooses ROMIO then; ompio is slow at collective writes and known to hang in them. "
     "Or "
     "CAIRN_CHECKPOINT_IO=individual"},
    {"single-copy-refused", DOCTOR_NOTE, EACH_HOST, check_copy,
     "allow process_vm_readv: kernel.yama.ptrace_scope=0, in a container --cap-add=SYS_PTRACE; otherwise "
     "OMPI_MCA_btl_vader_single_copy_mechanism=none avoids messages about it"},
    {"memory-too-small", DOCTOR_SERIOUS, EACH_HOST, check_memory_small,
     "ask for more: sbatch --mem or --mem-per-cpu; `cairn plan` says what a rank needs"},
    {"memory-limited", DOCTOR_NOTE, EACH_HOST, check_memory_limit,
     "compare with `cairn plan`; sbatch --mem=0 asks for all of it"},
    {"address-space-limited", DOCTOR_WARNING, EACH_HOST, check_address_limit,
     "ulimit -v unlimited before the launcher, or the site's limits of jobs"},
    {"locked-memory-limited", DOCTOR_WARNING, EACH_HOST, check_locked_limit,
     "ulimit -l unlimited, in limits.conf and for slurmd (LimitMEMLOCK=infinity)"},
    {"open-files-limited", DOCTOR_WARNING, EACH_HOST, check_open_files, "ulimit -n 65536 before the launcher"},
    {"core-dumps-off", DOCTOR_NOTE, EACH_HOST, check_core_dumps,
     "ulimit -c unlimited before the launcher, while looking for the cause of a crash"},
    {"shared-memory-small", DOCTOR_SERIOUS, EACH_HOST, check_shared_small,
     "free or enlarge it: mount -o remount,size=1G /dev/shm, in a container --shm-size=1g; or "
     "OMPI_MCA_btl_vader_backing_directory"},
    {"session-folder-small", DOCTOR_WARNING, EACH_HOST, check_temporary_small,
     "free it, or TMPDIR on another local file system"},
    {"host-names-shared", DOCTOR_SERIOUS, ALL_HOSTS, check_names,
     "give each host or container a name of its own, or let those with one name share /dev/shm (--ipc=host)"},
    {"clocks-differ", DOCTOR_NOTE, ALL_HOSTS, check_clock, "run chronyd or ntpd; times in logs do not compare"},
    {"folder-not-writable", DOCTOR_SERIOUS, EACH_HOST, check_folder_write,
     "choose another run.folder, or make it writable on all hosts"},
    {"folder-differs", DOCTOR_SERIOUS, EACH_HOST, check_folder_differs, "choose a run.folder that all hosts share"},
    {"folder-full", DOCTOR_SERIOUS, EACH_HOST, check_folder_full,
     "free it, or another run.folder; checkpoint.keep_last says how many checkpoints stay"},
    {"folder-low", DOCTOR_NOTE, EACH_HOST, check_folder_low,
     "a checkpoint takes 12 bytes a parameter; checkpoint.keep_last says how many stay"},
    {"rename-broken", DOCTOR_SERIOUS, EACH_HOST, check_folder_rename,
     "choose another run.folder: a checkpoint appears by being renamed"},
    {"flush-broken", DOCTOR_SERIOUS, EACH_HOST, check_folder_flush,
     "choose another run.folder: here a checkpoint may be lost with the power"},
    {"folder-on-nfs", DOCTOR_NOTE, EACH_HOST, check_folder_network,
     "choose a parallel file system where there is one; MPI-IO on NFS is slow and wants mounts without attribute cache "
     "(noac). CAIRN_CHECKPOINT_IO=individual if it fails"},
    {"direct-io-missing", DOCTOR_NOTE, EACH_HOST, check_folder_direct,
     "none needed: checkpoints are written through the cache"},
};

enum { CHECKS = sizeof checks / sizeof *checks, HOSTS_NAMED = 3 };

const char *doctor_check_name(int index)
{
    return index >= 0 && index < CHECKS ? checks[index].name : NULL;
}

static void name_host(struct doctor_finding *finding, const char *host)
{
    size_t used = strlen(finding->names);
    if (finding->hosts < HOSTS_NAMED)
        snprintf(finding->names + used, sizeof finding->names - used, "%s%s", finding->hosts ? ", " : "", host);
    finding->hosts++;
}

/* Hosts with the same to say share a finding. */
static void add_finding(struct doctor_findings *findings, const struct check *check, const char *host,
                        const char *detail)
{
    for (int i = 0; i < findings->count; i++) {
        struct doctor_finding *other = &findings->list[i];
        if (other->name == check->name && strcmp(other->detail, detail) == 0) {
            name_host(other, host);
            return;
        }
    }
    findings->serious += check->severity == DOCTOR_SERIOUS;
    if (findings->count == DOCTOR_FINDINGS) {
        findings->left_out++;
        return;
    }
    struct doctor_finding *finding = &findings->list[findings->count++];
    *finding = (struct doctor_finding){.name = check->name, .remedy = check->remedy, .severity = check->severity};
    snprintf(finding->detail, sizeof finding->detail, "%s", detail);
    if (check->scope == EACH_HOST)
        name_host(finding, host);
}

static int ranks_of_host(const struct doctor_facts *ranks, int count)
{
    int here = 1;
    while (here < count && ranks[here].host_first == ranks->host_first)
        here++;
    return here;
}

void doctor_check(const struct doctor_facts *ranks, int count, struct doctor_findings *findings)
{
    char detail[DOCTOR_DETAIL];
    memset(findings, 0, sizeof *findings);
    for (int severity = DOCTOR_SERIOUS; severity >= DOCTOR_NOTE; severity--)
        for (int i = 0; i < CHECKS; i++) {
            const struct check *check = &checks[i];
            if ((int)check->severity != severity)
                continue;
            for (int first = 0, here; first < count; first += here) {
                here = check->scope == ALL_HOSTS ? count : ranks_of_host(ranks + first, count - first);
                struct group group = {.ranks = ranks + first, .count = here};
                if (check->find(&group, detail, sizeof detail))
                    add_finding(findings, check, ranks[first].host, detail);
            }
        }
}
