/* Things that are not cut, dealt by cost. */
#ifndef CAIRN_CORE_DEAL_H
#define CAIRN_CORE_DEAL_H

#include <stdbool.h>

/* Each thing, the dearest first, to the part that has the least so far, the first of several: part[count] of `parts`.
 * No part then has more than 4/3 of what the best deal would give to one (Graham 1969). load [parts] becomes what each
 * has. The same on all ranks for the same costs, none of which is negative. */
void deal_by_cost(const double *cost, int count, int parts, int *part, double *load);

/* Each part goes through what it was dealt, in order: now[parts] is the next thing of each, -1 of one that is through;
 * false when all are. next [parts] begins with zeros. */
bool deal_next(const int *part, int count, int parts, int *next, int *now);

#endif
