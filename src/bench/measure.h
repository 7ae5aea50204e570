/* What the measurements share: medians, the ceilings of the run, and how numbers are shown. */
#ifndef CAIRN_BENCH_MEASURE_H
#define CAIRN_BENCH_MEASURE_H

#include <jansson.h>

#include "src/bench/bench.h"

/* The median; sorts the values. */
double measure_median(double *values, int count);

/* The value below which a share of them lies, between two neighbours in proportion; sorts the values. */
double measure_quantile(double *values, int count, double share);

/* Ceilings of one rank while all ranks measure, see src/ops/peak.h; rates in FLOP/s and B/s. */
struct ceilings {
    const char *fp32_instruction;
    const char *bf16_instruction;
    double fp32, bf16, bandwidth;
};

/* On `threads` threads of each rank at once. Collective. */
enum status ceilings_measure(struct mesh *mesh, struct engine *engine, int threads, bool quick,
                             struct ceilings *ceilings) MUST_USE;

double ceilings_flops(const struct ceilings *ceilings, enum dtype dtype);

/* The higher of two looks at each. */
struct ceilings ceilings_best(const struct ceilings *a, const struct ceilings *b);

void ceilings_print(const char *label, const struct ceilings *ceilings);
json_t *ceilings_json(const struct ceilings *ceilings);

/* How the kinds of time are shown, in this order. */
struct time_row {
    const char *words;
    const char *key; /* in JSON */
    enum time_kind kind;
};
extern const struct time_row time_rows[TIME_KINDS];

json_t *time_json(const double part[TIME_KINDS]);

/* "12.3 us", "4.56 s": eleven characters at most. */
struct shown {
    char text[24];
};
struct shown show_seconds(double seconds);
struct shown show_bytes(double bytes);

/* Prints one object on standard output and frees it; MEMORY error when it could not be made. */
enum status print_json(struct context *context, json_t *object) MUST_USE;

#endif
