/* How the work of an attention is divided among threads, whatever its spans: forward into blocks of queries, backward
 * into tasks that own keys. */
#ifndef CAIRN_OPS_ATTENTION_PLAN_H
#define CAIRN_OPS_ATTENTION_PLAN_H

#include "src/ops/attention_pass.h"

/* A block of a span's queries, the `index`-th. */
struct attention_block {
    int64_t span, index;
};

struct attention_blocks {
    int64_t count;
    struct attention_block *block;
};

/* Blocks of `size` rows, of which every query has `rows`. */
int64_t attention_blocks_count(const struct attention_shape *shape, int64_t rows, int64_t size);

/* The last blocks of their spans see the most keys and come first. In the work arena; false with the context's error
 * when memory is out. */
bool attention_blocks_create(struct tape *tape, const struct attention_shape *shape, int64_t rows, int64_t size,
                             struct attention_blocks *blocks);

/* A block of keys, in which no span begins but at its first: what a query sees of it is a beginning again. */
struct attention_keys {
    int64_t key, keys;
    int64_t first, end; /* of the spans in the plan's order that may see some of it */
};

/* Spans whose keys overlap, directly or through others, and their blocks of keys. A task takes every `splits`-th block
 * for one kv head, and for each of them all queries that see it: the gradients of keys and values need no other task,
 * those of the queries are summed over the splits at the end. */
struct attention_cluster {
    int64_t first, end;           /* of its spans in the plan's order */
    int64_t keys_begin, keys_end; /* of its blocks of keys */
    int64_t splits;
    int64_t row, rows; /* its splits' gradients of queries: where they begin, and how many rows each of them takes */
};

struct attention_place {
    int64_t cluster;
    int64_t row; /* where the gradients of its queries begin in each split of the cluster */
};

struct attention_task {
    int64_t cluster, split;
};

/* All keys are in a block, so that those nobody sees get a gradient of 0. */
struct attention_plan {
    int64_t *order;                /* [spans], by their first key */
    struct attention_place *place; /* [spans] */
    struct attention_keys *keys;
    struct attention_cluster *cluster;
    struct attention_task *task;
    int64_t blocks, clusters, tasks;
    int64_t rows; /* of the gradients of queries of all splits, a row for each query and head and `padding` a span */
};

/* In the work arena; false with the context's error when memory is out. */
bool attention_plan_create(struct tape *tape, const struct attention_pass *pass, int64_t key_block, int64_t padding,
                           struct attention_plan *plan);

/* Where a split's gradients of the queries of a span begin. */
static inline int64_t attention_plan_row(const struct attention_plan *plan, int64_t span, int64_t split)
{
    const struct attention_place *place = &plan->place[span];
    const struct attention_cluster *cluster = &plan->cluster[place->cluster];
    return cluster->row + split * cluster->rows + place->row;
}

static inline int64_t attention_plan_splits(const struct attention_plan *plan, int64_t span)
{
    return plan->cluster[plan->place[span].cluster].splits;
}

#endif
