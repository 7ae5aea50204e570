/* The exponential moving average of the parameters that learn, which evaluation uses in their place. */
#ifndef CAIRN_OPTIM_AVERAGE_H
#define CAIRN_OPTIM_AVERAGE_H

#include "dist/parallel/replica.h"
#include "src/tensor/state.h"

struct average {
    struct context *context;
    const struct shard *shards;
    int count;
    double decay;
    float *values; /* [replica_state_count], a shard's from its `begin` on */
};

/* Begins with the masters as they are. NULL if memory is out. Local. */
enum status average_create(struct context *context, const struct shard *shards, int count, int64_t elements,
                           double decay, struct average **average) MUST_USE;
void average_destroy(struct average **average);

/* After update number t (from 1): average += (1 - d) (master - average), d = min(decay, (1 + t) / (10 + t)), so that
 * what it began with is soon forgotten. Local. */
void average_update(struct average *average, int64_t t);

/* Masters and averages change places; the caller gathers values from them. Local. */
void average_swap(struct average *average);

/* Names /optimizer/average/PARAMETER of all parameters that learn; where a file lacks one, the average begins with what
 * the parameter is then: _forget before the file is read, _settle after it. */
enum status average_visit(const struct average *average, const struct parameter_list *list,
                          const struct state_visitor *visitor) MUST_USE;
void average_forget(struct average *average);
void average_settle(struct average *average);

#endif
