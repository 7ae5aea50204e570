/* Attention over spans of all kinds, against the whole matrix of scores in double precision: output and gradients. */
#include "tests/unit/ops_support.h"

static const int32_t one_for_all[] = {0, 0, 0};
static const int32_t each_its_own[] = {0, 1, 2};
static const int32_t crossed[] = {2, 0, 2, 0}; /* nobody uses 1 */

struct spans_case {
    const char *name;
    int64_t queries, keys; /* tokens */
    struct attention_shape shape;
};

/* Queries, keys, values and the gradient of the output; then the output and the gradients of the first three. */
enum { QUERY, KEY, VALUE, DY, GIVEN, OUTPUT = GIVEN, DQUERY, DKEY, DVALUE, ARRAYS };
static const char *const array_names[] = {"query", "key", "value", "dy", "output", "dquery", "dkey", "dvalue"};

static int64_t array_rows(const struct spans_case *c, int array)
{
    return array == KEY || array == VALUE || array == DKEY || array == DVALUE ? c->keys : c->queries;
}

static int64_t array_columns(const struct spans_case *c, int array)
{
    bool of_keys = array == KEY || array == VALUE || array == DKEY || array == DVALUE;
    return (of_keys ? c->shape.kv_heads : c->shape.heads) * c->shape.width;
}

static int64_t array_count(const struct spans_case *c, int array)
{
    return array_rows(c, array) * array_columns(c, array);
}

/* -- In double precision -- */

static int64_t span_seen(const struct attention_shape *s, const struct attention_span *span, int64_t i)
{
    if (s->seen)
        return s->seen[span->query + i];
    return integer_max(0, span->keys - (span->queries - 1 - i));
}

static double dot_product(const double *x, const double *y, int64_t count)
{
    double sum = 0.0;
    for (int64_t e = 0; e < count; e++)
        sum += x[e] * y[e];
    return sum;
}

/* One query and head against the keys from token `key` on; `at` and `from` are where its and their vectors begin. */
static void query_reference(const struct attention_shape *s, double *const *array, int64_t at, int64_t from,
                            int64_t seen)
{
    enum { SEEN_LIMIT = 512 };
    double p[SEEN_LIMIT], largest = -1e300, sum = 0.0, scale = 1.0 / sqrt((double)s->width);
    int64_t stride = s->kv_heads * s->width;
    assert_true(seen <= SEEN_LIMIT);
    for (int64_t j = 0; j < seen; j++) {
        p[j] = scale * dot_product(array[QUERY] + at, array[KEY] + from + j * stride, s->width);
        largest = fmax(largest, p[j]);
    }
    for (int64_t j = 0; j < seen; j++)
        sum += exp(p[j] - largest);
    for (int64_t j = 0; j < seen; j++) {
        p[j] = exp(p[j] - largest) / sum;
        for (int64_t e = 0; e < s->width; e++)
            array[OUTPUT][at + e] += p[j] * array[VALUE][from + j * stride + e];
    }
    double mean = dot_product(array[DY] + at, array[OUTPUT] + at, s->width);
    for (int64_t j = 0; j < seen; j++) {
        int64_t key = from + j * stride;
        double slope = scale * p[j] * (dot_product(array[DY] + at, array[VALUE] + key, s->width) - mean);
        for (int64_t e = 0; e < s->width; e++) {
            array[DVALUE][key + e] += p[j] * array[DY][at + e];
            array[DKEY][key + e] += slope * array[QUERY][at + e];
            array[DQUERY][at + e] += slope * array[KEY][key + e];
        }
    }
}

static void spans_reference(const struct spans_case *c, double *const *array)
{
    const struct attention_shape *s = &c->shape;
    for (int64_t n = 0; n < s->spans; n++)
        for (int64_t i = 0; i < s->span[n].queries; i++)
            for (int64_t head = 0; head < s->heads; head++)
                query_reference(s, array, ((s->span[n].query + i) * s->heads + head) * s->width,
                                (s->span[n].key * s->kv_heads + s->kv_of_head[head]) * s->width,
                                span_seen(s, &s->span[n], i));
}

/* -- On the tape -- */

struct variant {
    const char *cpu;
    enum dtype dtype;
    const struct bf16_kernels *matrix; /* or NULL for those of the machine */
};

static const struct variant variants[] = {
    {"", DTYPE_F32, NULL},        {"reference", DTYPE_F32, NULL},
    {"avx2", DTYPE_F32, NULL},    {"avx512", DTYPE_F32, NULL},
    {"", DTYPE_BF16, NULL},       {"avx2", DTYPE_BF16, NULL},
    {"avx512", DTYPE_BF16, NULL}, {"", DTYPE_BF16, &matrix_emulated},
};

/* False when this machine lacks it. */
static bool variant_create(struct bench *bench, const struct variant *variant, int threads, struct kernels *kernels)
{
    if (!bench_create(bench, variant->cpu, threads))
        return false;
    *kernels = *bench->engine.kernels;
    if (variant->matrix)
        kernels->matrix = variant->matrix;
    bench->engine.kernels = kernels;
    return true;
}

/* False when this machine lacks the variant. Gradients begin with `before` in all their elements, or empty if 0. */
static bool spans_run(const struct spans_case *c, const struct variant *variant, int threads, float before,
                      float *const *array)
{
    struct bench bench;
    struct kernels kernels;
    if (!variant_create(&bench, variant, threads, &kernels))
        return false;
    struct tensor *input[3];
    void *data[GIVEN];
    for (int i = 0; i < GIVEN; i++) {
        data[i] = test_allocate(array_count(c, i), dtype_size(variant->dtype));
        floats_store(data[i], variant->dtype, array[i], array_count(c, i));
    }
    for (int i = 0; i < 3; i++) {
        int64_t count = array_count(c, i), shape[2] = {array_rows(c, i), array_columns(c, i)};
        input[i] = tape_leaf(&bench.tape, variant->dtype, 2, shape, data[i], true);
        float *filled = array[DQUERY + i];
        void *seed = test_allocate(count, dtype_size(variant->dtype));
        for (int64_t e = 0; e < count; e++)
            filled[e] = before;
        floats_store(seed, variant->dtype, filled, count);
        if (before != 0.0f)
            tape_seed(&bench.tape, input[i], seed);
        free(seed);
    }
    struct tensor *y = attention(&bench.tape, input[QUERY], input[KEY], input[VALUE], &c->shape);
    if (!y)
        fail_msg("%s: %s", c->name, bench.context.text);
    floats_load(array[OUTPUT], y->data, variant->dtype, array_count(c, OUTPUT));
    tape_seed(&bench.tape, y, data[DY]);
    tape_backward(&bench.tape);
    assert_ok(&bench.context, bench.context.status);
    for (int i = 0; i < 3; i++) {
        floats_load(array[DQUERY + i], tape_gradient(input[i]), variant->dtype, array_count(c, i));
        tape_release(&bench.tape, input[i]);
    }
    for (int i = 0; i < GIVEN; i++)
        free(data[i]);
    tape_reset(&bench.tape);
    bench_destroy(&bench);
    return true;
}

/* -- Checks -- */

static void arrays_create(const struct spans_case *c, float **array)
{
    for (int i = 0; i < ARRAYS; i++) {
        array[i] = test_allocate(array_count(c, i), sizeof(float));
        if (i < GIVEN)
            fill_random(array[i], array_count(c, i), array_names[i]);
        for (int64_t e = 0; e < array_count(c, i); e++)
            array[i][e] = bf16_to_float(bf16_from_float(array[i][e]));
    }
}

static void arrays_free(float **array)
{
    for (int i = 0; i < ARRAYS; i++)
        free(array[i]);
}

static void array_check(const struct spans_case *c, const struct variant *variant, int array, const float *found,
                        double *const *expected, float before)
{
    bool half = variant->dtype == DTYPE_BF16;
    int64_t count = array_count(c, array);
    /* What sees nothing has an output of 0, what is not seen a value whose gradient is 0. */
    const double *use = expected[array == OUTPUT || array == DQUERY ? OUTPUT : DVALUE];
    float *sum = test_allocate(count, sizeof *sum), *all = test_allocate(count, sizeof *all);
    for (int64_t e = 0; e < count; e++) {
        sum[e] = (float)expected[array][e] + (array == OUTPUT ? 0.0f : before);
        all[e] = found[e];
        if (use[e] == 0.0 && found[e] != sum[e])
            fail_msg("%s: element %d of %s is %g and not the %g of before", c->name, (int)e, array_names[array],
                     (double)found[e], (double)sum[e]);
    }
    /* Gradients that vanish are held to a part of what the others are. */
    sum[count] = all[count] = 0.1f;
    char what[160];
    snprintf(what, sizeof what, "%s, %s of cpu \"%s\", %s%s", c->name, array_names[array], variant->cpu,
             half ? "bf16" : "fp32", variant->matrix ? " emulated" : "");
    assert_near(all, sum, count + 1, half ? 8e-3 : 3e-6, what);
    free(sum);
    free(all);
}

/* Without a backward pass. False when this machine lacks the variant. */
static bool forward_run(const struct spans_case *c, const struct variant *variant, int threads, bool apart,
                        float *const *array)
{
    struct bench bench;
    struct kernels kernels;
    if (!variant_create(&bench, variant, threads, &kernels))
        return false;
    struct attention_shape shape = c->shape;
    shape.single_apart = apart;
    struct tensor *input[3];
    void *data[3];
    for (int i = 0; i < 3; i++) {
        int64_t extent[2] = {array_rows(c, i), array_columns(c, i)};
        data[i] = test_allocate(array_count(c, i), dtype_size(variant->dtype));
        floats_store(data[i], variant->dtype, array[i], array_count(c, i));
        input[i] = tape_leaf(&bench.tape, variant->dtype, 2, extent, data[i], false);
    }
    struct tensor *y = attention(&bench.tape, input[QUERY], input[KEY], input[VALUE], &shape);
    if (!y)
        fail_msg("%s: %s", c->name, bench.context.text);
    floats_load(array[OUTPUT], y->data, variant->dtype, array_count(c, OUTPUT));
    for (int i = 0; i < 3; i++)
        free(data[i]);
    tape_reset(&bench.tape);
    bench_destroy(&bench);
    return true;
}

static void forward_check(const struct spans_case *c, const struct variant *variant, int threads,
                          double *const *expected)
{
    float *array[ARRAYS];
    arrays_create(c, array);
    for (int apart = 0; apart < 2; apart++)
        if (forward_run(c, variant, threads, apart, array))
            array_check(c, variant, OUTPUT, array[OUTPUT], expected, 0.0f);
    arrays_free(array);
}

/* With 1 thread into empty gradients, with 5 into used ones, and once more, which must give the same bits. */
static void variant_check(const struct spans_case *c, const struct variant *variant, double *const *expected)
{
    float *one[ARRAYS], *five[ARRAYS], *again[ARRAYS];
    arrays_create(c, one);
    arrays_create(c, five);
    arrays_create(c, again);
    if (spans_run(c, variant, 1, 0.0f, one) && spans_run(c, variant, 5, 0.5f, five) &&
        spans_run(c, variant, 5, 0.5f, again)) {
        for (int i = OUTPUT; i < ARRAYS; i++) {
            array_check(c, variant, i, one[i], expected, 0.0f);
            array_check(c, variant, i, five[i], expected, 0.5f);
            assert_memory_equal(five[i], again[i], (size_t)array_count(c, i) * sizeof(float));
        }
        assert_memory_equal(one[OUTPUT], five[OUTPUT], (size_t)array_count(c, OUTPUT) * sizeof(float));
    }
    arrays_free(one);
    arrays_free(five);
    arrays_free(again);
}

static void spans_check(const struct spans_case *c)
{
    float *given[ARRAYS];
    double *expected[ARRAYS];
    arrays_create(c, given);
    for (int i = 0; i < ARRAYS; i++) {
        expected[i] = test_allocate(array_count(c, i), sizeof(double));
        for (int64_t e = 0; e < array_count(c, i); e++)
            expected[i][e] = (double)given[i][e];
    }
    spans_reference(c, expected);
    for (size_t v = 0; v < sizeof variants / sizeof variants[0]; v++) {
        variant_check(c, &variants[v], expected);
        forward_check(c, &variants[v], 1, expected);
        forward_check(c, &variants[v], 5, expected);
    }
    for (int i = 0; i < ARRAYS; i++)
        free(expected[i]);
    arrays_free(given);
}

/* -- Uses -- */

#define COUNT(array) ((int64_t)(sizeof(array) / sizeof(array)[0]))
#define SPANS(list) .spans = COUNT(list), .span = (list)

/* Two rows of 150 tokens in segments of 64, whose last ones are shorter. */
static void test_segments(void **state)
{
    (void)state;
    static const struct attention_span spans[] = {{0, 64, 0, 64},     {64, 64, 64, 64},   {128, 22, 128, 22},
                                                  {150, 64, 150, 64}, {214, 64, 214, 64}, {278, 22, 278, 22}};
    spans_check(
        &(struct spans_case){.name = "segments",
                             .queries = 300,
                             .keys = 300,
                             .shape = {SPANS(spans), .heads = 4, .kv_heads = 3, .width = 10, .kv_of_head = crossed}});
}

/* Tokens that a router chose from segments of two rows: lists of any length, also of none. */
static void test_routed(void **state)
{
    (void)state;
    static const struct attention_span spans[] = {{0, 37, 0, 37},   {37, 0, 37, 0},   {37, 1, 37, 1},
                                                  {38, 70, 38, 70}, {108, 3, 108, 3}, {111, 0, 111, 0}};
    spans_check(&(struct spans_case){
        .name = "routed",
        .queries = 111,
        .keys = 111,
        .shape = {SPANS(spans), .heads = 3, .kv_heads = 1, .width = 33, .kv_of_head = one_for_all}});
}

/* Every third token asks, all tokens of its row (or of its segment) up to itself are keys. */
static void test_chosen_queries(void **state)
{
    (void)state;
    static const struct attention_span rows[] = {{0, 50, 0, 150}, {50, 50, 150, 150}};
    static const struct attention_span segments[] = {
        {0, 30, 0, 90}, {30, 20, 90, 60}, {50, 30, 150, 90}, {80, 20, 240, 60}};
    int32_t seen[100];
    struct spans_case c = {
        .name = "chosen queries of rows",
        .queries = 100,
        .keys = 300,
        .shape = {SPANS(rows), .seen = seen, .heads = 3, .kv_heads = 3, .width = 16, .kv_of_head = each_its_own}};
    for (int i = 0; i < 100; i++)
        seen[i] = i % 50 * 3 + 2;
    spans_check(&c);
    c.name = "chosen queries of segments";
    c.shape.spans = COUNT(segments);
    c.shape.span = segments;
    for (int i = 0; i < 100; i++)
        seen[i] = (i % 50 < 30 ? i % 50 : i % 50 - 30) * 3 + 2;
    spans_check(&c);
}

/* A rank that holds two pieces of each sequence, and all of its keys. */
static void test_pieces(void **state)
{
    (void)state;
    static const struct attention_span spans[] = {
        {0, 70, 0, 70}, {70, 70, 0, 280}, {140, 70, 280, 70}, {210, 70, 280, 280}};
    static const struct attention_span ragged[] = {{0, 33, 0, 33}, {33, 5, 0, 299}};
    spans_check(&(struct spans_case){
        .name = "two pieces",
        .queries = 280,
        .keys = 560,
        .shape = {SPANS(spans), .heads = 2, .kv_heads = 1, .width = 8, .kv_of_head = one_for_all}});
    spans_check(&(struct spans_case){
        .name = "two ragged pieces",
        .queries = 38,
        .keys = 300,
        .shape = {SPANS(ragged), .heads = 3, .kv_heads = 3, .width = 64, .kv_of_head = each_its_own}});
}

/* One query a row, and caches of 300 tokens that are filled to different lengths. */
static void test_caches(void **state)
{
    (void)state;
    static const struct attention_span spans[] = {
        {0, 1, 0, 1}, {1, 1, 300, 300}, {2, 1, 600, 0}, {3, 1, 900, 257}, {4, 1, 1200, 64}};
    spans_check(
        &(struct spans_case){.name = "caches",
                             .queries = 5,
                             .keys = 1500,
                             .shape = {SPANS(spans), .heads = 4, .kv_heads = 3, .width = 20, .kv_of_head = crossed}});
}

/* One token of each sequence, and a sequence that begins between them. */
static void test_generation(void **state)
{
    (void)state;
    static const struct attention_span spans[] = {{0, 1, 0, 200}, {1, 1, 250, 1}, {2, 7, 300, 7}, {9, 1, 350, 130}};
    struct spans_case c = {.name = "generation",
                           .queries = 10,
                           .keys = 500,
                           .shape = {SPANS(spans), .heads = 4, .kv_heads = 3, .width = 21, .kv_of_head = crossed}};
    spans_check(&c);
    c.shape.width = 32;
    spans_check(&c);
}

/* A query's bits are the same alone and with others behind it. */
static void test_cohort(void **state)
{
    (void)state;
    enum { QUERIES = 3, KEYS = 9, WIDTH = 20 };
    static const int32_t seen[QUERIES] = {7, 8, 9};
    for (size_t v = 0; v < (size_t)COUNT(variants); v++) {
        float *alone = NULL;
        for (int64_t queries = 1; queries <= QUERIES; queries++) {
            struct attention_span span = {0, queries, 0, KEYS};
            struct spans_case c = {.name = "cohort",
                                   .queries = queries,
                                   .keys = KEYS,
                                   .shape = {.spans = 1,
                                             .span = &span,
                                             .seen = seen,
                                             .heads = 1,
                                             .kv_heads = 1,
                                             .width = WIDTH,
                                             .kv_of_head = one_for_all}};
            float *array[ARRAYS];
            arrays_create(&c, array);
            if (forward_run(&c, &variants[v], 1, false, array)) {
                if (!alone) {
                    alone = test_allocate(WIDTH, sizeof *alone);
                    memcpy(alone, array[OUTPUT], WIDTH * sizeof *alone);
                }
                assert_memory_equal(array[OUTPUT], alone, WIDTH * sizeof *alone);
            }
            arrays_free(array);
        }
        free(alone);
    }
}

static void test_many(void **state)
{
    (void)state;
    static struct attention_span spans[500];
    int64_t tokens = 0;
    for (int64_t s = 0; s < COUNT(spans); s++) {
        int64_t count = s == 100 ? 300 : 1 + s % 4;
        spans[s] = (struct attention_span){tokens, count, tokens, count};
        tokens += count;
    }
    spans_check(&(struct spans_case){
        .name = "many short spans and a long one",
        .queries = tokens,
        .keys = tokens,
        .shape = {SPANS(spans), .heads = 2, .kv_heads = 1, .width = 4, .kv_of_head = one_for_all}});
}

/* Queries without keys, keys without queries, and neither. */
static void test_nothing(void **state)
{
    (void)state;
    static const struct attention_span spans[] = {{5, 4, 20, 0}, {0, 5, 30, 9}, {9, 0, 35, 10}, {9, 3, 60, 0}};
    static const int32_t seen[12] = {0, 0, 3, 3, 9, 0, 0, 0, 0, 0, 0, 0};
    static const struct attention_span blind[] = {{0, 12, 0, 60}};
    static const int32_t none[12] = {0};
    struct spans_case c = {
        .name = "hardly any keys",
        .queries = 12,
        .keys = 60,
        .shape = {SPANS(spans), .seen = seen, .heads = 3, .kv_heads = 1, .width = 7, .kv_of_head = one_for_all}};
    spans_check(&c);
    c.name = "blind";
    c.shape = (struct attention_shape){SPANS(blind),  .seen = none, .heads = 3,
                                       .kv_heads = 1, .width = 7,   .kv_of_head = one_for_all};
    spans_check(&c);
    c.name = "no spans";
    c.queries = 0;
    c.shape = (struct attention_shape){.heads = 3, .kv_heads = 1, .width = 7, .kv_of_head = one_for_all};
    spans_check(&c);
    c.name = "no heads";
    c.queries = 12;
    c.shape = (struct attention_shape){SPANS(blind), .heads = 0, .kv_heads = 1, .width = 7, .kv_of_head = one_for_all};
    spans_check(&c);
    c.name = "nothing";
    c.queries = c.keys = 0;
    c.shape = (struct attention_shape){.width = 7, .kv_of_head = one_for_all};
    spans_check(&c);
}

/* -- At random -- */

struct dice {
    uint64_t key, thrown;
};

/* 0 .. most. */
static int64_t throw(struct dice * dice, int64_t most)
{
    return (int64_t)(random_bits(dice->key, dice->thrown++) % (uint64_t)(most + 1));
}

/* Ragged spans whose keys are the same, overlap, or have nothing in common, in no order. */
static void test_random(void **state)
{
    (void)state;
    enum { SPANS_MOST = 9, QUERIES_MOST = 60, KEYS_MOST = 400 };
    static const int32_t *const heads[] = {one_for_all, each_its_own, one_for_all};
    for (int round = 0; round < 12; round++) {
        struct dice dice = {.key = random_key((uint64_t)round, "spans")};
        struct attention_span spans[SPANS_MOST];
        int32_t seen[SPANS_MOST * QUERIES_MOST];
        int64_t count = 1 + throw(&dice, SPANS_MOST - 1), queries = 0, keys = 1 + throw(&dice, KEYS_MOST - 1);
        for (int64_t s = 0; s < count; s++) {
            struct attention_span *span = &spans[s];
            *span = (struct attention_span){queries, throw(&dice, QUERIES_MOST), throw(&dice, keys), 0};
            span->keys = throw(&dice, keys - span->key);
            if (s > 0 && throw(&dice, 3) == 0)
                span->key = spans[s - 1].key, span->keys = spans[s - 1].keys;
            queries += span->queries;
            for (int64_t i = 0, from = 0; i < span->queries; i++) {
                from = integer_min(span->keys, from + throw(&dice, 2 * span->keys / span->queries));
                seen[span->query + i] = (int32_t)from;
            }
        }
        for (int64_t s = 0; s < count; s++) { /* the order of the spans is not that of their queries */
            int64_t other = throw(&dice, count - 1);
            struct attention_span kept = spans[s];
            spans[s] = spans[other];
            spans[other] = kept;
        }
        char name[32];
        snprintf(name, sizeof name, "random spans %d", round);
        spans_check(&(struct spans_case){.name = name,
                                         .queries = queries,
                                         .keys = keys,
                                         .shape = {.spans = count,
                                                   .span = spans,
                                                   .seen = round % 4 ? seen : NULL,
                                                   .heads = 3,
                                                   .kv_heads = round % 3 == 1 ? 3 : 1,
                                                   .width = round % 2 ? 16 : 5,
                                                   .kv_of_head = heads[round % 3]}});
    }
}

/* -- The account, and mistakes -- */

/* 2 products forward and 5 backward, of 2 operations for each of the pairs that are seen, heads and elements. */
static void test_account(void **state)
{
    (void)state;
    static const struct attention_span spans[] = {{0, 3, 0, 2}, {3, 2, 0, 4}};
    const double pairs = 1 + 2 + 3 + 4;
    struct bench bench;
    assert_true(bench_create(&bench, "", 1));
    float data[5 * 2 * 4] = {0};
    struct attention_shape shape = {SPANS(spans), .heads = 2, .kv_heads = 1, .width = 4, .kv_of_head = one_for_all};
    struct tensor *query = tape_leaf(&bench.tape, DTYPE_F32, 2, (int64_t[]){5, 8}, data, true);
    struct tensor *key = tape_leaf(&bench.tape, DTYPE_F32, 2, (int64_t[]){4, 4}, data, false);
    struct tensor *y = attention(&bench.tape, query, key, key, &shape);
    assert_close(bench.context.time.flops[TIME_ATTENTION], 2 * 2 * pairs * 2 * 4, 0.0, 0.0);
    tape_seed(&bench.tape, y, NULL);
    tape_backward(&bench.tape);
    assert_close(bench.context.time.flops[TIME_ATTENTION], 7 * 2 * pairs * 2 * 4, 0.0, 0.0);
    tape_release(&bench.tape, query);
    tape_reset(&bench.tape);
    bench_destroy(&bench);
}

static void test_refusals(void **state)
{
    (void)state;
    static const struct {
        struct attention_span span[2];
        const char *part;
    } mistakes[] = {
        {{{0, 3, 0, 4}, {3, 3, 0, 4}}, "outside"},
        {{{0, 3, 0, 4}, {3, 2, 1, 4}}, "outside"},
        {{{0, 3, 0, 4}, {-1, 2, 0, 4}}, "outside"},
        {{{0, 3, 0, 4}, {3, 1, 0, 4}}, "every query once"},
        {{{0, 3, 0, 4}, {3, 2, 0, 1}}, "fewer keys than one before"},
    };
    static const int32_t seen[] = {1, 2, 3, 1, 2}, falling[] = {1, 3, 2, 1, 1};
    struct bench bench;
    assert_true(bench_create(&bench, "", 1));
    float data[5 * 4] = {0};
    struct tensor *query = tape_leaf(&bench.tape, DTYPE_F32, 2, (int64_t[]){5, 4}, data, true);
    struct tensor *key = tape_leaf(&bench.tape, DTYPE_F32, 2, (int64_t[]){4, 4}, data, false);
    struct attention_shape shape = {
        .spans = 2, .seen = seen, .heads = 1, .kv_heads = 1, .width = 4, .kv_of_head = one_for_all};
    for (size_t i = 0; i < sizeof mistakes / sizeof mistakes[0]; i++) {
        shape.span = mistakes[i].span;
        assert_null(attention(&bench.tape, query, key, key, &shape));
        assert_fails(&bench.context, bench.context.status, STATUS_INTERNAL, mistakes[i].part);
    }
    static const struct attention_span spans[] = {{0, 3, 0, 4}, {3, 2, 0, 4}};
    shape.span = spans;
    shape.seen = falling;
    assert_null(attention(&bench.tape, query, key, key, &shape));
    assert_fails(&bench.context, bench.context.status, STATUS_INTERNAL, "fewer keys than one before");
    shape.span = NULL;
    assert_null(attention(&bench.tape, query, key, key, &shape));
    assert_ok(&bench.context, bench.context.status);
    tape_reset(&bench.tape);
    bench_destroy(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_segments),   cmocka_unit_test(test_routed),   cmocka_unit_test(test_chosen_queries),
        cmocka_unit_test(test_pieces),     cmocka_unit_test(test_caches),   cmocka_unit_test(test_many),
        cmocka_unit_test(test_generation), cmocka_unit_test(test_nothing),  cmocka_unit_test(test_random),
        cmocka_unit_test(test_account),    cmocka_unit_test(test_refusals), cmocka_unit_test(test_cohort),
    };
    return cmocka_run_group_tests(tests, bench_begin, NULL);
}
