/* Parameters and gradients of one rank, and what its replicas (ranks of the data and context axes) do together:
 * gradients are summed in fp32 buckets while backward still runs, each replica steps one slice of every bucket with
 * master weights of its own (ZeRO stage 1), and the new values are gathered. What does not learn has values and nothing
 * else.
 *
 * Buckets are filled in reverse order of the parameters, as backward reaches them. Parameters that several tensor
 * ranks or both ends of the pipeline hold come last; their gradients are first summed over those. Parameters that stay
 * in fp32 where the others are bf16 have buckets of their own. */
#ifndef CAIRN_DIST_PARALLEL_REPLICA_H
#define CAIRN_DIST_PARALLEL_REPLICA_H

#include "dist/mesh/mesh.h"
#include "src/ops/engine.h"
#include "src/tensor/state.h"
#include "src/tensor/tape.h"

struct replica;

/* The part of a parameter that this rank steps, or reads and writes. */
struct shard {
    struct parameter *parameter;
    struct range flat;     /* of the parameter's local block; of an uncut one all of it, which may be nothing */
    int64_t begin;         /* where its optimiser state starts in arrays of replica_state_count elements */
    float *master;         /* [flat.count] fp32; NULL of a frozen one whose values are bf16 */
    const float *gradient; /* [flat.count] summed over replicas, valid from replica_finish to the next begin */
    bf16 *values;          /* the compute copy; NULL where the values are fp32 and master is the values themselves */
};

/* A shard's elements, whose memory is `data`, as boxes of the parameter: only what this rank owns if it `writes`.
 * Returns their number. */
int shard_pieces(const struct shard *shard, float *data, bool writes, struct state_piece pieces[BOXES_OF_RANGE]);

/* The shard of a parameter of this name, or of a copy of it; NULL if there is none. */
const struct shard *shard_named(const struct shard *shards, int count, const char *name);

/* Names /parameters/NAME of all parameters and /buffers/NAME of all buffers; borrowed ones are their owner's. */
enum status replica_visit(const struct replica *replica, const struct parameter_list *list,
                          const struct state_visitor *visitor) MUST_USE;

/* Lays out memory for the list's parameters that are here and not borrowed, and points their value and gradient into
 * it. Values are of the type `dtype`, fp32 where a parameter keeps_float. Those that do not learn, and all without
 * `trains`, are frozen: they have no gradients and no masters. Local. */
enum status replica_create(struct context *context, struct mesh *mesh, struct engine *engine,
                           const struct parameter_list *list, enum dtype dtype, int64_t bucket_bytes, bool trains,
                           struct replica **replica) MUST_USE;
void replica_destroy(struct replica **replica);

/* Shards that are stepped, and those of what is frozen. */
const struct shard *replica_shards(const struct replica *replica, int *count);
const struct shard *replica_frozen(const struct replica *replica, int *count);
int64_t replica_state_count(const struct replica *replica);

/* Initial values that depend on the seed alone, whatever the mesh. Collective over the replica axis. */
void replica_initialize(struct replica *replica, uint64_t seed);

/* Zeroes the gradients and expects each bucket's parameters anew. */
void replica_begin(struct replica *replica);

/* Listener of the tape: starts a bucket's reduction once backward is through with its parameters. */
struct tape_listener replica_listener(struct replica *replica);

/* Completes all reductions: collective over the replica, tensor and ends axes. */
void replica_finish(struct replica *replica);

/* After masters changed: makes the values of what learns agree with them on every replica. Collective over the replica
 * axis. */
void replica_gather(struct replica *replica);

/* After the shards have been filled: the same for all values, the frozen ones too. Collective over the replica axis. */
void replica_gather_all(struct replica *replica);

/* The mean of buffers over the replicas, which each have changed theirs. Collective over the replica axis. */
void replica_average_buffers(struct replica *replica);

#endif
