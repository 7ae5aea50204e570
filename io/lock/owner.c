#include "io/lock/owner.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "io/json/json.h"

/* -- This process -- */

static void take_word(char to[OWNER_WORD], const char *from)
{
    snprintf(to, OWNER_WORD, "%s", from ? from : "");
    to[strcspn(to, "\n")] = '\0';
}

static void read_word(const char *path, char to[OWNER_WORD])
{
    FILE *file = fopen(path, "r");
    to[0] = '\0';
    if (!file)
        return;
    if (!fgets(to, OWNER_WORD, file))
        to[0] = '\0';
    to[strcspn(to, "\n")] = '\0';
    fclose(file);
}

/* When a process was started, from /proc; -1 if there is none, or it has ended and only its parent does not know it
 * yet. *seen: there is a /proc that tells. */
static int64_t process_born(int64_t pid, bool *seen)
{
    enum { STATE = 3, BORN = 22 }; /* fields of the line */
    char path[64];
    char line[1024] = "";
    snprintf(path, sizeof path, "/proc/%lld/stat", (long long)pid);
    *seen = access("/proc/self/stat", R_OK) == 0;
    FILE *file = fopen(path, "r");
    if (!file)
        return -1;
    size_t length = fread(line, 1, sizeof line - 1, file);
    fclose(file);
    line[length] = '\0';
    /* The name of the program, in brackets, may hold anything. */
    char *at = strrchr(line, ')');
    if (!at || at[1] != ' ' || strchr("ZXx", at[2]))
        return -1;
    at += 2;
    for (int field = STATE; field < BORN && at; field++)
        at = strchr(at, ' ') ? strchr(at, ' ') + 1 : NULL;
    return at ? strtoll(at, NULL, 10) : -1;
}

void owner_self(struct owner *owner)
{
    bool seen;
    const char *job = getenv("SLURM_JOB_ID");
    const char *cluster = getenv("SLURM_CLUSTER_NAME");
    *owner = (struct owner){.pid = (int64_t)getpid(), .since = (double)time(NULL)};
    owner->born = process_born(owner->pid, &seen);
    if (gethostname(owner->host, sizeof owner->host - 1) != 0)
        take_word(owner->host, "?");
    read_word("/proc/sys/kernel/random/boot_id", owner->boot);
    ssize_t length = readlink("/proc/self/ns/pid", owner->processes, sizeof owner->processes - 1);
    owner->processes[length > 0 ? length : 0] = '\0';
    if (job && job[0] && cluster && cluster[0])
        snprintf(owner->job, sizeof owner->job, "%.39s@%.39s", job, cluster);
    else
        take_word(owner->job, job);
    take_word(owner->restarts, getenv("SLURM_RESTART_COUNT"));
}

/* -- Its file -- */

size_t owner_write(const struct owner *owner, char text[OWNER_TEXT])
{
    json_t *object =
        json_form("{s:s, s:I, s:s, s:s, s:f, s:I, s:s, s:s}", "host", owner->host, "process", (json_int_t)owner->pid,
                  "job", owner->job, "restarts", owner->restarts, "since", owner->since, "born",
                  (json_int_t)owner->born, "boot", owner->boot, "processes", owner->processes);
    size_t length = object ? json_dumpb(object, text, OWNER_TEXT - 1, JSON_COMPACT | JSON_PRESERVE_ORDER) : 0;
    json_decref(object);
    if (length == 0 || length > OWNER_TEXT - 1)
        return 0;
    text[length] = '\n';
    return length + 1;
}

void owner_read(const char *text, size_t length, struct owner *owner)
{
    json_t *object = json_loadb(text, length, 0, NULL);
    *owner = (struct owner){.born = -1};
    if (json_is_integer(json_object_get(object, "born")))
        owner->born = json_integer_value(json_object_get(object, "born"));
    owner->pid = json_integer_value(json_object_get(object, "process"));
    owner->since = json_number_value(json_object_get(object, "since"));
    take_word(owner->host, json_string_value(json_object_get(object, "host")));
    take_word(owner->boot, json_string_value(json_object_get(object, "boot")));
    take_word(owner->processes, json_string_value(json_object_get(object, "processes")));
    take_word(owner->job, json_string_value(json_object_get(object, "job")));
    take_word(owner->restarts, json_string_value(json_object_get(object, "restarts")));
    json_decref(object);
}

void owner_describe(const struct owner *owner, char *text, size_t size)
{
    if (owner->pid <= 0) {
        snprintf(text, size, "a process that its file does not name");
        return;
    }
    time_t since = (time_t)owner->since;
    struct tm local;
    char when[64] = "";
    strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", localtime_r(&since, &local));
    snprintf(text, size, "process %lld on host %s%s%s%s, since %s", (long long)owner->pid, owner->host,
             owner->job[0] ? " (job " : "", owner->job, owner->job[0] ? ")" : "", when);
}

/* -- Judgement -- */

bool owner_same(const struct owner *a, const struct owner *b)
{
    return a->pid == b->pid && a->born == b->born && strcmp(a->boot, b->boot) == 0 &&
           strcmp(a->processes, b->processes) == 0 && strcmp(a->host, b->host) == 0;
}

enum owner_state owner_ask(const struct owner *owner, const struct owner *self)
{
    bool seen;
    if (owner->pid <= 0)
        return OWNER_UNKNOWN;
    /* Slurm has ended a start of a job before it starts it again. */
    if (owner->job[0] && strcmp(owner->job, self->job) == 0 && strcmp(owner->restarts, self->restarts) != 0)
        return OWNER_DEAD;
    bool here = owner->boot[0] && strcmp(owner->boot, self->boot) == 0 && owner->processes[0] &&
                strcmp(owner->processes, self->processes) == 0;
    if (!here)
        return OWNER_UNKNOWN;
    if (kill((pid_t)owner->pid, 0) != 0 && errno == ESRCH)
        return OWNER_DEAD;
    int64_t born = process_born(owner->pid, &seen);
    if (!seen || owner->born < 0)
        return OWNER_UNKNOWN;
    return born == owner->born ? OWNER_LIVES : OWNER_DEAD;
}
