/* Attention by tiles of bf16, forward. A task is a panel of a group's rows: keys and values are laid out for it block
 * by block, and the panel goes over them a few rows at a time, each step up to the last key it sees. Doing so again for
 * every panel is 1 to 2 % of its time, and keeps a thread's scratch independent of the length. */
#include "src/ops/attention_bf16.h"

enum { PANEL_ROWS = 256, STEP_ROWS = 32, KEY_BLOCK = 256 };

bool attention_groups_create(struct tape *tape, const struct attention_shape *shape, struct attention_groups *groups)
{
    groups->begin = arena_allocate(tape->work, (size_t)(shape->kv_heads + 1) * sizeof *groups->begin);
    groups->head = arena_allocate(tape->work, (size_t)shape->heads * sizeof *groups->head);
    groups->largest = 0;
    if (!groups->begin || !groups->head)
        return false;
    int64_t count = 0;
    for (int64_t kv_head = 0; kv_head < shape->kv_heads; kv_head++) {
        groups->begin[kv_head] = count;
        for (int64_t head = 0; head < shape->heads; head++)
            if (shape->kv_of_head[head] == kv_head)
                groups->head[count++] = (int32_t)head;
        groups->largest = integer_max(groups->largest, count - groups->begin[kv_head]);
    }
    groups->begin[shape->kv_heads] = count;
    return true;
}

static void row_copy(bf16 *to, int64_t ld, const bf16 *from, int64_t width)
{
    if (width % BF16_DEPTH == 0) {
        for (int64_t c = 0; c < width; c += BF16_DEPTH)
            memcpy(to + c, from + c, BF16_DEPTH * sizeof *to);
    } else {
        memcpy(to, from, (size_t)width * sizeof *to);
        memset(to + width, 0, (size_t)(ld - width) * sizeof *to);
    }
}

static void attention_copy_rows(bf16 *tile, int64_t ld, const struct attention_group *group, const void *from,
                                int64_t group_row, int64_t rows, int64_t padded)
{
    for (int64_t r = 0; r < rows; r++)
        row_copy(tile + r * ld, ld, (const bf16 *)from + attention_group_vector(group, group_row + r),
                 group->shape->width);
    memset(tile + rows * ld, 0, (size_t)((padded - rows) * ld) * sizeof *tile);
}

void attention_copy_keys(bf16 *tile, int64_t ld, const struct attention_shape *shape, int64_t kv_head, const void *from,
                         int64_t key, int64_t keys, int64_t padded)
{
    for (int64_t k = 0; k < keys; k++)
        row_copy(tile + k * ld, ld, (const bf16 *)from + attention_vector(shape, key + k, shape->kv_heads, kv_head),
                 shape->width);
    memset(tile + keys * ld, 0, (size_t)((padded - keys) * ld) * sizeof *tile);
}

struct attention_tile attention_find_rows(bf16 *tile, int64_t ld, const struct attention_group *group, const void *from,
                                          int64_t group_row, int64_t rows, int64_t padded)
{
    if (group->heads == 1 && rows == padded && ld == group->shape->width)
        return (struct attention_tile){(const bf16 *)from + attention_group_vector(group, group_row),
                                       group->shape->heads * ld};
    attention_copy_rows(tile, ld, group, from, group_row, rows, padded);
    return (struct attention_tile){tile, ld};
}

static struct attention_tile attention_find_keys(bf16 *tile, int64_t ld, const struct attention_shape *shape,
                                                 int64_t kv_head, const void *from, int64_t key, int64_t keys,
                                                 int64_t padded)
{
    if (keys == padded && ld == shape->width)
        return (struct attention_tile){(const bf16 *)from + attention_vector(shape, key, shape->kv_heads, kv_head),
                                       shape->kv_heads * ld};
    attention_copy_keys(tile, ld, shape, kv_head, from, key, keys, padded);
    return (struct attention_tile){tile, ld};
}

void attention_scatter_rows(const struct attention_pass *pass, const struct attention_group *group, int64_t group_row,
                            int64_t rows, const float *tile, int64_t ld, struct gradient_target target)
{
    const struct attention_shape *shape = pass->shape;
    int64_t heads = group->heads;
    for (int64_t r = 0; r < rows && r < heads; r++)
        pass->kernels->tile_scatter(
            operation_at_mutable(target.data, attention_group_vector(group, group_row + r), target.dtype),
            shape->heads * shape->width, tile + r * ld, heads * ld, (rows - r + heads - 1) / heads, shape->width, NULL,
            target.beta, target.dtype);
}

struct panel_tiles {
    bf16 *query;                   /* [PANEL_ROWS, ld] */
    bf16 *rows;                    /* [KEY_BLOCK, ld], keys or values as they are */
    uint32_t *key;                 /* pairs of the transpose, [ld / 2, KEY_BLOCK] */
    uint32_t *value;               /* pairs, [KEY_BLOCK / 2, ld] */
    float *scores;                 /* [STEP_ROWS, KEY_BLOCK] */
    bf16 *weights;                 /* [STEP_ROWS, KEY_BLOCK] */
    float *output;                 /* [PANEL_ROWS, ld] */
    float *largest, *sum, *factor; /* [PANEL_ROWS] */
    int32_t *seen;                 /* [PANEL_ROWS], keys that each row sees */
};

static struct panel_tiles panel_carve(char *scratch, int64_t ld)
{
    struct panel_tiles tiles;
    tiles.query = attention_take(&scratch, PANEL_ROWS * ld * 2);
    tiles.rows = attention_take(&scratch, KEY_BLOCK * ld * 2);
    tiles.key = attention_take(&scratch, KEY_BLOCK * ld * 2);
    tiles.value = attention_take(&scratch, KEY_BLOCK * ld * 2);
    tiles.scores = attention_take(&scratch, STEP_ROWS * KEY_BLOCK * 4);
    tiles.weights = attention_take(&scratch, STEP_ROWS * KEY_BLOCK * 2);
    tiles.output = attention_take(&scratch, PANEL_ROWS * ld * 4);
    tiles.largest = attention_take(&scratch, PANEL_ROWS * 4);
    tiles.sum = attention_take(&scratch, PANEL_ROWS * 4);
    tiles.factor = attention_take(&scratch, PANEL_ROWS * 4);
    tiles.seen = attention_take(&scratch, PANEL_ROWS * 4);
    return tiles;
}

static size_t panel_bytes(int64_t ld)
{
    return (size_t)((6 * PANEL_ROWS + 6 * KEY_BLOCK) * ld + 6 * STEP_ROWS * KEY_BLOCK + 16 * PANEL_ROWS);
}

/* Adds a block of keys to the running output of the rows of one step, which begin at `at` in the panel. */
static void step_run(const struct attention_pass *pass, const struct panel_tiles *tiles, int64_t at, int64_t rows,
                     int64_t key, int64_t keys, int64_t ld)
{
    const struct bf16_kernels *matrix = pass->kernels->matrix;
    int64_t seen = integer_min(keys, tiles->seen[at + rows - 1] - key);
    if (seen <= 0)
        return;
    int64_t columns = integer_round_up(seen, BF16_DEPTH);
    matrix->multiply(&(struct bf16_product){.m = rows,
                                            .n = columns,
                                            .k = ld,
                                            .a = tiles->query + at * ld,
                                            .lda = ld,
                                            .b = tiles->key,
                                            .ldb = KEY_BLOCK,
                                            .c = tiles->scores,
                                            .ldc = KEY_BLOCK});
    matrix->weights(&(struct bf16_weights){.scores = tiles->scores,
                                           .weights = tiles->weights,
                                           .ld = KEY_BLOCK,
                                           .rows = integer_round_up(rows, 2),
                                           .columns = columns,
                                           .seen = tiles->seen + at,
                                           .first = key,
                                           .scale = pass->scale * LOG2_E,
                                           .largest = tiles->largest + at,
                                           .sum = tiles->sum + at,
                                           .factor = tiles->factor + at});
    pass->kernels->tile_scale(tiles->output + at * ld, ld, rows, ld, tiles->factor + at);
    matrix->multiply(&(struct bf16_product){.m = rows,
                                            .n = pass->shape->width,
                                            .k = columns,
                                            .a = tiles->weights,
                                            .lda = KEY_BLOCK,
                                            .b = tiles->value,
                                            .ldb = ld,
                                            .c = tiles->output + at * ld,
                                            .ldc = ld,
                                            .add = true});
}

static void panel_begin(const struct attention_pass *pass, const struct panel_tiles *tiles,
                        const struct attention_group *group, int64_t begin, int64_t rows, int64_t ld)
{
    int64_t padded = integer_round_up(rows, STEP_ROWS);
    attention_copy_rows(tiles->query, ld, group, pass->query, begin, rows, padded);
    memset(tiles->output, 0, (size_t)(padded * ld) * sizeof(float));
    for (int64_t r = 0; r < padded; r++) {
        tiles->seen[r] = r < rows ? (int32_t)attention_group_seen(group, begin + r) : 0;
        tiles->largest[r] = -INFINITY;
        tiles->sum[r] = 0.0f;
    }
}

static void panel_finish(const struct attention_pass *pass, const struct panel_tiles *tiles,
                         const struct attention_group *group, int64_t begin, int64_t rows, int64_t ld)
{
    float *log_sum = pass->log_sum ? pass->log_sum + group->scalars + begin : NULL;
    for (int64_t r = 0; r < rows; r++) {
        /* A row that sees no key has a sum of 0 and gives 0. */
        bool empty = tiles->sum[r] == 0.0f;
        tiles->factor[r] = empty ? 0.0f : 1.0f / tiles->sum[r];
        if (log_sum)
            log_sum[r] = empty ? 0.0f : tiles->largest[r] + log2f(tiles->sum[r]);
    }
    pass->kernels->tile_scale(tiles->output, ld, rows, ld, tiles->factor);
    attention_scatter_rows(pass, group, begin, rows, tiles->output, ld,
                           (struct gradient_target){.data = pass->output, .dtype = DTYPE_BF16});
}

static void panel_run(const struct attention_pass *pass, const struct panel_tiles *tiles,
                      const struct attention_group *group, int64_t begin, int64_t panel)
{
    const struct bf16_kernels *matrix = pass->kernels->matrix;
    const struct attention_shape *shape = pass->shape;
    int64_t ld = integer_round_up(shape->width, BF16_DEPTH);
    int64_t rows = integer_min(panel, group->rows - begin);
    panel_begin(pass, tiles, group, begin, rows, ld);
    for (int64_t key = 0; key < tiles->seen[rows - 1]; key += KEY_BLOCK) {
        int64_t keys = integer_min(KEY_BLOCK, tiles->seen[rows - 1] - key);
        int64_t padded = integer_round_up(keys, BF16_DEPTH);
        int64_t from = group->span->key + key;
        struct attention_tile found =
            attention_find_keys(tiles->rows, ld, shape, group->kv_head, pass->key, from, keys, padded);
        matrix->transpose(tiles->key, KEY_BLOCK, found.data, found.ld / 2, padded, ld / 2);
        found = attention_find_keys(tiles->rows, ld, shape, group->kv_head, pass->value, from, keys, padded);
        matrix->pair(tiles->value, ld, found.data, found.ld, padded, ld);
        for (int64_t at = 0; at < rows; at += STEP_ROWS)
            step_run(pass, tiles, at, integer_min(STEP_ROWS, rows - at), key, keys, ld);
    }
    panel_finish(pass, tiles, group, begin, rows, ld);
}

bool attention_bf16_forward(struct tape *tape, const struct attention_pass *pass)
{
    struct engine *engine = tape->engine;
    const struct attention_shape *shape = pass->shape;
    struct attention_groups groups;
    int64_t ld = integer_round_up(shape->width, BF16_DEPTH);
    size_t stride;
    char *scratch = engine_scratch(engine, panel_bytes(ld) + 4096, &stride);
    if (!attention_groups_create(tape, shape, &groups) || !scratch)
        return false;
    /* Smaller panels where there would be too few; the results are the same. */
    int64_t panel = PANEL_ROWS;
    while (panel > 2 * STEP_ROWS &&
           shape->kv_heads * attention_blocks_count(shape, groups.largest, panel) < 4 * (int64_t)engine->threads)
        panel /= 2;
    struct attention_blocks panels;
    if (!attention_blocks_create(tape, shape, groups.largest, panel, &panels))
        return false;
    int64_t work = shape->heads * (2 * pass->pairs + pass->queries * shape->width);
    if (engine->context->dry) /* the panels are many */
        return true;
#pragma omp parallel num_threads(operation_threads(engine, work))
    {
        struct panel_tiles tiles = panel_carve(scratch + (size_t)omp_get_thread_num() * stride, ld);
        pass->kernels->matrix->begin();
#pragma omp for collapse(2) schedule(dynamic)
        for (int64_t at = 0; at < panels.count; at++)
            for (int64_t kv_head = 0; kv_head < shape->kv_heads; kv_head++) {
                struct attention_group group =
                    attention_group(&groups, shape, pass->queries, panels.block[at].span, kv_head);
                int64_t begin = panels.block[at].index * panel;
                if (begin < group.rows && !attention_is_single(pass, group.span))
                    panel_run(pass, &tiles, &group, begin, panel);
            }
        pass->kernels->matrix->end();
    }
    return true;
}
