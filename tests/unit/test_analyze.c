/* What the singular values of a matrix say, and angles between subspaces, against numbers that are known. */
#include <math.h>
#include <string.h>

#include "src/analyze/spectra.h"
#include "tests/support/support.h"

static void measures_are_known(void **state)
{
    (void)state;
    double measure[MEASURES];
    spectra_measure((const double[]){4, 2, 2, 1}, 4, 6, measure);
    assert_close(measure[MEASURE_NORM], 5.0, 1e-15, 0.0);
    assert_close(measure[MEASURE_LARGEST], 4.0, 0.0, 0.0);
    assert_close(measure[MEASURE_SMALLEST], 1.0, 0.0, 0.0);
    assert_close(measure[MEASURE_CONDITION], 4.0, 0.0, 0.0);
    assert_close(measure[MEASURE_RANK], 4.0, 0.0, 0.0);
    assert_close(measure[MEASURE_STABLE], 25.0 / 16.0, 1e-15, 0.0);
    /* Shares 4/9, 2/9, 2/9, 1/9. */
    double entropy = -(4.0 * log(4.0 / 9) + 4.0 * log(2.0 / 9) + log(1.0 / 9)) / 9.0;
    assert_close(measure[MEASURE_EFFECTIVE], exp(entropy), 1e-14, 0.0);
    assert_close(measure[MEASURE_ENERGY], 3.0, 0.0, 0.0); /* 16 and 20 of 25 are less than 0.9, 24 are not */
    /* Equal values: as many as there are. A rank of 2 in 3. Nothing. */
    spectra_measure((const double[]){7, 7, 7}, 3, 3, measure);
    assert_close(measure[MEASURE_STABLE], 3.0, 1e-15, 0.0);
    assert_close(measure[MEASURE_EFFECTIVE], 3.0, 1e-14, 0.0);
    spectra_measure((const double[]){5, 1, 1e-7}, 3, 40, measure);
    assert_close(measure[MEASURE_RANK], 2.0, 0.0, 0.0);
    assert_true(isinf(measure[MEASURE_CONDITION]));
    spectra_measure((const double[]){5, 1, 1e-4}, 3, 40, measure);
    assert_close(measure[MEASURE_CONDITION], 5e4, 1e-15, 0.0);
    spectra_measure((const double[]){0, 0}, 2, 9, measure);
    assert_close(measure[MEASURE_STABLE] + measure[MEASURE_EFFECTIVE] + measure[MEASURE_RANK], 0.0, 0.0, 0.0);
    assert_close(measure[MEASURE_ENERGY], 0.0, 0.0, 0.0);
}

static void angles_are_known(void **state)
{
    (void)state;
    const double radians = acos(-1.0) / 180.0;
    static const double turns[] = {0.0, 1e-7, 3.0, 44.9, 45.1, 89.9999, 90.0};
    struct context context;
    double largest;
    double mean;
    context_create(&context);
    for (size_t i = 0; i < sizeof turns / sizeof *turns; i++) {
        double c = cos(turns[i] * radians);
        double s = sin(turns[i] * radians);
        /* The first direction stays, the second turns out of the plane; then both spans are mixed. */
        const double a[] = {1, 0, 0, 1, 0, 0, 0, 0};
        const double b[] = {0.6, 0.8, -0.8 * c, 0.6 * c, -0.8 * s, 0.6 * s, 0, 0};
        assert_ok(&context, spectra_angles(&context, "a", 4, 2, a, b, &largest, &mean));
        assert_close(largest, turns[i], 1e-9, 1e-13);
        assert_close(mean, 0.5 * turns[i], 1e-9, 1e-13);
    }
    assert_ok(&context, spectra_angles(&context, "a", 4, 0, NULL, NULL, &largest, &mean));
    assert_true(isnan(largest) && isnan(mean));
    assert_int_equal(context.memory.bytes_total, 0);
}

static void stacks_have_means(void **state)
{
    (void)state;
    static const char *const what[2] = {"first: w", "second: w"};
    /* diag(3, 4) ragged, and a rank of 1: values 4 3 and 10 0. */
    float a[] = {3, 0, 0, 0, 4, 0, 6, 8, 0, 0, 0, 0};
    float b[] = {3, 0, 0, 0, 4, 0, 6, 8, 0, 0, 0, 0};
    struct analyzed matrix = {.rank = 3, .stack = 2, .rows = 2, .columns = 3};
    struct context context;
    double measure[MEASURES] = {0};
    double values[2] = {0};
    context_create(&context);
    assert_ok(&context, spectra_of_stack(&context, what, &matrix, 8, a, NULL, measure, values));
    assert_close(values[0], 7.0, 1e-14, 0.0);
    assert_close(values[1], 1.5, 1e-14, 1e-14);
    assert_close(measure[MEASURE_NORM], 7.5, 1e-14, 0.0);
    assert_close(measure[MEASURE_RANK], 1.5, 0.0, 0.0);
    assert_true(isinf(measure[MEASURE_CONDITION]));
    /* Itself is nowhere else. The first turned by a right angle, the second grown by half. */
    memset(measure, 0, sizeof measure);
    assert_ok(&context, spectra_of_stack(&context, what, &matrix, 8, a, b, measure, values));
    for (int m = MEASURE_MOVED; m < MEASURES; m++)
        assert_close(measure[m], 0.0, 0.0, 1e-5);
    memcpy(b, (const float[]){3, 0, 0, 0, 0, 4, 9, 12, 0, 0, 0, 0}, sizeof b);
    memset(measure, 0, sizeof measure);
    assert_ok(&context, spectra_of_stack(&context, what, &matrix, 1, a, b, measure, values));
    assert_close(measure[MEASURE_MOVED], 0.5 * (sqrt(32.0) / 5.0 + 0.5), 1e-14, 0.0);
    assert_close(measure[MEASURE_MOVED_EFFECTIVE], 1.0, 1e-12, 0.0);
    assert_close(measure[MEASURE_LEFT], 0.0, 0.0, 1e-5);
    assert_close(measure[MEASURE_RIGHT], 45.0, 1e-12, 0.0); /* 90 and 0 */
    /* What is not finite is named. */
    b[8] = NAN;
    assert_fails(&context, spectra_of_stack(&context, what, &matrix, 8, a, b, measure, values), STATUS_NUMERIC,
                 "second: w: element [0, 2] is not a number");
    context_clear(&context);
    a[4] = INFINITY;
    assert_fails(&context, spectra_of_stack(&context, what, &matrix, 8, a, NULL, measure, values), STATUS_NUMERIC,
                 "first: w: element [1, 1] is infinite");
    assert_int_equal(context.memory.bytes_total, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(measures_are_known),
        cmocka_unit_test(angles_are_known),
        cmocka_unit_test(stacks_have_means),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
