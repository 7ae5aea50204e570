#include "io/lock/lock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "io/lock/owner.h"

enum { PATH_LENGTH = 1024 };
/* A lock that was taken over is looked at once more after this: of several who do so at once the last one has it. */
#define SETTLE_SECONDS 0.3
#define LOOK_SECONDS 0.1

struct lock {
    struct context *context;
    struct lock_tuning tuning;
    struct owner self;
    char path[PATH_LENGTH];
    char own[PATH_LENGTH + 160]; /* the name that the file is made under */
    int file;                    /* open, so that its number is not used for another file */
    bool held;
    atomic_bool lost;

    pthread_t thread;
    bool started;
    bool stopping; /* under the mutex */
    pthread_mutex_t mutex;
    pthread_cond_t wake;
};

/* -- The file -- */

/* What the file at the path is now. */
struct look {
    bool there;
    struct stat entry;
    struct owner owner;
};

/* Opening the file makes a network file system ask its server. */
static void look_at(const char *path, struct look *look)
{
    char text[OWNER_TEXT];
    *look = (struct look){.there = false};
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return;
    look->there = fstat(file, &look->entry) == 0;
    ssize_t length = read(file, text, sizeof text);
    owner_read(text, length > 0 ? (size_t)length : 0, &look->owner);
    close(file);
}

/* Whether the path leads to this process's file. */
static bool is_own(const struct lock *lock, const char *path)
{
    struct stat there;
    struct stat own;
    return lock->file >= 0 && stat(path, &there) == 0 && fstat(lock->file, &own) == 0 && there.st_dev == own.st_dev &&
           there.st_ino == own.st_ino;
}

/* A disk that is full has room for a name, mostly; whoever finds an empty file goes by its signs of life. */
static void write_owner(const struct lock *lock)
{
    char text[OWNER_TEXT];
    size_t length = owner_write(&lock->self, text);
    if (write(lock->file, text, length) != (ssize_t)length && ftruncate(lock->file, 0) != 0)
        return;
    (void)fsync(lock->file);
}

static bool create(struct lock *lock, const char *path)
{
    int file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (file < 0)
        return false;
    if (lock->file >= 0)
        close(lock->file);
    lock->file = file;
    write_owner(lock);
    return true;
}

/* Whether the name was free. An answer of the server that was lost makes link fail though it was done. */
static bool claim(struct lock *lock)
{
    struct stat entry;
    if (link(lock->own, lock->path) == 0)
        return true;
    int code = errno;
    if (fstat(lock->file, &entry) == 0 && entry.st_nlink == 2)
        return true;
    if (code == EEXIST)
        return false;
    /* File systems without links. */
    return create(lock, lock->path);
}

/* -- Waiting for an owner -- */

static void sleep_seconds(double seconds)
{
    struct timespec time = {.tv_sec = (time_t)seconds, .tv_nsec = (long)(1e9 * (seconds - floor(seconds)))};
    nanosleep(&time, NULL);
}

static bool touched(const struct look *before, const struct look *now)
{
    return before->entry.st_mtim.tv_sec != now->entry.st_mtim.tv_sec ||
           before->entry.st_mtim.tv_nsec != now->entry.st_mtim.tv_nsec;
}

/* Watches the owner of the file until it is clear what it is; *last is the last look. */
static enum owner_state watch_owner(const struct lock *lock, struct look *last)
{
    enum { SIGNS = 2 }; /* of lifecycle: one may be the last */
    double began = clock_seconds();
    double sign = began;
    int signs = 0;
    look_at(lock->path, last);
    for (bool told = false;;) {
        double now = clock_seconds();
        enum owner_state state = last->there ? owner_ask(&last->owner, &lock->self) : OWNER_DEAD;
        if (state == OWNER_DEAD || (state == OWNER_LIVES && now - began >= lock->tuning.patience))
            return state;
        if (state == OWNER_UNKNOWN && signs >= SIGNS)
            return OWNER_LIVES;
        if (state == OWNER_UNKNOWN && now - sign >= lock->tuning.silent)
            return OWNER_DEAD;
        if (!told && now - began > 1.0) {
            char owner[OWNER_TEXT];
            owner_describe(&last->owner, owner, sizeof owner);
            context_log(lock->context, "%s belongs to %s: waiting to see whether it still runs", lock->path, owner);
            told = true;
        }
        sleep_seconds(LOOK_SECONDS);
        struct look next;
        look_at(lock->path, &next);
        bool other = next.there && (next.entry.st_ino != last->entry.st_ino || !owner_same(&next.owner, &last->owner));
        if (other) { /* somebody else was faster */
            began = sign = clock_seconds();
            signs = 0;
        } else if (next.there && touched(last, &next)) {
            sign = clock_seconds();
            signs++;
        }
        *last = next;
    }
}

static enum status refuse(const struct lock *lock, const struct look *look)
{
    char owner[OWNER_TEXT];
    owner_describe(&look->owner, owner, sizeof owner);
    return context_fail(lock->context, STATUS_USAGE,
                        "run.folder: another job writes into this folder: %s belongs to %s; wait for its end, end it, "
                        "or choose another run.folder",
                        lock->path, owner);
}

/* Puts this process's file in the place of a dead owner's, unless somebody else was faster. */
static bool take_over(struct lock *lock, const struct look *dead)
{
    struct look now;
    char owner[OWNER_TEXT];
    look_at(lock->path, &now);
    if (!now.there)
        return claim(lock);
    if (!owner_same(&now.owner, &dead->owner) || touched(dead, &now) || rename(lock->own, lock->path) != 0)
        return false;
    sleep_seconds(SETTLE_SECONDS);
    if (!is_own(lock, lock->path))
        return false;
    owner_describe(&dead->owner, owner, sizeof owner);
    context_log(lock->context, "took over %s, which %s left behind", lock->path, owner);
    return true;
}

static bool no_room(int code)
{
    return code == ENOSPC || code == EDQUOT || code == EIO;
}

/* The file under its first name; one that is there already was left by a process of the same number. */
static enum status prepare(struct lock *lock, bool *room)
{
    *room = true;
    if (is_own(lock, lock->own))
        return STATUS_OK;
    unlink(lock->own);
    if (create(lock, lock->own))
        return STATUS_OK;
    *room = !no_room(errno);
    if (*room)
        return context_fail(lock->context, STATUS_FILE, "%s: cannot be created: %s", lock->own, strerror(errno));
    context_log(lock->context, "%s: cannot be created: %s; another job in this folder would not be noticed", lock->path,
                strerror(errno));
    return STATUS_OK;
}

static enum status acquire(struct lock *lock)
{
    while (!lock->held) {
        struct look look;
        bool room;
        CHECK(prepare(lock, &room));
        if (!room)
            return STATUS_OK;
        lock->held = claim(lock);
        if (lock->held)
            break;
        if (watch_owner(lock, &look) == OWNER_LIVES)
            return refuse(lock, &look);
        lock->held = take_over(lock, &look);
    }
    return STATUS_OK;
}

/* What processes left that ended while they waited for the folder. One that still waits makes its file again. */
static void remove_leftovers(const struct lock *lock, const char *folder)
{
    const struct dirent *entry;
    DIR *stream = opendir(folder);
    while (stream && (entry = readdir(stream))) {
        char path[PATH_LENGTH + 300];
        struct look look;
        if (strncmp(entry->d_name, ".lock.", 6) != 0)
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        look_at(path, &look);
        bool silent = look.there && difftime(time(NULL), look.entry.st_mtim.tv_sec) > lock->tuning.silent;
        if (look.there && !is_own(lock, path) && (silent || owner_ask(&look.owner, &lock->self) == OWNER_DEAD))
            (void)unlink(path);
    }
    if (stream)
        closedir(stream);
}

/* -- Signs of life -- */

static void give_sign(struct lock *lock)
{
    struct stat entry;
    if (is_own(lock, lock->path)) {
        (void)futimens(lock->file, NULL);
        return;
    }
    /* A file or a folder that is gone was removed by hand: it is made again when that can be done. */
    if (stat(lock->path, &entry) != 0 && errno != ENOENT)
        return;
    if (!create(lock, lock->path) && errno == EEXIST)
        atomic_store(&lock->lost, true);
}

static void *live(void *argument)
{
    struct lock *lock = argument;
    pthread_mutex_lock(&lock->mutex);
    while (!lock->stopping) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        double end = (double)until.tv_nsec * 1e-9 + lock->tuning.beat;
        until.tv_sec += (time_t)end;
        until.tv_nsec = (long)((end - floor(end)) * 1e9);
        if (pthread_cond_timedwait(&lock->wake, &lock->mutex, &until) != ETIMEDOUT)
            continue;
        pthread_mutex_unlock(&lock->mutex);
        if (!atomic_load(&lock->lost))
            give_sign(lock);
        pthread_mutex_lock(&lock->mutex);
    }
    pthread_mutex_unlock(&lock->mutex);
    return NULL;
}

/* Signals are for the thread that trains. */
static enum status start_thread(struct lock *lock)
{
    pthread_condattr_t attributes;
    sigset_t all;
    sigset_t before;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&lock->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&lock->mutex, NULL);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&lock->thread, NULL, live, lock);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    lock->started = failed == 0;
    if (failed)
        return context_fail(lock->context, STATUS_MEMORY, "no thread to keep %s: %s", lock->path, strerror(failed));
    return STATUS_OK;
}

/* -- Creation and end -- */

enum status lock_take_tuned(struct context *context, const char *folder, const struct lock_tuning *tuning,
                            struct lock **lock)
{
    struct lock *made = memory_allocate(context, sizeof *made, MEMORY_OTHER);
    *lock = made;
    if (!made)
        return STATUS_MEMORY;
    made->context = context;
    made->tuning = *tuning;
    made->file = -1;
    atomic_init(&made->lost, false);
    owner_self(&made->self);
    int length = snprintf(made->path, sizeof made->path, "%s/lock", folder);
    snprintf(made->own, sizeof made->own, "%s/.lock.%s.%lld", folder, made->self.host, (long long)made->self.pid);
    enum status status = STATUS_OK;
    if (length >= (int)sizeof made->path)
        status = context_fail(context, STATUS_USAGE, "run.folder: the path is too long");
    if (status == STATUS_OK)
        status = acquire(made);
    if (made->file >= 0)
        unlink(made->own);
    if (status == STATUS_OK && made->held) {
        remove_leftovers(made, folder);
        status = start_thread(made);
    }
    if (status != STATUS_OK || !made->held)
        lock_release(lock);
    return status;
}

enum status lock_take(struct context *context, const char *folder, struct lock **lock)
{
    const struct lock_tuning tuning = {.beat = 10.0, .silent = 45.0, .patience = 3.0};
    return lock_take_tuned(context, folder, &tuning, lock);
}

bool lock_lost(const struct lock *lock)
{
    return lock && atomic_load(&lock->lost);
}

enum status lock_check(struct context *context, const struct lock *lock)
{
    struct look look;
    char owner[OWNER_TEXT];
    if (!lock_lost(lock))
        return STATUS_OK;
    look_at(lock->path, &look);
    owner_describe(&look.owner, owner, sizeof owner);
    return context_fail(context, STATUS_FILE,
                        "run.folder: this job was taken for dead, and %s now belongs to %s; it ends without saving, so "
                        "that two do not write into one folder",
                        lock->path, owner);
}

void lock_release(struct lock **lock)
{
    struct lock *released = *lock;
    if (!released)
        return;
    if (released->started) {
        pthread_mutex_lock(&released->mutex);
        released->stopping = true;
        pthread_cond_signal(&released->wake);
        pthread_mutex_unlock(&released->mutex);
        pthread_join(released->thread, NULL);
        pthread_cond_destroy(&released->wake);
        pthread_mutex_destroy(&released->mutex);
    }
    if (released->held && is_own(released, released->path))
        unlink(released->path);
    if (released->file >= 0)
        close(released->file);
    memory_free(released->context, released);
    *lock = NULL;
}
