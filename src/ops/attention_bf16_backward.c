/* Attention by tiles of bf16, backward. Scores are [keys, rows] and the gradients of the queries [width, rows] here,
 * so that weights and derivatives leave the softmax in the layouts of their next products. */
#include "src/ops/attention_bf16.h"

enum { ROW_BLOCK = 256, KEY_BLOCK = ROW_BLOCK, STEP_KEYS = 32 };

struct task_tiles {
    bf16 *key, *value;                          /* [KEY_BLOCK, ld] */
    bf16 *key_transposed;                       /* [ld, KEY_BLOCK] */
    float *dkey, *dvalue;                       /* [KEY_BLOCK, ld] */
    bf16 *rows;                                 /* [ROW_BLOCK, ld], queries or gradients of the output as they are */
    uint32_t *query, *dy;                       /* pairs, [ROW_BLOCK / 2, ld] */
    uint32_t *query_transposed, *dy_transposed; /* pairs of the transpose, [ld / 2, ROW_BLOCK] */
    float *scores, *derivatives;                /* [STEP_KEYS, ROW_BLOCK] */
    bf16 *weights, *rounded;                    /* [STEP_KEYS, ROW_BLOCK] */
    uint32_t *pairs;                            /* of the rounded derivatives, [KEY_BLOCK / 2, ROW_BLOCK] */
    int32_t *last;                              /* [ROW_BLOCK], the last key of its span that each row sees, or -1 */
    float *log_sum, *mean;                      /* [ROW_BLOCK] */
};

static struct task_tiles task_carve(char *scratch, int64_t ld)
{
    struct task_tiles tiles;
    tiles.key = attention_take(&scratch, KEY_BLOCK * ld * 2);
    tiles.value = attention_take(&scratch, KEY_BLOCK * ld * 2);
    tiles.key_transposed = attention_take(&scratch, KEY_BLOCK * ld * 2);
    tiles.dkey = attention_take(&scratch, KEY_BLOCK * ld * 4);
    tiles.dvalue = attention_take(&scratch, KEY_BLOCK * ld * 4);
    tiles.rows = attention_take(&scratch, ROW_BLOCK * ld * 2);
    tiles.query = attention_take(&scratch, ROW_BLOCK * ld * 2);
    tiles.dy = attention_take(&scratch, ROW_BLOCK * ld * 2);
    tiles.query_transposed = attention_take(&scratch, ROW_BLOCK * ld * 2);
    tiles.dy_transposed = attention_take(&scratch, ROW_BLOCK * ld * 2);
    tiles.scores = attention_take(&scratch, STEP_KEYS * ROW_BLOCK * 4);
    tiles.derivatives = attention_take(&scratch, STEP_KEYS * ROW_BLOCK * 4);
    tiles.weights = attention_take(&scratch, STEP_KEYS * ROW_BLOCK * 2);
    tiles.rounded = attention_take(&scratch, STEP_KEYS * ROW_BLOCK * 2);
    tiles.pairs = attention_take(&scratch, KEY_BLOCK * ROW_BLOCK * 2);
    tiles.last = attention_take(&scratch, ROW_BLOCK * 4);
    tiles.log_sum = attention_take(&scratch, ROW_BLOCK * 4);
    tiles.mean = attention_take(&scratch, ROW_BLOCK * 4);
    return tiles;
}

static size_t task_bytes(int64_t ld)
{
    return (size_t)((14 * KEY_BLOCK + 10 * ROW_BLOCK) * ld + (12 * STEP_KEYS + 2 * KEY_BLOCK + 12) * ROW_BLOCK);
}

/* What a pair of blocks is: rows of a group from `begin` on, and keys from the span's key number `key` on. */
struct task_pair {
    const struct attention_group *group;
    int64_t ld;
    int64_t begin, rows, padded; /* padded to the depth of products */
    int64_t key, keys, keys_padded;
    float *dquery; /* [ld, padded] */
};

static void rows_gather(const struct attention_pass *pass, const struct task_tiles *tiles, const struct task_pair *pair)
{
    const struct bf16_kernels *matrix = pass->kernels->matrix;
    int64_t ld = pair->ld;
    struct attention_tile found =
        attention_find_rows(tiles->rows, ld, pair->group, pass->query, pair->begin, pair->rows, pair->padded);
    matrix->pair(tiles->query, ld, found.data, found.ld, pair->padded, ld);
    matrix->transpose(tiles->query_transposed, ROW_BLOCK, found.data, found.ld / 2, pair->padded, ld / 2);
    found = attention_find_rows(tiles->rows, ld, pair->group, pass->dy, pair->begin, pair->rows, pair->padded);
    matrix->pair(tiles->dy, ld, found.data, found.ld, pair->padded, ld);
    matrix->transpose(tiles->dy_transposed, ROW_BLOCK, found.data, found.ld / 2, pair->padded, ld / 2);
    const float *log_sum = pass->log_sum + pair->group->scalars + pair->begin;
    const float *mean = pass->mean + pair->group->scalars + pair->begin;
    for (int64_t r = 0; r < pair->padded; r++) {
        tiles->last[r] = r < pair->rows ? (int32_t)attention_group_seen(pair->group, pair->begin + r) - 1 : -1;
        tiles->log_sum[r] = r < pair->rows ? log_sum[r] : 0.0f;
        tiles->mean[r] = r < pair->rows ? mean[r] : 0.0f;
    }
}

/* The keys from `at` on in their block, a few: their scores and derivatives, and what those add to their gradients.
 * Rows before `skipped` see none of them. */
static void keys_run(const struct attention_pass *pass, const struct task_tiles *tiles, const struct task_pair *pair,
                     int64_t at, int64_t skipped)
{
    const struct bf16_kernels *matrix = pass->kernels->matrix;
    int64_t ld = pair->ld, keys = integer_min(STEP_KEYS, pair->keys_padded - at);
    struct bf16_product scores = {.m = keys, .n = pair->padded - skipped, .k = ld, .lda = ld, .ldb = ROW_BLOCK};
    scores.ldc = ROW_BLOCK;
    scores.a = tiles->key + at * ld;
    scores.b = tiles->query_transposed + skipped;
    scores.c = tiles->scores + skipped;
    matrix->multiply(&scores);
    scores.a = tiles->value + at * ld;
    scores.b = tiles->dy_transposed + skipped;
    scores.c = tiles->derivatives + skipped;
    matrix->multiply(&scores);
    matrix->derivatives(&(struct bf16_derivatives){.scores = tiles->scores,
                                                   .derivatives = tiles->derivatives,
                                                   .weights = tiles->weights,
                                                   .rounded = tiles->rounded,
                                                   .pairs = tiles->pairs + at / 2 * ROW_BLOCK,
                                                   .ld = ROW_BLOCK,
                                                   .keys = keys,
                                                   .begin = skipped,
                                                   .end = pair->padded,
                                                   .scale_power = pass->scale * LOG2_E,
                                                   .scale = pass->scale,
                                                   .log_sum = tiles->log_sum,
                                                   .mean = tiles->mean,
                                                   .masked = pair->rows < pair->padded ||
                                                             tiles->last[skipped] < pair->key + at + keys - 1,
                                                   .last = tiles->last,
                                                   .first = pair->key + at});
    struct bf16_product sums = {.m = keys, .n = pass->shape->width, .k = pair->padded - skipped, .lda = ROW_BLOCK};
    sums.ldb = sums.ldc = ld;
    sums.add = true;
    sums.a = tiles->weights + skipped;
    sums.b = tiles->dy + skipped / 2 * ld;
    sums.c = tiles->dvalue + at * ld;
    matrix->multiply(&sums);
    sums.a = tiles->rounded + skipped;
    sums.b = tiles->query + skipped / 2 * ld;
    sums.c = tiles->dkey + at * ld;
    matrix->multiply(&sums);
}

/* One block of rows against the block of keys in the tiles. */
static void pair_run(const struct attention_pass *pass, const struct task_tiles *tiles, const struct task_pair *pair)
{
    rows_gather(pass, tiles, pair);
    int64_t skipped = 0;
    for (int64_t at = 0; at < pair->keys_padded; at += STEP_KEYS) {
        while (skipped < pair->padded &&
               tiles->last[integer_min(skipped + BF16_DEPTH, pair->rows) - 1] < pair->key + at)
            skipped += BF16_DEPTH;
        if (skipped >= pair->padded)
            break;
        keys_run(pass, tiles, pair, at, skipped);
    }
    /* Columns that see all keys go together. */
    int64_t step;
    for (int64_t column = 0; column < pair->padded; column += step) {
        bool all = tiles->last[column] >= pair->key + pair->keys - 1;
        step = all ? pair->padded - column : BF16_DEPTH;
        int64_t last = tiles->last[integer_min(column + step, pair->rows) - 1] - pair->key;
        int64_t keys = integer_min(pair->keys_padded, integer_round_up(last + 1, BF16_DEPTH));
        if (keys > 0)
            pass->kernels->matrix->multiply(&(struct bf16_product){.m = pass->shape->width,
                                                                   .n = step,
                                                                   .k = keys,
                                                                   .a = tiles->key_transposed,
                                                                   .lda = KEY_BLOCK,
                                                                   .b = tiles->pairs + column,
                                                                   .ldb = ROW_BLOCK,
                                                                   .c = pair->dquery + column,
                                                                   .ldc = pair->padded,
                                                                   .add = true});
    }
}

static void keys_gather(const struct attention_pass *pass, const struct task_tiles *tiles,
                        const struct attention_keys *keys, int64_t kv_head, int64_t ld)
{
    const struct bf16_kernels *matrix = pass->kernels->matrix;
    int64_t padded = integer_round_up(keys->keys, BF16_DEPTH);
    attention_copy_keys(tiles->key, ld, pass->shape, kv_head, pass->key, keys->key, keys->keys, padded);
    attention_copy_keys(tiles->value, ld, pass->shape, kv_head, pass->value, keys->key, keys->keys, padded);
    uint32_t *pairs = tiles->query_transposed; /* free until the first block of rows */
    matrix->transpose(pairs, ROW_BLOCK, tiles->key, ld / 2, padded, ld / 2);
    matrix->part(tiles->key_transposed, KEY_BLOCK, pairs, ROW_BLOCK, ld, padded);
    memset(tiles->dkey, 0, (size_t)(padded * ld) * sizeof(float));
    memset(tiles->dvalue, 0, (size_t)(padded * ld) * sizeof(float));
}

static void keys_scatter(const struct attention_pass *pass, struct gradient_target target, const float *tile,
                         const struct attention_keys *keys, int64_t kv_head, int64_t ld)
{
    const struct attention_shape *shape = pass->shape;
    int64_t at = attention_vector(shape, keys->key, shape->kv_heads, kv_head);
    if (target.data)
        pass->kernels->tile_scatter(operation_at_mutable(target.data, at, target.dtype), shape->kv_heads * shape->width,
                                    tile, ld, keys->keys, shape->width, NULL, target.beta, target.dtype);
}

/* Rows of a block of a group, evenly, so that little is padded. */
static int64_t group_block(const struct attention_group *group)
{
    int64_t rows = integer_max(1, group->rows);
    return integer_round_up(integer_divide_up(rows, integer_divide_up(rows, ROW_BLOCK)), BF16_DEPTH);
}

/* All rows of a group that see the block of keys in the tiles; dquery is the group's. */
static void group_run(const struct attention_pass *pass, const struct task_tiles *tiles,
                      const struct attention_group *group, const struct attention_keys *keys, float *dquery)
{
    struct task_pair pair = {.group = group, .key = keys->key - group->span->key};
    pair.ld = integer_round_up(pass->shape->width, BF16_DEPTH);
    pair.keys = integer_min(keys->keys, group->span->keys - pair.key);
    pair.keys_padded = integer_round_up(pair.keys, BF16_DEPTH);
    int64_t seeing = attention_seeing(pass->shape, group->span, pair.key);
    if (seeing == group->span->queries)
        return;
    int64_t block = group_block(group);
    for (pair.begin = seeing * group->heads / block * block; pair.begin < group->rows; pair.begin += block) {
        pair.rows = integer_min(block, group->rows - pair.begin);
        pair.padded = integer_round_up(pair.rows, BF16_DEPTH);
        pair.dquery = dquery + pair.begin * pair.ld;
        pair_run(pass, tiles, &pair);
    }
}

/* What the tasks share beyond the pass. */
struct backward {
    const struct attention_pass *pass;
    struct attention_groups groups;
    struct attention_plan plan;
    int64_t ld;
    char *scratch;
    size_t stride;
    float *mean;
};

static struct attention_group backward_group(const struct backward *backward, int64_t span, int64_t kv_head)
{
    return attention_group(&backward->groups, backward->pass->shape, backward->pass->queries, span, kv_head);
}

/* Of a group: blocks [ld, rows], one behind the other, with as many rows as the last one is padded to. */
static float *backward_dquery(const struct backward *backward, int64_t span, int64_t split, int64_t kv_head)
{
    int64_t before = backward->groups.begin[kv_head] * backward->pass->shape->span[span].queries;
    int64_t row = attention_plan_row(backward->pass->plan, span, split) + before + kv_head * BF16_DEPTH;
    return backward->pass->dquery + row * backward->ld;
}

static void task_run(const struct backward *backward, const struct task_tiles *tiles, const struct attention_task *task,
                     int64_t kv_head)
{
    const struct attention_pass *pass = backward->pass;
    const struct attention_plan *plan = pass->plan;
    const struct attention_cluster *cluster = &plan->cluster[task->cluster];
    int64_t ld = backward->ld;
    for (int64_t at = cluster->first; at < cluster->end; at++) {
        struct attention_group group = backward_group(backward, plan->order[at], kv_head);
        memset(backward_dquery(backward, plan->order[at], task->split, kv_head), 0,
               (size_t)(integer_round_up(group.rows, BF16_DEPTH) * ld) * sizeof(float));
    }
    for (int64_t b = cluster->keys_begin + task->split; b < cluster->keys_end; b += cluster->splits) {
        const struct attention_keys *keys = &plan->keys[b];
        keys_gather(pass, tiles, keys, kv_head, ld);
        for (int64_t at = keys->first; at < keys->end; at++) {
            struct attention_group group = backward_group(backward, plan->order[at], kv_head);
            group_run(pass, tiles, &group, keys, backward_dquery(backward, plan->order[at], task->split, kv_head));
        }
        keys_scatter(pass, pass->dkey, tiles->dkey, keys, kv_head, ld);
        keys_scatter(pass, pass->dvalue, tiles->dvalue, keys, kv_head, ld);
    }
}

static bool backward_create(struct tape *tape, struct attention_pass *pass, struct backward *backward)
{
    const struct attention_shape *shape = pass->shape;
    backward->pass = pass;
    backward->ld = integer_round_up(shape->width, BF16_DEPTH);
    if (!attention_groups_create(tape, shape, &backward->groups) ||
        !attention_plan_create(tape, pass, KEY_BLOCK, shape->kv_heads * BF16_DEPTH, &backward->plan))
        return false;
    pass->plan = &backward->plan;
    pass->dquery = arena_allocate(tape->work, (size_t)(backward->plan.rows * backward->ld) * sizeof(float));
    backward->mean = arena_allocate(tape->work, (size_t)(pass->queries * shape->heads) * sizeof(float));
    pass->mean = backward->mean;
    backward->scratch = engine_scratch(tape->engine, task_bytes(backward->ld) + 8192, &backward->stride);
    return pass->dquery && pass->mean && backward->scratch;
}

/* The mean of each row, times the scale. */
static void backward_means(struct engine *engine, const struct backward *backward, const void *y)
{
    const struct attention_pass *pass = backward->pass;
    const struct attention_shape *shape = pass->shape;
    const struct attention_groups *groups = &backward->groups;
    int64_t work = pass->queries * shape->heads * shape->width;
#pragma omp parallel for collapse(2) schedule(static) num_threads(operation_threads(engine, work))
    for (int64_t kv_head = 0; kv_head < shape->kv_heads; kv_head++)
        for (int64_t token = 0; token < pass->queries; token++) {
            int64_t begin = groups->begin[kv_head], heads = groups->begin[kv_head + 1] - begin;
            float *mean = backward->mean + begin * pass->queries + token * heads;
            for (int64_t h = 0; h < heads; h++) {
                int64_t at = attention_vector(shape, token, shape->heads, groups->head[begin + h]);
                mean[h] = pass->scale * pass->kernels->dot((const bf16 *)pass->dy + at, (const bf16 *)y + at,
                                                           shape->width, DTYPE_BF16);
            }
        }
}

/* The gradients of a block of a group: the sum over the splits, turned back into rows. */
static void block_join(const struct backward *backward, const struct attention_block *block, int64_t kv_head,
                       struct gradient_target target, uint32_t *turned)
{
    const struct attention_pass *pass = backward->pass;
    struct attention_group group = backward_group(backward, block->span, kv_head);
    int64_t ld = backward->ld, size = group_block(&group), begin = block->index * size;
    if (begin >= group.rows)
        return;
    int64_t rows = integer_min(size, group.rows - begin), padded = integer_round_up(rows, BF16_DEPTH);
    float *sum = backward_dquery(backward, block->span, 0, kv_head) + begin * ld;
    for (int64_t split = 1; split < attention_plan_splits(pass->plan, block->span); split++)
        pass->kernels->accumulate(sum, DTYPE_F32, backward_dquery(backward, block->span, split, kv_head) + begin * ld,
                                  DTYPE_F32, 1.0f, padded * ld);
    pass->kernels->matrix->transpose(turned, ld, sum, padded, ld, padded);
    attention_scatter_rows(pass, &group, begin, rows, (const float *)turned, ld, target);
}

static void backward_queries_join(struct tape *tape, const struct backward *backward, struct gradient_target target)
{
    const struct attention_shape *shape = backward->pass->shape;
    struct attention_blocks blocks;
    if (!attention_blocks_create(tape, shape, backward->groups.largest, ROW_BLOCK, &blocks))
        return;
    int64_t work = backward->pass->queries * shape->heads * shape->width;
#pragma omp parallel for collapse(2) schedule(static) num_threads(operation_threads(tape->engine, work))
    for (int64_t b = 0; b < blocks.count; b++)
        for (int64_t kv_head = 0; kv_head < shape->kv_heads; kv_head++) {
            char *scratch = backward->scratch + (size_t)omp_get_thread_num() * backward->stride;
            block_join(backward, &blocks.block[b], kv_head, target, (uint32_t *)scratch);
        }
}

void attention_bf16_backward(struct tape *tape, const struct tape_record *record, struct attention_pass *pass)
{
    struct engine *engine = tape->engine;
    struct backward backward;
    if (!backward_create(tape, pass, &backward))
        return;
    backward_means(engine, &backward, record->output->data);
    /* In the order in which they are written, should one tensor be more than one of them. */
    pass->dkey = tape_target(tape, record->input[1]);
    pass->dvalue = tape_target(tape, record->input[2]);
    int64_t tasks = engine->context->dry ? 0 : backward.plan.tasks;
#pragma omp parallel num_threads(engine->threads)
    {
        char *scratch = backward.scratch + (size_t)omp_get_thread_num() * backward.stride;
        struct task_tiles tiles = task_carve(scratch, backward.ld);
        pass->kernels->matrix->begin();
#pragma omp for collapse(2) schedule(dynamic)
        for (int64_t task = 0; task < tasks; task++)
            for (int64_t kv_head = 0; kv_head < pass->shape->kv_heads; kv_head++)
                task_run(&backward, &tiles, &backward.plan.task[task], kv_head);
        pass->kernels->matrix->end();
    }
    struct gradient_target dquery = tape_target(tape, record->input[0]);
    if (dquery.data)
        backward_queries_join(tape, &backward, dquery);
}
