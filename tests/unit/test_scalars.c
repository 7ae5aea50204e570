/* The numbers that a run shows of its memories and routers. */
#include "tests/support/support.h"

#include <math.h>

#include "src/model/decoder_scalars.h"

static void gates_are_counted_by_tenths(void **state)
{
    (void)state;
    const double gates[] = {0.0, 0.05, 0.0999, 0.1, 0.5, 0.55, 0.999, 1.0, NAN};
    const double expected[WATCH_BINS] = {3, 1, 0, 0, 0, 2, 0, 0, 0, 2};
    double bins[WATCH_BINS];
    watch_histogram(gates, 9, bins);
    assert_memory_equal(bins, expected, sizeof bins);
    watch_histogram(NULL, 0, bins);
    for (int i = 0; i < WATCH_BINS; i++)
        assert_true(bins[i] == 0.0);
}

static void gates_are_undecided_while_all_are_near_the_middle(void **state)
{
    (void)state;
    assert_true(watch_undecided((const double[]){0.45, 0.5, 0.55}, 3));
    assert_false(watch_undecided((const double[]){0.5, 0.56, 0.5}, 3));
    assert_false(watch_undecided((const double[]){0.5, 0.44}, 2));
    assert_false(watch_undecided((const double[]){0.5, NAN}, 2));
    assert_false(watch_undecided(NULL, 0));
}

static void the_violation_is_that_of_the_fullest_depth(void **state)
{
    (void)state;
    /* Depths 1, 2 and 3 end with 2, 2, 2; 3, 1, 2; 6, 0, 0; 0, 0, 6 of 6 tokens. */
    assert_close(watch_max_violation((const double[]){6, 4, 2}, 3), 0.0, 0.0, 1e-12);
    assert_close(watch_max_violation((const double[]){6, 3, 2}, 3), 0.5, 0.0, 1e-12);
    assert_close(watch_max_violation((const double[]){6, 0, 0}, 3), 2.0, 0.0, 1e-12);
    assert_close(watch_max_violation((const double[]){6, 6, 6}, 3), 2.0, 0.0, 1e-12);
    assert_true(watch_max_violation((const double[]){5}, 1) == 0.0);
    assert_true(watch_max_violation((const double[]){0, 0}, 2) == 0.0);
    assert_true(watch_max_violation(NULL, 0) == 0.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gates_are_counted_by_tenths),
        cmocka_unit_test(gates_are_undecided_while_all_are_near_the_middle),
        cmocka_unit_test(the_violation_is_that_of_the_fullest_depth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
