/* What would hurt a run on these hosts, before it starts: facts of each rank, checks over them, remedies. */
#ifndef CAIRN_DOCTOR_DOCTOR_H
#define CAIRN_DOCTOR_DOCTOR_H

#include <jansson.h>

#include "dist/mesh/mesh.h"

enum {
    DOCTOR_CORES = 1024, /* that a mask can name; higher numbers are left out */
    DOCTOR_NAME = 64,
    DOCTOR_WORD = 32,
    DOCTOR_PATH = 1024,
    DOCTOR_DETAIL = 256,
    DOCTOR_FINDINGS = 64,
};

/* A set of cores by number. */
struct core_set {
    uint64_t bits[DOCTOR_CORES / 64];
};

/* Adds a list of Linux, as in "0-3,8"; what is no such list ends it. */
void core_set_add(struct core_set *set, const char *list);
int core_set_count(const struct core_set *set);

/* What a rank's probe of the run's folder gave: 0, or the errno of what failed; -1 where it was not tried. */
struct folder_facts {
    char type[DOCTOR_WORD]; /* of the file system, as mount names it */
    int32_t write, rename, flush, direct;
    int32_t differs; /* a file that the first rank wrote there is not seen from here */
    int64_t free;    /* bytes; -1 unknown */
    int64_t files;   /* that can still be made; -1 unknown */
};

/* What one rank knows. Integers that the system does not tell are -1; sizes are bytes. */
struct doctor_facts {
    char host[DOCTOR_NAME];
    int32_t rank;       /* of the team */
    int32_t host_first; /* the lowest rank of the team on this host: names the host where names are not unique */
    int32_t ranks;      /* of the team */

    struct core_set granted;
    int32_t cores;   /* granted */
    int32_t online;  /* of the host */
    int32_t domains; /* of NUMA that the granted cores belong to */
    int32_t threads;
    int32_t threads_wanted; /* more, where fewer are granted */
    int32_t thread_limit;   /* OMP_THREAD_LIMIT */
    int32_t dynamic;        /* OMP_DYNAMIC or OMP_MAX_ACTIVE_LEVELS=0 asks for fewer than asked for; overridden */
    int32_t quota;          /* hundredths of a core that the control group allows all its processes together; 0 any */

    char isa[DOCTOR_WORD];  /* whose kernels run */
    char best[DOCTOR_WORD]; /* that the processor has */
    int32_t forced;         /* by CAIRN_CPU */
    int32_t refused;        /* the system does not permit the registers of AMX */

    int32_t launched; /* ranks that the launcher says it started */
    char launcher[DOCTOR_WORD];
    int32_t kill_pause;             /* seconds between the signals by which mpirun ends ranks; -1: another launcher */
    int32_t stranded;               /* as doctor_is_stranded says */
    int32_t cores_asked;            /* SLURM_CPUS_PER_TASK where srun was not told */
    char io_component[DOCTOR_WORD]; /* OMPI_MCA_io */
    int32_t individual;             /* CAIRN_CHECKPOINT_IO=individual */
    int32_t yields;                 /* a waiting rank leaves its core to others */
    int32_t copy;                   /* errno of reading a neighbour's memory; -1 not tried */

    int64_t memory;        /* of the host */
    int64_t memory_limit;  /* of the control group, for all its processes together; INT64_MAX none */
    int64_t address_limit; /* of the process; likewise */
    int64_t locked_limit;
    int64_t open_files_limit;
    int64_t core_dump_limit;
    int32_t infiniband;
    uint64_t shared_identity; /* of /dev/shm and the system that has it */
    int64_t shared_free;      /* of /dev/shm */
    int64_t temporary_free;   /* of the folder of Open MPI's session */
    double clock;             /* seconds ahead of the first rank's */

    struct folder_facts folder;
};

enum doctor_severity { DOCTOR_NOTE, DOCTOR_WARNING, DOCTOR_SERIOUS };

struct doctor_finding {
    const char *name, *remedy;
    enum doctor_severity severity;
    int hosts;                   /* it was found on; 0 for one about the hosts together */
    char names[4 * DOCTOR_NAME]; /* of some of them */
    char detail[DOCTOR_DETAIL];
};

struct doctor_findings {
    struct doctor_finding list[DOCTOR_FINDINGS];
    int count;
    int left_out; /* for want of room */
    int serious;  /* including those left out */
};

/* What files tell about this process and its host; `root` is put before their names, "" for the real ones. Host name,
 * ranks, threads, instruction set, clock and folder are the caller's. */
void doctor_read(const char *root, struct doctor_facts *facts);

/* What the environment tells. */
void doctor_read_environment(struct doctor_facts *facts);

/* The absolute path of the folder, or of the nearest above it that exists: a run makes its folder. A folder that cannot
 * be looked at stays as it is named. False if the name is too long. */
bool doctor_find_folder(const char *folder, char path[DOCTOR_PATH]);

/* Probes a folder that doctor_find_folder gave, by files that it removes; the rank of the team tells them apart. */
void doctor_read_folder(const char *root, const char *path, int rank, struct folder_facts *facts);

/* A file by which other hosts are to know the folder, named by its token; 0 or errno. */
int doctor_write_token(const char *path, const char *token);
bool doctor_sees_token(const char *path, const char *token);
void doctor_remove_token(const char *path, const char *token);

/* Whether srun started this process without PMIx or PMI, so that Open MPI would end it with a message of its own. */
bool doctor_is_stranded(void);

/* What one process finds by itself, for doctor_gather or without MPI; `rank` is set. */
void doctor_look(const char *path, struct doctor_facts *facts);

/* Facts of all ranks, on every rank, those of a host together. Collective over the team. `mine` brings threads,
 * threads_wanted and isa; `all`, of as many as the team has ranks, is the caller's. */
enum status doctor_gather(struct context *context, struct mesh *mesh, const char *folder, struct doctor_facts *mine,
                          struct doctor_facts *all) MUST_USE;

/* All checks over the facts of `count` ranks, those of a host together. Local. */
void doctor_check(const struct doctor_facts *ranks, int count, struct doctor_findings *findings);

/* Names of all checks in their order; NULL beyond the last. */
const char *doctor_check_name(int index);

/* For people on standard output, `folder` as they named it; for programs. */
void doctor_print(const struct doctor_facts *ranks, int count, const struct doctor_findings *findings,
                  const char *folder);
json_t *doctor_json(const struct doctor_facts *ranks, int count, const struct doctor_findings *findings);

#endif
