/* Inside of a replica; for this folder only. */
#ifndef CAIRN_DIST_PARALLEL_REPLICA_PRIVATE_H
#define CAIRN_DIST_PARALLEL_REPLICA_PRIVATE_H

#include "dist/parallel/replica.h"

/* Parameters begin at multiples of this many elements, so that every type is aligned. */
enum { PARAMETER_ALIGNMENT = 16 };

/* Copies of a parameter must stay equal to the bit, so what is added in which order must not depend on where a copy
 * lies: kinds that are laid out alike on all holders have a bucket of their own, and overlapping ones are summed as
 * wholes. */
enum bucket_kind {
    BUCKET_EXCLUSIVE,   /* no copies but the replicas' */
    BUCKET_REPLICATED,  /* whole on every tensor rank */
    BUCKET_OVERLAPPING, /* in part on several tensor ranks */
    BUCKET_TIED,        /* on both ends of the pipeline; one parameter a bucket */
    BUCKET_FROZEN,      /* values only, which are gathered after they have been read */
    BUCKET_KINDS,
};

struct bucket {
    enum bucket_kind kind;
    bool uncut;       /* each of its parameters lies in the slice of one replica */
    enum dtype dtype; /* of the values */
    int64_t begin;    /* in the flat array of gradients */
    int64_t count;    /* a multiple of the replicas */
    int64_t reach;    /* elements that say when it is full: the same on all tensor ranks of uncut parameters */
    int64_t slice;    /* count / replicas */
    int64_t state;    /* where this rank's slice begins in optimiser state */
    size_t offset;    /* of its values in bytes */
    int parameters;
    int expected; /* parameters that backward is not through with */
    bool started;
    struct mesh_request request;
};

/* What one replica has got of uncut parameters. */
struct replica_load {
    int64_t elements; /* of the bucket that is dealt */
    double cost;      /* of that bucket */
    double total;     /* of all buckets */
};

struct replica {
    bool trains;
    struct context *context;
    struct mesh *mesh;
    struct engine *engine;
    enum dtype dtype;
    int replicas;
    int index;                     /* of this rank among them */
    struct parameter **parameters; /* in the order of the buckets */
    struct replica_load *load;     /* [replicas] what is dealt to each */
    int64_t *position;             /* [parameter_count] of a parameter in the flat array of gradients */
    int *dealt;                    /* [parameter_count] the replica that steps an uncut parameter; -1 of others */
    int parameter_count;
    struct bucket *buckets;
    int bucket_count;
    int64_t whole_count;  /* of all buckets that learn */
    int64_t state_count;  /* of this rank's slices of them */
    int64_t master_count; /* of those whose values are not their own masters; they come first */
    size_t value_bytes;
    int64_t scratch_count;
    char *values;
    float *gradients;
    float *reduced; /* this rank's slices of the summed gradients; NULL with one replica */
    float *master;
    float *scratch;       /* for parameters that tensor ranks hold in part */
    struct shard *shards; /* first those that are stepped */
    int shard_count;
    int stepped;
};

/* Elements of this rank's block. */
static inline int64_t parameter_local(const struct parameter *parameter)
{
    struct box box = parameter_box(parameter);
    return box_count(&box, parameter->spec.rank);
}

/* Orders the parameters of the list that are laid out here, and divides them into buckets of about bucket_bytes of
 * fp32; the replica has room for them all. Local. */
void buckets_fill(struct replica *replica, const struct parameter_list *list, int64_t bucket_bytes);

#endif
