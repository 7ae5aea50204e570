/* The mesh over the ranks of a team, data x pipeline x context x tensor (tensor innermost), its communicators,
 * collectives and messages. Every byte sent is counted by axis.
 *
 * Functions marked collective are called by all ranks of the named axis, in the same order, with the same sizes. A
 * failure inside MPI ends the job. */
#ifndef CAIRN_DIST_MESH_H
#define CAIRN_DIST_MESH_H

#include "dist/mesh/team.h"
#include "src/core/config.h"
#include "src/core/context.h"
#include "src/core/dtype.h"
#include "src/core/integer.h"

enum mesh_axis {
    MESH_DATA,
    MESH_PIPELINE,
    MESH_CONTEXT,
    MESH_TENSOR,
    MESH_REPLICA, /* data and context together: ranks that hold the same slices of the same parameters */
    MESH_STAGE,   /* data, context and tensor together: all ranks of a pipeline stage */
    MESH_ENDS,    /* the first and the last pipeline stage: 2 ranks there (1 if pipeline is 1), 0 elsewhere */
    MESH_HOST,    /* ranks that share this one's host, in the order of the team */
    MESH_TEAM,    /* all ranks of the team */
    MESH_AXES,
};

enum mesh_operation { MESH_SUM, MESH_MAX, MESH_MIN, MESH_XOR };

struct mesh;

struct mesh_traffic {
    int64_t calls;
    int64_t bytes; /* payload this rank hands to MPI */
};

/* Resolves counts of 0 ("auto", at most one) against the number of ranks.
 * USAGE error with the sizes that would fit. */
enum status mesh_resolve(struct context *context, const struct mesh_config *wanted, int ranks,
                         struct mesh_config *resolved) MUST_USE;

/* Collective over the team, which must outlive the mesh; `config` is resolved. */
enum status mesh_create(struct context *context, const struct team *team, const struct mesh_config *config,
                        struct mesh **mesh) MUST_USE;

/* The mesh as one of its ranks sees it, in a process that may be alone and without MPI: collectives and messages are
 * counted and complete at once, and what would be received stays as it was. Each rank has a host of its own. For plans.
 * `config` is resolved. Local. */
enum status mesh_create_dry(struct context *context, const struct mesh_config *config, int rank,
                            struct mesh **mesh) MUST_USE;
void mesh_destroy(struct mesh **mesh);

int mesh_size(const struct mesh *mesh, enum mesh_axis axis);
int mesh_rank(const struct mesh *mesh, enum mesh_axis axis); /* -1 on an axis this rank is not part of */
const struct team *mesh_team(const struct mesh *mesh);       /* NULL of a dry mesh */
int mesh_ranks_on_host(const struct mesh *mesh);
const struct mesh_config *mesh_config(const struct mesh *mesh);
struct mesh_traffic mesh_traffic(const struct mesh *mesh, enum mesh_axis axis);

/* team_agree over the mesh's team, counted as communication; a dry mesh has one opinion. */
enum status mesh_agree(struct mesh *mesh, struct context *context, enum status status) MUST_USE;

void mesh_barrier(struct mesh *mesh, enum mesh_axis axis);

/* In place, collective over the axis. Types F32, BF16 (sum only), F64, I32, I64; exclusive or of I32 and I64. */
void mesh_all_reduce(struct mesh *mesh, enum mesh_axis axis, void *buffer, int64_t count, enum dtype dtype,
                     enum mesh_operation operation);

void mesh_broadcast(struct mesh *mesh, enum mesh_axis axis, int root, void *buffer, int64_t count, enum dtype dtype);

/* Rows are divided by range_partition. `mine` is this rank's part, `all` has `rows` x `columns`. Collective. */
void mesh_all_gather(struct mesh *mesh, enum mesh_axis axis, const void *mine, void *all, int64_t rows, int64_t columns,
                     enum dtype dtype);

/* The sum over ranks of `all`, of which each receives its part of the rows. Collective; F32 and BF16. */
void mesh_reduce_scatter(struct mesh *mesh, enum mesh_axis axis, const void *all, void *mine, int64_t rows,
                         int64_t columns, enum dtype dtype);

/* Each rank sends `counts[r]` elements to every rank r, which lie one part behind the other in the order of the ranks,
 * and receives `arriving[r]` from each, the same way. What stays on a rank is copied, and neither sent nor counted.
 * `most` is the most that any rank sends or receives in all, the same on all of them. The buffers do not overlap.
 * Collective. */
void mesh_all_to_all(struct mesh *mesh, enum mesh_axis axis, const void *parts, const int64_t *counts, void *arrived,
                     const int64_t *arriving, int64_t most, enum dtype dtype);

/* An exclusive scan: every rank receives the join of the buffers of the ranks before it (behind it if reverse). */
struct mesh_scan {
    bool reverse;
    int64_t count; /* of F32 */
    /* later = earlier joined with later, where earlier comes from ranks that are before in the scan. Associative, but
     * it need not commute. NULL is the sum. */
    void (*join)(void *self, const float *earlier, float *later);
    void *self;
    float *spare; /* room for another buffer; not for the sum */
};

/* In place, collective over the axis. What the first rank of the scan holds afterwards has no meaning. Each rank hands
 * its buffer to MPI_Exscan for a sum, and sends it up to 1 + log2(ranks) times for a join. */
void mesh_exclusive_scan(struct mesh *mesh, enum mesh_axis axis, float *buffer, const struct mesh_scan *scan);

/* What runs behind the computation. mesh_request_clear makes a request that is complete. */
struct mesh_request {
    void *state;
    struct mesh *mesh;                /* NULL when it was never started */
    struct mesh_reduction *reduction; /* of a started reduce-scatter */
    uint64_t event;                   /* its number, dist/mesh/events.h */
};

void mesh_request_clear(struct mesh_request *request);

/* Receives name the axis, the rank on it and a tag; sends likewise. Completed by mesh_test or mesh_wait. */
void mesh_send(struct mesh *mesh, enum mesh_axis axis, int to, int tag, const void *data, int64_t count,
               enum dtype dtype, struct mesh_request *request);
void mesh_receive(struct mesh *mesh, enum mesh_axis axis, int from, int tag, void *data, int64_t count,
                  enum dtype dtype, struct mesh_request *request);

/* Makes room for `count` reductions of at most `each` elements a rank that are on their way at once, so that starting
 * them allocates nothing. Local. */
void mesh_reduce_scatter_reserve(struct mesh *mesh, enum mesh_axis axis, int count, int64_t each);

/* Collectives that return before they are complete; equal parts of `each` elements per rank.
 *
 * mine = the sum over the ranks of their parts for this one, to the bit the same in every run: between at most 16 ranks
 * in their order, between more in one that depends on their number and on the rank. `all` [ranks, each] is used to sum
 * up in, and overlaps nothing. Requests on an axis complete in the order in which they were started; each rank has to
 * test or wait for them all. Memory for what arrives is at most 8 MiB an axis. */
void mesh_reduce_scatter_start(struct mesh *mesh, enum mesh_axis axis, float *all, float *mine, int64_t each,
                               struct mesh_request *request);

/* In place: this rank's part is already at its position in `all`. */
void mesh_all_gather_start(struct mesh *mesh, enum mesh_axis axis, void *all, int64_t each, enum dtype dtype,
                           struct mesh_request *request);

bool mesh_test(struct mesh_request *request);
void mesh_wait(struct mesh_request *request);

#endif
