#include "dist/matrix/grid.h"

#include <limits.h>

#include "dist/matrix/grid_private.h"
#include "dist/mesh/events.h"
#include "dist/mesh/mesh_mpi.h"

const struct scalapack *scalapack_of(enum dtype dtype)
{
    static const struct scalapack single = {psgemm_,  pssyrk_,  psgeadd_, pstrsm_,  pspotrf_,
                                            psgeqrf_, psorgqr_, pssyevd_, psgesvd_, "ps"};
    static const struct scalapack full = {pdgemm_,  pdsyrk_,  pdgeadd_, pdtrsm_,  pdpotrf_,
                                          pdgeqrf_, pdorgqr_, pdsyevd_, pdgesvd_, "pd"};
    return dtype == DTYPE_F32 ? &single : &full;
}

/* -- Grids -- */

void grid_shape(int ranks, int *rows, int *columns)
{
    for (int used = ranks;; used--) {
        int height = 1;
        for (int divisor = 2; divisor * divisor <= used; divisor++)
            if (used % divisor == 0)
                height = divisor;
        *rows = height;
        *columns = used / height;
        if (*columns <= 4 * height)
            return;
    }
}

static enum status make_blacs(struct grid *grid)
{
    struct mesh *mesh = grid->mesh;
    int *ranks = memory_allocate(grid->context, (size_t)(grid->rows * grid->columns) * sizeof *ranks, MEMORY_OTHER);
    CHECK(grid_agree(grid, ranks ? STATUS_OK : STATUS_MEMORY));
    for (int row = 0; row < grid->rows; row++)
        for (int column = 0; column < grid->columns; column++)
            ranks[column * grid->rows + row] = row * grid->columns + column;
    grid->handle = Csys2blacs_handle(mesh_communicator(mesh, grid->axis));
    grid->blacs = grid->handle;
    uint64_t event = mesh_library_enter(mesh, grid->axis);
    Cblacs_gridmap(&grid->blacs, ranks, grid->rows, grid->rows, grid->columns);
    mesh_library_leave(mesh, event);
    memory_free(grid->context, ranks);
    return STATUS_OK;
}

enum status grid_create(struct context *context, struct mesh *mesh, enum mesh_axis axis, int rows, int columns,
                        struct grid **grid)
{
    int ranks = mesh_size(mesh, axis);
    int rank = mesh_rank(mesh, axis);
    *grid = NULL;
    if (rows < 1 || columns < 1 || (int64_t)rows * columns > ranks)
        return context_fail(context, STATUS_USAGE, "a grid of %d x %d ranks does not fit the %d of the %s axis", rows,
                            columns, ranks, mesh_axis_name(axis));
    struct grid *g = memory_allocate(context, sizeof *g, MEMORY_OTHER);
    if (!g)
        return STATUS_MEMORY;
    bool inside = rank < rows * columns;
    *g = (struct grid){.context = context,
                       .mesh = mesh,
                       .axis = axis,
                       .rows = rows,
                       .columns = columns,
                       .row = inside ? rank / columns : -1,
                       .column = inside ? rank % columns : -1,
                       .handle = -1,
                       .blacs = -1};
    *grid = g;
    return mesh_team(mesh) ? make_blacs(g) : STATUS_OK;
}

void grid_destroy(struct grid **grid)
{
    struct grid *g = *grid;
    if (!g)
        return;
    if (g->blacs >= 0)
        Cblacs_gridexit(g->blacs);
    if (g->handle >= 0)
        Cfree_blacs_system_handle(g->handle);
    memory_free(g->context, g);
    *grid = NULL;
}

bool grid_has_rank(const struct grid *grid)
{
    return grid->row >= 0;
}

bool grid_calls(const struct grid *grid)
{
    return grid->blacs >= 0;
}

enum status grid_agree(const struct grid *grid, enum status status)
{
    int32_t worst = (int32_t)status;
    mesh_all_reduce(grid->mesh, grid->axis, &worst, 1, DTYPE_I32, MESH_MAX);
    if (worst == STATUS_OK || status != STATUS_OK)
        return status;
    return context_fail(grid->context, (enum status)worst, "another rank of the %s axis failed: see its message",
                        mesh_axis_name(grid->axis));
}

void grid_count_flops(const struct grid *grid, double flops)
{
    if (grid_has_rank(grid))
        grid->context->time.flops[TIME_PRODUCTS] += flops / (double)(grid->rows * grid->columns);
}

/* -- Who has what -- */

int64_t cyclic_count(int64_t total, int64_t block, int place, int places)
{
    int64_t blocks = total / block;
    int64_t count = blocks / places * block;
    int64_t left = blocks % places;
    return count + (place < left ? block : place == left ? total % block : 0);
}

int64_t cyclic_global(int64_t index, int64_t block, int place, int places)
{
    return (index / block * places + place) * block + index % block;
}

/* -- Matrices -- */

int64_t grid_block(const struct grid *grid, int64_t rows, int64_t columns)
{
    enum { LEAST = 8 };
    int64_t each = integer_min(integer_divide_up(rows, grid->rows), integer_divide_up(columns, grid->columns));
    return integer_max(LEAST, integer_min(GRID_BLOCK, each));
}

enum status grid_matrix_describe(struct context *context, const char *what, const struct grid *grid, enum dtype dtype,
                                 int64_t rows, int64_t columns, int64_t block, struct grid_matrix *matrix)
{
    /* No rank has more than the first of the grid. */
    int64_t most_rows = cyclic_count(rows, block, 0, grid->rows);
    int64_t most_columns = cyclic_count(columns, block, 0, grid->columns);
    if (integer_max(rows, columns) > INT_MAX - block || most_rows > INT_MAX / integer_max(1, most_columns))
        return context_fail(context, STATUS_USAGE,
                            "%s: a matrix of %lld x %lld is too large for ScaLAPACK's 32-bit integers on a grid of "
                            "%d x %d ranks; take more ranks",
                            what, (long long)rows, (long long)columns, grid->rows, grid->columns);
    bool inside = grid_has_rank(grid);
    int64_t local_rows = inside ? cyclic_count(rows, block, grid->row, grid->rows) : 0;
    int64_t local_columns = inside ? cyclic_count(columns, block, grid->column, grid->columns) : 0;
    *matrix = (struct grid_matrix){.grid = grid,
                                   .dtype = dtype,
                                   .rows = rows,
                                   .columns = columns,
                                   .block = block,
                                   .local_rows = local_rows,
                                   .local_columns = local_columns,
                                   .descriptor = {1, grid->blacs, (int)rows, (int)columns, (int)block, (int)block, 0, 0,
                                                  (int)integer_max(1, local_rows)}};
    return STATUS_OK;
}

int64_t grid_matrix_count(const struct grid_matrix *matrix)
{
    return matrix->local_rows * matrix->local_columns;
}

size_t grid_matrix_bytes(const struct grid_matrix *matrix)
{
    return (size_t)grid_matrix_count(matrix) * dtype_size(matrix->dtype);
}

enum status grid_matrix_allocate(struct context *context, const char *what, const struct grid *grid, enum dtype dtype,
                                 int64_t rows, int64_t columns, int64_t block, struct grid_matrix *matrix)
{
    CHECK(grid_matrix_describe(context, what, grid, dtype, rows, columns, block, matrix));
    matrix->data = memory_allocate(context, grid_matrix_bytes(matrix), MEMORY_BUFFERS);
    return matrix->data ? STATUS_OK : STATUS_MEMORY;
}

/* -- Arithmetic -- */

uint64_t grid_enter(const struct grid *grid)
{
    return mesh_library_enter(grid->mesh, grid->axis);
}

/* A process has one way to broadcast and to combine for all its grids, and some routines do not put back what they
 * found: ranks that were in different grids before would then wait for each other in different ways. */
void grid_leave(const struct grid *grid, uint64_t event)
{
    static const char *const operations[] = {"Broadcast", "Combine"};
    static const char *const scopes[] = {"Rowwise", "Columnwise", "All"};
    for (int o = 0; o < 2 && grid_calls(grid); o++)
        for (int s = 0; s < 3; s++)
            pb_topset_(&grid->blacs, operations[o], scopes[s], " ");
    mesh_library_leave(grid->mesh, event);
}

void grid_multiply(double alpha, struct grid_part a, bool a_transposed, struct grid_part b, bool b_transposed,
                   double beta, struct grid_part c, int64_t m, int64_t n, int64_t k)
{
    const struct grid *grid = c.matrix->grid;
    enum dtype dtype = c.matrix->dtype;
    grid_count_flops(grid, 2.0 * (double)m * (double)n * (double)k);
    uint64_t event = grid_enter(grid);
    if (grid_calls(grid) && m > 0 && n > 0) {
        union number factor = number_of(dtype, alpha);
        union number kept = number_of(dtype, beta);
        scalapack_of(dtype)->gemm(a_transposed ? "T" : "N", b_transposed ? "T" : "N", &(int){(int)m}, &(int){(int)n},
                                  &(int){(int)k}, &factor, a.matrix->data, &(int){(int)a.row + 1}, &(int){1},
                                  a.matrix->descriptor, b.matrix->data, &(int){(int)b.row + 1}, &(int){1},
                                  b.matrix->descriptor, &kept, c.matrix->data, &(int){(int)c.row + 1}, &(int){1},
                                  c.matrix->descriptor);
    }
    grid_leave(grid, event);
}

void grid_add(double alpha, struct grid_part a, bool a_transposed, double beta, struct grid_part c, int64_t m,
              int64_t n)
{
    const struct grid *grid = c.matrix->grid;
    enum dtype dtype = c.matrix->dtype;
    uint64_t event = grid_enter(grid);
    if (grid_calls(grid) && m > 0 && n > 0) {
        union number factor = number_of(dtype, alpha);
        union number kept = number_of(dtype, beta);
        scalapack_of(dtype)->geadd(a_transposed ? "T" : "N", &(int){(int)m}, &(int){(int)n}, &factor, a.matrix->data,
                                   &(int){(int)a.row + 1}, &(int){1}, a.matrix->descriptor, &kept, c.matrix->data,
                                   &(int){(int)c.row + 1}, &(int){1}, c.matrix->descriptor);
    }
    grid_leave(grid, event);
}

double grid_sum_of_squares(const struct grid_matrix *matrix)
{
    const struct grid *grid = matrix->grid;
    int64_t count = grid->context->dry ? 0 : grid_matrix_count(matrix);
    double sum = 0.0;
    if (matrix->dtype == DTYPE_F32) {
        const float *values = matrix->data;
        for (int64_t i = 0; i < count; i++)
            sum += (double)values[i] * (double)values[i];
    } else {
        const double *values = matrix->data;
        for (int64_t i = 0; i < count; i++)
            sum += values[i] * values[i];
    }
    mesh_all_reduce(grid->mesh, grid->axis, &sum, 1, DTYPE_F64, MESH_SUM);
    return sum;
}

void grid_add_identity(const struct grid_matrix *matrix, double value)
{
    const struct grid *grid = matrix->grid;
    if (grid->context->dry)
        return;
    for (int64_t i = 0; i < matrix->local_rows; i++) {
        int64_t row = cyclic_global(i, matrix->block, grid->row, grid->rows);
        if (row / matrix->block % grid->columns != grid->column || row >= matrix->columns)
            continue;
        int64_t at =
            (row / matrix->block / grid->columns * matrix->block + row % matrix->block) * matrix->local_rows + i;
        if (matrix->dtype == DTYPE_F32)
            ((float *)matrix->data)[at] += (float)value;
        else
            ((double *)matrix->data)[at] += value;
    }
}

void grid_scale(const struct grid_matrix *matrix, double value)
{
    int64_t count = matrix->grid->context->dry ? 0 : grid_matrix_count(matrix);
    float *single = matrix->data;
    double *full = matrix->data;
    for (int64_t i = 0; i < count; i++)
        if (matrix->dtype == DTYPE_F32)
            single[i] *= (float)value;
        else
            full[i] *= value;
}
