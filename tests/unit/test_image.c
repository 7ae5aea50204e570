/* Operations on images against double precision: convolution, pooling, the positive part, batch normalisation. */
#include "tests/unit/ops_support.h"

#include "dist/parallel/batch_norm.h"
#include "src/ops/image.h"

/* A case: x [rows, inputs, side, side + 1], and the layouts of both sides. */
struct shape {
    const char *name;
    int64_t rows, inputs, side, outputs, kernel, stride;
    int64_t block_in, block_out;
    bool rectify;
};

static int64_t out_of(int64_t size, const struct shape *s)
{
    return (size + 2 * (s->kernel / 2) - s->kernel) / s->stride + 1;
}

/* Where channel c of row n at position p lies. */
static int64_t place(int64_t n, int64_t c, int64_t p, int64_t channels, int64_t positions, int64_t block)
{
    int64_t together = block ? block : 1;
    return ((n * channels + c / together * together) * positions + p * together) + c % together;
}

static struct tensor *as_images(struct tensor *x, const struct shape *s)
{
    x->rank = 4;
    x->shape[0] = s->rows;
    x->shape[1] = s->inputs;
    x->shape[2] = s->side;
    x->shape[3] = s->side + 1;
    x->block = s->block_in;
    return x;
}

/* -- Convolution -- */

static struct tensor *convolution_run(struct tape *tape, struct tensor **input, const struct check *check)
{
    const struct shape *s = check->argument;
    struct tensor *weight = input[1];
    weight->rank = 4;
    weight->shape[0] = s->outputs;
    weight->shape[1] = s->inputs;
    weight->shape[2] = weight->shape[3] = s->kernel;
    return convolution(tape, as_images(input[0], s), weight, s->stride, s->kernel / 2, s->block_out);
}

static void convolution_reference(double *const *input, double *output, const struct check *check)
{
    const struct shape *s = check->argument;
    int64_t height = s->side, width = s->side + 1, down = out_of(height, s), across = out_of(width, s);
    int64_t padded = integer_round_up(s->outputs, s->block_out ? s->block_out : 1);
    memset(output, 0, (size_t)check->outputs * sizeof *output);
    for (int64_t n = 0; n < s->rows; n++)
        for (int64_t o = 0; o < s->outputs; o++)
            for (int64_t p = 0; p < down * across; p++) {
                double sum = 0.0;
                for (int64_t i = 0; i < s->inputs; i++)
                    for (int64_t e = 0; e < s->kernel * s->kernel; e++) {
                        int64_t r = p / across * s->stride + e / s->kernel - s->kernel / 2;
                        int64_t c = p % across * s->stride + e % s->kernel - s->kernel / 2;
                        if (r >= 0 && r < height && c >= 0 && c < width)
                            sum += input[1][(o * s->inputs + i) * s->kernel * s->kernel + e] *
                                   input[0][place(n, i, r * width + c, s->inputs, height * width, s->block_in)];
                    }
                output[place(n, o, p, padded, down * across, s->block_out)] = sum;
            }
}

static void test_convolution(void **state)
{
    (void)state;
    static const struct shape shapes[] = {
        {"3x3 of 3 to 16, first", 2, 3, 7, 16, 3, 1, 0, 16, false},
        {"3x3, all channels together", 1, 5, 6, 7, 3, 2, 5, 7, false},
        {"1x1 with a stride", 3, 6, 9, 10, 1, 2, 6, 10, false},
        {"1x1 with a stride, blocks", 2, 16, 5, 32, 1, 2, 16, 16, false},
        {"3x3, blocks", 1, 32, 5, 16, 3, 1, 16, 16, false},
        {"7x7 with a stride", 2, 1, 11, 4, 7, 2, 1, 4, false},
        {"to a block that is not full", 2, 16, 3, 3, 1, 1, 16, 16, false},
        {"one position", 2, 8, 1, 8, 3, 1, 8, 8, false},
        {"no rows", 0, 16, 4, 16, 3, 1, 16, 16, false},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const struct shape *s = &shapes[i];
        int64_t padded = integer_round_up(s->outputs, s->block_out ? s->block_out : 1);
        check_all((struct check){.name = s->name,
                                 .inputs = 2,
                                 .rows = {s->rows * s->inputs, s->outputs},
                                 .columns = {s->side * (s->side + 1), s->inputs * s->kernel * s->kernel},
                                 .parameter = {false, true},
                                 .outputs = s->rows * padded * out_of(s->side, s) * out_of(s->side + 1, s),
                                 .out = DTYPE_BF16,
                                 .run = convolution_run,
                                 .reference = convolution_reference,
                                 .argument = s,
                                 .samples = 7});
    }
}

/* -- Pooling and the positive part -- */

static struct tensor *pool_run(struct tape *tape, struct tensor **input, const struct check *check)
{
    const struct shape *s = check->argument;
    struct tensor *x = as_images(input[0], s);
    return s->kernel == 3 ? max_pooling(tape, x) : s->kernel == 1 ? relu(tape, x) : average_pooling(tape, x);
}

static void pool_reference(double *const *input, double *output, const struct check *check)
{
    const struct shape *s = check->argument;
    int64_t height = s->side, width = s->side + 1, positions = height * width;
    int64_t down = s->kernel == 3 ? out_of(height, s) : 1, across = s->kernel == 3 ? out_of(width, s) : 1;
    for (int64_t i = 0; s->kernel == 1 && i < check->outputs; i++)
        output[i] = fmax(input[0][i], 0.0);
    for (int64_t part = 0; s->kernel != 1 && part < s->rows * s->inputs; part++)
        for (int64_t to = 0; to < down * across; to++) {
            int64_t n = part / s->inputs, channel = part % s->inputs;
            double most = -1e30, sum = 0.0;
            for (int64_t p = 0; p < positions; p++) {
                double value = input[0][place(n, channel, p, s->inputs, positions, s->block_in)];
                int64_t r = p / width - 2 * (to / across) + 1, c = p % width - 2 * (to % across) + 1;
                sum += value / (double)positions;
                if (r >= 0 && r < 3 && c >= 0 && c < 3)
                    most = fmax(most, value);
            }
            if (s->kernel == 3)
                output[place(n, channel, to, s->inputs, down * across, s->block_in)] = most;
            else
                output[n * s->inputs + channel] = sum;
        }
}

static void test_pooling(void **state)
{
    (void)state;
    static const struct shape shapes[] = {
        {"largest, blocks", 2, 32, 5, 32, 3, 2, 16, 16, false},
        {"largest", 1, 3, 6, 3, 3, 2, 3, 3, false},
        {"largest, no rows", 0, 3, 6, 3, 3, 2, 3, 3, false},
        {"mean, blocks", 2, 32, 4, 32, 0, 1, 16, 16, false},
        {"mean", 3, 5, 3, 5, 0, 1, 0, 0, false},
        {"positive part", 2, 5, 7, 5, 1, 1, 5, 5, false},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const struct shape *s = &shapes[i];
        int64_t each = s->kernel == 3   ? out_of(s->side, s) * out_of(s->side + 1, s)
                       : s->kernel == 1 ? s->side * (s->side + 1)
                                        : 1;
        check_all((struct check){.name = s->name,
                                 .inputs = 1,
                                 .rows = {s->rows * s->inputs},
                                 .columns = {s->side * (s->side + 1)},
                                 .outputs = s->rows * s->inputs * each,
                                 .out = DTYPE_BF16,
                                 .run = pool_run,
                                 .reference = pool_reference,
                                 .argument = s,
                                 .samples = 9});
    }
}

/* -- Batch normalisation -- */

enum { MOST_CHANNELS = 40 };

/* Buffers, and weights where they are no inputs. */
struct norm_fixture {
    float mean[MOST_CHANNELS], variance[MOST_CHANNELS], weight[MOST_CHANNELS], bias[MOST_CHANNELS];
    struct parameter running[2];
    struct tensor constant[2];
};

static struct tensor vector_of(float *data, int64_t channels)
{
    return (struct tensor){.dtype = DTYPE_F32, .rank = 1, .shape = {channels}, .data = data};
}

static void fixture_fill(struct norm_fixture *fixture, int64_t channels)
{
    *fixture = (struct norm_fixture){0};
    for (int64_t c = 0; c < channels; c++) {
        fixture->variance[c] = 1.0f;
        fixture->weight[c] = 0.5f + 0.125f * (float)c;
        fixture->bias[c] = 0.25f - 0.0625f * (float)c;
    }
    fixture->running[0].value = vector_of(fixture->mean, channels);
    fixture->running[1].value = vector_of(fixture->variance, channels);
    fixture->constant[0] = vector_of(fixture->weight, channels);
    fixture->constant[1] = vector_of(fixture->bias, channels);
}

static struct tensor *norm_run(struct tape *tape, struct tensor **input, const struct check *check)
{
    static struct norm_fixture fixture;
    const struct shape *s = check->argument;
    bool weights = check->inputs == 3;
    fixture_fill(&fixture, s->inputs);
    struct batch_norm norm = {.weight = weights ? input[1] : &fixture.constant[0],
                              .bias = weights ? input[2] : &fixture.constant[1],
                              .mean = &fixture.running[0],
                              .variance = &fixture.running[1],
                              .epsilon = 1e-5,
                              .momentum = 0.1};
    struct batch_norm_use use = {.trains = true, .rectify = s->rectify};
    struct tensor *shortcut = check->inputs == 2 ? as_images(input[1], s) : NULL;
    return batch_norm(tape, NULL, as_images(input[0], s), shortcut, &norm, &use);
}

static void norm_reference(double *const *input, double *output, const struct check *check)
{
    const struct shape *s = check->argument;
    int64_t positions = s->side * (s->side + 1);
    double count = (double)(s->rows * positions);
    for (int64_t c = 0; c < s->inputs; c++) {
        double mean = 0.0, variance = 0.0;
        for (int64_t i = 0; i < s->rows * positions; i++)
            mean += input[0][place(i / positions, c, i % positions, s->inputs, positions, s->block_in)] / count;
        for (int64_t i = 0; i < s->rows * positions; i++) {
            double off = input[0][place(i / positions, c, i % positions, s->inputs, positions, s->block_in)] - mean;
            variance += off * off / count;
        }
        for (int64_t i = 0; i < s->rows * positions; i++) {
            int64_t at = place(i / positions, c, i % positions, s->inputs, positions, s->block_in);
            double weight = check->inputs == 3 ? input[1][c] : 0.5 + 0.125 * (double)c;
            double bias = check->inputs == 3 ? input[2][c] : 0.25 - 0.0625 * (double)c;
            double y = (input[0][at] - mean) / sqrt(variance + 1e-5) * weight + bias;
            y += check->inputs == 2 ? input[1][at] : 0.0;
            output[at] = s->rectify ? fmax(y, 0.0) : y;
        }
    }
}

static void test_batch_norm(void **state)
{
    (void)state;
    static const struct shape shapes[] = {
        {"norm, blocks", 3, 32, 4, 32, 0, 1, 16, 16, true},
        {"norm, together", 2, 5, 6, 5, 0, 1, 5, 5, false},
        {"norm, rows of channels", 2, 3, 5, 3, 0, 1, 0, 0, true},
        {"norm, 37 together", 2, 37, 3, 37, 0, 1, 37, 37, true},
        {"norm, no rows", 0, 16, 4, 16, 0, 1, 16, 16, true},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int inputs = 1; inputs <= 3; inputs++) {
            const struct shape *s = &shapes[i];
            int64_t rows = s->rows * s->inputs, columns = s->side * (s->side + 1);
            bool shortcut = inputs == 2;
            check_all((struct check){.name = s->name,
                                     .inputs = inputs,
                                     .rows = {rows, shortcut ? rows : 1, 1},
                                     .columns = {columns, shortcut ? columns : s->inputs, s->inputs},
                                     .parameter = {false, !shortcut, true},
                                     .wide = {false, !shortcut, true},
                                     .outputs = rows * columns,
                                     .out = DTYPE_BF16,
                                     .run = norm_run,
                                     .reference = norm_reference,
                                     .argument = s,
                                     .samples = 7});
        }
}

/* Far from zero: fp32 sums of squares would leave nothing of the variance. */
static void test_moments(void **state)
{
    (void)state;
    enum { CHANNELS = 16, SIDE = 40, COUNT = 3 * CHANNELS * SIDE * SIDE };
    static float values[COUNT];
    struct bench bench;
    assert_true(bench_create(&bench, "", 2));
    for (int i = 0; i < COUNT; i++)
        values[i] = 4096.0f + (float)(i / CHANNELS % 2) * 0.0625f;
    struct tensor x = {.dtype = DTYPE_F32, .rank = 4, .shape = {3, CHANNELS, SIDE, SIDE}, .block = 16, .data = values};
    double moments[2 * CHANNELS];
    assert_true(batch_moments(&bench.tape, &x, moments));
    for (int c = 0; c < CHANNELS; c++) {
        assert_close(moments[c], 4096.03125, 1e-9, 0.0);
        assert_close(moments[CHANNELS + c] / (3.0 * SIDE * SIDE), 0.03125 * 0.03125, 1e-6, 0.0);
    }
    bench_destroy(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_convolution),
        cmocka_unit_test(test_pooling),
        cmocka_unit_test(test_batch_norm),
        cmocka_unit_test(test_moments),
    };
    return cmocka_run_group_tests(tests, bench_begin, NULL);
}
