/* Matrices over a grid of ranks. A grid is made of ranks of one axis of a mesh (MESH_TEAM is its whole team), row by
 * row in their order; what is left over takes part in every call and owns nothing. Matrices on it are block-cyclic:
 * block (i, j) of `block` rows and columns lies on the rank in row i mod rows and column j mod columns of the grid. No
 * rank has a whole one.
 *
 * Everything marked collective is called by all ranks of the axis, those outside of the grid too. It fails on all of
 * them or on none, with the same text but for memory, where the other ranks say that one has too little. Errors: USAGE
 * for a grid that does not fit and for sizes that 32-bit integers cannot count; `what` names the matrix. Ranks whose
 * BLAS has threads of its own keep it to OMP_NUM_THREADS. */
#ifndef CAIRN_DIST_MATRIX_GRID_H
#define CAIRN_DIST_MATRIX_GRID_H

#include "dist/mesh/mesh.h"

enum { GRID_BLOCK = 64, GRID_DESCRIPTOR = 9 };

struct grid {
    struct context *context;
    struct mesh *mesh;
    enum mesh_axis axis;
    int rows, columns;
    int row, column; /* of this rank; -1 outside of the grid */
    int handle;      /* of BLACS for the axis */
    int blacs;       /* the grid's context in BLACS; -1 outside of it, and of a dry mesh */
};

/* The squarest grid of about that many ranks, none more than four times as wide as high: 13 make 3 x 4. */
void grid_shape(int ranks, int *rows, int *columns);

/* A grid of rows x columns ranks of the axis. Collective; to be destroyed whatever comes back. */
enum status grid_create(struct context *context, struct mesh *mesh, enum mesh_axis axis, int rows, int columns,
                        struct grid **grid) MUST_USE;

/* Collective; before the mesh, and after all that lies on it. */
void grid_destroy(struct grid **grid);

/* Whether this rank is in the grid. */
bool grid_has_rank(const struct grid *grid);

/* All ranks of the axis have failed if one has. Collective. */
enum status grid_agree(const struct grid *grid, enum status status) MUST_USE;

/* -- Matrices -- */

struct grid_matrix {
    const struct grid *grid;
    enum dtype dtype; /* F32 or F64 */
    int64_t rows, columns, block;
    int64_t local_rows, local_columns; /* of this rank, 0 outside of the grid; column-major and dense */
    int descriptor[GRID_DESCRIPTOR];   /* of ScaLAPACK */
    void *data;                        /* [local_columns, leading] NULL until it is given some */
};

/* A block that gives each row and column of the grid some of a small matrix; GRID_BLOCK of others. */
int64_t grid_block(const struct grid *grid, int64_t rows, int64_t columns);

/* All but `data`. Local: the same on all ranks but for what lies where. USAGE error. */
enum status grid_matrix_describe(struct context *context, const char *what, const struct grid *grid, enum dtype dtype,
                                 int64_t rows, int64_t columns, int64_t block, struct grid_matrix *matrix) MUST_USE;

/* Of this rank's piece. */
int64_t grid_matrix_count(const struct grid_matrix *matrix);
size_t grid_matrix_bytes(const struct grid_matrix *matrix);

/* The same with zeroed data of its own, to be freed with memory_free. A failure is this rank's own. */
enum status grid_matrix_allocate(struct context *context, const char *what, const struct grid *grid, enum dtype dtype,
                                 int64_t rows, int64_t columns, int64_t block, struct grid_matrix *matrix) MUST_USE;

/* Rows (or, of the grid's columns, columns) of a matrix that place `place` of `places` owns: their number, and the
 * global index of the local one `index`. */
int64_t cyclic_count(int64_t total, int64_t block, int place, int places);
int64_t cyclic_global(int64_t index, int64_t block, int place, int places);

/* C = alpha A B + beta C over parts of matrices of one grid, type and block; a transposed operand is stored as its
 * transpose. C [m, n]. `row` is where the part begins in each. Collective. */
struct grid_part {
    const struct grid_matrix *matrix;
    int64_t row;
};
void grid_multiply(double alpha, struct grid_part a, bool a_transposed, struct grid_part b, bool b_transposed,
                   double beta, struct grid_part c, int64_t m, int64_t n, int64_t k);

/* The sum of squares of all elements: NaN or infinite where the matrix is not finite. Collective. */
double grid_sum_of_squares(const struct grid_matrix *matrix);

/* Adds value I, with as many ones as the shorter side has; or scales. Local. */
void grid_add_identity(const struct grid_matrix *matrix, double value);
void grid_scale(const struct grid_matrix *matrix, double value);

#endif
