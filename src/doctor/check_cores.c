/* Checks of processes and cores: who runs where, with which instructions and libraries. */
#include <stdio.h>
#include <string.h>

#include "src/doctor/doctor_private.h"

static bool lists_component(const char *list, const char *name)
{
    size_t length = strlen(name);
    for (list += *list == '^'; *list; list += strcspn(list, ",") + (list[strcspn(list, ",")] == ','))
        if (strcspn(list, ",") == length && strncmp(list, name, length) == 0)
            return true;
    return false;
}

static const struct doctor_facts *find_rank(const struct group *group, bool (*is)(const struct doctor_facts *))
{
    for (int i = 0; i < group->count; i++)
        if (is(&group->ranks[i]))
            return &group->ranks[i];
    return NULL;
}

bool check_launcher(const struct group *group, char *detail, size_t size)
{
    const struct doctor_facts *first = group->ranks;
    if (first->stranded)
        snprintf(detail, size, "srun started ranks without PMIx, and MPI does not start without it");
    else
        snprintf(detail, size, "%s says that %d ranks were started, but MPI has a world of one", first->launcher,
                 first->launched);
    return first->stranded || (first->ranks == 1 && first->launched > 1);
}

/* mpirun of Open MPI sends CONT, TERM and KILL, with the same pause behind each of the first two. */
bool check_term(const struct group *group, char *detail, size_t size)
{
    int pause = group->ranks->kill_pause;
    snprintf(detail, size, "TERM to mpirun kills the ranks after %d s: a step and its checkpoint have to fit in them",
             2 * pause);
    return pause >= 0 && pause < 5;
}

static bool got_fewer_cores(const struct doctor_facts *rank)
{
    return rank->cores > 0 && rank->cores_asked > rank->cores;
}

bool check_cores_asked(const struct group *group, char *detail, size_t size)
{
    const struct doctor_facts *rank = find_rank(group, got_fewer_cores);
    if (rank)
        snprintf(detail, size, "the job asks for %d cores a task (SLURM_CPUS_PER_TASK), a rank has %d",
                 rank->cores_asked, rank->cores);
    return rank != NULL;
}

static bool has_more_threads(const struct doctor_facts *rank)
{
    return rank->cores > 0 && rank->threads > rank->cores;
}

bool check_threads(const struct group *group, char *detail, size_t size)
{
    const struct doctor_facts *rank = find_rank(group, has_more_threads);
    if (rank)
        snprintf(detail, size, "a rank has %d threads and %d core%s", rank->threads, rank->cores,
                 rank->cores == 1 ? "" : "s");
    return rank != NULL;
}

static bool has_fewer_threads(const struct doctor_facts *rank)
{
    return rank->threads_wanted > rank->threads;
}

bool check_threads_granted(const struct group *group, char *detail, size_t size)
{
    const struct doctor_facts *rank = find_rank(group, has_fewer_threads);
    if (!rank)
        return false;
    int used = snprintf(detail, size, "a rank wants %d threads and is granted %d", rank->threads_wanted, rank->threads);
    if (rank->thread_limit > 0 && rank->thread_limit < rank->threads_wanted)
        snprintf(detail + used, size - (size_t)used, " (OMP_THREAD_LIMIT=%d)", rank->thread_limit);
    return true;
}

static bool lets_threads_vary(const struct doctor_facts *rank)
{
    return rank->dynamic != 0;
}

bool check_threads_vary(const struct group *group, char *detail, size_t size)
{
    snprintf(detail, size,
             "OMP_DYNAMIC or OMP_MAX_ACTIVE_LEVELS would give parallel regions fewer threads than they "
             "ask for; Cairn overrides both");
    return find_rank(group, lets_threads_vary) != NULL;
}

bool check_quota(const struct group *group, char *detail, size_t size)
{
    int threads = 0;
    int quota = group->ranks->quota;
    for (int i = 0; i < group->count; i++)
        threads += group->ranks[i].threads;
    snprintf(detail, size, "the control group allows %d.%02d cores for %d thread%s of %d rank%s", quota / 100,
             quota % 100, threads, threads == 1 ? "" : "s", group->count, group->count == 1 ? "" : "s");
    return quota > 0 && quota < 100 * threads;
}

static bool is_within(const struct core_set *inner, const struct core_set *outer)
{
    for (int i = 0; i < DOCTOR_CORES / 64; i++)
        if (inner->bits[i] & ~outer->bits[i])
            return false;
    return true;
}

struct crowd {
    int ranks, threads, cores;
};

/* The ranks that have no core outside of the set; cores that they keep busy, of which a rank can have only its own. */
static int gather_crowd(const struct group *group, const struct core_set *set, struct crowd *crowd)
{
    int busy = 0;
    *crowd = (struct crowd){.cores = core_set_count(set)};
    for (int i = 0; i < group->count; i++) {
        const struct doctor_facts *rank = &group->ranks[i];
        if (rank->cores == 0 || !is_within(&rank->granted, set))
            continue;
        crowd->ranks++;
        crowd->threads += rank->threads;
        busy += rank->threads < rank->cores ? rank->threads : rank->cores;
    }
    return busy;
}

/* The cores of a rank, or of all ranks, that are too few for those that have no others; the worst of them. */
static bool find_crowd(const struct group *group, struct crowd *worst)
{
    struct core_set all = {0};
    double most = 1;
    for (int i = 0; i <= group->count; i++) {
        const struct core_set *set = i < group->count ? &group->ranks[i].granted : &all;
        for (int j = 0; set != &all && j < DOCTOR_CORES / 64; j++)
            all.bits[j] |= set->bits[j];
        struct crowd crowd;
        double busy = gather_crowd(group, set, &crowd);
        if (crowd.cores == 0 || busy / crowd.cores <= most)
            continue;
        most = busy / crowd.cores;
        *worst = crowd;
    }
    return most > 1;
}

bool check_crowded(const struct group *group, char *detail, size_t size)
{
    struct crowd crowd;
    if (!find_crowd(group, &crowd))
        return false;
    snprintf(detail, size, "%d ranks with %d threads share %d core%s", crowd.ranks, crowd.threads, crowd.cores,
             crowd.cores == 1 ? "" : "s");
    return true;
}

bool check_yield(const struct group *group, char *detail, size_t size)
{
    struct crowd crowd;
    snprintf(detail, size, "ranks that wait for a message keep the core from those that compute");
    return !group->ranks->yields && find_crowd(group, &crowd);
}

bool check_floating(const struct group *group, char *detail, size_t size)
{
    struct crowd crowd;
    if (find_crowd(group, &crowd))
        return false;
    for (int i = 0; i < group->count; i++)
        for (int j = 0; j < i; j++)
            for (int k = 0; k < DOCTOR_CORES / 64; k++)
                if (group->ranks[i].granted.bits[k] & group->ranks[j].granted.bits[k]) {
                    snprintf(detail, size, "ranks may run on the same cores; there are enough for all");
                    return true;
                }
    return false;
}

static bool spans_domains(const struct doctor_facts *rank)
{
    return rank->domains > 1;
}

bool check_domains(const struct group *group, char *detail, size_t size)
{
    const struct doctor_facts *rank = find_rank(group, spans_domains);
    if (rank)
        snprintf(detail, size, "the %d cores of a rank lie in %d NUMA domains", rank->cores, rank->domains);
    return rank != NULL;
}

bool check_permission(const struct group *group, char *detail, size_t size)
{
    snprintf(detail, size, "the processor has AMX, but the system refuses its registers (arch_prctl); %s kernels run",
             group->ranks->isa);
    return group->ranks->refused;
}

static bool runs_less(const struct doctor_facts *rank)
{
    return rank->best[0] != '\0' && strcmp(rank->best, rank->isa) != 0;
}

bool check_forced(const struct group *group, char *detail, size_t size)
{
    snprintf(detail, size, "CAIRN_CPU chooses %s kernels on a processor with %s", group->ranks->isa,
             group->ranks->best);
    return group->ranks->forced && runs_less(group->ranks);
}

bool check_unused(const struct group *group, char *detail, size_t size)
{
    snprintf(detail, size, "%s kernels run on a processor with %s", group->ranks->isa, group->ranks->best);
    return !group->ranks->forced && !group->ranks->refused && runs_less(group->ranks);
}

bool check_isa_differs(const struct group *group, char *detail, size_t size)
{
    for (int i = 1; i < group->count; i++)
        if (strcmp(group->ranks[i].isa, group->ranks->isa) != 0) {
            snprintf(detail, size, "%s runs %s kernels, %s runs %s", group->ranks->host, group->ranks->isa,
                     group->ranks[i].host, group->ranks[i].isa);
            return true;
        }
    return false;
}

bool check_io_component(const struct group *group, char *detail, size_t size)
{
    const char *list = group->ranks->io_component;
    snprintf(detail, size, "OMPI_MCA_io=%s lets Open MPI write with its component ompio", list);
    return !group->ranks->individual && lists_component(list, "ompio") == (*list != '^');
}

bool check_copy(const struct group *group, char *detail, size_t size)
{
    for (int i = 0; i < group->count; i++)
        if (group->ranks[i].copy > 0) {
            snprintf(detail, size, "ranks may not read each other's memory (%s); long messages are copied twice",
                     strerror(group->ranks[i].copy));
            return true;
        }
    return false;
}
