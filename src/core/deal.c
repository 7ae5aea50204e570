#include "src/core/deal.h"

/* The dearest that is not dealt yet; -1 if all are. */
static int find_next(const double *cost, int count, const int *part)
{
    int next = -1;
    for (int i = 0; i < count; i++)
        if (part[i] < 0 && (next < 0 || cost[i] > cost[next]))
            next = i;
    return next;
}

void deal_by_cost(const double *cost, int count, int parts, int *part, double *load)
{
    for (int i = 0; i < count; i++)
        part[i] = -1;
    for (int p = 0; p < parts; p++)
        load[p] = 0.0;
    for (int i = find_next(cost, count, part); i >= 0; i = find_next(cost, count, part)) {
        int least = 0;
        for (int p = 1; p < parts; p++)
            if (load[p] < load[least])
                least = p;
        part[i] = least;
        load[least] += cost[i];
    }
}

bool deal_next(const int *part, int count, int parts, int *next, int *now)
{
    bool any = false;
    for (int p = 0; p < parts; p++) {
        while (next[p] < count && part[next[p]] != p)
            next[p]++;
        now[p] = next[p] < count ? next[p]++ : -1;
        any = any || now[p] >= 0;
    }
    return any;
}
