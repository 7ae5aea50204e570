/* Products and factors of whole matrices against loops and numbers that are known. */
#include <limits.h>
#include <math.h>
#include <string.h>

#include "dist/matrix/matrix.h"
#include "dist/matrix/svd.h"
#include "tests/support/support.h"

enum { MOST = 40 };

static void fill(double *values, int64_t count, const char *name)
{
    float single[MOST * MOST];
    fill_random(single, count, name);
    for (int64_t i = 0; i < count; i++)
        values[i] = (double)single[i];
}

static void products_are_sums(void **state)
{
    (void)state;
    static const int64_t shapes[][3] = {{1, 1, 1}, {1, 7, 3}, {5, 1, 13}, {11, 17, 2}, {7, 5, 0}, {0, 3, 4}};
    double a[MOST * MOST];
    double b[MOST * MOST];
    double c[MOST * MOST];
    double before[MOST * MOST];
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int form = 0; form < 4; form++) {
            int64_t m = shapes[s][0];
            int64_t n = shapes[s][1];
            int64_t k = shapes[s][2];
            bool ta = form & 1;
            bool tb = form & 2;
            fill(a, m * k, "a");
            fill(b, k * n, "b");
            fill(before, m * n, "c");
            memcpy(c, before, sizeof c);
            matrix_multiply(&(struct matrix_product){.m = m,
                                                     .n = n,
                                                     .k = k,
                                                     .a = a,
                                                     .b = b,
                                                     .c = c,
                                                     .a_transposed = ta,
                                                     .b_transposed = tb,
                                                     .alpha = 0.5,
                                                     .beta = 2.0});
            for (int64_t i = 0; i < m; i++)
                for (int64_t j = 0; j < n; j++) {
                    double sum = 2.0 * before[i * n + j];
                    for (int64_t l = 0; l < k; l++)
                        sum += 0.5 * a[ta ? l * m + i : i * k + l] * b[tb ? j * k + l : l * n + j];
                    assert_close(c[i * n + j], sum, 1e-13, 1e-13);
                }
        }
}

static void the_factor_is_orthogonal_and_leaves_a_triangle(void **state)
{
    (void)state;
    static const int64_t sides[] = {1, 2, 7, 23, MOST};
    struct context context;
    double a[MOST * MOST];
    double q[MOST * MOST];
    double work[MOST + 64 * MOST];
    context_create(&context);
    for (size_t s = 0; s < sizeof sides / sizeof *sides; s++) {
        int64_t n = sides[s];
        fill(a, n * n, "matrix");
        memcpy(q, a, sizeof a);
        assert_true(matrix_orthogonalize_work(n) <= sizeof work / sizeof *work);
        assert_ok(&context, matrix_orthogonalize(&context, "a", n, q, work));
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < n; j++) {
                double product = 0.0;
                double below = 0.0; /* of Q^T A */
                for (int64_t l = 0; l < n; l++) {
                    product += q[l * n + i] * q[l * n + j];
                    below += q[l * n + i] * a[l * n + j];
                }
                assert_close(product, i == j, 0.0, 1e-13);
                if (i > j)
                    assert_close(below, 0.0, 0.0, 1e-13);
            }
    }
}

static void check_polar(struct context *context, int64_t rows, int64_t columns, const double *matrix,
                        const double *expected)
{
    double a[MOST];
    double *work = memory_allocate(context, matrix_polar_work(rows, columns) * sizeof *work, MEMORY_OTHER);
    memcpy(a, matrix, (size_t)(rows * columns) * sizeof *a);
    assert_ok(context, matrix_polar(context, "a", rows, columns, 1e-6, a, work));
    for (int64_t i = 0; i < rows * columns; i++)
        assert_close(a[i], expected[i], 0.0, 1e-14);
    memory_free(context, work);
}

static void polar_factors_are_known(void **state)
{
    (void)state;
    struct context context;
    context_create(&context);
    /* A scaled rotation by the angle of 3, 4, 5; a tall matrix; a rank of one; what is below the cutoff; nothing. */
    check_polar(&context, 2, 2, (double[]){6, -8, 8, 6}, (double[]){0.6, -0.8, 0.8, 0.6});
    check_polar(&context, 2, 2, (double[]){3, 0, 0, -2}, (double[]){1, 0, 0, -1});
    check_polar(&context, 3, 2, (double[]){0, 5, 7, 0, 0, 0}, (double[]){0, 1, 1, 0, 0, 0});
    check_polar(&context, 2, 2, (double[]){1, 1, 1, 1}, (double[]){0.5, 0.5, 0.5, 0.5});
    check_polar(&context, 2, 2, (double[]){1, 0, 0, 1e-7}, (double[]){1, 0, 0, 0});
    check_polar(&context, 1, 3, (double[]){2, -1, 2}, (double[]){2.0 / 3, -1.0 / 3, 2.0 / 3});
    check_polar(&context, 3, 1, (double[]){0, 0, 0}, (double[]){0, 0, 0});
    check_polar(&context, 0, 3, (double[]){0}, (double[]){0});
    assert_int_equal(context.memory.bytes_total, 0);
}

/* Values, and factors that are orthogonal and give the matrix again. */
static void check_svd(struct context *context, int64_t rows, int64_t columns, const double *matrix,
                      const double *expected)
{
    int64_t small = rows < columns ? rows : columns;
    double a[MOST * MOST];
    double values[MOST];
    double alone[MOST];
    double left[MOST * MOST];
    double right[MOST * MOST];
    size_t bytes = (size_t)(rows * columns) * sizeof *a;
    double *work = memory_allocate(context, matrix_svd_work(rows, columns, true) * sizeof *work, MEMORY_OTHER);
    double *less = memory_allocate(context, matrix_svd_work(rows, columns, false) * sizeof *less, MEMORY_OTHER);
    memcpy(a, matrix, bytes);
    assert_ok(context, matrix_svd(context, "a", rows, columns, a, values, left, right, work));
    memcpy(a, matrix, bytes);
    assert_ok(context, matrix_svd(context, "a", rows, columns, a, alone, NULL, NULL, less));
    double largest = small > 0 ? values[0] : 0.0;
    for (int64_t i = 0; i < small; i++) {
        if (expected)
            assert_close(values[i], expected[i], 0.0, 1e-14 * (1.0 + largest));
        assert_close(alone[i], values[i], 0.0, 1e-14 * (1.0 + largest));
        for (int64_t j = 0; j < small; j++) {
            double lefts = 0.0;
            double rights = 0.0;
            for (int64_t l = 0; l < rows; l++)
                lefts += left[l * small + i] * left[l * small + j];
            for (int64_t l = 0; l < columns; l++)
                rights += right[i * columns + l] * right[j * columns + l];
            assert_close(lefts, i == j, 0.0, 1e-13);
            assert_close(rights, i == j, 0.0, 1e-13);
        }
    }
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++) {
            double sum = 0.0;
            for (int64_t l = 0; l < small; l++)
                sum += left[i * small + l] * values[l] * right[l * columns + j];
            assert_close(sum, matrix[i * columns + j], 0.0, 1e-13 * (1.0 + largest));
        }
    memory_free(context, work);
    memory_free(context, less);
}

static void singular_values_are_known(void **state)
{
    (void)state;
    struct context context;
    double matrix[MOST * MOST];
    context_create(&context);
    check_svd(&context, 2, 2, (double[]){3, 0, 4, 5}, (double[]){sqrt(45.0), sqrt(5.0)});
    check_svd(&context, 2, 2, (double[]){3, -4, 4, 3}, (double[]){5, 5});               /* repeated */
    check_svd(&context, 3, 2, (double[]){1, 2, 2, 4, 3, 6}, (double[]){sqrt(70.0), 0}); /* of rank 1 */
    check_svd(&context, 2, 3, (double[]){0, 0, 2, 0, -7, 0}, (double[]){7, 2});
    check_svd(&context, 1, 4, (double[]){1, -1, 1, 1}, (double[]){2});
    check_svd(&context, 4, 1, (double[]){3, 0, 0, 4}, (double[]){5});
    check_svd(&context, 2, 2, (double[]){0, 0, 0, 0}, (double[]){0, 0});
    check_svd(&context, 0, 3, (double[]){0}, NULL);
    check_svd(&context, 3, 0, (double[]){0}, NULL);
    static const int64_t shapes[][2] = {{13, 13}, {40, 7}, {3, 37}, {31, 29}, {1, 40}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        fill(matrix, shapes[i][0] * shapes[i][1], "svd");
        check_svd(&context, shapes[i][0], shapes[i][1], matrix, NULL);
    }
    assert_int_equal(context.memory.bytes_total, 0);
}

static void what_cannot_be_factored_is_said(void **state)
{
    (void)state;
    struct context context;
    double a[4] = {1.0, NAN, 0.0, 1.0};
    double work[1024];
    context_create(&context);
    assert_true(matrix_polar_work(2, 2) <= 1024);
    assert_fails(&context, matrix_polar(&context, "model.w", 2, 2, 1e-6, a, work), STATUS_INTERNAL, "model.w: dgesdd");
    assert_fails(&context, matrix_svd(&context, "model.w", 2, 2, a, work, NULL, NULL, work + 2), STATUS_NUMERIC,
                 "model.w: element [0, 1] is not a number");
    a[1] = -INFINITY;
    assert_fails(&context, matrix_svd(&context, "model.w", 1, 2, a, work, NULL, NULL, work + 2), STATUS_NUMERIC,
                 "model.w: element [0, 1] is infinite");
    assert_fails(&context, matrix_svd(&context, "model.w", 30000, 30000, a, work, NULL, NULL, work), STATUS_USAGE,
                 "model.w: a matrix of 30000 x 30000 is too large");
    assert_ok(&context, matrix_check(&context, "model.w", 8192, 50000));
    assert_fails(&context, matrix_check(&context, "model.w", 3, (int64_t)INT_MAX + 1), STATUS_USAGE,
                 "model.w: a matrix of 3 x 2147483648 is too large");
    assert_fails(&context, matrix_check(&context, "model.w", 30000, 30000), STATUS_USAGE, "is too large");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_sums),
        cmocka_unit_test(the_factor_is_orthogonal_and_leaves_a_triangle),
        cmocka_unit_test(polar_factors_are_known),
        cmocka_unit_test(singular_values_are_known),
        cmocka_unit_test(what_cannot_be_factored_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
