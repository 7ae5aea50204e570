/* What holds of Infini-attention's memory without a reference: exact values, equal results of equal problems. */
#include "tests/support/recompute_map.h"
#include "tests/unit/infini_support.h"

/* A gradient that is there is added to; a backward without it gives the difference. */
static void test_memory_adds_gradients(void **state)
{
    (void)state;
    struct problem p = problem_of("adds", 2, 4, 2, 6, in_pairs);
    problem_cut(&p, 11, 4);
    p.span[2].keys = 1;
    float *value[INPUTS], seed[22 * 24];
    fill_random(seed, 22 * 24, "seed");
    for (int update = 0; update < 3; update++) {
        struct bench bench;
        assert_true(bench_create(&bench, "", 2));
        p.update = (enum memory_update)update;
        p.norm = update > 0;
        values_make(&p, DTYPE_F32, value);
        struct result fresh = result_create(&p), added = result_create(&p);
        for (int i = 0; i < INPUTS; i++)
            fill_random(added.gradient[i], input_count(&p, i), "before");
        problem_run(&bench, &p, value, DTYPE_F32, seed, false, &fresh);
        problem_run(&bench, &p, value, DTYPE_F32, seed, true, &added);
        for (int i = 0; i < INPUTS; i++) {
            float *sum = test_allocate(input_count(&p, i), sizeof *sum);
            fill_random(sum, input_count(&p, i), "before");
            for (int64_t n = 0; n < input_count(&p, i); n++)
                sum[n] += fresh.gradient[i][n];
            assert_near(added.gradient[i], sum, input_count(&p, i), 1e-6, input_names[i]);
            free(sum);
        }
        values_destroy(value);
        result_destroy(&fresh);
        result_destroy(&added);
        bench_destroy(&bench);
    }
}

/* Threads divide the work, and nothing of the result depends on how. */
static void test_memory_threads(void **state)
{
    (void)state;
    struct problem p = problem_of("threads", 1, 2, 1, 80, one_for_all);
    problem_cut(&p, 600, 260);
    float *value[INPUTS];
    float *seed = test_allocate(input_count(&p, Q), sizeof *seed);
    fill_random(seed, input_count(&p, Q), "seed");
    for (int update = 0; update < 3; update++) {
        p.update = (enum memory_update)update;
        p.norm = update > 0;
        values_make(&p, DTYPE_F32, value);
        struct result result[4];
        static const int threads[4] = {1, 2, 3, 7};
        for (int run = 0; run < 4; run++) {
            struct bench bench;
            assert_true(bench_create(&bench, "", threads[run]));
            result[run] = result_create(&p);
            problem_run(&bench, &p, value, DTYPE_F32, seed, false, &result[run]);
            bench_destroy(&bench);
            assert_memory_equal(result[run].output, result[0].output, (size_t)input_count(&p, Q) * sizeof(float));
            assert_memory_equal(result[run].after, result[0].after, (size_t)state_count(&p) * sizeof(float));
            for (int i = 0; i < INPUTS; i++)
                assert_memory_equal(result[run].gradient[i], result[0].gradient[i],
                                    (size_t)input_count(&p, i) * sizeof(float));
        }
        for (int run = 0; run < 4; run++)
            result_destroy(&result[run]);
        values_destroy(value);
    }
    free(seed);
}

/* Two rows are two batches of one: nothing leaks from row to row. */
static void test_memory_rows_are_apart(void **state)
{
    (void)state;
    struct bench bench;
    assert_true(bench_create(&bench, "", 2));
    struct problem both = problem_of("both rows", 2, 2, 1, 9, one_for_all);
    both.update = MEMORY_UPDATE_DELTA;
    problem_cut(&both, 10, 4);
    struct problem one = both;
    one.rows = 1;
    problem_cut(&one, 10, 4);
    float *value[INPUTS];
    values_make(&both, DTYPE_F32, value);
    struct result together = result_create(&both), alone = result_create(&one);
    problem_run(&bench, &both, value, DTYPE_F32, NULL, false, &together);
    for (int row = 0; row < 2; row++) {
        float *part[INPUTS];
        for (int i = 0; i < INPUTS; i++)
            part[i] = value[i] + (i == GATE ? 0 : row * input_count(&one, i));
        problem_run(&bench, &one, part, DTYPE_F32, NULL, false, &alone);
        int64_t count = input_count(&one, Q);
        assert_memory_equal(alone.output, together.output + row * count, (size_t)count * sizeof(float));
    }
    values_destroy(value);
    result_destroy(&together);
    result_destroy(&alone);
    bench_destroy(&bench);
}

/* Query heads in groups read what they would read if keys and values were repeated for each. */
static void test_memory_groups(void **state)
{
    (void)state;
    struct bench bench;
    assert_true(bench_create(&bench, "", 2));
    struct problem groups = problem_of("groups", 1, 4, 2, 6, in_pairs);
    problem_cut(&groups, 13, 4);
    struct problem repeated = groups;
    repeated.kv_heads = 4;
    repeated.kv_of_head = each_its_own;
    float *value[INPUTS], *wide[INPUTS];
    values_make(&groups, DTYPE_F32, value);
    values_make(&repeated, DTYPE_F32, wide);
    for (int i = K; i <= V; i++)
        for (int64_t n = 0; n < input_count(&repeated, i); n++) {
            int64_t token = n / 24, head = n / 6 % 4;
            wide[i][n] = value[i][(token * 2 + in_pairs[head]) * 6 + n % 6];
        }
    struct result a = result_create(&groups), b = result_create(&repeated);
    problem_run(&bench, &groups, value, DTYPE_F32, NULL, false, &a);
    problem_run(&bench, &repeated, wide, DTYPE_F32, NULL, false, &b);
    assert_memory_equal(a.output, b.output, (size_t)input_count(&groups, Q) * sizeof(float));
    values_destroy(value);
    values_destroy(wide);
    result_destroy(&a);
    result_destroy(&b);
    bench_destroy(&bench);
}

/* The gate at its ends: all memory or all attention; attention alone, to the bit, while the memory is empty; and
 * values that are all one vector are read as that vector (the weights of a linear memory are convex). */
static void test_memory_gate(void **state)
{
    (void)state;
    enum { LENGTH = 12, SEGMENT = 4, WIDTH = 8, HEADS = 2 };
    struct bench bench;
    assert_true(bench_create(&bench, "", 2));
    struct problem p = problem_of("gate", 1, HEADS, 1, WIDTH, one_for_all);
    problem_cut(&p, LENGTH, SEGMENT);
    float *value[INPUTS];
    values_make(&p, DTYPE_F32, value);
    value[GATE][0] = 30.0f;
    value[GATE][1] = -30.0f;
    for (int64_t i = 0; i < LENGTH * WIDTH; i++)
        value[V][i] = 1.0f + (float)(i % WIDTH);
    struct result result = result_create(&p);
    problem_run(&bench, &p, value, DTYPE_F32, NULL, false, &result);
    for (int64_t i = 0; i < LENGTH * HEADS * WIDTH; i++) {
        bool first = i / (HEADS * WIDTH) < SEGMENT, reads = i / WIDTH % HEADS == 0;
        if (first)
            assert_true(result.output[i] == value[A_DOT][i]);
        else
            assert_close((double)result.output[i], reads ? 1.0 + (double)(i % WIDTH) : (double)value[A_DOT][i], 2e-6,
                         1e-10);
    }
    values_destroy(value);
    result_destroy(&result);
    bench_destroy(&bench);
}

/* What one key reads before each segment when its segments write it with these values. */
static void check_rewriting(enum memory_update update, int64_t segments, const int64_t *repeats, const float *written,
                            const double *expected)
{
    enum { WIDTH = 4 };
    struct bench bench;
    assert_true(bench_create(&bench, "", 1));
    struct problem p = problem_of("rewriting", 1, 1, 1, WIDTH, one_for_all);
    p.update = update;
    p.segments = segments;
    for (int64_t s = 0; s < segments; s++) {
        p.span[s] = (struct attention_span){p.tokens, repeats[s], p.tokens, repeats[s]};
        p.tokens += repeats[s];
    }
    float *value[INPUTS];
    values_make(&p, DTYPE_F32, value);
    value[GATE][0] = 30.0f;
    for (int64_t s = 0; s < segments; s++)
        for (int64_t i = p.span[s].key * WIDTH; i < (p.span[s].key + p.span[s].keys) * WIDTH; i++) {
            value[K][i] = value[Q][i] = value[Q][i % WIDTH];
            value[V][i] = written[s];
            value[A_DOT][i] = 0.0f;
        }
    struct result result = result_create(&p);
    problem_run(&bench, &p, value, DTYPE_F32, NULL, false, &result);
    for (int64_t s = 0; s < segments; s++)
        assert_close((double)result.output[p.span[s].query * WIDTH], expected[s], 2e-6, 1e-6);
    values_destroy(value);
    result_destroy(&result);
    bench_destroy(&bench);
}

/* The delta rule does not overwrite, for z grows all the same: a key that is written again and again settles at half
 * of its value. */
static void test_memory_rewriting(void **state)
{
    (void)state;
    static const int64_t once[] = {1, 1, 1, 1, 1};
    static const float same[] = {1.0f, 1.0f, 1.0f, 1.0f, 1.0f};
    check_rewriting(MEMORY_UPDATE_DELTA, 5, once, same, (double[]){0.0, 1.0, 0.5, 0.5, 0.5});
    check_rewriting(MEMORY_UPDATE_LINEAR, 5, once, same, (double[]){0.0, 1.0, 1.0, 1.0, 1.0});
    check_rewriting(MEMORY_UPDATE_DELTA, 3, once, (float[]){1.0f, 5.0f, 0.0f}, (double[]){0.0, 1.0, 2.5});
    check_rewriting(MEMORY_UPDATE_LINEAR, 3, once, (float[]){1.0f, 5.0f, 0.0f}, (double[]){0.0, 1.0, 3.0});
    /* N copies in one segment weigh the old value by -(N - 1) / (N + 1). */
    check_rewriting(MEMORY_UPDATE_DELTA, 3, (int64_t[]){1, 7, 1}, (float[]){8.0f, 0.0f, 0.0f},
                    (double[]){0.0, 8.0, -6.0});
}

/* Keys so small that sigma underflows leave the memory empty, and nothing turns into a not-a-number; large ones pass.
 */
static void test_memory_extreme_keys(void **state)
{
    (void)state;
    struct problem p = problem_of("extreme keys", 1, 2, 1, 6, one_for_all);
    problem_cut(&p, 12, 4);
    float *value[INPUTS], seed[12 * 12];
    fill_random(seed, 12 * 12, "seed");
    for (int update = 0; update < 2; update++) {
        struct bench bench;
        assert_true(bench_create(&bench, "", 2));
        p.update = (enum memory_update)update;
        values_make(&p, DTYPE_F32, value);
        for (int64_t i = 0; i < 12 * 6; i++)
            value[K][i] = i < 4 * 6 ? -1000.0f : i < 8 * 6 ? 1e18f : -50.0f;
        struct result result = result_create(&p);
        problem_run(&bench, &p, value, DTYPE_F32, seed, false, &result);
        for (int64_t i = 0; i < 8 * 12; i++)
            assert_true(i >= 4 * 12 || result.output[i] == value[A_DOT][i]);
        for (int i = 0; i < INPUTS; i++)
            for (int64_t n = 0; n < input_count(&p, i); n++)
                assert_true(isfinite(result.gradient[i][n]));
        values_destroy(value);
        result_destroy(&result);
        bench_destroy(&bench);
    }
}

/* The gradients of one tensor used as k and v, or as q and a_dot, are added up. */
static void test_memory_shared(void **state)
{
    (void)state;
    enum { TOKENS = 9, WIDTH = 6, COUNT = TOKENS * WIDTH };
    struct problem p = problem_of("shared", 1, 1, 1, WIDTH, one_for_all);
    p.update = MEMORY_UPDATE_DELTA;
    problem_cut(&p, TOKENS, 4);
    p.span[1].keys = 3;
    float data[COUNT], gate = 0.5f, sum[COUNT] = {0}, together[COUNT];
    fill_random(data, COUNT, "shared");
    for (int which = -1; which < 4; which++) {
        struct bench bench;
        assert_true(bench_create(&bench, "", 2));
        struct tape *tape = &bench.tape;
        struct tensor *needed = tape_leaf(tape, DTYPE_F32, 2, (int64_t[]){TOKENS, WIDTH}, data, true);
        struct tensor *constant = tape_leaf(tape, DTYPE_F32, 2, (int64_t[]){TOKENS, WIDTH}, data, false);
        struct tensor *gates = tape_leaf(tape, DTYPE_F32, 1, (int64_t[]){1}, &gate, false);
        struct tensor *input[4];
        for (int i = 0; i < 4; i++)
            input[i] = which < 0 || which == i ? needed : constant;
        struct infini_shape shape = {1, p.segments, p.span, 1, WIDTH, p.update, NULL, NULL};
        struct infini_read_shape read = {p.segments, p.span, 1, 1, WIDTH, one_for_all};
        struct tensor *states = infini_states(tape, NULL, input[K], input[V], NULL, &shape);
        struct tensor *output = infini_read(tape, input[Q], states, input[A_DOT], gates, NULL, &read);
        assert_non_null(output);
        tape_seed(tape, output, data);
        tape_backward(tape);
        for (int i = 0; i < COUNT; i++) {
            float gradient = ((const float *)tape_gradient(needed))[i];
            if (which < 0)
                together[i] = gradient;
            else
                sum[i] += gradient;
        }
        tape_release(tape, needed);
        tape_reset(tape);
        bench_destroy(&bench);
    }
    assert_near(together, sum, COUNT, 1e-6, "gradient of a shared tensor");
}

enum { ONE_TOKENS = 9, ONE_WIDTH = 6, ONE_COUNT = ONE_TOKENS * ONE_WIDTH };

/* A memory of one head whose keys, values, queries and attention are all one tensor; argument is a struct problem. */
static struct tensor *one_head(struct tape *tape, void *argument, struct tensor *x)
{
    const struct problem *p = *(const struct problem **)argument;
    static float gate = 0.5f;
    struct tensor *gates = tape_leaf(tape, DTYPE_F32, 1, (int64_t[]){1}, &gate, false);
    struct infini_shape shape = {1, p->segments, p->span, 1, ONE_WIDTH, p->update, NULL, NULL};
    struct infini_read_shape read = {p->segments, p->span, 1, 1, ONE_WIDTH, one_for_all};
    return infini_read(tape, x, infini_states(tape, NULL, x, x, NULL, &shape), x, gates, NULL, &read);
}

/* Run again in backward, it gives the same bits. */
static void test_memory_recomputed(void **state)
{
    (void)state;
    struct problem p = problem_of("recomputed", 1, 1, 1, ONE_WIDTH, one_for_all);
    const struct problem *argument = &p;
    problem_cut(&p, ONE_TOKENS, 2);
    float data[ONE_COUNT], output[2][ONE_COUNT], gradient[2][ONE_COUNT];
    fill_random(data, ONE_COUNT, "recomputed");
    for (int update = 0; update < 2; update++) {
        p.update = (enum memory_update)update;
        for (int again = 0; again < 2; again++) {
            struct bench bench;
            assert_true(bench_create(&bench, "", 2));
            struct tape *tape = &bench.tape;
            struct tensor *x = tape_leaf(tape, DTYPE_F32, 2, (int64_t[]){ONE_TOKENS, ONE_WIDTH}, data, true);
            struct tensor *y = again ? tape_recompute_map(tape, one_head, &argument, sizeof argument, x)
                                     : one_head(tape, &argument, x);
            assert_non_null(y);
            memcpy(output[again], y->data, sizeof data);
            tape_seed(tape, y, data);
            tape_backward(tape);
            memcpy(gradient[again], tape_gradient(x), sizeof data);
            tape_release(tape, x);
            tape_reset(tape);
            bench_destroy(&bench);
        }
        assert_memory_equal(output[0], output[1], sizeof data);
        assert_memory_equal(gradient[0], gradient[1], sizeof data);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_recomputed), cmocka_unit_test(test_memory_adds_gradients),
        cmocka_unit_test(test_memory_threads),    cmocka_unit_test(test_memory_rows_are_apart),
        cmocka_unit_test(test_memory_groups),     cmocka_unit_test(test_memory_gate),
        cmocka_unit_test(test_memory_rewriting),  cmocka_unit_test(test_memory_extreme_keys),
        cmocka_unit_test(test_memory_shared),
    };
    return cmocka_run_group_tests(tests, bench_begin, NULL);
}
