/* The threads that OpenMP really gives. */
#ifndef CAIRN_OPS_THREADS_H
#define CAIRN_OPS_THREADS_H

/* Of the threads that are `wanted` (at least 1), those that parallel regions begun by this thread have from now on: all
 * of them, unless OMP_THREAD_LIMIT or the system's limits of processes allow fewer. OMP_DYNAMIC and
 * OMP_MAX_ACTIVE_LEVELS=0, which would let regions have fewer than they ask for, are overridden. */
int threads_granted(int wanted);

#endif
