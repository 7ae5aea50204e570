/* Polar factors over a grid by iterations of products and factors. */
#include <math.h>
#include <string.h>

#include "dist/matrix/grid_private.h"

static struct grid_part all_of(const struct grid_matrix *matrix)
{
    return (struct grid_part){matrix, 0};
}

static void clear(const struct grid_matrix *matrix)
{
    if (!matrix->grid->context->dry)
        memset(matrix->data, 0, grid_matrix_bytes(matrix));
}

/* -- QDWH -- */

/* A round's weights for singular values in [least, 1], and what `least` becomes. */
struct weights {
    double a, b, c;
};

static struct weights next_weights(double *least)
{
    double l = *least;
    double squared = l * l;
    double d = cbrt(4.0 * (1.0 - squared) / (squared * squared));
    double root = sqrt(1.0 + d);
    struct weights w;
    w.a = root + 0.5 * sqrt(8.0 - 4.0 * d + 8.0 * (2.0 - squared) / (squared * root));
    w.b = 0.25 * (w.a - 1.0) * (w.a - 1.0);
    w.c = w.a + w.b - 1.0;
    *least = fmin(1.0, l * (w.a + w.b * squared) / (1.0 + w.c * squared));
    return w;
}

/* X = b / c X + (a - b / c) / sqrt(c) Q1 Q2^T, where Q1 and Q2 lie above each other, the orthogonal factor of sqrt(c) X
 * above I: stable whatever the weights. */
static enum status round_by_qr(struct factor *factor, const char *what, const struct grid_matrix *x, struct weights w)
{
    const struct grid_matrix *stack = &factor->spare[0];
    const struct grid_matrix *identity = &factor->spare[1];
    struct grid_part lower = {stack, x->rows};
    int64_t small = x->columns;
    clear(identity);
    grid_add_identity(identity, 1.0);
    grid_add(sqrt(w.c), all_of(x), false, 0.0, all_of(stack), x->rows, small);
    grid_add(1.0, all_of(identity), false, 0.0, lower, small, small);
    CHECK(factor_orthogonalize(factor, what, stack, NULL));
    grid_multiply((w.a - w.b / w.c) / sqrt(w.c), all_of(stack), false, lower, true, w.b / w.c, all_of(x), x->rows,
                  small, small);
    return STATUS_OK;
}

/* X = b / c X + (a - b / c) X (I + c X^T X)^-1: half the work, for weights that leave the square well conditioned. */
static enum status round_by_cholesky(struct factor *factor, const char *what, const struct grid_matrix *x,
                                     struct weights w)
{
    const struct grid *grid = x->grid;
    const struct scalapack *call = scalapack_of(x->dtype);
    const struct grid_matrix *solved = &factor->spare[0];
    const struct grid_matrix *square = &factor->spare[1];
    const int one = 1;
    int rows = (int)x->rows;
    int side = (int)x->columns;
    int info = 0;
    double s = (double)side;
    clear(square);
    grid_multiply(w.c, all_of(x), true, all_of(x), false, 0.0, all_of(square), side, side, rows);
    grid_add_identity(square, 1.0);
    grid_add(1.0, all_of(x), false, 0.0, all_of(solved), rows, side);
    grid_count_flops(grid, s * s * s / 3.0 + 2.0 * s * s * (double)rows);
    uint64_t event = grid_enter(grid);
    if (grid_calls(grid))
        call->potrf("U", &side, square->data, &one, &one, square->descriptor, &info);
    grid_leave(grid, event);
    CHECK(factor_settle(factor, what, "potrf", info));
    event = grid_enter(grid);
    union number unit = number_of(x->dtype, 1.0);
    for (int transposed = 0; transposed <= 1 && grid_calls(grid); transposed++)
        call->trsm("R", "U", transposed ? "T" : "N", "N", &rows, &side, &unit, square->data, &one, &one,
                   square->descriptor, solved->data, &one, &one, solved->descriptor);
    grid_leave(grid, event);
    grid_add(w.a - w.b / w.c, all_of(solved), false, w.b / w.c, all_of(x), rows, side);
    return STATUS_OK;
}

enum status polar_qdwh(struct factor *factor, const char *what, struct grid_matrix *a, double norm)
{
    /* Weights above which the square would lose the small singular values. */
    const double most_for_cholesky = 100.0;
    bool wide = a->rows < a->columns;
    const struct grid_matrix *x = wide ? &factor->left : a;
    double epsilon = a->dtype == DTYPE_F32 ? 0x1p-23 : 0x1p-52;
    double least = epsilon / sqrt((double)x->columns);
    grid_scale(a, 1.0 / norm);
    if (wide)
        grid_add(1.0, all_of(a), true, 0.0, all_of(x), x->rows, x->columns);
    while (1.0 - least > 10.0 * epsilon) {
        struct weights w = next_weights(&least);
        CHECK(w.c > most_for_cholesky ? round_by_qr(factor, what, x, w) : round_by_cholesky(factor, what, x, w));
    }
    if (wide)
        grid_add(1.0, all_of(x), true, 0.0, all_of(a), a->rows, a->columns);
    return STATUS_OK;
}

/* -- Newton-Schulz -- */

void polar_newton_schulz(struct factor *factor, struct grid_matrix *a, double norm)
{
    enum { ROUNDS = 5 };
    static const double weight[] = {3.4445, -4.7750, 2.0315};
    const struct grid_matrix *squared = &factor->spare[0];
    const struct grid_matrix *sum = &factor->spare[1];
    bool tall = a->rows > a->columns;
    int64_t side = integer_min(a->rows, a->columns);
    int64_t length = integer_max(a->rows, a->columns);
    struct grid_matrix *from = a;
    struct grid_matrix *to = &factor->left;
    grid_scale(a, 1.0 / fmax(norm, 1e-7));
    for (int round = 0; round < ROUNDS; round++) {
        grid_multiply(1.0, all_of(from), tall, all_of(from), !tall, 0.0, all_of(squared), side, side, length);
        if (!factor->context->dry)
            memcpy(sum->data, squared->data, grid_matrix_bytes(sum));
        grid_multiply(weight[2], all_of(squared), false, all_of(squared), false, weight[1], all_of(sum), side, side,
                      side);
        grid_add_identity(sum, weight[0]);
        grid_multiply(1.0, all_of(tall ? from : sum), false, all_of(tall ? sum : from), false, 0.0, all_of(to), a->rows,
                      a->columns, side);
        struct grid_matrix *swap = from;
        from = to;
        to = swap;
    }
    /* An odd number of rounds ends in `left`. */
    if (!factor->context->dry)
        memcpy(a->data, factor->left.data, grid_matrix_bytes(a));
}
