#define _GNU_SOURCE /* the masks of cores */
#include "src/core/affinity.h"

#include <dirent.h>
#include <sched.h>
#include <stdlib.h>

void affinity_widen(void)
{
    cpu_set_t all;
    cpu_set_t one;
    const struct dirent *entry;
    CPU_ZERO(&all);
    DIR *tasks = opendir("/proc/self/task");
    if (!tasks)
        return;
    while ((entry = readdir(tasks))) {
        pid_t task = (pid_t)atoi(entry->d_name);
        CPU_ZERO(&one);
        if (task > 0 && sched_getaffinity(task, sizeof one, &one) == 0)
            CPU_OR(&all, &all, &one);
    }
    closedir(tasks);
    (void)sched_setaffinity(0, sizeof all, &all);
}
