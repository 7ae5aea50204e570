/* Arithmetic of the decoder's numbers for the metrics. */
#ifndef CAIRN_MODEL_DECODER_SCALARS_H
#define CAIRN_MODEL_DECODER_SCALARS_H

#include <stdbool.h>

#include "src/core/integer.h"

enum { WATCH_BINS = 10 };

/* How many values lie in each tenth of [0, 1]; 1 is in the last, not-a-numbers in none. */
void watch_histogram(const double *values, int64_t count, double bins[WATCH_BINS]);

/* Whether there are gates and all lie within 0.45 to 0.55. */
bool watch_undecided(const double *gates, int64_t count);

/* (largest - mean) / mean of the tokens that end at each depth; taken [depths]: those that go at least as deep. 0
 * without tokens. (MaxVio of Mixture-of-Recursions, appendix F.) */
double watch_max_violation(const double *taken, int64_t depths);

#endif
