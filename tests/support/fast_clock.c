/* A library to be loaded before the system's (LD_PRELOAD): to the program itself, though not to the libraries that it
 * uses, the monotonic clock runs $FAST_CLOCK times as fast, or a billion times, so that all it does takes long. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { NANOSECONDS = 1000000000 };

static int is_program(const void *caller)
{
    Dl_info info;
    const char *name = dladdr(caller, &info) && info.dli_fname ? strrchr(info.dli_fname, '/') : NULL;
    return name && strcmp(name, "/cairn") == 0;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int (*call)(clockid_t, struct timespec *);
    *(void **)&call = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = call(clock, now);
    if (failed || clock != CLOCK_MONOTONIC || !is_program(__builtin_return_address(0)))
        return failed;
    const char *wanted = getenv("FAST_CLOCK");
    const long times = wanted ? atol(wanted) : NANOSECONDS;
    const long long nanoseconds = (long long)now->tv_nsec * times;
    now->tv_sec = now->tv_sec * times + (time_t)(nanoseconds / NANOSECONDS);
    now->tv_nsec = (long)(nanoseconds % NANOSECONDS);
    return 0;
}
