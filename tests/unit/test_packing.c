/* Products with parameters whose packed form is kept from one to the next. */
#include "tests/support/support.h"

#include <string.h>

#include "src/ops/engine.h"

enum { M = 45, N = 70, K = 53 };

struct fixture {
    struct context context;
    struct engine engine;
    bf16 a[M * K];
    bf16 b[N * K]; /* as W [N, K], multiplied as its transpose; or as [K, N] */
};

static int set_up(void **state)
{
    static struct fixture fixture;
    float values[N * K];
    context_create(&fixture.context);
    if (engine_create(&fixture.context, 2, &fixture.engine) != STATUS_OK)
        return -1;
    fill_random(values, M * K, "a");
    for (int i = 0; i < M * K; i++)
        fixture.a[i] = bf16_from_float(values[i]);
    fill_random(values, N * K, "b");
    for (int i = 0; i < N * K; i++)
        fixture.b[i] = bf16_from_float(values[i]);
    *state = &fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    engine_destroy(&fixture->engine);
    return fixture->context.memory.bytes_total == 0 ? 0 : -1;
}

static void check_product(struct fixture *fixture, int64_t m, bool transposed, bool lasts)
{
    float c[M * N];
    float expected[M * N];
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < N; j++) {
            double sum = 0.0;
            for (int64_t k = 0; k < K; k++)
                sum += (double)bf16_to_float(fixture->a[i * K + k]) *
                       (double)bf16_to_float(fixture->b[transposed ? j * K + k : k * N + j]);
            expected[i * N + j] = (float)sum;
        }
    assert_ok(&fixture->context, matmul_run(&fixture->engine, &(struct matmul){.m = m,
                                                                               .n = N,
                                                                               .k = K,
                                                                               .a = fixture->a,
                                                                               .b = fixture->b,
                                                                               .c = c,
                                                                               .lda = K,
                                                                               .ldb = transposed ? K : N,
                                                                               .ldc = N,
                                                                               .type = DTYPE_BF16,
                                                                               .c_type = DTYPE_F32,
                                                                               .b_transposed = transposed,
                                                                               .b_lasts = lasts}));
    assert_near(c, expected, m * N, 1e-6, lasts ? "packed" : "plain");
}

static void both_directions_and_few_rows(void **state)
{
    struct fixture *fixture = *state;
    for (int lasts = 0; lasts < 2; lasts++)
        for (int transposed = 0; transposed < 2; transposed++)
            for (int64_t m = 1; m <= M; m += 11)
                check_product(fixture, m, transposed == 1, lasts == 1);
}

static void new_values_are_seen_once_told(void **state)
{
    struct fixture *fixture = *state;
    check_product(fixture, M, true, true);
    check_product(fixture, M, false, true);
    for (int round = 0; round < 3; round++) {
        fixture->b[7 + round] = bf16_from_float(5.0f);
        engine_forget(&fixture->engine);
        check_product(fixture, M, true, true);
        check_product(fixture, M, false, true);
    }
}

static void steps_do_not_allocate(void **state)
{
    struct fixture *fixture = *state;
    check_product(fixture, M, true, true);
    int64_t allocations = fixture->context.memory.allocations;
    for (int round = 0; round < 5; round++) {
        engine_forget(&fixture->engine);
        check_product(fixture, M, true, true);
    }
    assert_int_equal(fixture->context.memory.allocations, allocations);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(both_directions_and_few_rows, set_up, tear_down),
        cmocka_unit_test_setup_teardown(new_values_are_seen_once_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(steps_do_not_allocate, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
