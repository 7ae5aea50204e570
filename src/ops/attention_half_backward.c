/* Attention by tiles of bf16, backward. A task takes every `splits`-th block of keys of one group, and for each of
 * them all rows that see it: the gradients of keys and values need no other task, those of the queries are summed over
 * the splits at the end. Scores are [keys, rows] and the gradients of the queries [width, rows] here, so that weights
 * and slopes leave the softmax in the layouts of their next products. */
#include "src/ops/attention_half.h"

enum { ROW_BLOCK = 256, KEY_BLOCK = ROW_BLOCK, STEP_KEYS = 32 };

struct task_tiles {
    bf16 *key, *value;                          /* [KEY_BLOCK, ld] */
    bf16 *key_transposed;                       /* [ld, KEY_BLOCK] */
    float *dkey, *dvalue;                       /* [KEY_BLOCK, ld] */
    bf16 *rows;                                 /* [ROW_BLOCK, ld], queries or gradients of the output as they are */
    uint32_t *query, *dy;                       /* pairs, [ROW_BLOCK / 2, ld] */
    uint32_t *query_transposed, *dy_transposed; /* pairs of the transpose, [ld / 2, ROW_BLOCK] */
    float *scores, *slopes;                     /* [STEP_KEYS, ROW_BLOCK] */
    bf16 *weights, *rounded;                    /* [STEP_KEYS, ROW_BLOCK] */
    uint32_t *pairs;                            /* of the rounded slopes, [KEY_BLOCK / 2, ROW_BLOCK] */
    int32_t *last;                              /* [ROW_BLOCK], the last key that each row sees, or -1 */
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
    tiles.slopes = attention_take(&scratch, STEP_KEYS * ROW_BLOCK * 4);
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

/* What a pair of blocks is: rows of a group from `begin` on, and keys from `key` on. */
struct task_pair {
    const struct attention_group *group;
    int64_t ld;
    int64_t begin, rows, padded; /* padded to the depth of products */
    int64_t key, keys, keys_padded;
    float *dquery; /* [ld, block] */
    int64_t block;
};

static void rows_gather(const struct attention_pass *pass, const struct task_tiles *tiles, const struct task_pair *pair)
{
    const struct half_kernels *half = pass->kernels->half;
    int64_t ld = pair->ld;
    struct attention_rows found =
        attention_find_rows(tiles->rows, ld, pair->group, pass->query, pair->begin, pair->rows, pair->padded);
    half->pair(tiles->query, ld, found.data, found.ld, pair->padded, ld);
    half->transpose(tiles->query_transposed, ROW_BLOCK, found.data, found.ld / 2, pair->padded, ld / 2);
    found = attention_find_rows(tiles->rows, ld, pair->group, pass->dy, pair->begin, pair->rows, pair->padded);
    half->pair(tiles->dy, ld, found.data, found.ld, pair->padded, ld);
    half->transpose(tiles->dy_transposed, ROW_BLOCK, found.data, found.ld / 2, pair->padded, ld / 2);
    const float *log_sum = pass->log_sum + pair->group->scalars + pair->begin;
    const float *mean = pass->mean + pair->group->scalars + pair->begin;
    for (int64_t r = 0; r < pair->padded; r++) {
        int64_t last = (pair->begin + r) / pair->group->heads + pass->offset;
        tiles->last[r] = r < pair->rows ? (int32_t)integer_max(last, -1) : -1;
        tiles->log_sum[r] = r < pair->rows ? log_sum[r] : 0.0f;
        tiles->mean[r] = r < pair->rows ? mean[r] : 0.0f;
    }
}

/* The keys from `at` on in their block, a few: their scores and slopes, and what those add to their gradients. Rows
 * before `skipped` see none of them. */
static void keys_run(const struct attention_pass *pass, const struct task_tiles *tiles, const struct task_pair *pair,
                     int64_t at, int64_t skipped)
{
    const struct half_kernels *half = pass->kernels->half;
    int64_t ld = pair->ld, keys = integer_min(STEP_KEYS, pair->keys_padded - at);
    struct half_product scores = {.m = keys, .n = pair->padded - skipped, .k = ld, .lda = ld, .ldb = ROW_BLOCK};
    scores.ldc = ROW_BLOCK;
    scores.a = tiles->key + at * ld;
    scores.b = tiles->query_transposed + skipped;
    scores.c = tiles->scores + skipped;
    half->multiply(&scores);
    scores.a = tiles->value + at * ld;
    scores.b = tiles->dy_transposed + skipped;
    scores.c = tiles->slopes + skipped;
    half->multiply(&scores);
    half->slopes(
        &(struct half_slopes){.scores = tiles->scores,
                              .slopes = tiles->slopes,
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
                              .masked = pair->rows < pair->padded || tiles->last[skipped] < pair->key + at + keys - 1,
                              .last = tiles->last,
                              .first = pair->key + at});
    struct half_product sums = {.m = keys, .n = pass->shape->width, .k = pair->padded - skipped, .lda = ROW_BLOCK};
    sums.ldb = sums.ldc = ld;
    sums.add = true;
    sums.a = tiles->weights + skipped;
    sums.b = tiles->dy + skipped / 2 * ld;
    sums.c = tiles->dvalue + at * ld;
    half->multiply(&sums);
    sums.a = tiles->rounded + skipped;
    sums.b = tiles->query + skipped / 2 * ld;
    sums.c = tiles->dkey + at * ld;
    half->multiply(&sums);
}

/* One block of rows against the block of keys in the tiles. */
static void pair_run(const struct attention_pass *pass, const struct task_tiles *tiles, const struct task_pair *pair)
{
    rows_gather(pass, tiles, pair);
    int64_t skipped = 0;
    for (int64_t at = 0; at < pair->keys_padded; at += STEP_KEYS) {
        while (skipped < pair->padded &&
               tiles->last[integer_min(skipped + HALF_DEPTH, pair->rows) - 1] < pair->key + at)
            skipped += HALF_DEPTH;
        if (skipped >= pair->padded)
            break;
        keys_run(pass, tiles, pair, at, skipped);
    }
    /* Columns that see all keys go together. */
    int64_t step;
    for (int64_t column = 0; column < pair->padded; column += step) {
        bool all = tiles->last[column] >= pair->key + pair->keys - 1;
        step = all ? pair->padded - column : HALF_DEPTH;
        int64_t last = tiles->last[integer_min(column + step, pair->rows) - 1] - pair->key;
        int64_t keys = integer_min(pair->keys_padded, integer_round_up(last + 1, HALF_DEPTH));
        if (keys > 0)
            pass->kernels->half->multiply(&(struct half_product){.m = pass->shape->width,
                                                                 .n = step,
                                                                 .k = keys,
                                                                 .a = tiles->key_transposed,
                                                                 .lda = KEY_BLOCK,
                                                                 .b = tiles->pairs + column,
                                                                 .ldb = ROW_BLOCK,
                                                                 .c = pair->dquery + column,
                                                                 .ldc = pair->block,
                                                                 .add = true});
    }
}

static void keys_gather(const struct attention_pass *pass, const struct task_tiles *tiles, const struct task_pair *pair)
{
    const struct half_kernels *half = pass->kernels->half;
    int64_t ld = pair->ld, padded = pair->keys_padded;
    attention_copy_keys(tiles->key, ld, pair->group, pass->key, pair->key, pair->keys, padded);
    attention_copy_keys(tiles->value, ld, pair->group, pass->value, pair->key, pair->keys, padded);
    uint32_t *pairs = tiles->query_transposed; /* free until the first block of rows */
    half->transpose(pairs, ROW_BLOCK, tiles->key, ld / 2, padded, ld / 2);
    half->part(tiles->key_transposed, KEY_BLOCK, pairs, ROW_BLOCK, ld, padded);
    memset(tiles->dkey, 0, (size_t)(padded * ld) * sizeof(float));
    memset(tiles->dvalue, 0, (size_t)(padded * ld) * sizeof(float));
}

static void keys_scatter(const struct attention_pass *pass, struct gradient_target target, const float *tile,
                         const struct task_pair *pair)
{
    int64_t width = pass->shape->width;
    int64_t at = attention_group_key(pair->group, pair->key);
    if (target.data)
        pass->kernels->tile_scatter(operation_at_mutable(target.data, at, target.dtype), pass->shape->kv_heads * width,
                                    tile, pair->ld, pair->keys, width, NULL, target.beta, target.dtype);
}

static void task_run(const struct attention_pass *pass, const struct task_tiles *tiles,
                     const struct attention_group *group, int64_t split, int64_t block, float *dquery)
{
    const struct attention_shape *shape = pass->shape;
    int64_t ld = integer_round_up(shape->width, HALF_DEPTH);
    int64_t blocks = integer_divide_up(group->rows, block);
    memset(dquery, 0, (size_t)(blocks * block * ld) * sizeof(float));
    struct task_pair pair = {.group = group, .ld = ld, .block = block};
    for (pair.key = split * KEY_BLOCK; pair.key < shape->keys_length; pair.key += pass->splits * KEY_BLOCK) {
        pair.keys = integer_min(KEY_BLOCK, shape->keys_length - pair.key);
        pair.keys_padded = integer_round_up(pair.keys, HALF_DEPTH);
        keys_gather(pass, tiles, &pair);
        /* The first row that sees this block. */
        int64_t seeing = integer_max(0, pair.key - pass->offset) * group->heads;
        for (int64_t at = seeing / block; at < blocks; at++) {
            pair.begin = at * block;
            pair.rows = integer_min(block, group->rows - pair.begin);
            pair.padded = integer_round_up(pair.rows, HALF_DEPTH);
            pair.dquery = dquery + at * block * ld;
            pair_run(pass, tiles, &pair);
        }
        keys_scatter(pass, pass->dkey, tiles->dkey, &pair);
        keys_scatter(pass, pass->dvalue, tiles->dvalue, &pair);
    }
}

/* What the tasks share beyond the pass. */
struct backward {
    const struct attention_pass *pass;
    struct attention_groups groups;
    int64_t block;      /* rows of a block */
    int64_t *blocks;    /* [kv heads + 1], blocks of the groups before */
    int64_t split_size; /* elements of dquery of a split */
    char *scratch;
    size_t stride;
    float *mean;
};

static float *backward_dquery(const struct backward *backward, int64_t split, int64_t row, int64_t kv_head)
{
    const struct attention_shape *shape = backward->pass->shape;
    int64_t ld = integer_round_up(shape->width, HALF_DEPTH);
    int64_t blocks = row * backward->blocks[shape->kv_heads] + backward->blocks[kv_head];
    return backward->pass->dquery + split * backward->split_size + blocks * backward->block * ld;
}

static bool backward_create(struct tape *tape, struct attention_pass *pass, struct backward *backward)
{
    const struct attention_shape *shape = pass->shape;
    int64_t ld = integer_round_up(shape->width, HALF_DEPTH);
    backward->pass = pass;
    backward->blocks = arena_allocate(tape->work, (size_t)(shape->kv_heads + 1) * sizeof *backward->blocks);
    if (!attention_groups_create(tape, shape, &backward->groups) || !backward->blocks)
        return false;
    int64_t longest = integer_max(1, backward->groups.largest * shape->length);
    /* Evenly, so that little is padded. */
    backward->block = integer_round_up(integer_divide_up(longest, integer_divide_up(longest, ROW_BLOCK)), HALF_DEPTH);
    backward->blocks[0] = 0;
    for (int64_t kv_head = 0; kv_head < shape->kv_heads; kv_head++) {
        int64_t rows = attention_group(&backward->groups, shape, 0, kv_head).rows;
        backward->blocks[kv_head + 1] =
            backward->blocks[kv_head] + (rows ? integer_divide_up(rows, backward->block) : 0);
    }
    backward->split_size = shape->rows * backward->blocks[shape->kv_heads] * backward->block * ld;
    pass->splits = attention_splits(tape->engine, shape, KEY_BLOCK);
    pass->dquery = arena_allocate(tape->work, (size_t)(pass->splits * backward->split_size) * sizeof(float));
    size_t scalars = (size_t)(shape->rows * shape->heads * shape->length);
    pass->mean = backward->mean = arena_allocate(tape->work, scalars * sizeof(float));
    backward->scratch = engine_scratch(tape->engine, task_bytes(ld) + 8192, &backward->stride);
    return pass->dquery && pass->mean && backward->scratch;
}

/* The mean of each row, times the scale. */
static void backward_means(struct engine *engine, const struct backward *backward, const void *y)
{
    const struct attention_pass *pass = backward->pass;
    const struct attention_shape *shape = pass->shape;
    int64_t work = shape->rows * shape->length * shape->heads * shape->width;
#pragma omp parallel for collapse(3) schedule(static) num_threads(operation_threads(engine, work))
    for (int64_t row = 0; row < shape->rows; row++)
        for (int64_t kv_head = 0; kv_head < shape->kv_heads; kv_head++)
            for (int64_t position = 0; position < shape->length; position++) {
                struct attention_group group = attention_group(&backward->groups, shape, row, kv_head);
                for (int64_t r = position * group.heads; r < (position + 1) * group.heads; r++) {
                    int64_t at = attention_group_vector(&group, r);
                    float sum =
                        pass->kernels->dot((const bf16 *)pass->dy + at, (const bf16 *)y + at, shape->width, DTYPE_BF16);
                    backward->mean[group.scalars + r] = pass->scale * sum;
                }
            }
}

/* The gradients of a block of rows: the sum over the splits, turned back into rows. */
static void block_join(const struct backward *backward, const struct attention_group *group, int64_t at,
                       struct gradient_target target, uint32_t *turned)
{
    const struct attention_pass *pass = backward->pass;
    int64_t ld = integer_round_up(pass->shape->width, HALF_DEPTH), size = backward->block * ld;
    float *sum = backward_dquery(backward, 0, group->row, group->kv_head) + at * size;
    for (int64_t split = 1; split < pass->splits; split++)
        pass->kernels->accumulate(sum, DTYPE_F32,
                                  backward_dquery(backward, split, group->row, group->kv_head) + at * size, DTYPE_F32,
                                  1.0f, size);
    pass->kernels->half->transpose(turned, ld, sum, backward->block, ld, backward->block);
    int64_t begin = at * backward->block, rows = integer_min(backward->block, group->rows - begin);
    attention_scatter_rows(pass, group, begin, rows, (const float *)turned, ld, target);
}

static void backward_queries_join(struct engine *engine, const struct backward *backward, struct gradient_target target)
{
    const struct attention_shape *shape = backward->pass->shape;
    int64_t most = integer_divide_up(backward->groups.largest * shape->length, backward->block);
#pragma omp parallel for collapse(3) schedule(static) num_threads(operation_threads(engine, backward->split_size))
    for (int64_t row = 0; row < shape->rows; row++)
        for (int64_t kv_head = 0; kv_head < shape->kv_heads; kv_head++)
            for (int64_t at = 0; at < most; at++) {
                struct attention_group group = attention_group(&backward->groups, shape, row, kv_head);
                char *scratch = backward->scratch + (size_t)omp_get_thread_num() * backward->stride;
                if (at * backward->block < group.rows)
                    block_join(backward, &group, at, target, (uint32_t *)scratch);
            }
}

void attention_half_backward(struct tape *tape, const struct tape_record *record, struct attention_pass *pass)
{
    struct engine *engine = tape->engine;
    const struct attention_shape *shape = pass->shape;
    struct backward backward;
    if (!backward_create(tape, pass, &backward))
        return;
    backward_means(engine, &backward, record->output->data);
    /* In the order in which they are written, should one tensor be more than one of them. */
    pass->dkey = tape_target(tape, record->input[1]);
    pass->dvalue = tape_target(tape, record->input[2]);
    int64_t ld = integer_round_up(shape->width, HALF_DEPTH);
#pragma omp parallel num_threads(engine->threads)
    {
        struct task_tiles tiles = task_carve(backward.scratch + (size_t)omp_get_thread_num() * backward.stride, ld);
        pass->kernels->half->begin();
#pragma omp for collapse(3) schedule(dynamic)
        for (int64_t split = 0; split < pass->splits; split++)
            for (int64_t row = 0; row < shape->rows; row++)
                for (int64_t kv_head = 0; kv_head < shape->kv_heads; kv_head++) {
                    struct attention_group group = attention_group(&backward.groups, shape, row, kv_head);
                    task_run(pass, &tiles, &group, split, backward.block,
                             backward_dquery(&backward, split, row, kv_head));
                }
        pass->kernels->half->end();
    }
    struct gradient_target dquery = tape_target(tape, record->input[0]);
    if (dquery.data)
        backward_queries_join(engine, &backward, dquery);
}
