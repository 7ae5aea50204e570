/* Operations on tokens, each against a plain double-precision computation. */
#include "tests/unit/ops_support.h"

/* -- linear -- */

static struct tensor *linear_run(struct tape *tape, struct tensor **input, const struct check *check)
{
    struct tensor *bias = input[2];
    return linear(tape, input[0], input[1], bias, check->out);
}

static void linear_reference(double *const *input, double *output, const struct check *check)
{
    int64_t inputs = check->columns[0];
    int64_t outputs = check->rows[1];
    for (int64_t n = 0; n < check->rows[0]; n++)
        for (int64_t o = 0; o < outputs; o++) {
            double sum = check->inputs > 2 ? input[2][o] : 0.0;
            for (int64_t i = 0; i < inputs; i++)
                sum += input[0][n * inputs + i] * input[1][o * inputs + i];
            output[n * outputs + o] = sum;
        }
}

static void test_linear(void **state)
{
    (void)state;
    static const int64_t sizes[][3] = {{0, 10, 3}, {1, 10, 7}, {5, 10, 1}, {7, 1, 10}, {9, 17, 13}};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
        for (int bias = 0; bias < 2; bias++)
            for (int wide = 0; wide < 2; wide++) {
                int64_t n = sizes[s][0], i = sizes[s][1], o = sizes[s][2];
                check_all((struct check){.name = "linear",
                                         .inputs = 2 + bias,
                                         .rows = {n, o, 1},
                                         .columns = {i, i, o},
                                         .parameter = {false, true, true},
                                         .outputs = n * o,
                                         .out = wide ? DTYPE_F32 : DTYPE_BF16,
                                         .run = linear_run,
                                         .reference = linear_reference});
            }
    check_all((struct check){.name = "linear, large",
                             .inputs = 3,
                             .rows = {65, 150, 1},
                             .columns = {130, 130, 150},
                             .parameter = {false, true, true},
                             .outputs = 65 * 150,
                             .out = DTYPE_BF16,
                             .run = linear_run,
                             .reference = linear_reference,
                             .samples = 3});
}

/* -- sums -- */

static struct tensor *bias_run(struct tape *tape, struct tensor **input, const struct check *check)
{
    (void)check;
    return bias_add(tape, input[0], input[1]);
}

static void bias_reference(double *const *input, double *output, const struct check *check)
{
    for (int64_t i = 0; i < check->outputs; i++)
        output[i] = input[0][i] + input[1][i % check->columns[1]];
}

static struct tensor *add_run(struct tape *tape, struct tensor **input, const struct check *check)
{
    return add(tape, input[0], check->inputs == 1 ? input[0] : input[1]);
}

static void add_reference(double *const *input, double *output, const struct check *check)
{
    for (int64_t i = 0; i < check->outputs; i++)
        output[i] = input[0][i] + input[check->inputs - 1][i];
}

static void test_sums(void **state)
{
    (void)state;
    static const int64_t sizes[][2] = {{0, 10}, {1, 10}, {7, 3}, {151, 130}};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        int64_t n = sizes[s][0], d = sizes[s][1];
        struct check check = {.inputs = 2,
                              .rows = {n, 1},
                              .columns = {d, d},
                              .outputs = n * d,
                              .out = DTYPE_BF16,
                              .samples = n > 100 ? 10 : 0};
        check.name = "bias_add";
        check.parameter[1] = true;
        check.run = bias_run;
        check.reference = bias_reference;
        check_all(check);
        check.name = "add";
        check.parameter[1] = false;
        check.rows[1] = n;
        check.run = add_run;
        check.reference = add_reference;
        check_all(check);
        check.name = "add to itself";
        check.inputs = 1;
        check_all(check);
    }
}

/* -- norm -- */

static struct tensor *norm_run(struct tape *tape, struct tensor **input, const struct check *check)
{
    return norm(tape, input[0], input[1], input[2], *(const enum norm_kind *)check->argument, 1e-3);
}

static void norm_reference(double *const *input, double *output, const struct check *check)
{
    int64_t columns = check->columns[0];
    bool layer = *(const enum norm_kind *)check->argument == NORM_LAYER;
    for (int64_t n = 0; n < check->rows[0]; n++) {
        const double *x = input[0] + n * columns;
        double mean = 0.0, variance = 0.0;
        for (int64_t c = 0; c < columns && layer; c++)
            mean += x[c] / (double)columns;
        for (int64_t c = 0; c < columns; c++)
            variance += (x[c] - mean) * (x[c] - mean) / (double)columns;
        for (int64_t c = 0; c < columns; c++)
            output[n * columns + c] =
                (x[c] - mean) / sqrt(variance + 1e-3) * input[1][c] + (check->inputs > 2 ? input[2][c] : 0.0);
    }
}

static void test_norm(void **state)
{
    (void)state;
    static const int64_t sizes[][2] = {{0, 10}, {1, 10}, {7, 33}, {151, 130}};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
        for (int kind = 0; kind < 2; kind++)
            for (int bias = 0; bias < 2; bias++) {
                int64_t n = sizes[s][0], d = sizes[s][1];
                enum norm_kind argument = kind ? NORM_LAYER : NORM_RMS;
                check_all((struct check){.name = kind ? "layer norm" : "rms norm",
                                         .inputs = 2 + bias,
                                         .rows = {n, 1, 1},
                                         .columns = {d, d, d},
                                         .parameter = {false, true, true},
                                         .outputs = n * d,
                                         .out = DTYPE_BF16,
                                         .run = norm_run,
                                         .reference = norm_reference,
                                         .argument = &argument,
                                         .samples = n > 100 ? 4 : 0});
            }
}

/* Rows far from zero, and rows whose first elements say little about the others. */
static void test_norm_far(void **state)
{
    (void)state;
    enum { COLUMNS = 1000 };
    static float x[COLUMNS], one[COLUMNS], y[COLUMNS], expected[COLUMNS];
    for (int cpu = 0; cpu < BENCH_CPUS; cpu++) {
        struct bench bench;
        if (!bench_create(&bench, bench_cpus[cpu], 1))
            continue;
        for (int which = 0; which < 3; which++) {
            fill_random(x, COLUMNS, "far");
            double mean = 0.0, variance = 0.0;
            for (int i = 0; i < COLUMNS; i++) {
                x[i] += which == 0 ? 1000.0f : which == 1 && i < 64 ? -50.0f : which == 2 && i == 0 ? 1e4f : 0.0f;
                one[i] = 1.0f;
                mean += (double)x[i] / COLUMNS;
            }
            for (int i = 0; i < COLUMNS; i++)
                variance += ((double)x[i] - mean) * ((double)x[i] - mean) / COLUMNS;
            for (int i = 0; i < COLUMNS; i++)
                expected[i] = (float)(((double)x[i] - mean) / sqrt(variance + 1e-5));
            float row_mean, inverse;
            struct norm_rows rows = {.rows = 1,
                                     .columns = COLUMNS,
                                     .kind = NORM_LAYER,
                                     .epsilon = 1e-5f,
                                     .x = x,
                                     .weight = one,
                                     .mean = &row_mean,
                                     .inverse = &inverse};
            bench.engine.kernels->norm_forward(&rows, y);
            assert_close((double)inverse, 1.0 / sqrt(variance + 1e-5), 1e-5, 0.0);
            assert_near(y, expected, COLUMNS, which == 0 ? 6e-5 : 1e-5, "layer norm far from zero");
        }
        bench_destroy(&bench);
    }
}

/* -- activations -- */

static struct tensor *swiglu_run(struct tape *tape, struct tensor **input, const struct check *check)
{
    (void)check;
    return swiglu(tape, input[0], input[1]);
}

static void swiglu_reference(double *const *input, double *output, const struct check *check)
{
    for (int64_t i = 0; i < check->outputs; i++)
        output[i] = input[0][i] / (1.0 + exp(-input[0][i])) * input[1][i];
}

static struct tensor *gelu_run(struct tape *tape, struct tensor **input, const struct check *check)
{
    (void)check;
    return gelu(tape, input[0]);
}

static void gelu_reference(double *const *input, double *output, const struct check *check)
{
    for (int64_t i = 0; i < check->outputs; i++) {
        double x = input[0][i];
        output[i] = 0.5 * x * (1.0 + tanh(sqrt(2.0 / acos(-1.0)) * (x + 0.044715 * x * x * x)));
    }
}

static void test_activations(void **state)
{
    (void)state;
    static const int64_t sizes[][2] = {{0, 10}, {1, 10}, {7, 33}, {151, 130}};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        int64_t n = sizes[s][0], d = sizes[s][1];
        struct check check = {.name = "swiglu",
                              .inputs = 2,
                              .rows = {n, n},
                              .columns = {d, d},
                              .outputs = n * d,
                              .out = DTYPE_BF16,
                              .run = swiglu_run,
                              .reference = swiglu_reference,
                              .samples = n > 100 ? 10 : 0};
        check_all(check);
        check.name = "gelu";
        check.inputs = 1;
        check.run = gelu_run;
        check.reference = gelu_reference;
        check_all(check);
    }
}

/* Far from zero the activations must neither overflow nor lose their sign. */
static void test_activations_far(void **state)
{
    (void)state;
    static const float gate[] = {-1000.0f, -100.0f, -90.0f, -20.0f, 20.0f, 90.0f, 100.0f, 1000.0f};
    enum { COUNT = sizeof gate / sizeof gate[0] };
    for (int cpu = 0; cpu < BENCH_CPUS; cpu++) {
        struct bench bench;
        if (!bench_create(&bench, bench_cpus[cpu], 1))
            continue;
        const struct kernels *kernels = bench.engine.kernels;
        float one[COUNT], y[COUNT], slope[COUNT], other[COUNT];
        for (int i = 0; i < COUNT; i++)
            one[i] = 1.0f;
        for (int which = 0; which < 2; which++) {
            if (which == 0) {
                kernels->gelu_forward(y, gate, COUNT, DTYPE_F32, false);
                kernels->gelu_backward(slope, 0.0f, one, gate, COUNT, DTYPE_F32, false);
            } else {
                kernels->swiglu_forward(y, gate, one, COUNT, DTYPE_F32, false);
                kernels->swiglu_backward(slope, 0.0f, other, 0.0f, one, gate, one, COUNT, DTYPE_F32, false);
                for (int i = 0; i < COUNT; i++)
                    assert_close((double)other[i], (double)y[i], 1e-6, 0.0);
            }
            for (int i = 0; i < COUNT; i++) {
                assert_close((double)y[i], gate[i] > 0.0f ? (double)gate[i] : 0.0, 1e-6, 1e-7);
                assert_close((double)slope[i], gate[i] > 0.0f ? 1.0 : 0.0, 1e-6, 1e-7);
            }
        }
        bench_destroy(&bench);
    }
}

/* y and dy/dx, as the equations have them. */
static void gelu_exact(double x, double *y, double *slope)
{
    double u = sqrt(2.0 / acos(-1.0)) * (x + 0.044715 * x * x * x);
    double inner = sqrt(2.0 / acos(-1.0)) * (1.0 + 3.0 * 0.044715 * x * x);
    double t = tanh(u);
    *y = 0.5 * x * (1.0 + t);
    *slope = 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * inner;
}

static void silu_exact(double x, double *y, double *slope)
{
    double s = 1.0 / (1.0 + exp(-x));
    *y = x * s;
    *slope = s * (1.0 + x * (1.0 - s));
}

/* Where they bend, to 1e-6. */
static void test_activations_near(void **state)
{
    (void)state;
    enum { COUNT = 12007 };
    static float x[COUNT], one[COUNT], y[2][COUNT], slope[2][COUNT], other[COUNT];
    for (int i = 0; i < COUNT; i++) {
        x[i] = (float)(i - COUNT / 2) * 1e-3f;
        one[i] = 1.0f;
    }
    for (int cpu = 0; cpu < BENCH_CPUS; cpu++) {
        struct bench bench;
        if (!bench_create(&bench, bench_cpus[cpu], 1))
            continue;
        const struct kernels *kernels = bench.engine.kernels;
        kernels->gelu_forward(y[0], x, COUNT, DTYPE_F32, false);
        kernels->gelu_backward(slope[0], 0.0f, one, x, COUNT, DTYPE_F32, false);
        kernels->swiglu_forward(y[1], x, one, COUNT, DTYPE_F32, false);
        kernels->swiglu_backward(slope[1], 0.0f, other, 0.0f, one, x, one, COUNT, DTYPE_F32, false);
        for (int which = 0; which < 2; which++)
            for (int i = 0; i < COUNT; i++) {
                double value, derivative;
                (which == 0 ? gelu_exact : silu_exact)((double)x[i], &value, &derivative);
                assert_close((double)y[which][i], value, 0.0, 1e-6);
                assert_close((double)slope[which][i], derivative, 0.0, 1e-6);
            }
        bench_destroy(&bench);
    }
}

/* Not-a-numbers come out, and do not spread to their neighbours. */
static void test_activations_nan(void **state)
{
    (void)state;
    enum { COUNT = 70, BAD = 5 };
    for (int cpu = 0; cpu < BENCH_CPUS; cpu++) {
        struct bench bench;
        if (!bench_create(&bench, bench_cpus[cpu], 1))
            continue;
        const struct kernels *kernels = bench.engine.kernels;
        for (int sign = -1; sign <= 1; sign += 2) {
            float x[COUNT], one[COUNT], result[5][COUNT];
            for (int i = 0; i < COUNT; i++) {
                x[i] = i == BAD ? copysignf(NAN, (float)sign) : 0.5f;
                one[i] = 1.0f;
            }
            kernels->gelu_forward(result[0], x, COUNT, DTYPE_F32, false);
            kernels->gelu_backward(result[1], 0.0f, one, x, COUNT, DTYPE_F32, false);
            kernels->swiglu_forward(result[2], x, one, COUNT, DTYPE_F32, false);
            kernels->swiglu_backward(result[3], 0.0f, result[4], 0.0f, one, x, one, COUNT, DTYPE_F32, false);
            for (int r = 0; r < 5; r++)
                for (int i = 0; i < COUNT; i++)
                    assert_true(isnan(result[r][i]) == (i == BAD));
        }
        bench_destroy(&bench);
    }
}

/* -- Stores around the caches -- */

/* Every kernel that can go around the caches, over COUNT elements of `dtype` at `shift` bytes off a line. */
enum {
    UNCACHED_ROWS = 5,
    UNCACHED_COLUMNS = 192,
    UNCACHED_COUNT = UNCACHED_ROWS * UNCACHED_COLUMNS + 7,
    UNCACHED_OUTPUTS = 10
};

struct uncached {
    _Alignas(64) char output[UNCACHED_OUTPUTS][UNCACHED_COUNT * sizeof(float) + 64];
};

static void uncached_run(const struct kernels *kernels, struct uncached *to, const float *values, enum dtype dtype,
                         int shift, bool uncached)
{
    static float x[UNCACHED_COUNT], mean[UNCACHED_ROWS], inverse[UNCACHED_ROWS], sums[2][UNCACHED_COLUMNS];
    memset(to, 0, sizeof *to);
    floats_store(x, dtype, values, UNCACHED_COUNT);
    char *y[UNCACHED_OUTPUTS];
    for (int i = 0; i < UNCACHED_OUTPUTS; i++)
        y[i] = to->output[i] + shift;
    enum dtype other = dtype == DTYPE_BF16 ? DTYPE_F32 : DTYPE_BF16;
    kernels->convert(y[0], other, x, dtype, UNCACHED_COUNT, uncached);
    kernels->add(y[1], x, x, UNCACHED_COUNT, dtype, uncached);
    kernels->gelu_forward(y[2], x, UNCACHED_COUNT, dtype, uncached);
    kernels->gelu_backward(y[3], 0.0f, x, x, UNCACHED_COUNT, dtype, uncached);
    kernels->swiglu_forward(y[4], x, x, UNCACHED_COUNT, dtype, uncached);
    kernels->swiglu_backward(y[5], 0.0f, y[6], 0.0f, x, x, x, UNCACHED_COUNT, dtype, uncached);
    kernels->swiglu_backward(y[5], 1.0f, NULL, 0.0f, x, x, x, UNCACHED_COUNT, dtype, uncached);
    kernels->gelu_backward(y[6], 1.0f, x, x, UNCACHED_COUNT, dtype, uncached);
    for (int kind = 0; kind < 2; kind++) {
        struct norm_rows rows = {.rows = UNCACHED_ROWS,
                                 .columns = UNCACHED_COLUMNS - kind,
                                 .kind = kind ? NORM_LAYER : NORM_RMS,
                                 .dtype = dtype,
                                 .epsilon = 1e-3f,
                                 .x = x,
                                 .weight = values,
                                 .mean = mean,
                                 .inverse = inverse,
                                 .uncached = uncached};
        kernels->norm_forward(&rows, y[7]);
        kernels->norm_backward(&rows, x, y[8 + kind], 0.0f, sums[0], sums[1]);
    }
}

static void test_uncached_stores(void **state)
{
    (void)state;
    static struct uncached plain, uncached;
    static float values[UNCACHED_COUNT];
    fill_random(values, UNCACHED_COUNT, "uncached");
    for (int cpu = 0; cpu < BENCH_CPUS; cpu++) {
        struct bench bench;
        if (!bench_create(&bench, bench_cpus[cpu], 1))
            continue;
        for (int half = 0; half < 2; half++)
            for (int shift = 0; shift <= 8; shift += 8) {
                enum dtype dtype = half ? DTYPE_BF16 : DTYPE_F32;
                uncached_run(bench.engine.kernels, &plain, values, dtype, shift, false);
                uncached_run(bench.engine.kernels, &uncached, values, dtype, shift, true);
                assert_memory_equal(&plain, &uncached, sizeof plain);
            }
        bench_destroy(&bench);
    }
}

/* -- embedding -- */

struct embedding_argument {
    int32_t tokens[600];
    int64_t first;
};

static struct tensor *embedding_run(struct tape *tape, struct tensor **input, const struct check *check)
{
    const struct embedding_argument *argument = check->argument;
    int64_t count = check->outputs / check->columns[0];
    return embedding(tape, input[0], argument->tokens, count, argument->first);
}

static void embedding_reference(double *const *input, double *output, const struct check *check)
{
    const struct embedding_argument *argument = check->argument;
    int64_t columns = check->columns[0];
    for (int64_t i = 0; i < check->outputs; i++) {
        int64_t row = argument->tokens[i / columns] - argument->first;
        output[i] = row >= 0 && row < check->rows[0] ? input[0][row * columns + i % columns] : 0.0;
    }
}

static void test_embedding(void **state)
{
    (void)state;
    static const int64_t sizes[][3] = {{0, 5, 10}, {1, 5, 10}, {9, 3, 33}, {600, 20, 130}};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        int64_t count = sizes[s][0], rows = sizes[s][1], columns = sizes[s][2];
        struct embedding_argument argument = {.first = 2};
        for (int64_t n = 0; n < count; n++)
            argument.tokens[n] = (int32_t)(random_bits(7, (uint64_t)n) % (uint64_t)(rows + 4));
        struct check check = {.name = "embedding",
                              .inputs = 1,
                              .rows = {rows},
                              .columns = {columns},
                              .parameter = {true},
                              .outputs = count * columns,
                              .out = DTYPE_BF16,
                              .run = embedding_run,
                              .reference = embedding_reference,
                              .argument = &argument,
                              .samples = count > 100 ? 20 : 0};
        check_all(check);
    }
}

/* -- rope -- */

enum { ROPE_POSITIONS = 11, ROPE_ROWS = 1000 };

struct rope_argument {
    int64_t width;
    int32_t positions[ROPE_ROWS];
    float cosine[ROPE_POSITIONS * 32];
    float sine[ROPE_POSITIONS * 32];
};

static struct tensor *rope_run(struct tape *tape, struct tensor **input, const struct check *check)
{
    const struct rope_argument *argument = check->argument;
    return rope(tape, input[0], argument->width, argument->positions, argument->cosine, argument->sine);
}

static void rope_reference(double *const *input, double *output, const struct check *check)
{
    const struct rope_argument *argument = check->argument;
    int64_t width = argument->width;
    for (int64_t i = 0; i < check->outputs; i++) {
        int64_t e = i % width;
        int64_t half = width / 2;
        double angle =
            argument->positions[i / check->columns[0]] * pow(10000.0, -2.0 * (double)(e % half) / (double)width);
        double x = input[0][i];
        output[i] = e < half ? x * cos(angle) - input[0][i + half] * sin(angle)
                             : x * cos(angle) + input[0][i - half] * sin(angle);
    }
}

static void test_rope(void **state)
{
    (void)state;
    static const int64_t sizes[][3] = {{0, 1, 10}, {1, 1, 2}, {9, 3, 10}, {200, 2, 64}};
    static struct rope_argument argument;
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        int64_t rows = sizes[s][0], heads = sizes[s][1], width = sizes[s][2];
        argument.width = width;
        for (int64_t n = 0; n < rows; n++)
            argument.positions[n] = (int32_t)(random_bits(9, (uint64_t)n) % ROPE_POSITIONS);
        for (int64_t p = 0; p < ROPE_POSITIONS; p++)
            for (int64_t e = 0; e < width / 2; e++) {
                double angle = (double)p * pow(10000.0, -2.0 * (double)e / (double)width);
                argument.cosine[p * width / 2 + e] = (float)cos(angle);
                argument.sine[p * width / 2 + e] = (float)sin(angle);
            }
        check_all((struct check){.name = "rope",
                                 .inputs = 1,
                                 .rows = {rows},
                                 .columns = {heads * width},
                                 .outputs = rows * heads * width,
                                 .out = DTYPE_BF16,
                                 .run = rope_run,
                                 .reference = rope_reference,
                                 .argument = &argument,
                                 .samples = rows > 100 ? 20 : 0});
    }
}

/* -- errors -- */

static void test_refusals(void **state)
{
    (void)state;
    struct bench bench;
    assert_true(bench_create(&bench, "", 1));
    struct tape *tape = &bench.tape;
    float data[12] = {0};
    bf16 halves[12] = {0};
    struct tensor *x = tape_leaf(tape, DTYPE_F32, 2, (int64_t[]){3, 4}, data, true);
    struct tensor *y = tape_leaf(tape, DTYPE_F32, 2, (int64_t[]){4, 3}, data, true);
    struct tensor *half = tape_leaf(tape, DTYPE_BF16, 2, (int64_t[]){3, 4}, halves, true);
    struct context *context = &bench.context;
    assert_refused(context, linear(tape, x, y, NULL, DTYPE_F32), "shapes");
    assert_refused(context, linear(tape, x, half, NULL, DTYPE_F32), "type");
    assert_refused(context, linear(tape, x, x, NULL, DTYPE_BF16), "type");
    assert_refused(context, add(tape, x, half), "type");
    assert_refused(context, norm(tape, x, y, NULL, NORM_RMS, 1e-5), "norm");
    assert_refused(context, swiglu(tape, x, half), "type");
    assert_refused(context, rope(tape, x, 3, NULL, NULL, NULL), "even width");
    /* After a failed operation the next ones only pass it on. */
    assert_null(linear(tape, NULL, x, NULL, DTYPE_F32));
    assert_null(bias_add(tape, NULL, x));
    assert_null(add(tape, x, NULL));
    assert_null(norm(tape, NULL, x, NULL, NORM_RMS, 1e-5));
    assert_null(swiglu(tape, NULL, x));
    assert_null(gelu(tape, NULL));
    assert_null(embedding(tape, NULL, NULL, 0, 0));
    assert_null(rope(tape, NULL, 4, NULL, NULL, NULL));
    assert_null(attention(tape, NULL, x, x, NULL));
    tape_reset(tape);
    bench_destroy(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear),
        cmocka_unit_test(test_sums),
        cmocka_unit_test(test_norm),
        cmocka_unit_test(test_norm_far),
        cmocka_unit_test(test_activations),
        cmocka_unit_test(test_activations_near),
        cmocka_unit_test(test_activations_far),
        cmocka_unit_test(test_activations_nan),
        cmocka_unit_test(test_uncached_stores),
        cmocka_unit_test(test_embedding),
        cmocka_unit_test(test_rope),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, bench_begin, NULL);
}
