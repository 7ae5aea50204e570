/* Time in seconds since an arbitrary start, which never runs backwards; and what a process spends it on. */
#ifndef CAIRN_CORE_CLOCK_H
#define CAIRN_CORE_CLOCK_H

#include <time.h>

static inline double clock_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Processor time of all threads of this process: what others do on the machine does not change it much. */
static inline double clock_process_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

enum time_kind {
    TIME_OTHER,
    TIME_PRODUCTS, /* of matrices */
    TIME_ATTENTION,
    TIME_COMPUTE,       /* the other operations */
    TIME_COMMUNICATION, /* in calls of MPI: nothing is computed meanwhile */
    TIME_OPTIMIZER,
    TIME_KINDS,
};

/* Every moment belongs to the kind entered last, so the seconds add up to the time that went by. For the thread that
 * runs the step; not inside parallel regions. */
struct time_account {
    double seconds[TIME_KINDS];
    double flops[TIME_KINDS];    /* executed floating-point operations */
    double elements[TIME_KINDS]; /* that operations worked on, as they count them to divide them among threads; counted
                                    in dry runs only */
    double waiting;              /* of TIME_COMMUNICATION: for the neighbouring stages of a pipeline */
    double since;
    enum time_kind kind;
};

/* Returns the kind to go back to with time_leave. */
static inline enum time_kind time_enter(struct time_account *account, enum time_kind kind)
{
    enum time_kind before = account->kind;
    double now = clock_seconds();
    account->seconds[before] += now - account->since;
    account->since = now;
    account->kind = kind;
    return before;
}

static inline double time_flops(const struct time_account *account)
{
    double sum = 0.0;
    for (int kind = 0; kind < TIME_KINDS; kind++)
        sum += account->flops[kind];
    return sum;
}

static inline void time_leave(struct time_account *account, enum time_kind before)
{
    (void)time_enter(account, before);
}

#endif
