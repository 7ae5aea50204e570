#include "src/ops/attention_plan.h"

enum { SPLITS_LIMIT = 8 };

/* -- Blocks of queries -- */

int64_t attention_blocks_count(const struct attention_shape *shape, int64_t rows, int64_t size)
{
    int64_t count = 0;
    for (int64_t s = 0; s < shape->spans; s++)
        count += integer_divide_up(shape->span[s].queries * rows, size);
    return count;
}

bool attention_blocks_create(struct tape *tape, const struct attention_shape *shape, int64_t rows, int64_t size,
                             struct attention_blocks *blocks)
{
    int64_t longest = 0;
    for (int64_t s = 0; s < shape->spans; s++)
        longest = integer_max(longest, shape->span[s].queries);
    blocks->count = 0;
    blocks->block =
        arena_allocate(tape->work, (size_t)attention_blocks_count(shape, rows, size) * sizeof *blocks->block);
    if (!blocks->block)
        return false;
    for (int64_t index = integer_divide_up(longest * rows, size) - 1; index >= 0; index--)
        for (int64_t s = 0; s < shape->spans; s++)
            if (index * size < shape->span[s].queries * rows)
                blocks->block[blocks->count++] = (struct attention_block){.span = s, .index = index};
    return true;
}

/* -- Keys -- */

/* Sorts by counting how many spans begin at each key. */
static bool plan_order(struct tape *tape, const struct attention_pass *pass, struct attention_plan *plan)
{
    const struct attention_shape *shape = pass->shape;
    size_t bytes = (size_t)(pass->keys + 2) * sizeof(int32_t);
    int32_t *before = arena_allocate(tape->work, bytes); /* [keys + 1], spans that begin before a key */
    if (!before)
        return false;
    memset(before, 0, bytes);
    for (int64_t s = 0; s < shape->spans; s++)
        before[shape->span[s].key + 1]++;
    for (int64_t key = 0; key <= pass->keys; key++)
        before[key + 1] += before[key];
    for (int64_t s = 0; s < shape->spans; s++)
        plan->order[before[shape->span[s].key]++] = s;
    return true;
}

static void plan_clusters(const struct attention_pass *pass, int64_t key_block, struct attention_plan *plan)
{
    const struct attention_shape *shape = pass->shape;
    int64_t first = 0, end = 0; /* of the spans that reach the current key */
    int64_t reach = 0;          /* the end of their keys */
    struct attention_cluster *cluster = NULL;
    for (int64_t key = 0, next; key < pass->keys || end < shape->spans; key = next) {
        if (key >= reach) {
            cluster = &plan->cluster[plan->clusters++];
            *cluster = (struct attention_cluster){.first = end, .keys_begin = plan->blocks};
        }
        for (; end < shape->spans && shape->span[plan->order[end]].key == key; end++)
            reach = integer_max(reach, attention_span_end(&shape->span[plan->order[end]]));
        while (first < end && attention_span_end(&shape->span[plan->order[first]]) <= key)
            first++;
        next = end < shape->spans ? shape->span[plan->order[end]].key : pass->keys;
        for (int64_t at = key; at < next; at += key_block)
            plan->keys[plan->blocks++] = (struct attention_keys){
                .key = at, .keys = integer_min(key_block, next - at), .first = first, .end = end};
        cluster->end = end;
        cluster->keys_end = plan->blocks;
    }
}

/* -- Tasks -- */

/* Where there are few kv heads for the threads, the clusters with much to do are divided. */
static void plan_splits(const struct engine *engine, const struct attention_pass *pass, int64_t padding,
                        struct attention_plan *plan)
{
    const struct attention_shape *shape = pass->shape;
    int64_t work = pass->pairs * shape->kv_heads;
    for (int64_t c = 0; c < plan->clusters; c++) {
        struct attention_cluster *cluster = &plan->cluster[c];
        int64_t pairs = 0;
        for (int64_t at = cluster->first; at < cluster->end; at++) {
            const struct attention_span *span = &shape->span[plan->order[at]];
            plan->place[plan->order[at]] = (struct attention_place){.cluster = c, .row = cluster->rows};
            cluster->rows += span->queries * shape->heads + padding;
            pairs += attention_span_pairs(shape, span);
        }
        int64_t wanted = engine->threads == 1 || work == 0 ? 1 : integer_divide_up(2 * engine->threads * pairs, work);
        int64_t most = integer_min(SPLITS_LIMIT, cluster->keys_end - cluster->keys_begin);
        cluster->splits = integer_max(1, integer_min(wanted, most));
        cluster->row = plan->rows;
        plan->rows += cluster->splits * cluster->rows;
        plan->tasks += cluster->splits;
    }
}

/* Those of the largest clusters first. */
static void plan_tasks(struct attention_plan *plan)
{
    int64_t count = 0;
    for (int64_t splits = SPLITS_LIMIT; splits > 0; splits--)
        for (int64_t split = 0; split < splits; split++)
            for (int64_t c = 0; c < plan->clusters; c++)
                if (plan->cluster[c].splits == splits)
                    plan->task[count++] = (struct attention_task){.cluster = c, .split = split};
}

bool attention_plan_create(struct tape *tape, const struct attention_pass *pass, int64_t key_block, int64_t padding,
                           struct attention_plan *plan)
{
    size_t spans = (size_t)pass->shape->spans;
    size_t blocks = (size_t)(pass->keys / key_block) + spans + 1; /* at most one that is not full before each span */
    *plan = (struct attention_plan){.order = arena_allocate(tape->work, spans * sizeof *plan->order),
                                    .place = arena_allocate(tape->work, spans * sizeof *plan->place),
                                    .keys = arena_allocate(tape->work, blocks * sizeof *plan->keys),
                                    .cluster = arena_allocate(tape->work, (spans + 1) * sizeof *plan->cluster)};
    if (!plan->order || !plan->place || !plan->keys || !plan->cluster || !plan_order(tape, pass, plan))
        return false;
    plan_clusters(pass, key_block, plan);
    plan_splits(tape->engine, pass, padding, plan);
    plan->task = arena_allocate(tape->work, (size_t)plan->tasks * sizeof *plan->task);
    if (!plan->task)
        return false;
    plan_tasks(plan);
    return true;
}
