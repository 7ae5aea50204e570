/* Operations of models of images. */
#include "tests/unit/ops_support.h"

/* -- GELU by the error function -- */

static struct tensor *gelu_erf_run(struct tape *tape, struct tensor **input, const struct check *check)
{
    (void)check;
    return gelu_erf(tape, input[0]);
}

static void gelu_erf_reference(double *const *input, double *output, const struct check *check)
{
    for (int64_t i = 0; i < check->outputs; i++)
        output[i] = 0.5 * input[0][i] * (1.0 + erf(input[0][i] / sqrt(2.0)));
}

static void test_gelu_erf(void **state)
{
    (void)state;
    static const int64_t sizes[][2] = {{0, 10}, {1, 10}, {7, 33}};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        check_all((struct check){.name = "gelu_erf",
                                 .inputs = 1,
                                 .rows = {sizes[s][0]},
                                 .columns = {sizes[s][1]},
                                 .outputs = sizes[s][0] * sizes[s][1],
                                 .out = DTYPE_BF16,
                                 .run = gelu_erf_run,
                                 .reference = gelu_erf_reference});
}

/* Value and slope from -6 to 6, to 1e-6; far out, and what is no number. */
static void test_gelu_erf_everywhere(void **state)
{
    (void)state;
    enum { COUNT = 12007 };
    static float x[COUNT], one[COUNT], y[COUNT], slope[COUNT];
    for (int i = 0; i < COUNT; i++) {
        x[i] = (float)(i - COUNT / 2) * 1e-3f;
        one[i] = 1.0f;
    }
    x[0] = -1e30f;
    x[1] = 1e30f;
    x[2] = NAN;
    for (int cpu = 0; cpu < BENCH_CPUS; cpu++) {
        struct bench bench;
        if (!bench_create(&bench, bench_cpus[cpu], 1))
            continue;
        bench.engine.kernels->gelu_erf_forward(y, x, COUNT, DTYPE_F32, false);
        bench.engine.kernels->gelu_erf_backward(slope, 0.0f, one, x, COUNT, DTYPE_F32, false);
        assert_true(isnan(y[2]) && isnan(slope[2]) && y[1] == 1e30f);
        assert_true(fabsf(y[0]) < 1e-6f && fabsf(slope[0]) < 1e-6f && fabsf(slope[1] - 1.0f) < 1e-6f);
        for (int i = 3; i < COUNT; i++) {
            double v = (double)x[i];
            double below = 0.5 * (1.0 + erf(v / sqrt(2.0)));
            assert_close((double)y[i], v * below, 0.0, 1e-6);
            assert_close((double)slope[i], below + v * exp(-0.5 * v * v) / sqrt(2.0 * acos(-1.0)), 0.0, 1e-6);
        }
        bench_destroy(&bench);
    }
}

/* -- The mean of rows -- */

static struct tensor *row_mean_run(struct tape *tape, struct tensor **input, const struct check *check)
{
    return row_mean(tape, input[0], *(const int64_t *)check->argument, NULL);
}

/* Of 5 rows each the first 3, all, and the first. */
static const int64_t first_rows[3] = {3, 5, 1};

static struct tensor *first_mean_run(struct tape *tape, struct tensor **input, const struct check *check)
{
    (void)check;
    return row_mean(tape, input[0], 5, first_rows);
}

static void first_mean_reference(double *const *input, double *output, const struct check *check)
{
    int64_t columns = check->columns[0];
    for (int64_t i = 0; i < check->outputs; i++) {
        int64_t row = i / columns;
        output[i] = 0.0;
        for (int64_t r = 0; r < first_rows[row]; r++)
            output[i] += input[0][(row * 5 + r) * columns + i % columns] / (double)first_rows[row];
    }
}

static void row_mean_reference(double *const *input, double *output, const struct check *check)
{
    int64_t length = *(const int64_t *)check->argument;
    int64_t columns = check->columns[0];
    for (int64_t i = 0; i < check->outputs; i++) {
        output[i] = 0.0;
        for (int64_t r = 0; r < length; r++)
            output[i] += input[0][(i / columns * length + r) * columns + i % columns] / (double)length;
    }
}

static void test_row_mean(void **state)
{
    (void)state;
    static const int64_t sizes[][3] = {{0, 4, 10}, {1, 1, 7}, {3, 5, 33}, {2, 17, 70}};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        check_all((struct check){.name = "row_mean",
                                 .inputs = 1,
                                 .rows = {sizes[s][0] * sizes[s][1]},
                                 .columns = {sizes[s][2]},
                                 .outputs = sizes[s][0] * sizes[s][2],
                                 .out = DTYPE_BF16,
                                 .argument = &sizes[s][1],
                                 .run = row_mean_run,
                                 .reference = row_mean_reference});
    check_all((struct check){.name = "row_mean of the first",
                             .inputs = 1,
                             .rows = {15},
                             .columns = {33},
                             .outputs = 3 * 33,
                             .out = DTYPE_BF16,
                             .run = first_mean_run,
                             .reference = first_mean_reference});
}

/* -- Patches -- */

/* Two images of 2 channels and 4 x 4 pixels in patches of 2 x 2: pixel (image, channel, row, column) is the number with
 * these digits. A patch is (channel, row, column). */
static void test_patches(void **state)
{
    (void)state;
    float images[2 * 2 * 4 * 4];
    for (int i = 0; i < 64; i++)
        images[i] = (float)(1000 * (i / 32) + 100 * (i / 16 % 2) + 10 * (i / 4 % 4) + i % 4);
    static const int32_t index[] = {7, 0, 1, 2};
    static const float expected[4][8] = {{1022, 1023, 1032, 1033, 1122, 1123, 1132, 1133},
                                         {0, 1, 10, 11, 100, 101, 110, 111},
                                         {2, 3, 12, 13, 102, 103, 112, 113},
                                         {20, 21, 30, 31, 120, 121, 130, 131}};
    struct bench bench;
    assert_true(bench_create(&bench, "", 2));
    struct patches patches = {.images = images, .channels = 2, .size = 4, .patch = 2, .index = index};
    for (int type = 0; type < 2; type++) {
        float rows[32];
        struct tensor *y = patch_rows(&bench.tape, &patches, 4, type ? DTYPE_BF16 : DTYPE_F32);
        assert_non_null(y);
        assert_int_equal(tensor_rows(y), 4);
        assert_int_equal(tensor_columns(y), 8);
        floats_load(rows, y->data, y->dtype, 32);
        for (int i = 0; i < 32; i++)
            assert_close((double)rows[i], (double)expected[i / 8][i % 8], type ? 0.004 : 0.0, 0.0);
        tape_reset(&bench.tape);
    }
    bench_destroy(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gelu_erf),
        cmocka_unit_test(test_gelu_erf_everywhere),
        cmocka_unit_test(test_row_mean),
        cmocka_unit_test(test_patches),
    };
    return cmocka_run_group_tests(tests, bench_begin, NULL);
}
