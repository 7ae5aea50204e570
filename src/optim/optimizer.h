/* The optimiser of a rank: AdamW on the shards it steps (src/model/README.md section 7), the learning rate's schedule,
 * and the gradient norm. */
#ifndef CAIRN_OPTIM_OPTIMIZER_H
#define CAIRN_OPTIM_OPTIMIZER_H

#include "dist/parallel/replica.h"
#include "src/core/config.h"

/* What an optimiser keeps for each element, by the name it has in checkpoints. */
enum { OPTIMIZER_SLOTS = 2 };

struct optimizer {
    struct context *context;
    struct optimizer_config config;
    float *slot[OPTIMIZER_SLOTS]; /* of replica_state_count elements; a shard's part begins at shard->begin */
};

const char *optimizer_slot_name(int slot);

enum status optimizer_create(struct context *context, const struct optimizer_config *config, int64_t state_count,
                             struct optimizer *optimizer) MUST_USE;
void optimizer_destroy(struct optimizer *optimizer);

/* This rank's share of the squared gradient norm: every element of the model is counted by one rank. Local. */
double optimizer_norm_squares(struct engine *engine, const struct shard *shards, int count);

/* min(1, clip / (norm + 1e-6)); 1 when clip is 0. */
double optimizer_clip_scale(const struct optimizer_config *config, double norm);

/* Update number t (from 1) of every shard, gradients scaled first. Local. */
void optimizer_update(struct optimizer *optimizer, struct engine *engine, const struct shard *shards, int count,
                      int64_t t, double rate, double gradient_scale);

/* The learning rate of step (from 1) of `steps`: linear warm-up, then constant, cosine or linear decay to
 * minimum_ratio over the remaining steps, or (wsd) constant until the last decay_steps and linear from there. */
double schedule_rate(const struct optimizer_config *config, int64_t steps, int64_t step);

#endif
