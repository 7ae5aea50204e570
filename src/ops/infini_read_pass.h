/* What reading the memory forward and backward share; for the files infini_read*.c. */
#ifndef CAIRN_OPS_INFINI_READ_PASS_H
#define CAIRN_OPS_INFINI_READ_PASS_H

#include "src/ops/infini_tiles.h"

#define READOUT_EPSILON 1e-6f /* beside the mean square of what is read */

struct read_pass {
    const struct kernels *kernels;
    const struct infini_read_shape *shape;
    enum dtype dtype, query_dtype;
    int64_t ld;         /* of tiles whose columns are the width of a head */
    int64_t tokens;     /* queries in all */
    int64_t state, map; /* floats of a state, and of its M */
    bool divides;       /* by sigma(q) z; else there is no z */
    const void *q, *a_dot;
    const float *states, *gate;
    const float *norm; /* [heads, width], or NULL */
    /* forward */
    void *output;
    /* backward */
    const void *dy;
    float *inverse, *divisors; /* [heads, tokens]: 1 / (sigma(q) z + epsilon), d loss / d (sigma(q) z) */
    float *gate_derivatives;   /* [tokens, heads] */
    float *read_derivatives;   /* with a norm: [tokens, heads * width], d loss / d a_mem */
    int64_t *first_part;       /* with a norm: [spans], of the parts of its gradient those of each span's blocks, */
    float *norm_parts;         /* [parts, heads * width] */
    struct gradient_target dq, da_dot, dstates;
};

struct read_tiles {
    float *features, *derivatives, *output; /* [TOKEN_BLOCK, ld] */
    float *m;                               /* M, or its transpose [E, ld] */
    float *z;                               /* [ld] */
    float *inverse, *factor, *along, *rest; /* [TOKEN_BLOCK] */
    /* With a norm: M [E, ld]; what is read, the norm of it and a derivative [TOKEN_BLOCK, E]. */
    float *read_m;
    float *read, *normed, *slope;
};

/* Some queries of one head and span. */
struct read_block {
    const float *state;
    int64_t span, head;
    int64_t token; /* the first */
    int64_t count;
    int64_t at; /* where its vector lies */
    float g;
};

struct read_pass infini_read_pass(const struct engine *engine, const struct infini_read_shape *shape,
                                  const struct tape_record *record, const float *gate, const float *norm);

struct read_block infini_read_block(const struct read_pass *pass, int64_t span, int64_t head, int64_t begin);

/* Scratch for every thread, and one thread's tiles in it. */
char *infini_read_scratch(struct engine *engine, const struct read_pass *pass, size_t *stride);
struct read_tiles infini_read_carve(float *scratch, const struct read_pass *pass);

/* Runs for the blocks of queries of every head and span; begin prepares what the blocks of a head and span share. */
struct read_tasks {
    void (*begin)(const struct read_pass *pass, const struct read_tiles *tiles, const float *state);
    void (*run)(const struct read_pass *pass, const struct read_tiles *tiles, const struct read_block *block);
};

bool infini_read_run(struct engine *engine, const struct read_pass *pass, const struct read_tasks *tasks);

/* The block's vectors, and its queries as the memory takes them. */
void infini_read_gather(const struct read_pass *pass, float *tile, const void *from, const struct read_block *block,
                        float factor);
void infini_read_features(const struct read_pass *pass, float *tile, const struct read_block *block);
void infini_read_scatter(const struct read_pass *pass, struct gradient_target target, const struct read_block *block,
                         const float *tile, const float *factor);

/* inverse = 1 / (sigma(q) z + epsilon); 1 where nothing divides. */
void infini_read_inverses(const struct read_pass *pass, float *inverse, const float *features, int64_t rows,
                          const float *z);

/* Nothing was written into the state. */
bool infini_read_empty(const struct read_pass *pass, const float *state);

/* With a norm: what the block reads in `read`, its norm in `normed`, whose rows are described. features stay, `output`
 * is overwritten. */
struct norm_rows infini_read_normed(const struct read_pass *pass, const struct read_tiles *tiles,
                                    const struct read_block *block, const float *inverse);

void infini_read_backward(struct tape *tape, const struct tape_record *record);

#endif
