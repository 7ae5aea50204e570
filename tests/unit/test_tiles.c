/* Tiles of bf16 and the attention on them: with the kernels of this machine, if it multiplies bf16, and with those for
 * AMX in plain C. */
#include "tests/unit/attention_support.h"

#include "src/ops/kernels/matrix.h"

enum { SETS = 2 };

/* The sets of kernels to test, NULL where this machine has none. */
static const struct bf16_kernels *set_of(int set, const struct bench *bench)
{
    return set == 1 ? &matrix_emulated : bench->engine.kernels->matrix;
}

static int64_t tile_round(int64_t count, int64_t multiple)
{
    return (count + multiple - 1) / multiple * multiple;
}

/* Whole numbers, so that every order of summation gives the same. */
static float whole(int64_t i, int64_t j)
{
    return (float)((i * 7 + j * 5 + i * j) % 17 - 8);
}

/* [rows, columns] with zeros up to [padded_rows, ld]. */
static bf16 *tile_create(int64_t rows, int64_t columns, int64_t padded_rows, int64_t ld, bool transposed)
{
    bf16 *tile = test_allocate(padded_rows * ld, sizeof *tile);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c++)
            tile[r * ld + c] = bf16_from_float(transposed ? whole(c, r + 3) : whole(r, c + 3));
    return tile;
}

/* B [k, n] in pairs, from its rows or from its columns. */
static uint32_t *pairs_create(const struct bf16_kernels *matrix, int64_t k, int64_t n, int64_t ld, bool transposed)
{
    int64_t depth = tile_round(k, BF16_DEPTH), columns = tile_round(n, BF16_ROWS);
    uint32_t *pairs = test_allocate(depth / 2 * ld, sizeof *pairs);
    bf16 *tile = transposed ? tile_create(n, k, columns, depth, true) : tile_create(k, n, depth, columns, false);
    if (transposed)
        matrix->transpose(pairs, ld, tile, depth / 2, columns, depth / 2);
    else
        matrix->pair(pairs, ld, tile, columns, depth, columns);
    free(tile);
    return pairs;
}

static void product_check(const struct bf16_kernels *matrix, int64_t m, int64_t n, int64_t k, bool transposed, bool add)
{
    int64_t depth = tile_round(k, BF16_DEPTH), rows = tile_round(m, BF16_ROWS), columns = tile_round(n, BF16_ROWS);
    int64_t ldb = columns + 16, ldc = columns + 5;
    bf16 *a = test_allocate(rows * depth, sizeof *a);
    float *c = test_allocate((rows + 1) * ldc, sizeof *c);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t p = 0; p < depth; p++)
            a[r * depth + p] = r >= m ? 0x7fc0 : p < k ? bf16_from_float(whole(r + 2, p)) : 0; /* rows beyond: nan */
    for (int64_t i = 0; i < (rows + 1) * ldc; i++)
        c[i] = 1000.0f;
    uint32_t *b = pairs_create(matrix, k, n, ldb, transposed);
    matrix->multiply(&(struct bf16_product){
        .m = m, .n = n, .k = depth, .a = a, .lda = depth, .b = b, .ldb = ldb, .c = c, .ldc = ldc, .add = add});
    for (int64_t r = 0; r <= rows; r++)
        for (int64_t j = 0; j < ldc; j++) {
            float expected = r >= rows || j >= columns || add ? 1000.0f : 0.0f;
            for (int64_t p = 0; r < m && j < n && p < k; p++)
                expected += whole(r + 2, p) * whole(p, j + 3);
            bool anything = r < rows && j < columns && (r >= m || j >= n);
            if (!anything && c[r * ldc + j] != expected)
                fail_msg("%d x %d x %d: C[%d, %d] is %g, not %g", (int)m, (int)n, (int)k, (int)r, (int)j,
                         (double)c[r * ldc + j], (double)expected);
        }
    free(a);
    free(b);
    free(c);
}

static void test_tiles_product(void **state)
{
    (void)state;
    static const int64_t columns[] = {1, 15, 16, 17, 31, 48, 65, 100}, depths[] = {1, 2, 7, 31, 32, 33, 65};
    struct bench bench;
    assert_true(bench_create(&bench, "", 1));
    for (int set = 0; set < SETS; set++) {
        const struct bf16_kernels *matrix = set_of(set, &bench);
        if (!matrix)
            continue;
        matrix->begin();
        for (int64_t m = 1; m <= 17; m++)
            for (size_t n = 0; n < sizeof columns / sizeof columns[0]; n++)
                for (size_t k = 0; k < sizeof depths / sizeof depths[0]; k++)
                    product_check(matrix, m, columns[n], depths[k], (m + (int64_t)n) % 2, (m + (int64_t)k) % 2);
        for (int64_t m = 18; m < 50; m += 7)
            product_check(matrix, m, 130, 70, m % 2, false);
        matrix->end();
    }
    bench_destroy(&bench);
}

static void test_tiles_layout(void **state)
{
    (void)state;
    enum { ROWS = 48, COLUMNS = 32, LD = 40 };
    struct bench bench;
    assert_true(bench_create(&bench, "", 1));
    for (int set = 0; set < SETS; set++) {
        const struct bf16_kernels *matrix = set_of(set, &bench);
        if (!matrix)
            continue;
        uint32_t words[ROWS * LD], turned[COLUMNS * ROWS], pairs[ROWS / 2 * LD];
        bf16 tile[ROWS * LD], again[ROWS * LD];
        for (uint32_t i = 0; i < ROWS * LD; i++) {
            words[i] = i * 2654435761u;
            tile[i] = (bf16)(i * 40503u);
        }
        matrix->transpose(turned, ROWS, words, LD, ROWS, COLUMNS);
        matrix->pair(pairs, LD, tile, LD, ROWS, COLUMNS);
        matrix->part(again, LD, pairs, LD, ROWS, COLUMNS);
        for (int r = 0; r < ROWS; r++)
            for (int c = 0; c < COLUMNS; c++) {
                assert_int_equal(turned[c * ROWS + r], words[r * LD + c]);
                assert_int_equal((bf16)(pairs[r / 2 * LD + c] >> (r % 2 * 16)), tile[r * LD + c]);
                assert_int_equal(again[r * LD + c], tile[r * LD + c]);
            }
    }
    bench_destroy(&bench);
}

/* Two steps of 32 and 16 keys over rows that see from none to all of them. */
static void weights_check(const struct bf16_kernels *matrix)
{
    enum { ROWS = 50, LD = 32, KEYS = 48 };
    float scores[ROWS * KEYS], step[ROWS * LD], largest[ROWS], sum[ROWS], factor[ROWS], total[ROWS];
    bf16 weights[2][ROWS * LD];
    int32_t seen[ROWS];
    fill_random(scores, ROWS * KEYS, "tile scores");
    for (int r = 0; r < ROWS; r++) {
        seen[r] = r;
        largest[r] = -INFINITY;
        sum[r] = 0.0f;
        total[r] = 1.0f;
    }
    for (int s = 0; s < 2; s++) {
        for (int r = 0; r < ROWS; r++)
            for (int c = 0; c < LD; c++)
                step[r * LD + c] = s * LD + c < KEYS ? scores[r * KEYS + s * LD + c] * 20.0f : NAN;
        matrix->weights(&(struct bf16_weights){.scores = step,
                                               .weights = weights[s],
                                               .ld = LD,
                                               .rows = ROWS,
                                               .columns = s == 0 ? 32 : 16,
                                               .seen = seen,
                                               .first = s * LD,
                                               .scale = 0.3f,
                                               .largest = largest,
                                               .sum = sum,
                                               .factor = factor});
        for (int r = 0; r < ROWS && s == 1; r++)
            total[r] = factor[r];
    }
    for (int r = 0; r < ROWS; r++) {
        double expected = 0.0;
        for (int c = 0; c < KEYS; c++) {
            double weight = c < seen[r] ? exp2(6.0 * (double)scores[r * KEYS + c] - (double)largest[r]) : 0.0;
            double found = (double)bf16_to_float(weights[c / LD][r * LD + c % LD]) * (c < LD ? (double)total[r] : 1.0);
            assert_close(found, weight, 0.004, 0.0);
            expected += weight;
        }
        assert_close((double)sum[r], expected, 1e-5, 0.0);
        assert_true(r == 0 ? largest[r] == -INFINITY : largest[r] > -INFINITY);
    }
}

static void derivatives_check(const struct bf16_kernels *matrix, bool masked)
{
    enum { KEYS = 6, LD = 48, BEGIN = 16 };
    float scores[KEYS * LD], derivatives[KEYS * LD], log_sum[LD], mean[LD];
    bf16 weights[KEYS * LD] = {0}, rounded[KEYS * LD] = {0};
    uint32_t pairs[KEYS / 2 * LD] = {0};
    int32_t last[LD];
    fill_random(scores, KEYS * LD, "tile scores");
    fill_random(derivatives, KEYS * LD, "tile derivatives");
    fill_random(log_sum, LD, "tile log sums");
    fill_random(mean, LD, "tile means");
    for (int i = 0; i < LD; i++)
        last[i] = 100 + i % 8 - 1;
    matrix->derivatives(&(struct bf16_derivatives){.scores = scores,
                                                   .derivatives = derivatives,
                                                   .weights = weights,
                                                   .rounded = rounded,
                                                   .pairs = pairs,
                                                   .ld = LD,
                                                   .keys = KEYS,
                                                   .begin = BEGIN,
                                                   .end = LD,
                                                   .scale_power = 2.0f,
                                                   .scale = 0.5f,
                                                   .log_sum = log_sum,
                                                   .mean = mean,
                                                   .masked = masked,
                                                   .last = last,
                                                   .first = 100});
    for (int j = 0; j < KEYS; j++)
        for (int i = 0; i < LD; i++) {
            bool seen = i >= BEGIN && (!masked || j <= i % 8 - 1);
            double p = seen ? exp2(2.0 * (double)scores[j * LD + i] - (double)log_sum[i]) : 0.0;
            double slope = p * (0.5 * (double)derivatives[j * LD + i] - (double)mean[i]);
            assert_close((double)bf16_to_float(weights[j * LD + i]), p, 0.004, 0.0);
            assert_close((double)bf16_to_float(rounded[j * LD + i]), slope, 0.004, 1e-6);
            assert_int_equal((bf16)(pairs[j / 2 * LD + i] >> (j % 2 * 16)), rounded[j * LD + i]);
        }
}

static void test_tiles_softmax(void **state)
{
    (void)state;
    struct bench bench;
    assert_true(bench_create(&bench, "", 1));
    for (int set = 0; set < SETS; set++) {
        const struct bf16_kernels *matrix = set_of(set, &bench);
        if (!matrix)
            continue;
        weights_check(matrix);
        derivatives_check(matrix, false);
        derivatives_check(matrix, true);
    }
    bench_destroy(&bench);
}

/* The model of the instruction, which this file sees in plain C: even and odd elements are summed apart, and what is
 * too small counts as 0. */
static void test_tiles_model(void **state)
{
    (void)state;
    struct matrix_tiles tiles;
    bf16 rows[MATRIX_ROWS][2 * MATRIX_WORDS] = {{0}}, pairs[MATRIX_ROWS][2 * MATRIX_WORDS] = {{0}};
    float sum[MATRIX_ROWS][MATRIX_WORDS] = {{0}};
    sum[3][5] = 0.25f;
    const float left[4] = {16777216.0f, -16777216.0f, 1.0f, 0.0f}; /* in order the sum would be 1 */
    for (int i = 0; i < 4; i++) {
        rows[3][i] = bf16_from_float(left[i]);
        pairs[i / 2][2 * 5 + i % 2] = bf16_from_float(1.0f);
    }
    rows[4][0] = 0x0040; /* below the normal numbers */
    pairs[0][2 * 6] = 0x7f00;
    tile_load(&tiles, 0, sum, sizeof sum[0]);
    tile_load(&tiles, 4, rows, sizeof rows[0]);
    tile_load(&tiles, 6, pairs, sizeof pairs[0]);
    tile_dot(&tiles, 0, 4, 6);
    tile_store(&tiles, 0, sum, sizeof sum[0]);
    assert_close((double)sum[3][5], 0.25, 0.0, 0.0);
    assert_close((double)sum[4][6], 0.0, 0.0, 0.0);
}

/* -- Attention -- */

struct attention_result {
    float *value[4]; /* output, and gradients of query, key and value */
    int64_t count[4];
};

/* On a machine that has matrix units for bf16; or, without one, in fp32 in plain C, on the same numbers. */
static void attention_compute(const struct bf16_kernels *matrix, int threads, float poison,
                              const struct rows_shape *shape, struct attention_result *result)
{
    struct bench bench;
    assert_true(bench_create(&bench, matrix ? "" : "reference", threads));
    struct kernels kernels = *bench.engine.kernels;
    kernels.matrix = matrix;
    bench.engine.kernels = &kernels;
    enum dtype dtype = matrix ? DTYPE_BF16 : DTYPE_F32;
    int64_t columns[3] = {shape->heads * shape->width, shape->kv_heads * shape->width, shape->kv_heads * shape->width};
    int64_t rows[3] = {shape->rows * shape->length, shape->rows * shape->keys_length, shape->rows * shape->keys_length};
    struct tensor *input[3];
    void *data[4];
    for (int i = 0; i < 4; i++) {
        int64_t count = rows[i % 3] * columns[i % 3];
        float *values = test_allocate(count, sizeof *values);
        data[i] = test_allocate(count, dtype_size(dtype));
        char name[16];
        snprintf(name, sizeof name, "tiles %d", i);
        fill_random(values, count, name);
        if (i == 0)
            values[count / 2] += poison;
        for (int64_t e = 0; e < count; e++)
            values[e] = bf16_to_float(bf16_from_float(values[e]));
        floats_store(data[i], dtype, values, count);
        free(values);
        if (i < 3)
            input[i] = tape_leaf(&bench.tape, dtype, 2, (int64_t[]){rows[i], columns[i]}, data[i], true);
    }
    struct tensor *output = rows_attend(&bench.tape, input, shape);
    assert_non_null(output);
    tape_seed(&bench.tape, output, data[3]);
    for (int i = 0; i < 4; i++) {
        result->count[i] = i == 0 ? rows[0] * columns[0] : rows[i - 1] * columns[i - 1];
        result->value[i] = test_allocate(result->count[i], sizeof(float));
    }
    floats_load(result->value[0], output->data, dtype, result->count[0]);
    tape_backward(&bench.tape);
    assert_ok(&bench.context, bench.context.status);
    for (int i = 0; i < 3; i++) {
        floats_load(result->value[i + 1], tape_gradient(input[i]), dtype, result->count[i + 1]);
        tape_release(&bench.tape, input[i]);
    }
    for (int i = 0; i < 4; i++)
        free(data[i]);
    tape_reset(&bench.tape);
    bench_destroy(&bench);
}

static void result_free(struct attention_result *result)
{
    for (int i = 0; i < 4; i++)
        free(result->value[i]);
}

static const int32_t one_for_all[] = {0, 0, 0, 0, 0};
static const int32_t crossed[] = {2, 0, 2, 0}; /* nobody uses 1 */
static const int32_t in_pairs[] = {0, 0, 1, 1};

static const struct rows_shape shapes[] = {
    {2, 0, 0, 1, 1, 8, one_for_all},      {2, 3, 0, 1, 1, 8, one_for_all},      {2, 33, 33, 4, 3, 31, crossed},
    {1, 131, 131, 3, 1, 33, one_for_all}, {1, 300, 300, 1, 1, 64, one_for_all}, {3, 1, 257, 5, 1, 40, one_for_all},
    {2, 17, 200, 4, 2, 16, in_pairs},     {1, 150, 70, 4, 2, 129, in_pairs},    {1, 77, 600, 2, 1, 16, one_for_all},
    {2, 65, 65, 4, 2, 1, in_pairs},
};

/* Against fp32. With another number of threads, gradients may round to the neighbour: 1/128 of the largest at most. */
static void test_tiles_attention(void **state)
{
    (void)state;
    struct bench bench;
    assert_true(bench_create(&bench, "", 1));
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
        for (int set = 0; set < SETS; set++) {
            struct attention_result expected, found, other, again;
            const struct bf16_kernels *matrix = set_of(set, &bench);
            if (!matrix)
                continue;
            attention_compute(NULL, 2, 0.0f, &shapes[s], &expected);
            attention_compute(matrix, 1, 0.0f, &shapes[s], &found);
            attention_compute(matrix, 5, 0.0f, &shapes[s], &other);
            attention_compute(matrix, 5, 0.0f, &shapes[s], &again);
            char what[64];
            for (int i = 0; i < 4; i++) {
                snprintf(what, sizeof what, "shape %d, %s, result %d", (int)s, matrix->name, i);
                assert_near(found.value[i], expected.value[i], expected.count[i], i == 0 ? 6e-3 : 8e-3, what);
                assert_near(other.value[i], found.value[i], found.count[i], 8e-3, what);
                assert_memory_equal(other.value[i], again.value[i], (size_t)found.count[i] * sizeof(float));
            }
            assert_memory_equal(found.value[0], other.value[0], (size_t)found.count[0] * sizeof(float));
            result_free(&expected);
            result_free(&found);
            result_free(&other);
            result_free(&again);
        }
    bench_destroy(&bench);
}

/* A not-a-number in one query stays in the output of that query. */
static void test_tiles_nan(void **state)
{
    (void)state;
    struct rows_shape shape = {1, 41, 41, 2, 1, 24, one_for_all};
    struct bench bench;
    assert_true(bench_create(&bench, "", 1));
    for (int set = 0; set < SETS; set++) {
        const struct bf16_kernels *matrix = set_of(set, &bench);
        if (!matrix)
            continue;
        struct attention_result found;
        attention_compute(matrix, 2, NAN, &shape, &found);
        int64_t poisoned = found.count[0] / 2 / shape.width;
        for (int64_t i = 0; i < found.count[0]; i++)
            assert_true(isnan(found.value[0][i]) == (i / shape.width == poisoned));
        result_free(&found);
    }
    bench_destroy(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tiles_product),   cmocka_unit_test(test_tiles_layout),
        cmocka_unit_test(test_tiles_softmax),   cmocka_unit_test(test_tiles_model),
        cmocka_unit_test(test_tiles_attention), cmocka_unit_test(test_tiles_nan),
    };
    return cmocka_run_group_tests(tests, bench_begin, NULL);
}
