/* What a measurement of training steps found, for src/bench/step*.c. Times in seconds, memory in bytes. */
#ifndef CAIRN_BENCH_STEP_PRIVATE_H
#define CAIRN_BENCH_STEP_PRIVATE_H

#include "src/bench/bench.h"
#include "src/core/clock.h"

struct step_sample {
    double seconds;
    double processor; /* time of this rank's threads */
    double part[TIME_KINDS];
    double waiting;  /* for other stages, of communication */
    double executed; /* FLOPs of this rank */
    double loss;
};

struct step_report {
    const struct config *config;
    const struct mesh *mesh;
    const struct engine *engine;
    const struct bench_options *options;
    int64_t parameters;
    int64_t tokens;     /* of a step */
    double seconds;     /* the median */
    double least, most; /* of all measured steps */
    double high;        /* their 95th percentile */
    double processor;   /* time of the first rank's threads in a step, the least: others disturb it little */
    double loss;
    double useful_per_token;
    double executed;                /* FLOPs of a step, all ranks */
    const char *instruction;        /* of the peaks */
    double peak_before, peak_after; /* FLOP/s of all ranks */
    double part[TIME_KINDS];        /* of the first rank in the median step */
    double mean[TIME_KINDS];        /* of all ranks in it */
    double waiting;                 /* likewise */
    double bubble;                  /* the share of the time in which the schedule leaves stages idle */
    int nodes;
    char *hosts; /* "NAME*RANKS;NAME*RANKS" */
    int slowest; /* the rank that waits least for others */
    double slowest_part[TIME_KINDS];
    double memory[MEMORY_KINDS]; /* of the first rank, after the steps */
    double memory_peak;
    double resident_peak, resident_most; /* of the first rank, of any */
};

/* Fills `hosts` and `nodes`. Collective. */
enum status gather_hosts(struct context *context, struct mesh *mesh, struct step_report *report) MUST_USE;

void step_print(const struct step_report *report);
enum status step_print_json(struct context *context, const struct step_report *report) MUST_USE;

#endif
