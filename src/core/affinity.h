/* Which cores a thread may run on. */
#ifndef CAIRN_CORE_AFFINITY_H
#define CAIRN_CORE_AFFINITY_H

/* The calling thread may run wherever any thread of this process may, not only where the one that started it is
 * pinned: for threads that work beside those that compute. */
void affinity_widen(void);

#endif
