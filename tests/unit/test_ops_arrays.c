/* The engine, matrix products, and functions of plain arrays. */
#include "tests/unit/ops_support.h"

#include <omp.h>

/* -- engine -- */

static void test_engine_choice(void **state)
{
    (void)state;
    struct context context;
    struct engine engine;
    context_create(&context);
    for (int cpu = 1; cpu < BENCH_CPUS; cpu++) {
        struct bench bench;
        if (!bench_create(&bench, bench_cpus[cpu], 2))
            continue;
        assert_string_equal(bench.engine.isa, bench_cpus[cpu]);
        const char *kernels = cpu <= 2 ? "reference" : cpu <= 5 ? bench_cpus[cpu] : "bf16";
        assert_string_equal(bench.engine.kernels->name, kernels);
        bench_destroy(&bench);
    }
    setenv("CAIRN_CPU", "abacus", 1);
    assert_fails(&context, engine_create(&context, 1, &engine), STATUS_USAGE, "reference");
    unsetenv("CAIRN_CPU");
    assert_fails(&context, engine_create(&context, 0, &engine), STATUS_USAGE, "thread");
    assert_int_equal(context.memory.bytes_total, 0);
}

static void test_scratch(void **state)
{
    (void)state;
    struct bench bench;
    assert_true(bench_create(&bench, "", 3));
    size_t stride;
    char *scratch = engine_scratch(&bench.engine, 1000, &stride);
    assert_non_null(scratch);
    assert_true(stride >= 1000 && stride % 64 == 0 && (uintptr_t)scratch % 64 == 0);
    memset(scratch, 1, 3 * stride);
    int64_t allocations = bench.context.memory.allocations;
    assert_ptr_equal(engine_scratch(&bench.engine, 500, &stride), scratch);
    assert_true(stride >= 1000);
    assert_int_equal(bench.context.memory.allocations, allocations);
    bench_destroy(&bench);
}

/* -- matmul -- */

/* Leading dimensions are a little larger than they have to be, and what lies between stays untouched. */
static void matmul_check(struct bench *bench, struct matmul p)
{
    enum { GAP = 3 };
    p.lda = (p.a_transposed ? p.m : p.k) + GAP;
    p.ldb = (p.b_transposed ? p.k : p.n) + GAP;
    p.ldc = p.n + GAP;
    int64_t a_count = (p.a_transposed ? p.k : p.m) * p.lda;
    int64_t b_count = (p.b_transposed ? p.n : p.k) * p.ldb;
    int64_t c_count = p.m * p.ldc;
    float *a = test_allocate(a_count, sizeof *a), *b = test_allocate(b_count, sizeof *b);
    float *c = test_allocate(c_count, sizeof *c), *expected = test_allocate(c_count, sizeof *expected);
    void *a_data = test_allocate(a_count, 4), *b_data = test_allocate(b_count, 4), *c_data = test_allocate(c_count, 4);
    fill_random(a, a_count, "a");
    fill_random(b, b_count, "b");
    fill_random(c, c_count, "c");
    floats_store(a_data, p.type, a, a_count);
    floats_store(b_data, p.type, b, b_count);
    floats_store(c_data, p.c_type, c, c_count);
    floats_load(a, a_data, p.type, a_count);
    floats_load(b, b_data, p.type, b_count);
    floats_load(expected, c_data, p.c_type, c_count);
    for (int64_t i = 0; i < p.m; i++)
        for (int64_t j = 0; j < p.n; j++) {
            double sum = p.beta != 0.0f ? (double)expected[i * p.ldc + j] : 0.0;
            for (int64_t k = 0; k < p.k; k++)
                sum += (double)(p.a_transposed ? a[k * p.lda + i] : a[i * p.lda + k]) *
                       (double)(p.b_transposed ? b[j * p.ldb + k] : b[k * p.ldb + j]);
            expected[i * p.ldc + j] = (float)sum;
        }
    p.a = a_data;
    p.b = b_data;
    p.c = c_data;
    assert_ok(&bench->context, matmul_run(&bench->engine, &p));
    floats_load(c, c_data, p.c_type, c_count);
    char what[160];
    snprintf(what, sizeof what, "%s: %d x %d x %d%s%s, type %d to %d, beta %g", bench->engine.isa, (int)p.m, (int)p.n,
             (int)p.k, p.a_transposed ? ", a transposed" : "", p.b_transposed ? ", b transposed" : "", (int)p.type,
             (int)p.c_type, (double)p.beta);
    assert_near(c, expected, c_count, p.c_type == DTYPE_BF16 ? 4e-3 : 2e-6, what);
    for (int64_t i = 0; i < p.m; i++)
        assert_memory_equal(c + i * p.ldc + p.n, expected + i * p.ldc + p.n, GAP * sizeof(float));
    free(a);
    free(b);
    free(c);
    free(expected);
    free(a_data);
    free(b_data);
    free(c_data);
}

static void test_matmul(void **state)
{
    (void)state;
    static const int64_t sizes[][3] = {{0, 5, 5},     {5, 0, 5},    {5, 5, 0},     {1, 1, 1},    {1, 17, 33},
                                       {17, 1, 33},   {17, 33, 1},  {7, 10, 3},    {64, 64, 64}, {65, 130, 31},
                                       {33, 10, 257}, {520, 7, 20}, {19, 515, 530}};
    for (int cpu = 0; cpu < BENCH_CPUS; cpu++) {
        struct bench bench;
        if (!bench_create(&bench, bench_cpus[cpu], 2))
            continue;
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
            for (int flags = 0; flags < 8; flags++)
                for (int types = 0; types < 3; types++)
                    matmul_check(&bench, (struct matmul){.m = sizes[s][0],
                                                         .n = sizes[s][1],
                                                         .k = sizes[s][2],
                                                         .type = types ? DTYPE_BF16 : DTYPE_F32,
                                                         .c_type = types == 2 ? DTYPE_BF16 : DTYPE_F32,
                                                         .a_transposed = flags & 1,
                                                         .b_transposed = (flags & 2) != 0,
                                                         .beta = flags & 4 ? 1.0f : 0.0f});
        bench_destroy(&bench);
    }
}

/* More shapes than plans are kept for; those made before still work. */
static void test_matmul_many_plans(void **state)
{
    (void)state;
    struct bench bench;
    assert_true(bench_create(&bench, "", 1));
    bf16 a[64], b[64];
    float c[64 * 64];
    for (int i = 0; i < 64; i++) {
        a[i] = bf16_from_float((float)i);
        b[i] = bf16_from_float(2.0f);
    }
    for (int64_t shape = 0; shape < 2200; shape++) {
        int64_t m = 1 + shape % 50, n = 1 + shape / 50;
        struct matmul p = {.m = m, .n = n, .k = 1, .a = a, .b = b, .c = c, .lda = 1, .ldb = n, .ldc = n};
        p.type = DTYPE_BF16;
        assert_ok(&bench.context, matmul_run(&bench.engine, &p));
        assert_true(c[m * n - 1] == 2.0f * (float)(m - 1));
    }
    int64_t allocations = bench.context.memory.allocations;
    struct matmul again = {.m = 50, .n = 44, .k = 1, .a = a, .b = b, .c = c, .lda = 1, .ldb = 44, .ldc = 44};
    again.type = DTYPE_BF16;
    assert_ok(&bench.context, matmul_run(&bench.engine, &again));
    assert_int_equal(bench.context.memory.allocations, allocations);
    bench_destroy(&bench);
}

static void test_matmul_in_parallel(void **state)
{
    (void)state;
    for (int cpu = 0; cpu < BENCH_CPUS; cpu++) {
        struct bench bench;
        if (!bench_create(&bench, bench_cpus[cpu], 2))
            continue;
        enum { SIZE = 20, PRODUCTS = 8 };
        static float a[PRODUCTS][SIZE * SIZE], b[SIZE * SIZE], c[PRODUCTS][SIZE * SIZE], alone[SIZE * SIZE];
        struct matmul p = {.m = SIZE, .n = SIZE, .k = SIZE, .b = b, .lda = SIZE, .ldb = SIZE, .ldc = SIZE};
        bool good = true, refused = true;
        fill_random(b, SIZE * SIZE, "b");
#pragma omp parallel for num_threads(2) reduction(&& : good, refused)
        for (int i = 0; i < PRODUCTS; i++) {
            struct matmul own = p;
            fill_random(a[i], SIZE * SIZE, "a");
            own.a = a[i];
            own.c = c[i];
            good = good && matmul_run(&bench.engine, &own) == STATUS_OK;
            own.type = DTYPE_BF16;
            refused = refused && matmul_run(&bench.engine, &own) == STATUS_INTERNAL;
        }
        assert_true(good);
        assert_true(refused);
        p.a = a[0];
        p.c = alone;
        assert_ok(&bench.context, matmul_run(&bench.engine, &p));
        for (int i = 0; i < PRODUCTS; i++)
            assert_near(c[i], alone, SIZE * SIZE, 1e-6, "product in a parallel region");
        bench_destroy(&bench);
    }
}

/* -- arrays -- */

static void test_convert(void **state)
{
    (void)state;
    enum { ALL = 65536, MANY = 100001 };
    bf16 *halves = test_allocate(MANY, sizeof *halves);
    float *floats = test_allocate(MANY, sizeof *floats), *back = test_allocate(MANY, sizeof *back);
    for (int cpu = 0; cpu < BENCH_CPUS; cpu++) {
        struct bench bench;
        if (!bench_create(&bench, bench_cpus[cpu], 2))
            continue;
        for (int i = 0; i < ALL; i++)
            halves[i] = (bf16)i;
        convert(&bench.engine, floats, DTYPE_F32, halves, DTYPE_BF16, ALL);
        for (int i = 0; i < ALL; i++) {
            uint32_t bits;
            memcpy(&bits, &floats[i], sizeof bits);
            assert_true(bits == (uint32_t)i << 16);
        }
        for (int i = 0; i < MANY; i++) {
            uint32_t bits = (uint32_t)random_bits(5, (uint64_t)i);
            memcpy(&floats[i], &bits, sizeof bits);
        }
        floats[0] = NAN;
        floats[1] = -INFINITY;
        floats[2] = 3.4e38f;
        uint32_t quiet = 0x7f800001; /* its upper half alone is infinity */
        memcpy(&floats[3], &quiet, sizeof quiet);
        convert(&bench.engine, halves, DTYPE_BF16, floats, DTYPE_F32, MANY);
        for (int i = 0; i < MANY; i++) {
            assert_int_equal(halves[i], bf16_from_float(floats[i]));
            assert_true(isnan(floats[i]) == isnan(bf16_to_float(halves[i])));
        }
        convert(&bench.engine, back, DTYPE_F32, floats, DTYPE_F32, MANY);
        assert_memory_equal(back, floats, MANY * sizeof *back);
        fill_random(floats, MANY, "accumulate");
        fill_random(back, MANY, "accumulate more");
        float last = floats[MANY - 1] + back[MANY - 1];
        accumulate(&bench.engine, floats, back, DTYPE_F32, MANY);
        assert_true(floats[MANY - 1] == last);
        bench_destroy(&bench);
    }
    free(halves);
    free(floats);
    free(back);
}

/* The exponential of the kernels, through the softmax of a row. */
static void test_exponential(void **state)
{
    (void)state;
    enum { COUNT = 200000 };
    float *x = test_allocate(COUNT, sizeof *x), *y = test_allocate(COUNT, sizeof *y);
    for (int i = 0; i < COUNT; i++)
        x[i] = -87.0f + 175.0f * (float)i / COUNT;
    for (int cpu = 0; cpu < BENCH_CPUS; cpu++) {
        struct bench bench;
        if (!bench_create(&bench, bench_cpus[cpu], 1))
            continue;
        bench.engine.kernels->row_softmax(y, x, 0.0f, 1.0f, COUNT);
        double worst = 0.0;
        for (int i = 0; i < COUNT; i++) {
            double expected = exp((double)x[i]);
            worst = fmax(worst, fabs((double)y[i] - expected) / expected);
        }
        assert_true(worst < 2e-7);
        float edge[] = {-INFINITY, -1000.0f, -88.0f, 0.0f, 1000.0f, INFINITY, NAN};
        bench.engine.kernels->row_softmax(edge, edge, 0.0f, 1.0f, 7);
        assert_true(edge[0] == 0.0f && edge[1] == 0.0f && edge[2] >= 0.0f && edge[2] < 1e-37f);
        assert_true(edge[3] == 1.0f && isinf(edge[4]) && isinf(edge[5]) && isnan(edge[6]));
        bench_destroy(&bench);
    }
    free(x);
    free(y);
}

/* -- cross entropy -- */

static void cross_entropy_check(struct bench *bench, int64_t rows, int64_t columns, int64_t first)
{
    int64_t count = rows * columns;
    float *data = test_allocate(count, 4), *gradient = test_allocate(count, 4), *expected = test_allocate(count, 4);
    float *largest = test_allocate(rows, 4), *sum = test_allocate(rows, 4), *target = test_allocate(rows, 4);
    float *log_sum = test_allocate(rows, 4);
    int32_t *targets = test_allocate(rows, 4);
    fill_random(data, count, "logits");
    struct tensor logits = {.dtype = DTYPE_F32, .rank = 2, .shape = {rows, columns}, .data = data};
    for (int64_t n = 0; n < rows; n++)
        targets[n] =
            n == 3 ? -1 : (int32_t)(first - 2 + (int64_t)(random_bits(4, (uint64_t)n) % (uint64_t)(columns + 4)));
    cross_entropy_max(&bench->engine, &logits, largest);
    cross_entropy_sums(&bench->engine, &logits, largest, targets, first, sum, target);
    for (int64_t n = 0; n < rows; n++) {
        double maximum = -1e300, total = 0.0;
        int64_t column = targets[n] - first;
        bool here = targets[n] >= 0 && column >= 0 && column < columns;
        for (int64_t c = 0; c < columns; c++)
            maximum =
                data[n * columns + c] > maximum ? data[n * columns + c] : maximum; /* GCC 12 fails at fmax for Arm */
        for (int64_t c = 0; c < columns; c++)
            total += exp((double)data[n * columns + c] - maximum);
        assert_true((double)largest[n] == maximum);
        assert_close((double)sum[n], total, 1e-6, 0.0);
        assert_true(target[n] == (here ? data[n * columns + column] : 0.0f));
        log_sum[n] = (float)(maximum + log(total) + 0.3); /* other ranks have logits too */
        for (int64_t c = 0; c < columns && targets[n] >= 0; c++)
            expected[n * columns + c] =
                (float)(0.25 * (exp((double)data[n * columns + c] - (double)log_sum[n]) - (here && c == column)));
    }
    cross_entropy_gradient(&bench->engine, &logits, log_sum, targets, first, 0.25f, gradient);
    assert_near(gradient, expected, count, 1e-6, "gradient of the cross entropy");
    cross_entropy_gradient(&bench->engine, &logits, log_sum, targets, first, 0.25f, data);
    assert_memory_equal(data, gradient, (size_t)count * sizeof *data);
    free(data);
    free(gradient);
    free(expected);
    free(largest);
    free(sum);
    free(target);
    free(log_sum);
    free(targets);
}

static void test_cross_entropy(void **state)
{
    (void)state;
    for (int cpu = 0; cpu < BENCH_CPUS; cpu++) {
        struct bench bench;
        if (!bench_create(&bench, bench_cpus[cpu], 2))
            continue;
        cross_entropy_check(&bench, 0, 10, 0);
        cross_entropy_check(&bench, 1, 1, 0);
        cross_entropy_check(&bench, 9, 37, 0);
        cross_entropy_check(&bench, 9, 37, 74);
        cross_entropy_check(&bench, 50, 1000, 5);
        /* A not-a-number among the logits makes the loss one, wherever it stands. */
        for (int place = 0; place < 40; place++) {
            float data[40] = {0}, largest, sum, target;
            int32_t targets = 1;
            data[place] = NAN;
            struct tensor logits = {.dtype = DTYPE_F32, .rank = 2, .shape = {1, 40}, .data = data};
            cross_entropy_max(&bench.engine, &logits, &largest);
            cross_entropy_sums(&bench.engine, &logits, &largest, &targets, 0, &sum, &target);
            assert_true(isnan(largest + logf(sum) - target));
        }
        bench_destroy(&bench);
    }
}

/* -- optimiser -- */

static void adamw_check(struct bench *bench, int64_t count, bool values)
{
    float *master = test_allocate(count, 4), *m = test_allocate(count, 4), *v = test_allocate(count, 4);
    float *gradient = test_allocate(count, 4), *expected = test_allocate(count, 4);
    double *p = test_allocate(count, 8), *dm = test_allocate(count, 8), *dv = test_allocate(count, 8);
    bf16 *copy = test_allocate(count, sizeof *copy);
    fill_random(master, count, "master");
    for (int64_t i = 0; i < count; i++)
        p[i] = (double)master[i];
    for (int t = 1; t <= 3; t++) {
        struct adamw_step step = {.count = count,
                                  .master = master,
                                  .m = m,
                                  .v = v,
                                  .gradient = gradient,
                                  .values = values ? copy : NULL,
                                  .gradient_scale = 0.5f,
                                  .rate = 0.125f,
                                  .beta1 = 0.75f,
                                  .beta2 = 0.9375f,
                                  .epsilon = 1.0f / 1024,
                                  .decay = 0.25f,
                                  .correction1 = 1.0f - powf(0.75f, (float)t),
                                  .correction2 = 1.0f - powf(0.9375f, (float)t)};
        fill_random(gradient, count, t == 1 ? "first" : t == 2 ? "second" : "third");
        for (int64_t i = 0; i < count; i++) {
            double g = 0.5 * (double)gradient[i];
            dm[i] = 0.75 * dm[i] + 0.25 * g;
            dv[i] = 0.9375 * dv[i] + 0.0625 * g * g;
            double change = dm[i] / (1.0 - pow(0.75, t)) / (sqrt(dv[i] / (1.0 - pow(0.9375, t))) + 1.0 / 1024);
            p[i] -= 0.125 * (change + 0.25 * p[i]);
            expected[i] = (float)p[i];
        }
        adamw_step(&bench->engine, &step);
        assert_near(master, expected, count, 1e-6, "adamw");
        for (int64_t i = 0; i < count && values; i++)
            assert_int_equal(copy[i], bf16_from_float(master[i]));
    }
    free(master);
    free(m);
    free(v);
    free(gradient);
    free(expected);
    free(p);
    free(dm);
    free(dv);
    free(copy);
}

static void test_adamw(void **state)
{
    (void)state;
    for (int cpu = 0; cpu < BENCH_CPUS; cpu++) {
        struct bench bench;
        if (!bench_create(&bench, bench_cpus[cpu], 2))
            continue;
        adamw_check(&bench, 0, true);
        adamw_check(&bench, 1, false);
        adamw_check(&bench, 37, true);
        adamw_check(&bench, 40001, true);
        bench_destroy(&bench);
    }
}

static void test_sum_of_squares(void **state)
{
    (void)state;
    enum { COUNT = 4096 * 1024 + 12345 };
    float *values = test_allocate(COUNT, sizeof *values);
    fill_random(values, COUNT, "squares");
    double expected = 0.0;
    for (int i = 0; i < COUNT; i++)
        expected += (double)values[i] * (double)values[i];
    for (int cpu = 0; cpu < BENCH_CPUS; cpu++) {
        double first = 0.0;
        for (int threads = 1; threads < 4; threads++) {
            struct bench bench;
            if (!bench_create(&bench, bench_cpus[cpu], threads))
                break;
            double sum = sum_of_squares(&bench.engine, values, COUNT);
            assert_close(sum, expected, 1e-12, 0.0);
            assert_true(threads == 1 || sum == first);
            first = sum;
            assert_true(sum_of_squares(&bench.engine, values, 0) == 0.0);
            assert_close(sum_of_squares(&bench.engine, values, 1), (double)values[0] * (double)values[0], 1e-15, 0.0);
            float bad[] = {1.0f, NAN};
            assert_true(isnan(sum_of_squares(&bench.engine, bad, 2)));
            bench_destroy(&bench);
        }
    }
    free(values);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_engine_choice),
        cmocka_unit_test(test_scratch),
        cmocka_unit_test(test_matmul),
        cmocka_unit_test(test_matmul_many_plans),
        cmocka_unit_test(test_matmul_in_parallel),
        cmocka_unit_test(test_convert),
        cmocka_unit_test(test_exponential),
        cmocka_unit_test(test_cross_entropy),
        cmocka_unit_test(test_adamw),
        cmocka_unit_test(test_sum_of_squares),
    };
    return cmocka_run_group_tests(tests, bench_begin, NULL);
}
