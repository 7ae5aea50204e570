/* Learned residual connections: their sums, slices of their parameters, and silu. */
#include "tests/unit/ops_support.h"

/* -- silu -- */

static struct tensor *silu_run(struct tape *tape, struct tensor **input, const struct check *check)
{
    (void)check;
    return silu(tape, input[0]);
}

static void silu_reference(double *const *input, double *output, const struct check *check)
{
    for (int64_t i = 0; i < check->outputs; i++)
        output[i] = input[0][i] / (1.0 + exp(-input[0][i]));
}

static void test_silu(void **state)
{
    (void)state;
    static const int64_t sizes[][2] = {{0, 10}, {1, 10}, {7, 33}, {151, 130}};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        int64_t n = sizes[s][0], d = sizes[s][1];
        check_all((struct check){.name = "silu",
                                 .inputs = 1,
                                 .rows = {n},
                                 .columns = {d},
                                 .outputs = n * d,
                                 .out = DTYPE_BF16,
                                 .run = silu_run,
                                 .reference = silu_reference,
                                 .samples = n > 100 ? 3 : 0});
    }
}

/* -- scaled -- */

static struct tensor *scaled_run(struct tape *tape, struct tensor **input, const struct check *check)
{
    return scaled(tape, input[0], *(const float *)check->argument);
}

static void scaled_reference(double *const *input, double *output, const struct check *check)
{
    for (int64_t i = 0; i < check->outputs; i++)
        output[i] = (double)*(const float *)check->argument * input[0][i];
}

static void test_scaled(void **state)
{
    (void)state;
    static const int64_t sizes[][2] = {{0, 10}, {1, 3}, {7, 33}, {151, 130}};
    static const float factor = -2.5f;
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
        check_all((struct check){.name = "scaled",
                                 .inputs = 1,
                                 .rows = {sizes[s][0]},
                                 .columns = {sizes[s][1]},
                                 .outputs = sizes[s][0] * sizes[s][1],
                                 .out = DTYPE_BF16,
                                 .run = scaled_run,
                                 .reference = scaled_reference,
                                 .argument = &factor,
                                 .samples = sizes[s][0] > 100 ? 3 : 0});
}

/* -- Sums -- */

static struct tensor *sum_run(struct tape *tape, struct tensor **input, const struct check *check)
{
    return residual_sum(tape, input[0], input[1], check->inputs > 2 ? input[2] : NULL);
}

static void sum_reference(double *const *input, double *output, const struct check *check)
{
    double a = 1.0, b = 1.0;
    if (check->inputs > 2) {
        a = 2.0 * exp(input[2][0]) / (exp(input[2][0]) + exp(input[2][1]));
        b = 2.0 - a;
    }
    for (int64_t i = 0; i < check->outputs; i++)
        output[i] = a * input[0][i] + b * input[1][i];
}

static struct tensor *term_run(struct tape *tape, struct tensor **input, const struct check *check)
{
    return residual_term(tape, input[0], input[1], input[2], *(const int *)check->argument);
}

static void term_reference(double *const *input, double *output, const struct check *check)
{
    for (int64_t i = 0; i < check->outputs; i++)
        output[i] = input[0][i] + input[2][*(const int *)check->argument] * input[1][i];
}

static void test_sums(void **state)
{
    (void)state;
    static const int64_t sizes[][2] = {{0, 10}, {1, 10}, {7, 33}, {151, 130}};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        int64_t n = sizes[s][0], d = sizes[s][1];
        struct check check = {.name = "residual sum",
                              .inputs = 2,
                              .rows = {n, n, 1},
                              .columns = {d, d, 2},
                              .parameter = {false, false, true},
                              .wide = {false, false, true},
                              .outputs = n * d,
                              .out = DTYPE_BF16,
                              .run = sum_run,
                              .reference = sum_reference,
                              .samples = n > 100 ? 3 : 0};
        check_all(check);
        check.inputs = 3;
        for (int form = 0; form < 3; form++) {
            check.name = "residual sum, weighted";
            check.run = sum_run;
            check.reference = sum_reference;
            check.columns[2] = 2;
            check_all(check);
            for (int index = 0; index < 3; index++) {
                check.name = "residual term";
                check.run = term_run;
                check.reference = term_reference;
                check.columns[2] = 3;
                check.argument = &index;
                check_all(check);
            }
            /* The small one as a parameter in fp32, in the compute type, and as any tensor. */
            if (form == 0)
                check.wide[2] = false;
            else
                check.parameter[2] = false;
        }
    }
}

/* a f + b f and f + gamma f: the two gradients of one tensor add up. */
static struct tensor *twice_run(struct tape *tape, struct tensor **input, const struct check *check)
{
    (void)check;
    return residual_term(tape, residual_sum(tape, input[0], input[0], input[1]), input[0], input[2], 0);
}

static struct tensor *itself_run(struct tape *tape, struct tensor **input, const struct check *check)
{
    (void)check;
    return residual_term(tape, input[0], input[0], input[2], 0);
}

static void twice_reference(double *const *input, double *output, const struct check *check)
{
    for (int64_t i = 0; i < check->outputs; i++)
        output[i] = (2.0 + input[2][0]) * input[0][i];
}

static void itself_reference(double *const *input, double *output, const struct check *check)
{
    for (int64_t i = 0; i < check->outputs; i++)
        output[i] = (1.0 + input[2][0]) * input[0][i] + 0.0 * input[1][0];
}

static void test_one_tensor_twice(void **state)
{
    (void)state;
    struct check check = {.name = "the sum of a tensor and itself",
                          .inputs = 3,
                          .rows = {7, 1, 1},
                          .columns = {33, 2, 1},
                          .parameter = {false, true, true},
                          .wide = {false, true, true},
                          .outputs = 7 * 33,
                          .out = DTYPE_BF16,
                          .run = twice_run,
                          .reference = twice_reference};
    check_all(check);
    check.name = "the term of a tensor and itself";
    check.run = itself_run;
    check.reference = itself_reference;
    check_all(check);
}

/* The start of training: weights of 0 are the plain sum, and a gamma of 0 the plain stream, to the last bit. */
static void test_start_is_plain(void **state)
{
    (void)state;
    enum { ROWS = 5, WIDTH = 37, COUNT = ROWS * WIDTH };
    float values[COUNT], zeros[2] = {0.0f, 0.0f};
    char f_data[COUNT * 4], g_data[COUNT * 4];
    for (int half = 0; half < 2; half++) {
        struct bench bench;
        assert_true(bench_create(&bench, "", 2));
        struct tape *tape = &bench.tape;
        enum dtype dtype = half ? DTYPE_BF16 : DTYPE_F32;
        int64_t shape[] = {ROWS, WIDTH};
        size_t bytes = COUNT * dtype_size(dtype);
        fill_random(values, COUNT, "f");
        floats_store(f_data, dtype, values, COUNT);
        fill_random(values, COUNT, "g");
        floats_store(g_data, dtype, values, COUNT);
        struct tensor *f = tape_leaf(tape, dtype, 2, shape, f_data, true);
        struct tensor *g = tape_leaf(tape, dtype, 2, shape, g_data, true);
        struct tensor *zero = tape_leaf(tape, DTYPE_F32, 1, (int64_t[]){2}, zeros, true);
        struct tensor *plain = add(tape, f, g);
        assert_memory_equal(residual_sum(tape, f, g, zero)->data, plain->data, bytes);
        assert_memory_equal(residual_sum(tape, f, g, NULL)->data, plain->data, bytes);
        assert_memory_equal(residual_term(tape, f, g, zero, 1)->data, f_data, bytes);
        tape_reset(tape);
        bench_destroy(&bench);
    }
}

/* -- Slices of a parameter -- */

enum { SLICES = 3, RANK = 5, WIDTH = 32, TOKENS = 40, DOWN = SLICES * RANK * WIDTH };

static struct parameter parameter_of(enum dtype dtype, int rank, const int64_t *shape, void *data, float *gradient)
{
    struct parameter parameter = {.gradient = gradient};
    parameter.value = (struct tensor){.dtype = dtype, .rank = rank, .data = data, .needs_gradient = true};
    memcpy(parameter.value.shape, shape, (size_t)rank * sizeof *shape);
    return parameter;
}

static void count_done(void *self, struct parameter *parameter)
{
    (void)parameter;
    ++*(int *)self;
}

/* The sum over slices of x A_j^T B_j^T, with A and B whole or in pieces of their own. */
static struct tensor *low_rank(struct tape *tape, struct tensor *x, struct tensor *const *down,
                               struct tensor *const *up)
{
    struct tensor *sum = x;
    for (int j = 0; j < SLICES; j++)
        sum = add(tape, sum, linear(tape, linear(tape, x, down[j], NULL, x->dtype), up[j], NULL, x->dtype));
    return sum;
}

struct low_rank_result {
    char out[TOKENS * WIDTH * 4];
    float down[DOWN], up[DOWN];
    int uses, done;
};

static void low_rank_run(struct bench *bench, bool sliced, enum dtype dtype, void *x_data, void *down_data,
                         void *up_data, struct low_rank_result *result)
{
    static const int64_t down_shape[] = {SLICES, RANK, WIDTH}, up_shape[] = {SLICES, WIDTH, RANK};
    struct tape *tape = &bench->tape;
    memset(result, 0, sizeof *result);
    struct parameter whole[2] = {parameter_of(dtype, 3, down_shape, down_data, result->down),
                                 parameter_of(dtype, 3, up_shape, up_data, result->up)};
    struct parameter part[2 * SLICES];
    struct tensor *weight[2 * SLICES];
    size_t bytes = RANK * WIDTH * dtype_size(dtype);
    for (int i = 0; i < 2; i++)
        whole[i].value.parameter = &whole[i];
    for (int j = 0; j < 2 * SLICES; j++) {
        int which = j / SLICES, index = j % SLICES;
        char *data = (char *)(which ? up_data : down_data) + (size_t)index * bytes;
        float *gradient = (which ? result->up : result->down) + (size_t)index * RANK * WIDTH;
        part[j] = parameter_of(dtype, 2, (which ? up_shape : down_shape) + 1, data, gradient);
        part[j].value.parameter = &part[j];
        weight[j] = sliced ? tape_slice(tape, &whole[which].value, index) : &part[j].value;
    }
    struct tape_listener listener = {.self = &result->done, .parameter_done = count_done};
    tape->final = true;
    tape->listener = &listener;
    struct tensor *x = tape_leaf(tape, dtype, 2, (int64_t[]){TOKENS, WIDTH}, x_data, true);
    struct tensor *out = low_rank(tape, x, weight, weight + SLICES);
    assert_non_null(out);
    result->uses = whole[0].uses;
    memcpy(result->out, out->data, TOKENS * WIDTH * dtype_size(dtype));
    tape_seed(tape, out, NULL);
    tape_backward(tape);
    assert_ok(&bench->context, bench->context.status);
    assert_int_equal(whole[0].uses, 0);
    tape->listener = NULL;
    tape_reset(tape);
}

/* A product with a slice is the product with the matrix that lies there, going forward and backward, also where the
 * library keeps parameters in a layout of its own and after their values have changed. */
static void test_slices(void **state)
{
    (void)state;
    static struct low_rank_result sliced, apart;
    float values[TOKENS * WIDTH];
    char x[TOKENS * WIDTH * 4], down[DOWN * 4], up[DOWN * 4];
    for (int half = 0; half < 2; half++) {
        struct bench bench;
        assert_true(bench_create(&bench, "", 2));
        enum dtype dtype = half ? DTYPE_BF16 : DTYPE_F32;
        fill_random(values, TOKENS * WIDTH, "x");
        floats_store(x, dtype, values, TOKENS * WIDTH);
        for (int step = 0; step < 2; step++) {
            fill_random(values, DOWN, step ? "later down" : "down");
            floats_store(down, dtype, values, DOWN);
            fill_random(values, DOWN, step ? "later up" : "up");
            floats_store(up, dtype, values, DOWN);
            engine_forget(&bench.engine);
            low_rank_run(&bench, true, dtype, x, down, up, &sliced);
            engine_forget(&bench.engine);
            low_rank_run(&bench, false, dtype, x, down, up, &apart);
            assert_memory_equal(sliced.out, apart.out, sizeof apart.out);
            assert_memory_equal(sliced.down, apart.down, sizeof apart.down);
            assert_memory_equal(sliced.up, apart.up, sizeof apart.up);
            /* Each slice is a use of the one parameter, and the listener hears of that after the last. */
            assert_int_equal(sliced.uses, SLICES);
            assert_int_equal(sliced.done, 2);
        }
        bench_destroy(&bench);
    }
}

/* With up at 0 the stream is unchanged, up learns and down does not yet. */
static void test_low_rank_starts(void **state)
{
    (void)state;
    static struct low_rank_result result;
    float x[TOKENS * WIDTH], down[DOWN], up[DOWN] = {0.0f};
    struct bench bench;
    assert_true(bench_create(&bench, "", 2));
    fill_random(x, TOKENS * WIDTH, "x");
    fill_random(down, DOWN, "down");
    low_rank_run(&bench, true, DTYPE_F32, x, down, up, &result);
    assert_memory_equal(result.out, x, sizeof x);
    for (int i = 0; i < DOWN; i++)
        assert_true(result.up[i] != 0.0f && result.down[i] == 0.0f);
    bench_destroy(&bench);
}

/* -- Threads -- */

enum { LARGE = 500, LARGE_WIDTH = 100 };

struct large_result {
    char out[LARGE * LARGE_WIDTH * 4], df[LARGE * LARGE_WIDTH * 4], dg[LARGE * LARGE_WIDTH * 4];
    float weights[2], gamma[3];
};

static void large_run(struct large_result *result, enum dtype dtype, int threads)
{
    static float values[LARGE * LARGE_WIDTH];
    static char f_data[LARGE * LARGE_WIDTH * 4], g_data[LARGE * LARGE_WIDTH * 4];
    float weight_data[] = {0.3f, -0.7f}, gamma_data[] = {0.1f, 0.2f, 0.3f};
    memset(result, 0, sizeof *result);
    fill_random(values, LARGE * LARGE_WIDTH, "f");
    floats_store(f_data, dtype, values, LARGE * LARGE_WIDTH);
    fill_random(values, LARGE * LARGE_WIDTH, "g");
    floats_store(g_data, dtype, values, LARGE * LARGE_WIDTH);
    struct bench bench;
    assert_true(bench_create(&bench, "", threads));
    struct tape *tape = &bench.tape;
    for (int step = 0; step < 3; step++) {
        int64_t allocations = bench.context.memory.allocations;
        struct tensor *f = tape_leaf(tape, dtype, 2, (int64_t[]){LARGE, LARGE_WIDTH}, f_data, true);
        struct tensor *g = tape_leaf(tape, dtype, 2, (int64_t[]){LARGE, LARGE_WIDTH}, g_data, true);
        struct tensor *weights = tape_leaf(tape, DTYPE_F32, 1, (int64_t[]){2}, weight_data, true);
        struct tensor *gamma = tape_leaf(tape, DTYPE_F32, 1, (int64_t[]){3}, gamma_data, true);
        struct tensor *out = silu(tape, residual_term(tape, residual_sum(tape, f, g, weights), f, gamma, 1));
        assert_non_null(out);
        memcpy(result->out, out->data, LARGE * LARGE_WIDTH * dtype_size(dtype));
        tape_seed(tape, out, NULL);
        tape_backward(tape);
        memcpy(result->df, tape_gradient(f), LARGE * LARGE_WIDTH * dtype_size(dtype));
        memcpy(result->dg, tape_gradient(g), LARGE * LARGE_WIDTH * dtype_size(dtype));
        memcpy(result->weights, tape_gradient(weights), sizeof result->weights);
        memcpy(result->gamma, tape_gradient(gamma), sizeof result->gamma);
        tape_reset(tape);
        /* Once memory is found no step asks for more. */
        assert_true(step == 0 || bench.context.memory.allocations == allocations);
    }
    bench_destroy(&bench);
}

static void test_threads(void **state)
{
    (void)state;
    static struct large_result one, many;
    for (int half = 0; half < 2; half++) {
        enum dtype dtype = half ? DTYPE_BF16 : DTYPE_F32;
        large_run(&one, dtype, 1);
        assert_true(one.gamma[0] == 0.0f && one.gamma[1] != 0.0f && one.gamma[2] == 0.0f);
        for (int threads = 2; threads <= 5; threads++) {
            large_run(&many, dtype, threads);
            assert_memory_equal(&one, &many, sizeof one);
        }
    }
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
    struct tensor *x = tape_leaf(tape, DTYPE_F32, 2, (int64_t[]){3, 4}, data, true);
    struct tensor *short_one = tape_leaf(tape, DTYPE_F32, 2, (int64_t[]){2, 4}, data, true);
    struct tensor *half = tape_leaf(tape, DTYPE_BF16, 2, (int64_t[]){3, 4}, halves, true);
    struct tensor *two = tape_leaf(tape, DTYPE_F32, 1, (int64_t[]){2}, data, true);
    struct tensor *constant = tape_leaf(tape, DTYPE_F32, 2, (int64_t[]){3, 4}, data, false);
    assert_refused(context, residual_sum(tape, x, half, two), "type");
    assert_refused(context, residual_sum(tape, x, short_one, two), "shape");
    assert_refused(context, residual_sum(tape, x, x, x), "two weights");
    assert_refused(context, residual_term(tape, x, half, two, 0), "type");
    assert_refused(context, residual_term(tape, x, short_one, two, 0), "shape");
    assert_refused(context, residual_term(tape, x, x, two, 2), "gamma");
    assert_refused(context, residual_term(tape, x, x, two, -1), "gamma");
    assert_refused(context, tape_slice(tape, x, 0), "slice");
    assert_refused(context, tape_slice(tape, constant, 3), "slice");
    assert_refused(context, tape_slice(tape, constant, -1), "slice");
    assert_refused(context, tape_slice(tape, two, 0), "slice");
    struct tensor *row = tape_slice(tape, constant, 2);
    assert_true(row->rank == 1 && row->shape[0] == 4 && row->data == data + 8 && !row->needs_gradient);
    /* After a failed operation the next ones only pass it on. */
    assert_null(silu(tape, NULL));
    assert_null(residual_sum(tape, NULL, x, NULL));
    assert_null(residual_sum(tape, x, NULL, two));
    assert_null(residual_term(tape, x, NULL, two, 0));
    assert_null(residual_term(tape, x, x, NULL, 0));
    assert_null(tape_slice(tape, NULL, 0));
    tape_reset(tape);
    bench_destroy(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scaled),           cmocka_unit_test(test_silu),           cmocka_unit_test(test_sums),
        cmocka_unit_test(test_one_tensor_twice), cmocka_unit_test(test_start_is_plain), cmocka_unit_test(test_slices),
        cmocka_unit_test(test_low_rank_starts),  cmocka_unit_test(test_threads),        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, bench_begin, NULL);
}
