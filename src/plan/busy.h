/* Whether the machine did other work while it was measured, which makes measured times too long. */
#ifndef CAIRN_PLAN_BUSY_H
#define CAIRN_PLAN_BUSY_H

#include <stdbool.h>
#include <stddef.h>

/* Seconds of all cores together since the machine started; known is false where the system does not tell. */
struct busy_look {
    bool known;
    double all, used, stolen; /* used: by any process; stolen: by other guests of the same host */
    double own;               /* by this process */
};

struct busy {
    double load;           /* average of a minute when the measurements began; negative: unknown */
    double all;            /* seconds of all cores while there were measurements */
    double others, stolen; /* of them, by other processes and by other guests of the host */
    double spread;         /* of repeated steps of a probe, the quartiles' distance by the median; the most of any */
};

/* Reads /proc/stat, or a file like it. */
struct busy_look busy_look(const char *path);

/* The load average of the last minute; negative where there is none. */
double busy_load(void);

/* Adds what went by between two looks. */
void busy_add(struct busy *busy, const struct busy_look *before, const struct busy_look *after);

double busy_others_share(const struct busy *busy);
double busy_stolen_share(const struct busy *busy);

/* Whether that disturbs measurements: others take 5 % of the cores, or guests 2 %, or repeated steps differ by 15 %. */
bool busy_disturbs(const struct busy *busy);

/* What there was, for people: "other processes took 40 % of its cores ...". */
void busy_describe(const struct busy *busy, char *text, size_t size);

#endif
