#include "src/ops/threads.h"

#include <omp.h>
#include <pthread.h>
#include <stdlib.h>

/* Threads that wait until all have been tried. */
struct trial {
    pthread_mutex_t lock;
    pthread_cond_t over;
    int ended;
};

static void *wait_for_end(void *self)
{
    struct trial *trial = self;
    pthread_mutex_lock(&trial->lock);
    while (!trial->ended)
        pthread_cond_wait(&trial->over, &trial->lock);
    pthread_mutex_unlock(&trial->lock);
    return NULL;
}

/* How many the system lets run beside this one, up to `wanted`: where it refuses one, OpenMP would end the process. */
static int threads_startable(int wanted)
{
    struct trial trial = {.lock = PTHREAD_MUTEX_INITIALIZER, .over = PTHREAD_COND_INITIALIZER};
    pthread_t *threads = malloc((size_t)wanted * sizeof *threads);
    int started = 0;
    while (threads && started < wanted && pthread_create(&threads[started], NULL, wait_for_end, &trial) == 0)
        started++;
    pthread_mutex_lock(&trial.lock);
    trial.ended = 1;
    pthread_cond_broadcast(&trial.over);
    pthread_mutex_unlock(&trial.lock);
    for (int i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    free(threads);
    return started;
}

int threads_granted(int wanted)
{
    int granted = wanted > 1 ? 1 + threads_startable(wanted - 1) : 1;
    omp_set_dynamic(0);
    if (omp_get_max_active_levels() < 1)
        omp_set_max_active_levels(1);
    omp_set_num_threads(granted);
#pragma omp parallel num_threads(granted)
#pragma omp single
    granted = omp_get_num_threads();
    omp_set_num_threads(granted);
    return granted;
}
