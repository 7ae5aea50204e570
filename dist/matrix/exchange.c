#include "dist/matrix/exchange.h"

#include <string.h>

#include "dist/mesh/events.h"
#include "src/tensor/box.h"

/* Numbers of a share in the gather of all shares: those that are brought, and those that are wanted. */
enum { PART_NUMBERS = 6, SHARE_NUMBERS = 1 + MATRIX_PARTS * PART_NUMBERS };

enum direction { INTO_GRID, FROM_GRID, DIRECTIONS };

struct exchange {
    struct context *context;
    struct grid_matrix matrix; /* as it is laid out; its data are not looked at */
    enum dtype dtype;
    int ranks;
    struct matrix_share *shares[DIRECTIONS]; /* [ranks] */
    int64_t *counts[DIRECTIONS];             /* [ranks] elements between this rank's share and each rank's blocks */
    int64_t *blocks[DIRECTIONS];             /* [ranks] between each rank's share and this rank's blocks */
    int64_t most;                            /* that any rank sends or receives in a direction */
    int64_t parts_room, blocks_room;         /* of this rank's elements on either side, in both directions */
};

/* -- Shares -- */

struct matrix_share matrix_share_of_block(struct range rows, struct range columns)
{
    struct matrix_share share = {.count = rows.count * columns.count > 0};
    share.part[0] = (struct matrix_part){rows, columns, 0, columns.count};
    return share;
}

struct matrix_share matrix_share_of_range(struct range rows, struct range columns, struct range flat)
{
    struct box block = {.offset = {rows.begin, columns.begin}, .extent = {rows.count, columns.count}};
    struct box boxes[BOXES_OF_RANGE];
    struct matrix_share share = {0};
    int64_t begin = 0;
    if (flat.count > 0)
        share.count = box_from_range(&block, 2, flat, boxes);
    for (int i = 0; i < share.count; i++) {
        share.part[i] = (struct matrix_part){.rows = {boxes[i].offset[0], boxes[i].extent[0]},
                                             .columns = {boxes[i].offset[1], boxes[i].extent[1]},
                                             .begin = begin,
                                             .stride = boxes[i].extent[1]};
        begin += boxes[i].extent[0] * boxes[i].extent[1];
    }
    return share;
}

static int64_t share_count(const struct matrix_share *share)
{
    int64_t count = 0;
    for (int i = 0; i < share->count; i++)
        count += share->part[i].rows.count * share->part[i].columns.count;
    return count;
}

/* -- Blocks -- */

/* A rank's row and column in the grid; false outside of it. */
static bool place_of(const struct grid *grid, int rank, int *row, int *column)
{
    *row = rank / grid->columns;
    *column = rank % grid->columns;
    return rank < grid->rows * grid->columns;
}

/* How many of a range a place owns: those below its end less those below its begin. */
static int64_t owned_count(struct range range, int64_t block, int place, int places)
{
    return cyclic_count(range.begin + range.count, block, place, places) -
           cyclic_count(range.begin, block, place, places);
}

static int64_t count_between(const struct grid_matrix *matrix, const struct matrix_share *share, int rank)
{
    int row;
    int column;
    int64_t count = 0;
    if (!place_of(matrix->grid, rank, &row, &column))
        return 0;
    for (int i = 0; i < share->count; i++)
        count += owned_count(share->part[i].rows, matrix->block, row, matrix->grid->rows) *
                 owned_count(share->part[i].columns, matrix->block, column, matrix->grid->columns);
    return count;
}

/* The next stretch of a range, from `at` on, that lies in one block of a place: its global begin, and its count, 0 at
 * the end. */
static struct range next_stretch(struct range range, int64_t at, int64_t block, int place, int places)
{
    int64_t end = range.begin + range.count;
    int64_t index = at / block;
    int64_t ahead = (place - index % places + places) % places;
    if (ahead > 0)
        at = (index + ahead) * block;
    int64_t stop = integer_min(end, (at / block + 1) * block);
    return (struct range){at, integer_max(0, stop - at)};
}

static int64_t local_index(int64_t global, int64_t block, int places)
{
    return global / block / places * block + global % block;
}

/* -- Packing -- */

/* What passes between a share and the blocks of one rank, in one order: part after part, block column after block
 * column, row after row. Either end is memory: the share's (row-major, of the type of shares) or the matrix's. */
struct walk {
    const struct exchange *exchange;
    const struct matrix_share *share;
    int row, column; /* of the blocks' rank in the grid */
    char *packed;
    char *share_data; /* one of the two */
    const struct grid_matrix *matrix;
    bool packs; /* else unpacks */
};

/* A stretch of columns of one row on the side of the share. */
static void move_share(struct walk *walk, const struct matrix_part *part, int64_t row, struct range columns)
{
    size_t size = dtype_size(walk->exchange->dtype);
    int64_t index = part->begin + (row - part->rows.begin) * part->stride + columns.begin - part->columns.begin;
    char *data = walk->share_data + (size_t)index * size;
    size_t bytes = (size_t)columns.count * size;
    if (walk->packs)
        memcpy(walk->packed, data, bytes);
    else
        memcpy(data, walk->packed, bytes);
    walk->packed += bytes;
}

/* The same on the side of the matrix. */
static void move_blocks(struct walk *walk, int64_t row, struct range columns)
{
    const struct grid_matrix *matrix = walk->matrix;
    bool single = walk->exchange->dtype == DTYPE_F32;
    int64_t begin = local_index(row, matrix->block, matrix->grid->rows) +
                    local_index(columns.begin, matrix->block, matrix->grid->columns) * matrix->local_rows;
    for (int64_t i = 0; i < columns.count; i++) {
        int64_t at = begin + i * matrix->local_rows;
        float *f = (float *)matrix->data + at;
        double *d = (double *)matrix->data + at;
        bool narrow = matrix->dtype == DTYPE_F32;
        float *packed_f = (float *)(void *)walk->packed + i;
        double *packed_d = (double *)(void *)walk->packed + i;
        if (walk->packs && single)
            *packed_f = narrow ? *f : (float)*d;
        else if (walk->packs)
            *packed_d = narrow ? (double)*f : *d;
        else if (narrow)
            *f = single ? *packed_f : (float)*packed_d;
        else
            *d = single ? (double)*packed_f : *packed_d;
    }
    walk->packed += (size_t)columns.count * dtype_size(walk->exchange->dtype);
}

static void walk_over(struct walk *walk)
{
    const struct grid_matrix *matrix = &walk->exchange->matrix;
    int high = matrix->grid->rows;
    int wide = matrix->grid->columns;
    for (int i = 0; i < walk->share->count; i++) {
        const struct matrix_part *part = &walk->share->part[i];
        struct range columns = next_stretch(part->columns, part->columns.begin, matrix->block, walk->column, wide);
        for (; columns.count > 0;
             columns = next_stretch(part->columns, columns.begin + columns.count, matrix->block, walk->column, wide)) {
            struct range rows = next_stretch(part->rows, part->rows.begin, matrix->block, walk->row, high);
            for (; rows.count > 0;
                 rows = next_stretch(part->rows, rows.begin + rows.count, matrix->block, walk->row, high))
                for (int64_t row = rows.begin; row < rows.begin + rows.count; row++)
                    if (walk->share_data)
                        move_share(walk, part, row, columns);
                    else
                        move_blocks(walk, row, columns);
        }
    }
}

/* -- Plans -- */

static enum status allocate_tables(struct exchange *exchange)
{
    struct context *context = exchange->context;
    size_t ranks = (size_t)exchange->ranks;
    for (int d = 0; d < DIRECTIONS; d++) {
        exchange->shares[d] = memory_allocate(context, ranks * sizeof **exchange->shares, MEMORY_OTHER);
        exchange->counts[d] = memory_allocate(context, ranks * sizeof **exchange->counts, MEMORY_OTHER);
        exchange->blocks[d] = memory_allocate(context, ranks * sizeof **exchange->blocks, MEMORY_OTHER);
    }
    return context->status;
}

static void share_to_numbers(const struct matrix_share *share, int64_t numbers[SHARE_NUMBERS])
{
    numbers[0] = share->count;
    for (int i = 0; i < MATRIX_PARTS; i++) {
        const struct matrix_part *p = &share->part[i];
        const int64_t part[PART_NUMBERS] = {p->rows.begin,    p->rows.count, p->columns.begin,
                                            p->columns.count, p->begin,      p->stride};
        memcpy(numbers + 1 + i * PART_NUMBERS, part, sizeof part);
    }
}

static struct matrix_share share_from_numbers(const int64_t numbers[SHARE_NUMBERS])
{
    struct matrix_share share = {.count = (int)numbers[0]};
    for (int i = 0; i < MATRIX_PARTS; i++) {
        const int64_t *p = numbers + 1 + i * PART_NUMBERS;
        share.part[i] = (struct matrix_part){{p[0], p[1]}, {p[2], p[3]}, p[4], p[5]};
    }
    return share;
}

static enum status gather_shares(struct exchange *exchange, const struct matrix_share *brings,
                                 const struct matrix_share *wants)
{
    enum { NUMBERS = DIRECTIONS * SHARE_NUMBERS };
    const struct grid *grid = exchange->matrix.grid;
    int64_t mine[NUMBERS];
    int64_t *all = memory_allocate(exchange->context, (size_t)exchange->ranks * sizeof mine, MEMORY_OTHER);
    enum status status = grid_agree(grid, all ? exchange->context->status : STATUS_MEMORY);
    if (status == STATUS_OK) {
        share_to_numbers(brings, mine);
        share_to_numbers(wants, mine + SHARE_NUMBERS);
        memcpy(all + (ptrdiff_t)mesh_rank(grid->mesh, grid->axis) * NUMBERS, mine, sizeof mine);
        mesh_all_gather(grid->mesh, grid->axis, mine, all, exchange->ranks, NUMBERS, DTYPE_I64);
        for (int r = 0; r < exchange->ranks; r++) {
            exchange->shares[INTO_GRID][r] = share_from_numbers(all + (ptrdiff_t)r * NUMBERS);
            exchange->shares[FROM_GRID][r] = share_from_numbers(all + (ptrdiff_t)r * NUMBERS + SHARE_NUMBERS);
        }
    }
    memory_free(exchange->context, all);
    return status;
}

/* Of a dry mesh nobody else's share is known; but each element belongs to someone, and `copies` of it are wanted. So
 * what this rank sends is known: whom it is sent to does not matter. */
static void count_dry(struct exchange *exchange, int d, int rank, int copies)
{
    int64_t times = d == INTO_GRID ? 1 : copies;
    if (exchange->ranks > 1)
        exchange->blocks[d][(rank + 1) % exchange->ranks] =
            times * grid_matrix_count(&exchange->matrix) - exchange->blocks[d][rank];
}

static void count_all(struct exchange *exchange, int copies)
{
    const struct grid *grid = exchange->matrix.grid;
    int rank = mesh_rank(grid->mesh, grid->axis);
    bool dry = !mesh_team(grid->mesh);
    for (int d = 0; d < DIRECTIONS; d++) {
        int64_t parts = share_count(&exchange->shares[d][rank]);
        int64_t blocks = 0;
        for (int r = 0; r < exchange->ranks; r++) {
            exchange->counts[d][r] = count_between(&exchange->matrix, &exchange->shares[d][rank], r);
            if (!dry || r == rank)
                exchange->blocks[d][r] = count_between(&exchange->matrix, &exchange->shares[d][r], rank);
        }
        if (dry)
            count_dry(exchange, d, rank, copies);
        for (int r = 0; r < exchange->ranks; r++)
            blocks += exchange->blocks[d][r];
        exchange->parts_room = integer_max(exchange->parts_room, parts);
        exchange->blocks_room = integer_max(exchange->blocks_room, blocks);
    }
}

/* Whether a part of this rank's is brought by another, too, or by itself twice. */
static bool is_brought_twice(const struct exchange *exchange, int rank)
{
    const struct matrix_share *shares = exchange->shares[INTO_GRID];
    const struct matrix_share *mine = &shares[rank];
    for (int r = 0; r < exchange->ranks; r++)
        for (int i = 0; i < mine->count; i++)
            for (int j = 0; j < (r == rank ? i : shares[r].count); j++) {
                const struct matrix_part *a = &mine->part[i];
                const struct matrix_part *b = &shares[r].part[j];
                if (range_intersect(a->rows, b->rows).count * range_intersect(a->columns, b->columns).count > 0)
                    return true;
            }
    return false;
}

/* Each element has to be brought once. */
static enum status check_brought(struct exchange *exchange, const char *what)
{
    const struct grid_matrix *matrix = &exchange->matrix;
    const struct grid *grid = matrix->grid;
    int64_t most[2] = {integer_max(exchange->parts_room, exchange->blocks_room),
                       is_brought_twice(exchange, mesh_rank(grid->mesh, grid->axis))};
    int64_t sum = 0;
    mesh_all_reduce(grid->mesh, grid->axis, most, 2, DTYPE_I64, MESH_MAX);
    exchange->most = most[0];
    for (int r = 0; r < exchange->ranks; r++)
        sum += share_count(&exchange->shares[INTO_GRID][r]);
    if (!mesh_team(grid->mesh) || (!most[1] && sum == matrix->rows * matrix->columns))
        return STATUS_OK;
    return context_fail(exchange->context, STATUS_USAGE,
                        "%s: the ranks of the %s axis bring %lld elements%s of a matrix of %lld x %lld", what,
                        mesh_axis_name(grid->axis), (long long)sum, most[1] ? ", some of them twice," : "",
                        (long long)matrix->rows, (long long)matrix->columns);
}

enum status exchange_create(struct context *context, const char *what, const struct grid_matrix *matrix,
                            const struct matrix_share *brings, const struct matrix_share *wants, int copies,
                            enum dtype dtype, struct exchange **exchange)
{
    const struct grid *grid = matrix->grid;
    struct exchange *e = memory_allocate(context, sizeof *e, MEMORY_OTHER);
    enum status status = e ? STATUS_OK : STATUS_MEMORY;
    *exchange = e;
    if (e) {
        *e = (struct exchange){
            .context = context, .matrix = *matrix, .dtype = dtype, .ranks = mesh_size(grid->mesh, grid->axis)};
        e->matrix.data = NULL;
        status = allocate_tables(e);
    }
    CHECK(grid_agree(grid, status));
    CHECK(gather_shares(e, brings, wants));
    count_all(e, copies);
    return check_brought(e, what);
}

void exchange_destroy(struct exchange **exchange)
{
    struct exchange *e = *exchange;
    if (!e)
        return;
    for (int d = 0; d < DIRECTIONS; d++) {
        memory_free(e->context, e->shares[d]);
        memory_free(e->context, e->counts[d]);
        memory_free(e->context, e->blocks[d]);
    }
    memory_free(e->context, e);
    *exchange = NULL;
}

/* -- Moving -- */

static size_t room_bytes(const struct exchange *exchange, int64_t count)
{
    enum { ALIGNMENT = 64 };
    return (size_t)integer_round_up(count * (int64_t)dtype_size(exchange->dtype), ALIGNMENT);
}

size_t exchange_work(const struct exchange *exchange)
{
    return room_bytes(exchange, exchange->parts_room) + room_bytes(exchange, exchange->blocks_room);
}

/* All of this rank's share, to or from what is packed for each rank. */
static void walk_share(struct exchange *exchange, enum direction d, void *share, char *packed)
{
    const struct grid *grid = exchange->matrix.grid;
    struct walk walk = {.exchange = exchange,
                        .share = &exchange->shares[d][mesh_rank(grid->mesh, grid->axis)],
                        .packed = packed,
                        .share_data = share,
                        .packs = d == INTO_GRID};
    for (int r = 0; r < exchange->ranks; r++)
        if (place_of(grid, r, &walk.row, &walk.column) && exchange->counts[d][r] > 0)
            walk_over(&walk);
}

/* All of this rank's blocks. */
static void walk_blocks(struct exchange *exchange, enum direction d, const struct grid_matrix *matrix, char *packed)
{
    struct walk walk = {.exchange = exchange,
                        .row = matrix->grid->row,
                        .column = matrix->grid->column,
                        .packed = packed,
                        .matrix = matrix,
                        .packs = d == FROM_GRID};
    for (int r = 0; r < exchange->ranks; r++) {
        walk.share = &exchange->shares[d][r];
        if (exchange->blocks[d][r] > 0)
            walk_over(&walk);
    }
}

void exchange_into_grid(struct exchange *exchange, const void *share, const struct grid_matrix *matrix, void *work)
{
    const struct grid *grid = matrix->grid;
    char *parts = work;
    char *blocks = parts + room_bytes(exchange, exchange->parts_room);
    bool dry = grid->context->dry;
    if (!dry)
        walk_share(exchange, INTO_GRID, (void *)(uintptr_t)share, parts);
    mesh_all_to_all(grid->mesh, grid->axis, parts, exchange->counts[INTO_GRID], blocks, exchange->blocks[INTO_GRID],
                    exchange->most, exchange->dtype);
    if (!dry)
        walk_blocks(exchange, INTO_GRID, matrix, blocks);
}

void exchange_from_grid(struct exchange *exchange, const struct grid_matrix *matrix, void *share, void *work)
{
    const struct grid *grid = matrix->grid;
    char *parts = work;
    char *blocks = parts + room_bytes(exchange, exchange->parts_room);
    bool dry = grid->context->dry;
    if (!dry)
        walk_blocks(exchange, FROM_GRID, matrix, blocks);
    mesh_all_to_all(grid->mesh, grid->axis, blocks, exchange->blocks[FROM_GRID], parts, exchange->counts[FROM_GRID],
                    exchange->most, exchange->dtype);
    if (!dry)
        walk_share(exchange, FROM_GRID, share, parts);
}
