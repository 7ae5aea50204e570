/* Parameters, gradients and optimiser state of one rank, and what its replicas (ranks of the data and context axes)
 * do together: gradients are summed in fp32 buckets while backward still runs, each replica steps one slice of every
 * bucket with master weights of its own (ZeRO stage 1), and the new values are gathered.
 *
 * Buckets are filled in reverse order of the parameters, as backward reaches them. Parameters that several tensor
 * ranks or both ends of the pipeline hold come last; their gradients are first summed over those. Parameters that stay
 * in fp32 where the others are bf16 have buckets of their own. */
#ifndef CAIRN_DIST_PARALLEL_REPLICA_H
#define CAIRN_DIST_PARALLEL_REPLICA_H

#include "dist/mesh/mesh.h"
#include "src/ops/engine.h"
#include "src/tensor/tape.h"

struct replica;

/* The part of a parameter that this rank steps. */
struct shard {
    struct parameter *parameter;
    struct range flat;     /* of the parameter's local block */
    int64_t begin;         /* where its optimiser state starts in arrays of replica_state_count elements */
    float *master;         /* [flat.count] fp32 */
    const float *gradient; /* [flat.count] summed over replicas, valid from replica_finish to the next begin */
    bf16 *values;          /* the compute copy; NULL where the values are fp32 and master is the values themselves */
};

/* Lays out memory for `count` parameters and points their value and gradient into it. Values are of the type `dtype`,
 * fp32 where a parameter keeps_float. Without `trains` there are no gradients, only values (and masters). Local. */
enum status replica_create(struct context *context, struct mesh *mesh, struct engine *engine,
                           struct parameter *const *parameters, int count, enum dtype dtype, int64_t bucket_bytes,
                           bool trains, struct replica **replica) MUST_USE;
void replica_destroy(struct replica **replica);

const struct shard *replica_shards(const struct replica *replica, int *count);
int64_t replica_state_count(const struct replica *replica);

/* Zeroes the gradients and expects each bucket's parameters anew. */
void replica_begin(struct replica *replica);

/* Listener of the tape: starts a bucket's reduction once backward is through with its parameters. */
struct tape_listener replica_listener(struct replica *replica);

/* Completes all reductions: collective over the replica, tensor and ends axes. */
void replica_finish(struct replica *replica);

/* After masters changed: makes all values agree with them on every replica. Collective over the replica axis. */
void replica_gather(struct replica *replica);

#endif
