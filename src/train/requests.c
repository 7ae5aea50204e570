#include "src/train/requests.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PATH_LENGTH = 768, REASON_LENGTH = 800 };

/* A file in the run's folder that asks for something as long as it is there. */
struct request_file {
    char path[PATH_LENGTH]; /* empty: not looked for */
    bool old;               /* it was there before the program */
    bool seen;
    bool stays; /* it cannot be removed, so it must not be obeyed again and again */
};

struct requests {
    struct context *context;
    pthread_t listener;
    bool listens;
    bool first_rank;
    atomic_int signal;   /* the first that came; 0: none */
    atomic_bool resumed; /* CONT came */
    struct request_file files[VOTES];
    double looked; /* when */
    char reason[REASON_LENGTH];
};

/* -- Signals -- */

static sigset_t signal_set(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGCONT);
    return set;
}

void requests_hold_signals(void)
{
    sigset_t set = signal_set();
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

/* A thread that waits takes even what comes while the others are inside MPI or a long product. Once it lets the signals
 * through, the next one ends the process whichever thread the rest of it is in. */
static void *listen_for_signals(void *self)
{
    struct requests *requests = self;
    sigset_t set = signal_set();
    int first;
    do {
        first = sigwaitinfo(&set, NULL);
        if (first == SIGCONT)
            atomic_store(&requests->resumed, true);
    } while (first < 0 || first == SIGCONT);
    atomic_store(&requests->signal, first);
    struct timespec wait = {.tv_sec = 1};
    double end = clock_seconds() + 1.0;
    while (clock_seconds() < end)
        sigtimedwait(&set, NULL, &wait);
    sigdelset(&set, SIGCONT);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    for (;;)
        pause();
    return NULL;
}

static const char *signal_word(int number)
{
    return number == SIGUSR1 ? "USR1" : number == SIGUSR2 ? "USR2" : "TERM";
}

/* -- Creation and end -- */

enum status requests_create(struct context *context, const char *folder, struct requests **requests)
{
    struct requests *made = memory_allocate(context, sizeof *made, MEMORY_OTHER);
    *requests = made;
    if (!made)
        return STATUS_MEMORY;
    made->context = context;
    made->looked = -1.0;
    atomic_init(&made->signal, 0);
    atomic_init(&made->resumed, false);
    made->first_rank = folder != NULL;
    if (folder) {
        snprintf(made->files[VOTE_STOP].path, PATH_LENGTH, "%s/stop", folder);
        snprintf(made->files[VOTE_SAVE].path, PATH_LENGTH, "%s/save", folder);
    }
    for (int vote = 0; vote < VOTES; vote++)
        made->files[vote].old = made->files[vote].path[0] && access(made->files[vote].path, F_OK) == 0;
    /* A launcher may have left them ignored, and then a second one would do nothing. */
    signal(SIGUSR1, SIG_DFL);
    signal(SIGUSR2, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    int code = pthread_create(&made->listener, NULL, listen_for_signals, made);
    if (code != 0)
        return context_fail(context, STATUS_INTERNAL, "no thread to listen to signals: %s", strerror(code));
    made->listens = true;
    return STATUS_OK;
}

void requests_destroy(struct context *context, struct requests **requests)
{
    struct requests *ended = *requests;
    if (!ended)
        return;
    if (ended->listens) {
        pthread_cancel(ended->listener);
        pthread_join(ended->listener, NULL);
    }
    memory_free(context, ended);
    *requests = NULL;
}

void requests_drop_old(struct requests *requests)
{
    for (int vote = 0; vote < VOTES; vote++) {
        struct request_file *file = &requests->files[vote];
        bool old = file->old && access(file->path, F_OK) == 0;
        file->old = false;
        if (!old)
            continue;
        file->stays = unlink(file->path) != 0;
        context_log(requests->context, "%s: was there before this start, so it is not obeyed%s", file->path,
                    file->stays ? "; it cannot be removed" : ", but removed");
    }
}

/* -- Votes -- */

static void look_for_files(struct requests *requests)
{
    double now = clock_seconds();
    if (requests->looked >= 0.0 && now < requests->looked + 1.0)
        return;
    requests->looked = now;
    for (int vote = 0; vote < VOTES; vote++) {
        struct request_file *file = &requests->files[vote];
        if (file->path[0] && !file->stays)
            file->seen = file->seen || access(file->path, F_OK) == 0;
    }
}

void requests_cast(struct requests *requests, double votes[VOTES])
{
    look_for_files(requests);
    int first = atomic_load(&requests->signal);
    if (first)
        votes[VOTE_STOP] += 1.0;
    if (first && !requests->reason[0])
        snprintf(requests->reason, REASON_LENGTH, "%s", signal_word(first));
    if (requests->first_rank && atomic_exchange(&requests->resumed, false)) {
        context_log(requests->context, "got CONT, which mpirun sends before it ends its ranks: saving this step");
        votes[VOTE_SAVE] += 1.0;
    }
    for (int vote = 0; vote < VOTES; vote++)
        if (requests->files[vote].seen)
            votes[vote] += 1.0;
    if (requests->files[VOTE_STOP].seen && !requests->reason[0])
        snprintf(requests->reason, REASON_LENGTH, "the file %s", requests->files[VOTE_STOP].path);
}

const char *requests_reason(const struct requests *requests)
{
    return requests->reason[0] ? requests->reason : NULL;
}

void requests_obeyed(struct requests *requests, enum vote vote)
{
    struct request_file *file = &requests->files[vote];
    if (!file->seen)
        return;
    file->seen = false;
    if (unlink(file->path) != 0 && errno != ENOENT) {
        file->stays = true;
        context_log(requests->context, "%s: cannot be removed: %s; it is not looked at again", file->path,
                    strerror(errno));
    }
}
