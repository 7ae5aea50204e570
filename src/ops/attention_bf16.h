/* Attention by tiles of bf16: what forward and backward share. The query heads of one kv head form a group; its rows
 * are all positions of all its heads, position by position, so that neighbouring rows see nearly the same keys and one
 * query of many heads fills a tile as many queries of one head do. */
#ifndef CAIRN_OPS_ATTENTION_BF16_H
#define CAIRN_OPS_ATTENTION_BF16_H

#include "src/ops/attention_plan.h"

#define LOG2_E 1.44269504f

struct attention_groups {
    int64_t *begin; /* [kv heads + 1], of each group in head */
    int32_t *head;  /* query heads, ordered by group */
    int64_t largest;
};

/* In the work arena; false with the context's error when memory is out. */
bool attention_groups_create(struct tape *tape, const struct attention_shape *shape, struct attention_groups *groups);

/* One group of one span. */
struct attention_group {
    const struct attention_shape *shape;
    const struct attention_span *span;
    int64_t kv_head;
    int64_t heads;
    const int32_t *head;
    int64_t rows;
    int64_t scalars; /* where those of its rows begin in log_sum */
};

/* `queries`: of all spans. */
static inline struct attention_group attention_group(const struct attention_groups *groups,
                                                     const struct attention_shape *shape, int64_t queries, int64_t span,
                                                     int64_t kv_head)
{
    int64_t begin = groups->begin[kv_head], heads = groups->begin[kv_head + 1] - begin;
    return (struct attention_group){.shape = shape,
                                    .span = &shape->span[span],
                                    .kv_head = kv_head,
                                    .heads = heads,
                                    .head = groups->head + begin,
                                    .rows = heads * shape->span[span].queries,
                                    .scalars = begin * queries + heads * shape->span[span].query};
}

/* How many keys of its span a group's row sees. */
static inline int64_t attention_group_seen(const struct attention_group *group, int64_t group_row)
{
    return attention_seen(group->shape, group->span, group_row / group->heads);
}

/* Where the vector of a group's row begins in queries and outputs. */
static inline int64_t attention_group_vector(const struct attention_group *group, int64_t group_row)
{
    int64_t token = group->span->query + group_row / group->heads;
    return attention_vector(group->shape, token, group->shape->heads, group->head[group_row % group->heads]);
}

/* A tile of bf16 rows: where they are, or a copy of them. */
struct attention_tile {
    const bf16 *data;
    int64_t ld;
};

/* tile [padded, ld] = a kv head's keys or values from token `key` on, or rows of a group, with zeros where there are
 * none. The result of the second is those, or the rows where they are if they lie evenly and nothing is to be padded.
 */
void attention_copy_keys(bf16 *tile, int64_t ld, const struct attention_shape *shape, int64_t kv_head, const void *from,
                         int64_t key, int64_t keys, int64_t padded);
struct attention_tile attention_find_rows(bf16 *tile, int64_t ld, const struct attention_group *group, const void *from,
                                          int64_t group_row, int64_t rows, int64_t padded);

/* target = beta target + tile [rows, ld], in the rows of a group from `group_row` on. */
void attention_scatter_rows(const struct attention_pass *pass, const struct attention_group *group, int64_t group_row,
                            int64_t rows, const float *tile, int64_t ld, struct gradient_target target);

#endif
