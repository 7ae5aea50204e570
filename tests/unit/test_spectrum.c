/* Singular values and effective rank, against matrices built from known ones. */
#include "tests/support/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "io/checkpoint/spectrum.h"
#include "src/core/effective_rank.h"

enum { LARGEST = 65 };

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x < y) - (x > y);
}

/* Multiplies the matrix by 1 - 2 v v^T / (v^T v) from the left, or from the right. */
static void reflect(double *matrix, int64_t n, const float *v, bool left)
{
    double length = 0.0;
    for (int64_t i = 0; i < n; i++)
        length += (double)v[i] * (double)v[i];
    for (int64_t i = 0; i < n; i++) {
        double product = 0.0;
        for (int64_t j = 0; j < n; j++)
            product += (double)v[j] * matrix[left ? j * n + i : i * n + j];
        for (int64_t j = 0; j < n; j++)
            matrix[left ? j * n + i : i * n + j] -= 2.0 * product / length * (double)v[j];
    }
}

/* A dense matrix with these singular values. */
static void build(double *matrix, int64_t n, const double *values)
{
    float v[LARGEST];
    memset(matrix, 0, (size_t)(n * n) * sizeof *matrix);
    for (int64_t i = 0; i < n; i++)
        matrix[i * n + i] = values[i];
    for (int turn = 0; turn < 6; turn++) {
        fill_random(v, n, turn % 2 ? "left" : "right");
        v[turn % n] += (float)turn;
        reflect(matrix, n, v, turn % 2);
    }
}

static void singular_values_are_found(void **state)
{
    (void)state;
    static double matrix[LARGEST * LARGEST];
    const int64_t sizes[] = {1, 2, 3, 7, 8, 17, 64, LARGEST};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (int kind = 0; kind < 4; kind++) {
            int64_t n = sizes[s];
            double expected[LARGEST];
            double values[LARGEST];
            /* All apart, falling fast, all alike, half of them none. */
            for (int64_t i = 0; i < n; i++)
                expected[i] = kind == 0   ? (double)(n - i)
                              : kind == 1 ? pow(0.5, (double)i)
                              : kind == 2 ? 3.0
                                          : (2 * i < n ? 1.0 + (double)i : 0.0);
            build(matrix, n, expected);
            spectrum_singular_values(matrix, n, values);
            qsort(expected, (size_t)n, sizeof *expected, by_size);
            qsort(values, (size_t)n, sizeof *values, by_size);
            for (int64_t i = 0; i < n; i++)
                assert_close(values[i], expected[i], 1e-9, 2e-8 * expected[0]);
        }
}

static void the_effective_rank_counts_equal_values(void **state)
{
    (void)state;
    assert_close(effective_rank((const double[]){2, 2, 2, 2}, 4), 4.0, 1e-12, 0.0);
    assert_close(effective_rank((const double[]){0, 5, 0, 5, 5}, 5), 3.0, 1e-12, 0.0);
    assert_close(effective_rank((const double[]){7, 0, 0}, 3), 1.0, 1e-12, 0.0);
    /* Shares 1/2, 1/4, 1/4: an entropy of 1.5 ln 2. */
    assert_close(effective_rank((const double[]){2, 1, 1}, 3), pow(2.0, 1.5), 1e-12, 0.0);
    assert_true(effective_rank((const double[]){0, 0}, 2) == 0.0);
    assert_true(effective_rank(NULL, 0) == 0.0);
}

static void what_is_not_finite_ends(void **state)
{
    (void)state;
    double values[3];
    double matrix[9] = {1, NAN, 0, 0, 1, 0, 0, 0, 1};
    spectrum_singular_values(matrix, 3, values);
    assert_true(isnan(effective_rank(values, 3)));
    double infinite[4] = {1, 0, 0, INFINITY};
    spectrum_singular_values(infinite, 2, values);
    assert_true(isnan(effective_rank(values, 2)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(singular_values_are_found),
        cmocka_unit_test(the_effective_rank_counts_equal_values),
        cmocka_unit_test(what_is_not_finite_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
