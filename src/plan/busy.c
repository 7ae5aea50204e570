#include "src/plan/busy.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "src/core/clock.h"

static const double others_most = 0.05;
static const double stolen_most = 0.02;
static const double spread_most = 0.15;

struct busy_look busy_look(const char *path)
{
    enum { USER, NICE, SYSTEM, IDLE, IOWAIT, IRQ, SOFTIRQ, STOLEN, KINDS };
    struct busy_look look = {.own = clock_process_seconds()};
    double ticks[KINDS] = {0.0};
    FILE *file = fopen(path, "r");
    int kinds = file ? fscanf(file, "cpu %lf %lf %lf %lf %lf %lf %lf %lf", &ticks[USER], &ticks[NICE], &ticks[SYSTEM],
                              &ticks[IDLE], &ticks[IOWAIT], &ticks[IRQ], &ticks[SOFTIRQ], &ticks[STOLEN])
                     : 0;
    if (file)
        fclose(file);
    double second = (double)sysconf(_SC_CLK_TCK);
    look.known = kinds == KINDS && second > 0.0;
    if (!look.known)
        return look;
    for (int kind = 0; kind < KINDS; kind++)
        look.all += ticks[kind] / second;
    look.stolen = ticks[STOLEN] / second;
    look.used = look.all - (ticks[IDLE] + ticks[IOWAIT] + ticks[STOLEN]) / second;
    return look;
}

double busy_load(void)
{
    double load;
    return getloadavg(&load, 1) == 1 ? load : -1.0;
}

void busy_add(struct busy *busy, const struct busy_look *before, const struct busy_look *after)
{
    if (!before->known || !after->known)
        return;
    double others = after->used - before->used - (after->own - before->own);
    busy->all += after->all - before->all;
    busy->others += others > 0.0 ? others : 0.0;
    busy->stolen += after->stolen - before->stolen;
}

double busy_others_share(const struct busy *busy)
{
    return busy->all > 0.0 ? busy->others / busy->all : 0.0;
}

double busy_stolen_share(const struct busy *busy)
{
    return busy->all > 0.0 ? busy->stolen / busy->all : 0.0;
}

bool busy_disturbs(const struct busy *busy)
{
    return busy_others_share(busy) > others_most || busy_stolen_share(busy) > stolen_most || busy->spread > spread_most;
}

void busy_describe(const struct busy *busy, char *text, size_t size)
{
    char load[48] = "";
    if (busy->load >= 0.0)
        snprintf(load, sizeof load, "the load average was %.1f, ", busy->load);
    snprintf(
        text, size,
        "%sother processes took %.0f %% of its cores, other guests of its host %.0f %%, and repeated steps differed "
        "by up to %.0f %%",
        load, 100.0 * busy_others_share(busy), 100.0 * busy_stolen_share(busy), 100.0 * busy->spread);
}
