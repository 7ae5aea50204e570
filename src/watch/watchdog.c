#include "src/watch/watchdog.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dist/mesh/members.h"
#include "src/watch/hang.h"

/* A disk may take so many times as long as anything else before it is taken for dead. */
#define FILES_PATIENCE 10.0

enum { PATH_LENGTH = 720, TEXT_LENGTH_MOST = 4096 };

/* What changes when a rank moves. */
struct signs {
    int64_t events;
    uint64_t where, position, touches;
};

struct watchdog {
    struct context *context; /* of the thread that trains: only its place is read */
    const struct mesh *mesh;
    const struct hosts *hosts;
    int rank;
    char folder[PATH_LENGTH]; /* of the files */
    double seconds;
    double interval; /* between looks */
    double grace;    /* for the others' files */

    struct signs signs;
    double still;   /* seconds without a move */
    double looked;  /* when */
    double noticed; /* when this rank first saw that somebody is stuck; 0: nobody is */

    pthread_t thread;
    bool started;
    bool stopping;
    pthread_mutex_t mutex; /* of stopping */
    pthread_cond_t wake;
};

/* -- The folder -- */

static void clean(const char *folder)
{
    char path[2 * PATH_LENGTH];
    DIR *entries = opendir(folder);
    const struct dirent *entry;
    while (entries && (entry = readdir(entries)))
        if (entry->d_name[0] != '.' && snprintf(path, sizeof path, "%s/%s", folder, entry->d_name) < (int)sizeof path)
            unlink(path);
    if (entries)
        closedir(entries);
    rmdir(folder);
}

/* Under another name first, so that no other rank writes into what is half removed. */
static void remove_folder(const char *folder)
{
    char gone[PATH_LENGTH + 16];
    snprintf(gone, sizeof gone, "%s.over", folder);
    clean(gone);
    if (rename(folder, gone) == 0)
        clean(gone);
}

/* -- Judgement -- */

static bool moved(struct watchdog *watchdog)
{
    const struct location_mark *location = &watchdog->context->location;
    struct signs now = {.events = mesh_event_count(watchdog->mesh),
                        .where = location_where(location),
                        .position = location_position(location),
                        .touches = atomic_load_explicit(&location->touches, memory_order_relaxed)};
    struct signs before = watchdog->signs;
    watchdog->signs = now;
    return now.events != before.events || now.where != before.where || now.position != before.position ||
           now.touches != before.touches;
}

/* Whether it is this rank's turn to judge: the lowest that wrote has the first, and should it fail the next one. */
static bool is_turn(const struct watchdog *watchdog, double waited)
{
    char path[PATH_LENGTH + 32];
    double turn = watchdog->grace;
    for (int rank = 0; rank < watchdog->rank && turn <= waited; rank++)
        if (access(hang_path(watchdog->folder, rank, path, sizeof path), F_OK) == 0)
            turn += watchdog->grace;
    return turn <= waited;
}

static void end_job(const struct watchdog *watchdog, const char *text)
{
    fprintf(stderr, "\ncairn: hang: nothing has moved for %.0f s: %s%s has the last communications of every rank\n",
            watchdog->still, text, watchdog->folder);
    fflush(stderr);
    team_abort(WATCHDOG_STATUS);
}

/* Reads what all ranks wrote. True if one has moved since this rank noticed, or waits for its disk: `moving`. */
static bool read_states(const struct watchdog *watchdog, double waited, struct hang_state *states, int *moving)
{
    *moving = -1;
    for (int rank = 0; rank < watchdog->hosts->ranks; rank++)
        if (hang_read(watchdog->folder, rank, &states[rank]) &&
            (states[rank].still < waited ||
             (states[rank].files && states[rank].still < FILES_PATIENCE * watchdog->seconds)))
            *moving = rank;
    return *moving >= 0;
}

static void judge(const struct watchdog *watchdog, double waited)
{
    struct context own; /* the other thread's is not for this one */
    char text[TEXT_LENGTH_MOST] = "";
    size_t ranks = (size_t)watchdog->hosts->ranks;
    int moving;
    context_create(&own);
    struct hang_state *states = memory_allocate(&own, ranks * sizeof *states, MEMORY_OTHER);
    bool *culprits = memory_allocate(&own, 3 * ranks * sizeof *culprits, MEMORY_OTHER);
    if (!states || !culprits) {
        end_job(watchdog, "there is no memory to find out more; ");
        return;
    }
    bool at_work = read_states(watchdog, waited, states, &moving);
    if (access(hang_path(watchdog->folder, watchdog->rank, text, sizeof text), F_OK) != 0) {
        /* Another rank has judged meanwhile, and what was read is not all. */
    } else if (at_work) {
        fprintf(stderr, "cairn: some ranks have waited for more than %.0f s; rank %d on host %s is still %s\n",
                watchdog->seconds, moving, watchdog->hosts->name[moving],
                states[moving].files ? "waiting for its disk" : "at work");
        remove_folder(watchdog->folder);
    } else {
        const struct hang hang = {.mesh = mesh_config(watchdog->mesh), .hosts = watchdog->hosts, .states = states};
        text[0] = '\0';
        hang_culprits(&hang, culprits);
        hang_describe(&hang, culprits, culprits + ranks, text, sizeof text);
        end_job(watchdog, text);
    }
    memory_free(&own, culprits);
    memory_free(&own, states);
}

/* Writes what this rank knows. */
static bool tell(const struct watchdog *watchdog)
{
    struct hang_state state;
    hang_observe(watchdog->context, watchdog->mesh, &state);
    state.still = watchdog->still;
    return hang_write(watchdog->folder, watchdog->rank, watchdog->hosts->name[watchdog->rank], &state);
}

static void look(struct watchdog *watchdog)
{
    double now = clock_seconds();
    /* A process that was stopped itself has not looked meanwhile. */
    watchdog->still += fmin(now - watchdog->looked, 2.0 * watchdog->interval);
    watchdog->looked = now;
    if (moved(watchdog))
        watchdog->still = 0.0;
    bool stuck = access(watchdog->folder, F_OK) == 0;
    double patience = watchdog->seconds * (location_in_files(&watchdog->context->location) ? FILES_PATIENCE : 1.0);
    if (!stuck && watchdog->noticed > 0.0) /* somebody found that it is not */
        watchdog->noticed = watchdog->still = 0.0;
    if (!stuck && watchdog->still < patience)
        return;
    bool told = (stuck || mkdir(watchdog->folder, 0777) == 0 || errno == EEXIST) && tell(watchdog);
    if (told && watchdog->noticed == 0.0)
        watchdog->noticed = now;
    if (told && is_turn(watchdog, now - watchdog->noticed))
        judge(watchdog, now - watchdog->noticed);
    /* Where nothing can be written nobody else will end the job. */
    if (!told && watchdog->still > 3.0 * (patience + watchdog->grace))
        end_job(watchdog, "no more can be told, since nothing can be written; ");
}

static void *watch(void *argument)
{
    struct watchdog *watchdog = argument;
    pthread_mutex_lock(&watchdog->mutex);
    while (!watchdog->stopping) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        double end = (double)until.tv_nsec * 1e-9 + watchdog->interval;
        until.tv_sec += (time_t)end;
        until.tv_nsec = (long)((end - floor(end)) * 1e9);
        if (pthread_cond_timedwait(&watchdog->wake, &watchdog->mutex, &until) != ETIMEDOUT)
            continue;
        pthread_mutex_unlock(&watchdog->mutex);
        look(watchdog);
        pthread_mutex_lock(&watchdog->mutex);
    }
    pthread_mutex_unlock(&watchdog->mutex);
    return NULL;
}

/* -- Creation and end -- */

/* Signals are for the thread that trains. */
static enum status start_thread(struct context *context, struct watchdog *watchdog)
{
    pthread_condattr_t attributes;
    sigset_t all;
    sigset_t before;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&watchdog->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&watchdog->mutex, NULL);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&watchdog->thread, NULL, watch, watchdog);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    watchdog->started = failed == 0;
    if (failed)
        return context_fail(context, STATUS_MEMORY, "no thread to watch over the run: %s; set watch.hang_seconds=0",
                            strerror(failed));
    return STATUS_OK;
}

static enum status create(struct context *context, struct mesh *mesh, const char *folder, struct watchdog *watchdog)
{
    watchdog->rank = mesh_rank(mesh, MESH_TEAM);
    int length = snprintf(watchdog->folder, sizeof watchdog->folder, "%s/hang", folder);
    if (length >= (int)sizeof watchdog->folder)
        return context_fail(context, STATUS_USAGE, "run.folder: the path is too long");
    if (watchdog->rank == 0)
        remove_folder(watchdog->folder);
    return STATUS_OK;
}

enum status watchdog_start(struct context *context, struct mesh *mesh, const struct hosts *hosts, const char *folder,
                           double seconds, struct watchdog **watchdog)
{
    struct watchdog *w = memory_allocate(context, sizeof *w, MEMORY_OTHER);
    *watchdog = w;
    enum status status = STATUS_MEMORY;
    if (w) {
        w->context = context;
        w->mesh = mesh;
        w->hosts = hosts;
        w->seconds = seconds;
        w->interval = fmin(15.0, seconds / 20.0);
        w->grace = fmin(120.0, fmax(2.0, seconds / 5.0));
        w->looked = clock_seconds();
        status = create(context, mesh, folder, w);
    }
    CHECK(mesh_agree(mesh, context, status));
    return mesh_agree(mesh, context, seconds > 0.0 ? start_thread(context, w) : STATUS_OK);
}

void watchdog_stop(struct watchdog **watchdog)
{
    struct watchdog *w = *watchdog;
    if (!w)
        return;
    struct context *context = w->context;
    if (w->started) {
        pthread_mutex_lock(&w->mutex);
        w->stopping = true;
        pthread_cond_signal(&w->wake);
        pthread_mutex_unlock(&w->mutex);
        pthread_join(w->thread, NULL);
        if (w->noticed > 0.0) /* in vain: the run has come to its end */
            remove_folder(w->folder);
    }
    memory_free(context, w);
    *watchdog = NULL;
}
