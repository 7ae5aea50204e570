/* Routers: scores, gates and losses. */
#include "tests/unit/ops_support.h"

#include "src/ops/route.h"

/* -- Routers -- */

static struct tensor *scores_run(struct tape *tape, struct tensor **input, const struct check *check)
{
    (void)check;
    return router_scores(tape, input[0], input[1]);
}

static void scores_reference(double *const *input, double *output, const struct check *check)
{
    int64_t columns = check->columns[0];
    int64_t outputs = check->rows[1];
    for (int64_t i = 0; i < check->outputs; i++) {
        output[i] = 0.0;
        for (int64_t c = 0; c < columns; c++)
            output[i] += input[0][i / outputs * columns + c] * input[1][i % outputs * columns + c];
    }
}

static void test_scores(void **state)
{
    (void)state;
    static const int64_t sizes[][3] = {{0, 10, 2}, {1, 10, 1}, {7, 33, 3}, {301, 130, 1}};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        int64_t n = sizes[s][0], d = sizes[s][1], r = sizes[s][2];
        struct check check = {.name = "scores",
                              .inputs = 2,
                              .rows = {n, r},
                              .columns = {d, d},
                              .parameter = {false, true},
                              .wide = {false, true},
                              .outputs = n * r,
                              .run = scores_run,
                              .reference = scores_reference,
                              .samples = n > 100 ? 5 : 0};
        check_all(check);
        check.name = "scores, half weight";
        check.wide[1] = false;
        check_all(check);
        check.parameter[1] = false;
        check_all(check);
    }
}

static struct tensor *gate_run(struct tape *tape, struct tensor **input, const struct check *check)
{
    return router_gate(tape, input[0], GATE_SIGMOID, *(const float *)check->argument);
}

static void gate_reference(double *const *input, double *output, const struct check *check)
{
    for (int64_t i = 0; i < check->outputs; i++)
        output[i] = (double)*(const float *)check->argument / (1.0 + exp(-input[0][i]));
}

static struct tensor *softmax_run(struct tape *tape, struct tensor **input, const struct check *check)
{
    (void)check;
    return router_softmax(tape, input[0]);
}

static void softmax_reference(double *const *input, double *output, const struct check *check)
{
    int64_t columns = check->columns[0];
    for (int64_t i = 0; i < check->outputs; i++) {
        const double *row = input[0] + i / columns * columns;
        double sum = 0.0;
        for (int64_t c = 0; c < columns; c++)
            sum += exp(row[c] - input[0][i]);
        output[i] = 1.0 / sum;
    }
}

static int32_t pick_column(int64_t row, int64_t columns)
{
    return (int32_t)(random_bits(5, (uint64_t)row) % (uint64_t)(columns + 1)) - 1;
}

static struct tensor *pick_run(struct tape *tape, struct tensor **input, const struct check *check)
{
    int32_t *column = tape_save(tape, (size_t)check->outputs * sizeof *column);
    for (int64_t n = 0; n < check->outputs; n++)
        column[n] = pick_column(n, check->columns[0]);
    return router_pick(tape, input[0], column);
}

static void pick_reference(double *const *input, double *output, const struct check *check)
{
    int64_t columns = check->columns[0];
    for (int64_t n = 0; n < check->outputs; n++) {
        int32_t column = pick_column(n, columns);
        output[n] = column < 0 ? 0.0 : input[0][n * columns + column];
    }
}

static void test_gates(void **state)
{
    (void)state;
    static const int64_t sizes[][2] = {{0, 3}, {1, 1}, {7, 3}, {600, 2}};
    static const float alpha[] = {1.0f, 0.1f};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        int64_t n = sizes[s][0], r = sizes[s][1];
        struct check check = {.name = "gate",
                              .inputs = 1,
                              .rows = {n},
                              .columns = {r},
                              .wide = {true},
                              .outputs = n * r,
                              .run = gate_run,
                              .reference = gate_reference,
                              .samples = n > 100 ? 5 : 0};
        for (int a = 0; a < 2; a++) {
            check.argument = &alpha[a];
            check_all(check);
        }
        check.name = "softmax";
        check.run = softmax_run;
        check.reference = softmax_reference;
        check_all(check);
        check.name = "pick";
        check.run = pick_run;
        check.reference = pick_reference;
        check.outputs = n;
        check_all(check);
    }
}

/* alpha stands outside the sigmoid; nothing overflows far from 0; a linear gate is the score. */
static void test_gates_far(void **state)
{
    (void)state;
    struct bench bench;
    assert_true(bench_create(&bench, "", 1));
    struct tape *tape = &bench.tape;
    float far[] = {-1000.0f, -90.0f, 0.0f, 90.0f, 1000.0f};
    static const float expected[] = {0.0f, 0.0f, 0.05f, 0.1f, 0.1f};
    struct tensor *scores = tape_leaf(tape, DTYPE_F32, 2, (int64_t[]){5, 1}, far, true);
    assert_ptr_equal(router_gate(tape, scores, GATE_LINEAR, 0.1f), scores);
    struct tensor *gate = router_gate(tape, scores, GATE_SIGMOID, 0.1f);
    for (int i = 0; i < 5; i++)
        assert_close((double)((float *)gate->data)[i], (double)expected[i], 1e-6, 1e-30);
    struct tensor *row = tape_leaf(tape, DTYPE_F32, 2, (int64_t[]){1, 5}, far, true);
    struct tensor *p = router_softmax(tape, row);
    assert_true(((float *)p->data)[4] == 1.0f && ((float *)p->data)[0] == 0.0f);
    tape_seed(tape, gate, NULL);
    tape_seed(tape, p, NULL);
    tape_backward(tape);
    const float *slope = tape_gradient(scores);
    assert_close((double)slope[2], 0.025, 1e-6, 0.0);
    assert_true(slope[0] == 0.0f && slope[4] == 0.0f);
    for (int i = 0; i < 5; i++)
        assert_true(((const float *)tape_gradient(row))[i] == 0.0f);
    tape_reset(tape);
    bench_destroy(&bench);
}

/* -- Losses -- */

/* p = 1/2, 3/4, 1/4, 1/4 and a token that takes no part. */
static void test_cross_entropy_by_hand(void **state)
{
    (void)state;
    struct bench bench;
    assert_true(bench_create(&bench, "", 2));
    struct tape *tape = &bench.tape;
    float three = logf(3.0f);
    float data[] = {0.0f, three, -three, -three, 1000.0f};
    static const int8_t target[] = {1, 1, 0, 1, -1};
    static const double slope[] = {-0.5, -0.25, 0.25, -0.75, 0.0};
    struct tensor *scores = tape_leaf(tape, DTYPE_F32, 2, (int64_t[]){5, 1}, data, true);
    double value = 100.0;
    assert_true(router_cross_entropy(tape, scores, target, 0.5f, &value));
    assert_close(value - 100.0, 0.5 * (log(2.0) + 2.0 * log(4.0 / 3.0) + log(4.0)), 1e-6, 0.0);
    tape_backward(tape);
    for (int i = 0; i < 5; i++)
        assert_close((double)((const float *)tape_gradient(scores))[i], 0.5 * slope[i], 1e-6, 0.0);
    tape_reset(tape);
    bench_destroy(&bench);
}

static void test_cross_entropy_far(void **state)
{
    (void)state;
    struct bench bench;
    assert_true(bench_create(&bench, "", 1));
    struct tape *tape = &bench.tape;
    static const struct {
        float score;
        int8_t target;
        double value, slope;
    } cases[] = {
        {1e4f, 1, 0.0, 0.0},         {1e4f, 0, 1e4, 1.0},          {-1e4f, 1, 1e4, -1.0}, {-1e4f, 0, 0.0, 0.0},
        {30.0f, 1, 9.3576e-14, 0.0}, {-30.0f, 0, 9.3576e-14, 0.0}, {30.0f, 0, 30.0, 1.0}, {INFINITY, 1, 0.0, 0.0},
        {-INFINITY, 0, 0.0, 0.0},    {3.4e38f, 0, 3.4e38, 1.0},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        float score = cases[c].score;
        struct tensor *scores = tape_leaf(tape, DTYPE_F32, 2, (int64_t[]){1, 1}, &score, true);
        double value = 0.0;
        assert_true(router_cross_entropy(tape, scores, &cases[c].target, 1.0f, &value));
        assert_close(value, cases[c].value, 1e-4, 0.0);
        tape_backward(tape);
        assert_close((double)*(const float *)tape_gradient(scores), cases[c].slope, 1e-6, 1e-12);
        tape_reset(tape);
    }
    bench_destroy(&bench);
}

static double cross_entropy_plain(const float *scores, const int8_t *target, int64_t count, int64_t moved, double by)
{
    double sum = 0.0;
    for (int64_t n = 0; n < count; n++) {
        double p = 1.0 / (1.0 + exp(-((double)scores[n] + (n == moved ? by : 0.0))));
        sum += target[n] < 0 ? 0.0 : -log(target[n] ? p : 1.0 - p);
    }
    return sum;
}

/* Both losses over enough tokens for several threads, against plain sums and their differences. */
static void test_losses(void **state)
{
    (void)state;
    enum { TOKENS = 1000, CHOICES = 3 };
    static float data[TOKENS * CHOICES], coefficient[TOKENS * CHOICES];
    static int8_t target[TOKENS];
    fill_random(data, TOKENS * CHOICES, "scores");
    fill_random(coefficient, TOKENS * CHOICES, "coefficient");
    for (int n = 0; n < TOKENS; n++)
        target[n] = (int8_t)((int)(random_bits(3, (uint64_t)n) % 3) - 1);
    double balance = 0.0;
    for (int i = 0; i < TOKENS * CHOICES; i++)
        balance += (double)data[i] * (double)coefficient[i];
    double expected = 0.25 * cross_entropy_plain(data, target, TOKENS, -1, 0.0) + 3.0 * balance;
    for (int threads = 1; threads <= 3; threads++) {
        struct bench bench;
        assert_true(bench_create(&bench, "", threads));
        struct tape *tape = &bench.tape;
        struct tensor *scores = tape_leaf(tape, DTYPE_F32, 2, (int64_t[]){TOKENS, 1}, data, true);
        struct tensor *p = tape_leaf(tape, DTYPE_F32, 2, (int64_t[]){TOKENS, CHOICES}, data, true);
        double value = 0.0;
        assert_true(router_cross_entropy(tape, scores, target, 0.25f, &value));
        assert_true(router_balance(tape, p, coefficient, 3.0f, &value));
        assert_close(value, expected, 1e-7, 0.0);
        tape_backward(tape);
        for (int n = 0; n < TOKENS; n += 7) {
            double above = cross_entropy_plain(data, target, TOKENS, n, 1e-4);
            double below = cross_entropy_plain(data, target, TOKENS, n, -1e-4);
            assert_close((double)((const float *)tape_gradient(scores))[n], 0.25 * (above - below) / 2e-4, 1e-6, 1e-7);
        }
        for (int i = 0; i < TOKENS * CHOICES; i++)
            assert_true(((const float *)tape_gradient(p))[i] == 3.0f * coefficient[i]);
        tape_reset(tape);
        bench_destroy(&bench);
    }
}

/* Without gradients, without recording and without tokens there is a value and nothing else; and a tape that is reset
 * before backward keeps nothing. */
static void test_losses_at_the_edge(void **state)
{
    (void)state;
    struct bench bench;
    assert_true(bench_create(&bench, "", 1));
    struct tape *tape = &bench.tape;
    float data[] = {0.0f, 0.0f};
    static const int8_t target[] = {1, 0};
    static const float coefficient[] = {1.0f, 2.0f};
    struct tensor *constant = tape_leaf(tape, DTYPE_F32, 2, (int64_t[]){2, 1}, data, false);
    struct tensor *none = tape_leaf(tape, DTYPE_F32, 2, (int64_t[]){0, 1}, data, true);
    struct tensor *scores = tape_leaf(tape, DTYPE_F32, 2, (int64_t[]){2, 1}, data, true);
    double value = 0.0;
    assert_true(router_cross_entropy(tape, constant, target, 1.0f, &value));
    assert_true(router_balance(tape, constant, coefficient, 1.0f, &value));
    tape->recording = false;
    assert_true(router_cross_entropy(tape, scores, target, 1.0f, &value));
    tape->recording = true;
    assert_null(tape->last);
    assert_close(value, 4.0 * log(2.0), 1e-12, 0.0);
    assert_true(router_cross_entropy(tape, none, NULL, 1.0f, &value));
    assert_true(router_balance(tape, none, NULL, 1.0f, &value));
    tape_backward(tape);
    assert_close(value, 4.0 * log(2.0), 1e-12, 0.0);
    assert_true(router_cross_entropy(tape, scores, target, 1.0f, &value));
    tape_reset(tape);
    bench_destroy(&bench);
}

/* -- errors -- */

static void test_refusals(void **state)
{
    (void)state;
    struct bench bench;
    assert_true(bench_create(&bench, "", 1));
    struct tape *tape = &bench.tape;
    struct context *context = &bench.context;
    float data[12] = {0};
    bf16 halves[12] = {0};
    static const int32_t far[] = {0, 3, -1, -1};
    struct tensor *x = tape_leaf(tape, DTYPE_F32, 2, (int64_t[]){3, 4}, data, true);
    struct tensor *half = tape_leaf(tape, DTYPE_BF16, 2, (int64_t[]){3, 4}, halves, true);
    struct tensor *narrow = tape_leaf(tape, DTYPE_F32, 2, (int64_t[]){4, 3}, data, true);
    double value = 0.0;
    assert_refused(context, router_scores(tape, x, narrow), "column");
    assert_refused(context, router_gate(tape, half, GATE_SIGMOID, 1.0f), "fp32");
    assert_refused(context, router_softmax(tape, half), "fp32");
    assert_refused(context, router_pick(tape, half, far), "fp32");
    assert_refused(context, router_pick(tape, narrow, far), "column");
    assert_refused(context, router_cross_entropy(tape, x, NULL, 1.0f, &value), "each token");
    assert_refused(context, router_balance(tape, half, NULL, 1.0f, &value), "fp32");
    /* After a failed operation the next ones only pass it on. */
    assert_null(router_scores(tape, NULL, x));
    assert_null(router_gate(tape, NULL, GATE_LINEAR, 1.0f));
    assert_null(router_softmax(tape, NULL));
    assert_null(router_pick(tape, NULL, far));
    assert_false(router_cross_entropy(tape, NULL, NULL, 1.0f, &value));
    assert_false(router_balance(tape, NULL, NULL, 1.0f, &value));
    assert_true(value == 0.0);
    tape_reset(tape);
    bench_destroy(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scores),
        cmocka_unit_test(test_gates),
        cmocka_unit_test(test_gates_far),
        cmocka_unit_test(test_cross_entropy_by_hand),
        cmocka_unit_test(test_cross_entropy_far),
        cmocka_unit_test(test_losses),
        cmocka_unit_test(test_losses_at_the_edge),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, bench_begin, NULL);
}
