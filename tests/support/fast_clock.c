/* A library to be loaded before the system's (LD_PRELOAD): to the program itself, though not to the libraries that it
 * uses, the monotonic clock runs a billion times as fast, so that all it does takes long. */
#define _GNU_SOURCE
#include <dlfcn.h>
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
    now->tv_sec = now->tv_sec * NANOSECONDS + now->tv_nsec;
    now->tv_nsec = 0;
    return 0;
}
