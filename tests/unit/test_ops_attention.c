/* Attention against the whole matrix of scores in double precision. */
#include "tests/unit/attention_support.h"

static struct tensor *attention_run(struct tape *tape, struct tensor **input, const struct check *check)
{
    return rows_attend(tape, input, check->argument);
}

static void query_attend(const struct rows_shape *s, double *const *input, double *output, int64_t token, int64_t head)
{
    int64_t row = token / s->length;
    int64_t seen = integer_min(s->keys_length, token % s->length + 1 + s->keys_length - s->length);
    const double *query = input[0] + (token * s->heads + head) * s->width;
    double *y = output + (token * s->heads + head) * s->width;
    double score[512];
    double largest = -1e300, sum = 0.0;
    for (int64_t e = 0; e < s->width; e++)
        y[e] = 0.0;
    for (int64_t j = 0; j < seen; j++) {
        const double *key = input[1] + ((row * s->keys_length + j) * s->kv_heads + s->kv_of_head[head]) * s->width;
        score[j] = 0.0;
        for (int64_t e = 0; e < s->width; e++)
            score[j] += query[e] * key[e] / sqrt((double)s->width);
        largest = score[j] > largest ? score[j] : largest;
    }
    for (int64_t j = 0; j < seen; j++)
        sum += exp(score[j] - largest);
    for (int64_t j = 0; j < seen; j++) {
        const double *value = input[2] + ((row * s->keys_length + j) * s->kv_heads + s->kv_of_head[head]) * s->width;
        for (int64_t e = 0; e < s->width; e++)
            y[e] += exp(score[j] - largest) / sum * value[e];
    }
}

static void attention_reference(double *const *input, double *output, const struct check *check)
{
    const struct rows_shape *s = check->argument;
    for (int64_t token = 0; token < s->rows * s->length; token++)
        for (int64_t head = 0; head < s->heads; head++)
            query_attend(s, input, output, token, head);
}

static void attention_check(const char *name, struct rows_shape s, int samples)
{
    check_all((struct check){.name = name,
                             .inputs = 3,
                             .rows = {s.rows * s.length, s.rows * s.keys_length, s.rows * s.keys_length},
                             .columns = {s.heads * s.width, s.kv_heads * s.width, s.kv_heads * s.width},
                             .outputs = s.rows * s.length * s.heads * s.width,
                             .out = DTYPE_BF16,
                             .run = attention_run,
                             .reference = attention_reference,
                             .argument = &s,
                             .samples = samples});
}

static const int32_t one_for_all[] = {0, 0, 0, 0};
static const int32_t each_its_own[] = {0, 1, 2, 3};
static const int32_t in_pairs[] = {0, 0, 1, 1};
static const int32_t crossed[] = {2, 0, 2, 0}; /* nobody uses 1 */

static void test_attention_small(void **state)
{
    (void)state;
    attention_check("no rows", (struct rows_shape){0, 5, 5, 1, 1, 10, one_for_all}, 0);
    attention_check("no tokens", (struct rows_shape){2, 0, 0, 1, 1, 10, one_for_all}, 0);
    attention_check("no keys", (struct rows_shape){2, 3, 0, 1, 1, 10, one_for_all}, 0);
    attention_check("one token", (struct rows_shape){1, 1, 1, 1, 1, 10, one_for_all}, 0);
    attention_check("three heads, one key head", (struct rows_shape){2, 7, 7, 3, 1, 10, one_for_all}, 0);
    attention_check("crossed heads", (struct rows_shape){2, 5, 5, 4, 3, 6, crossed}, 0);
    attention_check("cached keys", (struct rows_shape){2, 3, 9, 2, 2, 10, each_its_own}, 0);
    attention_check("fewer keys than queries", (struct rows_shape){2, 5, 3, 2, 2, 10, each_its_own}, 0);
    attention_check("width 1", (struct rows_shape){1, 6, 6, 2, 1, 1, one_for_all}, 0);
}

static void test_attention_blocks(void **state)
{
    (void)state;
    attention_check("blocks", (struct rows_shape){1, 270, 270, 3, 1, 10, one_for_all}, 4);
    attention_check("blocks of cached keys", (struct rows_shape){1, 65, 300, 2, 2, 33, each_its_own}, 4);
    attention_check("blocks of groups", (struct rows_shape){1, 100, 290, 4, 2, 20, in_pairs}, 4);
    attention_check("generation", (struct rows_shape){2, 1, 257, 4, 3, 10, crossed}, 10);
}

/* Large scores neither overflow nor lose the softmax: each query picks one key. */
static void test_attention_sharp(void **state)
{
    (void)state;
    for (int cpu = 0; cpu < BENCH_CPUS; cpu++) {
        struct bench bench;
        if (!bench_create(&bench, bench_cpus[cpu], 2))
            continue;
        enum { LENGTH = 140, WIDTH = 2 };
        float data[3][LENGTH * WIDTH];
        struct tensor *input[3];
        for (int64_t t = 0; t < LENGTH; t++)
            for (int e = 0; e < WIDTH; e++) {
                data[0][t * WIDTH + e] = e == 0 ? 1000.0f : 0.0f;
                data[1][t * WIDTH + e] = e == 0 ? -(float)t : 0.0f; /* the first key wins by far */
                data[2][t * WIDTH + e] = (float)(t + e);
            }
        for (int i = 0; i < 3; i++)
            input[i] = tape_leaf(&bench.tape, DTYPE_F32, 2, (int64_t[]){LENGTH, WIDTH}, data[i], true);
        struct rows_shape shape = {1, LENGTH, LENGTH, 1, 1, WIDTH, one_for_all};
        struct tensor *y = rows_attend(&bench.tape, input, &shape);
        assert_non_null(y);
        for (int64_t t = 0; t < LENGTH; t++)
            for (int e = 0; e < WIDTH; e++)
                assert_close((double)((float *)y->data)[t * WIDTH + e], (double)e, 0.0, 1e-6);
        tape_seed(&bench.tape, y, NULL);
        tape_backward(&bench.tape);
        const float *dvalue = tape_gradient(input[2]);
        assert_close((double)dvalue[0], (double)LENGTH, 1e-6, 0.0);
        assert_close((double)dvalue[LENGTH], 0.0, 0.0, 1e-6);
        for (int i = 0; i < 3; i++)
            tape_release(&bench.tape, input[i]);
        tape_reset(&bench.tape);
        bench_destroy(&bench);
    }
}

/* A not-a-number in one query stays in that query; the others do not see it. */
static void test_attention_nan(void **state)
{
    (void)state;
    for (int cpu = 0; cpu < BENCH_CPUS; cpu++) {
        struct bench bench;
        if (!bench_create(&bench, bench_cpus[cpu], 2))
            continue;
        enum { LENGTH = 9, WIDTH = 4 };
        float data[3][LENGTH * WIDTH];
        struct tensor *input[3];
        for (int i = 0; i < 3; i++) {
            fill_random(data[i], LENGTH * WIDTH, "attention nan");
            input[i] = tape_leaf(&bench.tape, DTYPE_F32, 2, (int64_t[]){LENGTH, WIDTH}, data[i], false);
        }
        data[0][5 * WIDTH + 1] = NAN;
        struct rows_shape shape = {1, LENGTH, LENGTH, 1, 1, WIDTH, one_for_all};
        struct tensor *y = rows_attend(&bench.tape, input, &shape);
        assert_non_null(y);
        for (int64_t i = 0; i < LENGTH * WIDTH; i++)
            assert_true(isnan(((float *)y->data)[i]) == (i / WIDTH == 5));
        tape_reset(&bench.tape);
        bench_destroy(&bench);
    }
}

/* The number of threads changes how work is divided, and nothing but rounding of the result. */
static void test_attention_threads(void **state)
{
    (void)state;
    enum { LENGTH = 300, WIDTH = 16, COUNT = LENGTH * WIDTH };
    static float data[3][COUNT], y[2][COUNT], gradient[2][3][COUNT];
    for (int run = 0; run < 2; run++) {
        struct bench bench;
        assert_true(bench_create(&bench, "", run == 0 ? 1 : 5));
        struct tensor *input[3];
        for (int i = 0; i < 3; i++) {
            fill_random(data[i], COUNT, "attention threads");
            input[i] = tape_leaf(&bench.tape, DTYPE_F32, 2, (int64_t[]){LENGTH, WIDTH}, data[i], true);
        }
        struct rows_shape shape = {1, LENGTH, LENGTH, 1, 1, WIDTH, one_for_all};
        struct tensor *output = rows_attend(&bench.tape, input, &shape);
        assert_non_null(output);
        memcpy(y[run], output->data, sizeof y[run]);
        tape_seed(&bench.tape, output, data[0]);
        tape_backward(&bench.tape);
        for (int i = 0; i < 3; i++) {
            memcpy(gradient[run][i], tape_gradient(input[i]), sizeof gradient[run][i]);
            tape_release(&bench.tape, input[i]);
        }
        tape_reset(&bench.tape);
        bench_destroy(&bench);
    }
    assert_memory_equal(y[0], y[1], sizeof y[0]);
    for (int i = 0; i < 3; i++)
        assert_near(gradient[1][i], gradient[0][i], COUNT, 2e-6, "gradients with 1 and 5 threads");
}

/* Gradients of one tensor used as query, key and value are added up. */
static void test_attention_shared(void **state)
{
    (void)state;
    enum { LENGTH = 6, WIDTH = 4, COUNT = LENGTH * WIDTH };
    float data[COUNT], sum[COUNT] = {0}, together[COUNT];
    fill_random(data, COUNT, "attention shared");
    struct rows_shape shape = {1, LENGTH, LENGTH, 1, 1, WIDTH, one_for_all};
    for (int which = -1; which < 3; which++) {
        struct bench bench;
        assert_true(bench_create(&bench, "", 2));
        struct tensor *needed = tape_leaf(&bench.tape, DTYPE_F32, 2, (int64_t[]){LENGTH, WIDTH}, data, true);
        struct tensor *constant = tape_leaf(&bench.tape, DTYPE_F32, 2, (int64_t[]){LENGTH, WIDTH}, data, false);
        struct tensor *input[3];
        for (int i = 0; i < 3; i++)
            input[i] = which < 0 || which == i ? needed : constant;
        struct tensor *y = rows_attend(&bench.tape, input, &shape);
        assert_non_null(y);
        tape_seed(&bench.tape, y, data);
        tape_backward(&bench.tape);
        const float *gradient = tape_gradient(needed);
        for (int i = 0; i < COUNT; i++) {
            if (which < 0)
                together[i] = gradient[i];
            else
                sum[i] += gradient[i];
        }
        tape_release(&bench.tape, needed);
        tape_reset(&bench.tape);
        bench_destroy(&bench);
    }
    assert_near(together, sum, COUNT, 1e-6, "gradient of a shared tensor");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attention_small),   cmocka_unit_test(test_attention_blocks),
        cmocka_unit_test(test_attention_sharp),   cmocka_unit_test(test_attention_nan),
        cmocka_unit_test(test_attention_threads), cmocka_unit_test(test_attention_shared),
    };
    return cmocka_run_group_tests(tests, bench_begin, NULL);
}
