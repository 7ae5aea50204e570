/* Convolved, activated and normalised queries, keys and values of the gated delta rule against loops in double
 * precision (src/model/README.md section 12). */
#include "src/ops/infini.h"
#include "tests/unit/ops_support.h"

static struct tensor *features_run_check(struct tape *tape, struct tensor **input, const struct check *check)
{
    return infini_features(tape, input[0], input[1], check->argument);
}

static void reference_vector(const struct infini_features_shape *shape, double *vector)
{
    double squares = 1e-6;
    for (int64_t e = 0; e < shape->width; e++) {
        vector[e] /= 1.0 + exp(-vector[e]);
        squares += vector[e] * vector[e];
    }
    for (int64_t e = 0; e < shape->width && shape->unit; e++)
        vector[e] /= sqrt(squares);
}

static void features_reference(double *const *input, double *output, const struct check *check)
{
    const struct infini_features_shape *shape = check->argument;
    int64_t columns = shape->heads * shape->width;
    memset(output, 0, (size_t)check->outputs * sizeof *output);
    for (int64_t s = 0; s < shape->spans; s++)
        for (int64_t t = shape->span[s].key; t < shape->span[s].key + shape->span[s].keys; t++) {
            for (int64_t c = 0; c < columns; c++)
                for (int64_t i = 0; i < 4 && t - i >= shape->span[s].key; i++)
                    output[t * columns + c] += input[1][c * 4 + i] * input[0][(t - i) * columns + c];
            for (int64_t head = 0; head < shape->heads; head++)
                reference_vector(shape, output + t * columns + head * shape->width);
        }
}

static void shape_check(const char *name, const struct infini_features_shape *shape, int64_t tokens)
{
    int64_t columns = shape->heads * shape->width;
    check_all((struct check){.name = name,
                             .inputs = 2,
                             .rows = {tokens, columns},
                             .columns = {columns, 4},
                             .parameter = {false, true},
                             .wide = {false, true},
                             .outputs = tokens * columns,
                             .run = features_run_check,
                             .reference = features_reference,
                             .out = DTYPE_F32,
                             .argument = shape,
                             .samples = 40});
}

/* Segments that are shorter than the convolution, empty, ragged, longer than what is worked on at a time; tokens of
 * none. */
static void test_features(void **state)
{
    (void)state;
    static const struct attention_span spans[] = {
        {.key = 0, .keys = 5}, {.key = 5, .keys = 1},   {.key = 6, .keys = 0},  {.key = 6, .keys = 3},
        {.key = 9, .keys = 2}, {.key = 13, .keys = 79}, {.key = 92, .keys = 33}};
    for (int unit = 0; unit < 2; unit++) {
        struct infini_features_shape shape = {.spans = 7, .span = spans, .heads = 2, .width = 5, .unit = unit};
        shape_check(unit ? "unit features" : "features", &shape, 127);
        shape = (struct infini_features_shape){.spans = 1, .span = spans, .heads = 1, .width = 64, .unit = unit};
        shape_check(unit ? "wide unit features" : "wide features", &shape, 5);
    }
}

/* Nothing to do is no mistake. */
static void test_features_of_nothing(void **state)
{
    (void)state;
    struct infini_features_shape shape = {.spans = 0, .heads = 2, .width = 3, .unit = true};
    shape_check("no spans", &shape, 4);
    shape_check("no tokens", &shape, 0);
}

/* The result does not depend on the number of threads: those of one span are in several parts then. */
static void test_features_threads(void **state)
{
    (void)state;
    enum { TOKENS = 700, COLUMNS = 48, COUNT = TOKENS * COLUMNS };
    static float x[COUNT], output[2][COUNT], gradient[2][COUNT], filter[2][COLUMNS * 4], taps[COLUMNS * 4];
    const struct attention_span span[] = {{.key = 0, .keys = 450}, {.key = 450, .keys = 250}};
    struct infini_features_shape shape = {.spans = 2, .span = span, .heads = 4, .width = 12, .unit = true};
    fill_random(x, COUNT, "x");
    fill_random(taps, COLUMNS * 4, "taps");
    for (int run = 0; run < 2; run++) {
        struct bench bench;
        assert_true(bench_create(&bench, "", run ? 5 : 1));
        struct tape *tape = &bench.tape;
        struct tensor *input = tape_leaf(tape, DTYPE_F32, 2, (int64_t[]){TOKENS, COLUMNS}, x, true);
        struct tensor *weight = tape_leaf(tape, DTYPE_F32, 2, (int64_t[]){COLUMNS, 4}, taps, true);
        struct tensor *y = infini_features(tape, input, weight, &shape);
        assert_non_null(y);
        memcpy(output[run], y->data, sizeof output[run]);
        tape_seed(tape, y, x);
        tape_backward(tape);
        memcpy(gradient[run], tape_gradient(input), sizeof gradient[run]);
        memcpy(filter[run], tape_gradient(weight), sizeof filter[run]);
        tape_release(tape, input);
        tape_release(tape, weight);
        tape_reset(tape);
        bench_destroy(&bench);
    }
    assert_memory_equal(output[0], output[1], sizeof output[0]);
    assert_memory_equal(gradient[0], gradient[1], sizeof gradient[0]);
    assert_memory_equal(filter[0], filter[1], sizeof filter[0]);
}

static void test_features_mistakes(void **state)
{
    (void)state;
    struct bench bench;
    assert_true(bench_create(&bench, "", 1));
    float data[40] = {0};
    const struct attention_span outside = {.key = 1, .keys = 2};
    struct infini_features_shape shape = {.spans = 1, .span = &outside, .heads = 2, .width = 5};
    struct tensor *x = tape_leaf(&bench.tape, DTYPE_F32, 2, (int64_t[]){2, 10}, data, false);
    struct tensor *filter = tape_leaf(&bench.tape, DTYPE_F32, 2, (int64_t[]){10, 4}, data, false);
    assert_refused(&bench.context, infini_features(&bench.tape, x, filter, &shape), "tokens that are not there");
    shape.spans = 0;
    shape.heads = 3;
    assert_refused(&bench.context, infini_features(&bench.tape, x, filter, &shape), "a column of x, and a filter");
    tape_reset(&bench.tape);
    bench_destroy(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_features),
        cmocka_unit_test(test_features_of_nothing),
        cmocka_unit_test(test_features_threads),
        cmocka_unit_test(test_features_mistakes),
    };
    return cmocka_run_group_tests(tests, bench_begin, NULL);
}
