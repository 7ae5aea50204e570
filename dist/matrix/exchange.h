/* A matrix between the ranks' own shares of it and a grid, by one all-to-all each way, planned once. A share is what a
 * rank has of the matrix in a row-major buffer: its rows or columns of a parameter that tensor ranks divide, a range of
 * the elements of these (as ZeRO divides them), or nothing. No rank sees more than its share and its blocks. */
#ifndef CAIRN_DIST_MATRIX_EXCHANGE_H
#define CAIRN_DIST_MATRIX_EXCHANGE_H

#include "dist/matrix/grid.h"

/* Elements of some rows and columns: (row, column) lies at begin + (row - rows.begin) stride + column - columns.begin
 * of the buffer. */
struct matrix_part {
    struct range rows, columns;
    int64_t begin, stride;
};

enum { MATRIX_PARTS = 3 };

/* What a rank has; parts do not overlap. */
struct matrix_share {
    int count;
    struct matrix_part part[MATRIX_PARTS];
};

/* The share of one who has all of the rows and columns, row-major from the start of its buffer. */
struct matrix_share matrix_share_of_block(struct range rows, struct range columns);

/* The same of which only the elements `flat` are there, the first of them at the start of the buffer. */
struct matrix_share matrix_share_of_range(struct range rows, struct range columns, struct range flat);

struct exchange;

/* What each rank brings, of which every element of the matrix belongs to one rank, and what it wants back, where copies
 * may be wanted by several (`copies` of everything in the plan of a dry mesh, which cannot see them). Shares are of the
 * type `dtype`; on the way to a matrix of the other type they are converted at its end. Collective over the grid's
 * axis: one all-gather. USAGE error where an element belongs to none or to two. */
enum status exchange_create(struct context *context, const char *what, const struct grid_matrix *matrix,
                            const struct matrix_share *brings, const struct matrix_share *wants, int copies,
                            enum dtype dtype, struct exchange **exchange) MUST_USE;
void exchange_destroy(struct exchange **exchange);

/* The bytes of work that either direction needs. */
size_t exchange_work(const struct exchange *exchange);

/* `matrix` is laid out as the one it was planned for. Collective. */
void exchange_into_grid(struct exchange *exchange, const void *share, const struct grid_matrix *matrix, void *work);
void exchange_from_grid(struct exchange *exchange, const struct grid_matrix *matrix, void *share, void *work);

#endif
