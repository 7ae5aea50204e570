/* When a run saves and when it has to end: the time limit of its job, and checkpoints as often as they pay. Knows
 * nothing of ranks, files and clocks: times are handed in, in seconds of one clock that never runs backwards. The
 * first rank asks it, and its answers travel with the votes.
 *
 * A step, an evaluation or a write is expected to take as long as the slow ones of late (the longest but one in twenty
 * of the last 64), not as long as their mean. */
#ifndef CAIRN_TRAIN_TIMEKEEPER_H
#define CAIRN_TRAIN_TIMEKEEPER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum timekeeper_part {
    TIMEKEEPER_STEP,       /* with everything between it and the next but evaluations and checkpoints */
    TIMEKEEPER_EVALUATION, /* during training */
    TIMEKEEPER_HOLD,       /* how long a checkpoint holds the training up */
    TIMEKEEPER_WRITE, /* how long it takes until the file is there; the same unless it is written in the background */
    TIMEKEEPER_PARTS,
};

enum { TIMEKEEPER_SAMPLES = 64 };

struct timekeeper_samples {
    double seconds[TIMEKEEPER_SAMPLES]; /* a ring */
    int64_t count;                      /* ever */
};

/* How the run has fared in its starts so far. */
struct timekeeper_history {
    double seconds;       /* that it ran */
    int64_t failures;     /* ends that lost what came after the last checkpoint */
    double write_seconds; /* of a checkpoint, the last time; 0 if it was never seen */
};

struct timekeeper {
    double begin;       /* of the program */
    double end;         /* of the job; infinity when it has none */
    double margin;      /* seconds to spare at the end */
    bool chooses;       /* when to save */
    double prior_mean;  /* seconds between failures that are expected before any is seen */
    double prior_write; /* seconds of a write before there was one */
    double saved;       /* when training went on behind the last checkpoint, or began */
    bool tried;         /* to save, in this start */
    struct timekeeper_history history;
    struct timekeeper_samples parts[TIMEKEEPER_PARTS];
    double told_interval; /* what was last said; 0: nothing yet */
    double told_steps;    /* that fit into the job, all its steps together */
};

/* -- What it is told -- */

/* end: of the job, infinity for none. mean_hours: between failures, expected. bytes: of a checkpoint. */
void timekeeper_create(struct timekeeper *timekeeper, double begin, double end, double mean_hours, int64_t bytes,
                       const struct timekeeper_history *history);

void timekeeper_learn(struct timekeeper *timekeeper, enum timekeeper_part part, double seconds);

/* A checkpoint was tried, and training goes on at `now`. One that failed is tried again an interval later. */
void timekeeper_saved(struct timekeeper *timekeeper, double now);

/* -- What it answers -- */

/* Seconds that a part is expected to take; 0 for one that was never seen, but for writes. */
double timekeeper_expect(const struct timekeeper *timekeeper, enum timekeeper_part part);

/* What comes between the step or batch that is nearly done and the next. */
struct timekeeper_outlook {
    bool evaluates;
    bool saves;
    bool writing; /* a checkpoint is on its way, behind the training: a stop waits for it, and writes its own */
};

/* Whether all has to end with the step or batch that is nearly done at `now`, because what comes next, one step more
 * and the write at the end would not fit. */
bool timekeeper_must_stop(const struct timekeeper *timekeeper, double now, const struct timekeeper_outlook *outlook);

/* Whether the step that is nearly done at `now` is the one to save: nearest to the interval behind the last; the
 * first of a start comes within a minute, and early in a job with a limit, to learn what a write takes. Always false
 * when it does not choose. */
bool timekeeper_must_save(const struct timekeeper *timekeeper, double now);

/* Mean time between failures in seconds: what was observed, with the expectation weighing as much as one failure
 * ((prior + observed seconds) / (1 + failures), the mean of a Gamma-distributed rate's inverse scale). */
double timekeeper_mean_between_failures(const struct timekeeper *timekeeper, double now);

/* Seconds of training between checkpoints. */
double timekeeper_interval(const struct timekeeper *timekeeper, double now);

/* Whether there is something new to say of what will matter in the `steps` to go (a first time, or a change by a
 * quarter): then writes a line for the log. `size` of 300 is enough. */
bool timekeeper_describe(struct timekeeper *timekeeper, double now, int64_t steps, char *text, size_t size);

/* -- The numbers -- */

/* The interval that wastes least: seconds of training between two checkpoints that each hold it up by `hold`, with a
 * failure every `mean` seconds. J. W. Young, CACM 17 (1974) 530: sqrt(2 hold mean); with the terms of higher order of
 * J. T. Daly, Future Generation Computer Systems 22 (2006) 303, equation 37:
 * sqrt(2 hold mean) (1 + sqrt(hold / 2 mean) / 3 + hold / 2 mean / 9) - hold, and mean for hold >= 2 mean. */
double timekeeper_daly(double hold, double mean);

#endif
