/* Infini-attention's memory against a plain loop over segments in double precision (model.md section 3). */
#include "dist/parallel/memory.h"
#include "src/ops/memory.h"
#include "tests/unit/ops_support.h"

enum { K, V, Q, A_DOT, GATE, INPUTS, MOST_SPANS = 600, MOST_SAMPLES = 16 };

static const char *const input_names[INPUTS] = {"k", "v", "q", "a_dot", "gate"};

/* Each segment's queries read the memory, its keys then go into it. */
struct problem {
    const char *name;
    int64_t rows, segments, heads, kv_heads, width;
    const int32_t *kv_of_head;
    enum memory_update update;
    const float *before; /* or NULL */
    int64_t samples;     /* of each gradient */
    int64_t tokens;
    struct attention_span span[MOST_SPANS];
};

/* Rows of `length` tokens in segments of `segment`, the last of which may be shorter. */
static void problem_cut(struct problem *p, int64_t length, int64_t segment)
{
    p->segments = integer_divide_up(length, segment);
    p->tokens = p->rows * length;
    assert_true(p->rows * p->segments <= MOST_SPANS);
    for (int64_t i = 0; i < p->rows * p->segments; i++) {
        int64_t begin = i % p->segments * segment;
        int64_t first = i / p->segments * length + begin;
        int64_t count = integer_min(segment, length - begin);
        p->span[i] = (struct attention_span){first, count, first, count};
    }
}

static int64_t input_columns(const struct problem *p, int input)
{
    return input == GATE ? p->heads : (input < Q ? p->kv_heads : p->heads) * p->width;
}

static int64_t input_count(const struct problem *p, int input)
{
    return input_columns(p, input) * (input == GATE ? 1 : p->tokens);
}

static int64_t state_count(const struct problem *p)
{
    return p->rows * p->kv_heads * memory_elements(p->width);
}

/* -- The reference --------------------------------------------------------------------------------------------- */

static double feature(double x)
{
    return x > 0.0 ? x + 1.0 : exp(x);
}

/* What a memory returns for a key or a query: sigma(x) M / (sigma(x) z + 1e-6), 0 if it is empty. */
static bool reference_recall(const double *state, const double *x, int64_t width, double *value)
{
    const double *z = state + width * width;
    double divisor = 1e-6;
    bool holds = false;
    for (int64_t i = 0; i < width; i++) {
        divisor += feature(x[i]) * z[i];
        holds = holds || z[i] != 0.0;
    }
    for (int64_t j = 0; j < width; j++) {
        value[j] = 0.0;
        for (int64_t i = 0; i < width && holds; i++)
            value[j] += feature(x[i]) * state[i * width + j] / divisor;
    }
    return holds;
}

static void reference_read(const struct problem *p, double *const *input, const double *state, int64_t head,
                           const struct attention_span *span, double *output)
{
    double value[64];
    double g = 1.0 / (1.0 + exp(-input[GATE][head]));
    for (int64_t t = span->query; t < span->query + span->queries; t++) {
        int64_t at = (t * p->heads + head) * p->width;
        bool holds = reference_recall(state, input[Q] + at, p->width, value);
        for (int64_t j = 0; j < p->width; j++)
            output[at + j] = holds ? g * value[j] + (1.0 - g) * input[A_DOT][at + j] : input[A_DOT][at + j];
    }
}

static void reference_write(const struct problem *p, double *const *input, double *state, int64_t kv_head,
                            const struct attention_span *span)
{
    double old[64 * 65], value[64];
    int64_t width = p->width;
    memcpy(old, state, (size_t)memory_elements(width) * sizeof *old);
    for (int64_t t = span->key; t < span->key + span->keys; t++) {
        const double *k = input[K] + (t * p->kv_heads + kv_head) * width;
        const double *v = input[V] + (t * p->kv_heads + kv_head) * width;
        reference_recall(old, k, width, value);
        for (int64_t i = 0; i < width; i++) {
            for (int64_t j = 0; j < width; j++)
                state[i * width + j] += feature(k[i]) * (v[j] - (p->update == MEMORY_UPDATE_DELTA ? value[j] : 0.0));
            state[width * width + i] += feature(k[i]);
        }
    }
}

/* output [tokens, heads * width]; after is a state for each row and kv head. */
static void reference_run(const struct problem *p, double *const *input, double *output, double *after)
{
    int64_t elements = memory_elements(p->width);
    for (int64_t block = 0; block < p->rows * p->kv_heads; block++) {
        int64_t row = block / p->kv_heads, kv_head = block % p->kv_heads;
        double *state = after + block * elements;
        for (int64_t e = 0; e < elements; e++)
            state[e] = p->before ? (double)p->before[block * elements + e] : 0.0;
        for (int64_t s = 0; s < p->segments; s++) {
            const struct attention_span *span = &p->span[row * p->segments + s];
            for (int64_t head = 0; head < p->heads; head++)
                if (p->kv_of_head[head] == kv_head)
                    reference_read(p, input, state, head, span, output);
            reference_write(p, input, state, kv_head, span);
        }
    }
}

/* -- The operations ------------------------------------------------------------------------------------------------ */

struct result {
    float *output, *after;
    float *gradient[INPUTS];
};

static struct result result_create(const struct problem *p)
{
    struct result result = {.output = test_allocate(input_count(p, Q), sizeof(float)),
                            .after = test_allocate(state_count(p), sizeof(float))};
    for (int i = 0; i < INPUTS; i++)
        result.gradient[i] = test_allocate(input_count(p, i), sizeof(float));
    return result;
}

static void result_destroy(struct result *result)
{
    free(result->output);
    free(result->after);
    for (int i = 0; i < INPUTS; i++)
        free(result->gradient[i]);
}

/* Forward and backward; gradients are added to what result.gradient holds if `adds`. seed NULL is forward only. */
static void problem_run(struct bench *bench, const struct problem *p, float *const *value, enum dtype dtype,
                        const float *seed, bool adds, struct result *result)
{
    struct tape *tape = &bench->tape;
    struct tensor *input[INPUTS];
    void *data[INPUTS], *slopes = test_allocate(input_count(p, Q), sizeof(float));
    struct parameter gate = {.gradient = result->gradient[GATE]};
    for (int i = 0; i < INPUTS; i++) {
        enum dtype type = i == GATE ? DTYPE_F32 : dtype;
        int64_t columns = input_columns(p, i);
        data[i] = test_allocate(input_count(p, i), sizeof(float));
        floats_store(data[i], type, value[i], input_count(p, i));
        input[i] = tape_leaf(tape, type, 2, (int64_t[]){i == GATE ? 1 : p->tokens, columns}, data[i], seed != NULL);
        if (seed && adds && i != GATE) {
            floats_store(slopes, type, result->gradient[i], input_count(p, i));
            tape_seed(tape, input[i], slopes);
        }
    }
    if (!adds)
        memset(gate.gradient, 0, (size_t)p->heads * sizeof(float));
    input[GATE]->parameter = &gate;
    gate.value = *input[GATE];
    struct memory_shape shape = {p->rows,  p->segments, p->span,   p->kv_heads,
                                 p->width, p->update,   p->before, result->after};
    struct memory_read_shape read = {p->rows * p->segments, p->span, p->heads, p->kv_heads, p->width, p->kv_of_head};
    struct tensor *states = memory_states(tape, NULL, input[K], input[V], &shape);
    struct tensor *output = memory_read(tape, input[Q], states, input[A_DOT], input[GATE], &read);
    if (!output)
        fail_msg("%s: %s", p->name, bench->context.text);
    floats_load(result->output, output->data, dtype, input_count(p, Q));
    if (seed) {
        floats_store(slopes, dtype, seed, input_count(p, Q));
        tape_seed(tape, output, slopes);
        tape_backward(tape);
        assert_ok(&bench->context, bench->context.status);
        for (int i = 0; i < GATE; i++) {
            floats_load(result->gradient[i], tape_gradient(input[i]), dtype, input_count(p, i));
            tape_release(tape, input[i]);
        }
    }
    for (int i = 0; i < INPUTS; i++)
        free(data[i]);
    free(slopes);
    tape_reset(tape);
}

static void values_make(const struct problem *p, enum dtype dtype, float **value)
{
    for (int i = 0; i < INPUTS; i++) {
        int64_t count = input_count(p, i);
        value[i] = test_allocate(count, sizeof(float));
        fill_random(value[i], count, input_names[i]);
        for (int64_t e = 0; e < count; e++)
            value[i][e] *= i == GATE ? 1.0f : 2.0f;
        for (int64_t e = 0; e < count && dtype == DTYPE_BF16 && i != GATE; e++)
            value[i][e] = bf16_to_float(bf16_from_float(value[i][e]));
    }
}

static void values_destroy(float **value)
{
    for (int i = 0; i < INPUTS; i++)
        free(value[i]);
}

/* -- Output, final state and gradients against the reference ------------------------------------------------------- */

struct expected {
    double *value[INPUTS], *output, *after;
};

static double expected_loss(const struct problem *p, struct expected *e, const float *seed)
{
    double loss = 0.0;
    reference_run(p, e->value, e->output, e->after);
    for (int64_t i = 0; i < input_count(p, Q); i++)
        loss += e->output[i] * (double)seed[i];
    return loss;
}

/* Some elements of a gradient against central differences; the largest of all of them is the measure. */
static void gradient_check(const struct problem *p, struct expected *e, const float *seed, const float *gradient,
                           int which, double tolerance, const char *name)
{
    float wanted[MOST_SAMPLES + 1], found[MOST_SAMPLES + 1];
    int64_t count = input_count(p, which);
    int64_t samples = integer_min(count, p->samples);
    wanted[samples] = found[samples] = 0.1f;
    for (int64_t s = 0; s < samples; s++) {
        int64_t i = random_permute(random_key(3, name), s, count);
        double value = e->value[which][i], step = 1e-5;
        e->value[which][i] = value + step;
        double above = expected_loss(p, e, seed);
        e->value[which][i] = value - step;
        double below = expected_loss(p, e, seed);
        e->value[which][i] = value;
        wanted[s] = (float)((above - below) / (2.0 * step));
        found[s] = gradient[i];
    }
    char what[160];
    snprintf(what, sizeof what, "%s, gradient of %s", name, input_names[which]);
    assert_near(found, wanted, samples + 1, tolerance, what);
}

static void floats_check(const float *found, const double *wanted, int64_t count, double tolerance, const char *name)
{
    float *rounded = test_allocate(count, sizeof *rounded);
    for (int64_t i = 0; i < count; i++)
        rounded[i] = (float)wanted[i];
    assert_near(found, rounded, count, tolerance, name);
    free(rounded);
}

static void problem_check_once(struct bench *bench, const struct problem *p, enum dtype dtype)
{
    bool half = dtype == DTYPE_BF16;
    char name[128];
    snprintf(name, sizeof name, "%s (%s, %s)", p->name, bench->engine.isa, half ? "bf16" : "fp32");
    float *value[INPUTS];
    float *seed = test_allocate(input_count(p, Q), sizeof *seed);
    struct expected e = {.output = test_allocate(input_count(p, Q), sizeof(double)),
                         .after = test_allocate(state_count(p), sizeof(double))};
    struct result result = result_create(p);
    values_make(p, dtype, value);
    fill_random(seed, input_count(p, Q), "seed");
    for (int64_t i = 0; i < input_count(p, Q) && half; i++)
        seed[i] = bf16_to_float(bf16_from_float(seed[i]));
    for (int i = 0; i < INPUTS; i++) {
        e.value[i] = test_allocate(input_count(p, i), sizeof(double));
        for (int64_t n = 0; n < input_count(p, i); n++)
            e.value[i][n] = (double)value[i][n];
    }
    problem_run(bench, p, value, dtype, seed, false, &result);
    expected_loss(p, &e, seed);
    floats_check(result.output, e.output, input_count(p, Q), half ? 6e-3 : 4e-6, name);
    floats_check(result.after, e.after, state_count(p), 4e-6, name);
    for (int i = 0; i < INPUTS; i++)
        gradient_check(p, &e, seed, result.gradient[i], i, half && i != GATE ? 8e-3 : 1e-5, name);
    values_destroy(value);
    result_destroy(&result);
    for (int i = 0; i < INPUTS; i++)
        free(e.value[i]);
    free(e.output);
    free(e.after);
    free(seed);
}

/* Both updates, types, and with each table of kernels that this machine can run. */
static void problem_check(struct problem *p)
{
    static const char *const cpus[] = {"", "avx2", "reference"};
    for (int cpu = 0; cpu < 3; cpu++) {
        struct bench bench;
        if (!bench_create(&bench, cpus[cpu], 2))
            continue;
        for (int which = 0; which < 4; which++) {
            p->update = which % 2 ? MEMORY_UPDATE_DELTA : MEMORY_UPDATE_LINEAR;
            problem_check_once(&bench, p, which / 2 ? DTYPE_BF16 : DTYPE_F32);
        }
        bench_destroy(&bench);
    }
}

static const int32_t one_for_all[] = {0, 0, 0, 0};
static const int32_t each_its_own[] = {0, 1, 2, 3};
static const int32_t in_pairs[] = {0, 0, 1, 1};
static const int32_t crossed[] = {2, 0, 2, 0}; /* nobody reads 1 */

static struct problem problem_of(const char *name, int64_t rows, int64_t heads, int64_t kv_heads, int64_t width,
                                 const int32_t *kv_of_head)
{
    return (struct problem){.name = name,
                            .rows = rows,
                            .heads = heads,
                            .kv_heads = kv_heads,
                            .width = width,
                            .kv_of_head = kv_of_head,
                            .samples = MOST_SAMPLES};
}

static void test_memory_small(void **state)
{
    (void)state;
    struct problem p = problem_of("one segment", 2, 2, 1, 6, one_for_all);
    problem_cut(&p, 5, 5);
    problem_check(&p);
    p = problem_of("one token a segment", 1, 1, 1, 5, one_for_all);
    problem_cut(&p, 6, 1);
    problem_check(&p);
    p = problem_of("one token more than a segment", 2, 2, 2, 10, each_its_own);
    problem_cut(&p, 9, 8);
    problem_check(&p);
    p = problem_of("ragged", 2, 3, 3, 10, each_its_own);
    problem_cut(&p, 19, 5);
    problem_check(&p);
    p = problem_of("crossed heads", 2, 4, 3, 7, crossed);
    problem_cut(&p, 14, 4);
    problem_check(&p);
    p = problem_of("width 1", 1, 2, 1, 1, one_for_all);
    problem_cut(&p, 12, 3);
    problem_check(&p);
}

static void test_memory_blocks(void **state)
{
    (void)state;
    struct problem p = problem_of("blocks of tokens", 1, 2, 1, 33, one_for_all);
    p.samples = 3;
    problem_cut(&p, 290, 131);
    problem_check(&p);
    p = problem_of("whole vectors", 1, 2, 2, 64, each_its_own);
    p.samples = 3;
    problem_cut(&p, 60, 20);
    problem_check(&p);
}

/* Nothing there, in each dimension. */
static void test_memory_nothing(void **state)
{
    (void)state;
    struct problem p = problem_of("no rows", 0, 2, 1, 6, one_for_all);
    problem_check(&p);
    p = problem_of("no heads", 2, 0, 0, 6, one_for_all);
    problem_cut(&p, 6, 3);
    problem_check(&p);
    p = problem_of("no query heads", 2, 0, 2, 6, one_for_all);
    problem_cut(&p, 6, 3);
    problem_check(&p);
    p = problem_of("no segments", 2, 2, 1, 6, one_for_all);
    problem_check(&p);
}

/* Segments without keys change nothing; tokens that are left out of them (padding) are read for, and not written. */
static void test_memory_left_out(void **state)
{
    (void)state;
    struct problem p = problem_of("left out", 2, 2, 1, 6, one_for_all);
    problem_cut(&p, 20, 4);
    p.span[1].keys = 0;
    p.span[3].keys = 2;
    p.span[5].keys = 0; /* the second row begins with nothing */
    p.span[9].key += 1;
    p.span[9].keys = 2;
    problem_check(&p);
    p = problem_of("segments without tokens", 1, 2, 2, 6, each_its_own);
    problem_cut(&p, 20, 4);
    p.span[0].queries = p.span[0].keys = 0;
    p.span[1] = (struct attention_span){0, 8, 0, 8};
    p.span[4].queries = p.span[4].keys = 0;
    p.span[3] = (struct attention_span){12, 8, 12, 8};
    problem_check(&p);
}

/* Memories to start from, in all heads or not in all. */
static void test_memory_before(void **state)
{
    (void)state;
    enum { ROWS = 2, KV_HEADS = 2, WIDTH = 6, STATE = WIDTH * WIDTH + WIDTH };
    float before[ROWS * KV_HEADS * STATE];
    for (int which = 0; which < 3; which++) {
        static const char *const names[] = {"memory before", "memory before in a row", "memory before in a head"};
        fill_random(before, ROWS * KV_HEADS * STATE, "before");
        for (int64_t i = 0; i < ROWS * KV_HEADS * STATE; i++)
            before[i] = i % STATE >= WIDTH * WIDTH ? 2.0f + before[i] : before[i];
        if (which == 1)
            memset(before, 0, KV_HEADS * STATE * sizeof *before);
        if (which == 2)
            memset(before + STATE, 0, STATE * sizeof *before);
        struct problem p = problem_of(names[which], ROWS, 4, KV_HEADS, WIDTH, in_pairs);
        p.before = before;
        problem_cut(&p, 11, 4);
        problem_check(&p);
    }
}

/* -- Properties ------------------------------------------------------------------------------------------------------
 */

/* A gradient that is there is added to; a backward without it gives the difference. */
static void test_memory_adds_gradients(void **state)
{
    (void)state;
    struct problem p = problem_of("adds", 2, 4, 2, 6, in_pairs);
    problem_cut(&p, 11, 4);
    p.span[2].keys = 1;
    float *value[INPUTS], seed[22 * 24];
    fill_random(seed, 22 * 24, "seed");
    for (int update = 0; update < 2; update++) {
        struct bench bench;
        assert_true(bench_create(&bench, "", 2));
        p.update = (enum memory_update)update;
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
    values_make(&p, DTYPE_F32, value);
    for (int update = 0; update < 2; update++) {
        p.update = (enum memory_update)update;
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
    }
    values_destroy(value);
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

/* Half a thousand segments: the running state in fp32 stays close to one in double. */
static void test_memory_many_segments(void **state)
{
    (void)state;
    struct bench bench;
    assert_true(bench_create(&bench, "", 2));
    struct problem p = problem_of("many segments", 1, 1, 1, 16, one_for_all);
    p.samples = 2;
    problem_cut(&p, 512 * 4, 4);
    for (int update = 0; update < 2; update++) {
        p.update = (enum memory_update)update;
        problem_check_once(&bench, &p, DTYPE_F32);
        problem_check_once(&bench, &p, DTYPE_BF16);
    }
    bench_destroy(&bench);
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
            value[K][i] = i < 4 * 6 ? -1000.0f : i < 8 * 6 ? 1e4f : -50.0f;
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
        struct memory_shape shape = {1, p.segments, p.span, 1, WIDTH, p.update, NULL, NULL};
        struct memory_read_shape read = {p.segments, p.span, 1, 1, WIDTH, one_for_all};
        struct tensor *states = memory_states(tape, NULL, input[K], input[V], &shape);
        struct tensor *output = memory_read(tape, input[Q], states, input[A_DOT], gates, &read);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_small),        cmocka_unit_test(test_memory_blocks),
        cmocka_unit_test(test_memory_nothing),      cmocka_unit_test(test_memory_left_out),
        cmocka_unit_test(test_memory_before),       cmocka_unit_test(test_memory_adds_gradients),
        cmocka_unit_test(test_memory_threads),      cmocka_unit_test(test_memory_rows_are_apart),
        cmocka_unit_test(test_memory_groups),       cmocka_unit_test(test_memory_gate),
        cmocka_unit_test(test_memory_rewriting),    cmocka_unit_test(test_memory_many_segments),
        cmocka_unit_test(test_memory_extreme_keys), cmocka_unit_test(test_memory_shared),
    };
    return cmocka_run_group_tests(tests, bench_begin, NULL);
}
