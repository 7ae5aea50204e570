/* Products with parameters whose packed form is kept from one to the next. */
#include "tests/support/support.h"

#include <omp.h>
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

/* C = A B^T + 1 of a few rows that do not follow each other closely. */
static void check_few(struct fixture *fixture, const bf16 *a, const bf16 *b, int64_t m, int64_t n, int64_t k,
                      enum dtype c_type)
{
    enum { ROWS_MOST = 70, COLUMNS_MOST = 200, APART = 5 };
    static float c[ROWS_MOST * (COLUMNS_MOST + APART)], found[ROWS_MOST * COLUMNS_MOST];
    static float expected[ROWS_MOST * COLUMNS_MOST];
    static bf16 rounded[ROWS_MOST * (COLUMNS_MOST + APART)];
    int64_t ldc = n + APART;
    for (int64_t i = 0; i < m * ldc; i++) {
        c[i] = 1.0f;
        rounded[i] = bf16_from_float(1.0f);
    }
    struct matmul product = {.m = m,
                             .n = n,
                             .k = k,
                             .a = a,
                             .b = b,
                             .c = c_type == DTYPE_BF16 ? (void *)rounded : c,
                             .lda = k + APART,
                             .ldb = k,
                             .ldc = ldc,
                             .type = DTYPE_BF16,
                             .c_type = c_type,
                             .b_transposed = true,
                             .b_lasts = true,
                             .beta = 1.0f};
    assert_ok(&fixture->context, matmul_run(&fixture->engine, &product));
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < ldc; j++) {
            float value = c_type == DTYPE_BF16 ? bf16_to_float(rounded[i * ldc + j]) : c[i * ldc + j];
            double sum = 1.0;
            for (int64_t e = 0; j < n && e < k; e++)
                sum += (double)bf16_to_float(a[i * (k + APART) + e]) * (double)bf16_to_float(b[j * k + e]);
            if (j >= n) {
                assert_true(value == 1.0f); /* nothing is written there */
                continue;
            }
            found[i * n + j] = value;
            expected[i * n + j] = (float)sum;
        }
    assert_near(found, expected, m * n, c_type == DTYPE_BF16 ? 4e-3 : 1e-6, "few rows");
}

static void few_rows_in_panels(void **state)
{
    static const struct {
        int64_t n, k;
    } sizes[] = {{128, 64}, {200, 96}, {64, 32}, {40, 160}, {70, 53}};
    enum { MOST = 70 * 200 };
    static bf16 a[MOST], b[200 * 160];
    static float values[200 * 160];
    struct fixture *fixture = *state;
    fill_random(values, MOST, "few rows");
    for (int i = 0; i < MOST; i++)
        a[i] = bf16_from_float(values[i]);
    fill_random(values, 200 * 160, "parameter");
    for (int i = 0; i < 200 * 160; i++)
        b[i] = bf16_from_float(values[i]);
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
        for (int64_t m = 1; m <= 70; m += m < 18 ? 1 : 13) {
            check_few(fixture, a, b, m, sizes[s].n, sizes[s].k, DTYPE_F32);
            check_few(fixture, a, b, m, sizes[s].n, sizes[s].k, DTYPE_BF16);
        }
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

/* More than there are lists to find them by, each with a value of its own. */
static void many_parameters(void **state)
{
    enum { MANY = 1500, SIDE = 4, ROWS = 32 };
    struct fixture *fixture = *state;
    static bf16 parameters[MANY][SIDE * SIDE];
    bf16 ones[ROWS * SIDE];
    float c[ROWS * SIDE];
    for (int i = 0; i < ROWS * SIDE; i++)
        ones[i] = bf16_from_float(1.0f);
    for (int p = 0; p < MANY; p++)
        for (int i = 0; i < SIDE * SIDE; i++)
            parameters[p][i] = bf16_from_float((float)(p % 200));
    for (int round = 0; round < 2; round++)
        for (int p = 0; p < MANY; p++) {
            assert_ok(&fixture->context, matmul_run(&fixture->engine, &(struct matmul){.m = ROWS,
                                                                                       .n = SIDE,
                                                                                       .k = SIDE,
                                                                                       .a = ones,
                                                                                       .b = parameters[p],
                                                                                       .c = c,
                                                                                       .lda = SIDE,
                                                                                       .ldb = SIDE,
                                                                                       .ldc = SIDE,
                                                                                       .type = DTYPE_BF16,
                                                                                       .c_type = DTYPE_F32,
                                                                                       .b_lasts = true}));
            for (int i = 0; i < ROWS * SIDE; i++)
                assert_true(c[i] == (float)(SIDE * (p % 200)));
        }
}

/* Prepared products keep accounts that one thread may touch: another is told so, and the error stays in the context. */
static void bf16_is_for_the_first_thread(void **state)
{
    struct fixture *fixture = *state;
    float c[M * N];
    const struct matmul product = {.m = M,
                                   .n = N,
                                   .k = K,
                                   .a = fixture->a,
                                   .b = fixture->b,
                                   .c = c,
                                   .lda = K,
                                   .ldb = N,
                                   .ldc = N,
                                   .type = DTYPE_BF16};
    enum status statuses[2];
#pragma omp parallel num_threads(2)
    statuses[omp_get_thread_num()] = matmul_run(&fixture->engine, &product);
    assert_int_equal(statuses[0], STATUS_INTERNAL);
    assert_int_equal(statuses[1], STATUS_INTERNAL);
    assert_int_equal(fixture->context.status, STATUS_INTERNAL);
    assert_string_equal(fixture->context.text,
                        "a product of 45 x 70 x 53 in bf16 cannot be computed: plans of bf16 are "
                        "for the first thread alone");
    context_clear(&fixture->context);
    context_keep(&fixture->context, STATUS_OK);
    assert_int_equal(fixture->context.status, STATUS_OK);
    context_keep(&fixture->context, STATUS_FILE);
    assert_int_equal(fixture->context.status, STATUS_FILE);
    context_clear(&fixture->context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(both_directions_and_few_rows, set_up, tear_down),
        cmocka_unit_test_setup_teardown(few_rows_in_panels, set_up, tear_down),
        cmocka_unit_test_setup_teardown(new_values_are_seen_once_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(steps_do_not_allocate, set_up, tear_down),
        cmocka_unit_test_setup_teardown(many_parameters, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bf16_is_for_the_first_thread, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
