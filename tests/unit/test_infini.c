/* Infini-attention's memory against a plain loop over segments in double precision (src/model/README.md
 * sections 3 and 12); the gated delta rule token by token. */
#include "tests/unit/infini_support.h"

/* -- The reference -- */

static double feature(double x)
{
    return x > 0.0 ? x + 1.0 : exp(x);
}

/* Of the gated delta rule: x M. */
static bool reference_product(const double *state, const double *x, int64_t width, double *value)
{
    bool holds = false;
    memset(value, 0, (size_t)width * sizeof *value);
    for (int64_t i = 0; i < width * width; i++) {
        value[i % width] += x[i / width] * state[i];
        holds = holds || state[i] != 0.0;
    }
    return holds;
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

static void reference_norm(double *value, const double *weight, int64_t width)
{
    double squares = 0.0;
    for (int64_t j = 0; j < width; j++)
        squares += value[j] * value[j];
    for (int64_t j = 0; j < width; j++)
        value[j] *= weight[j] / sqrt(squares / (double)width + 1e-6);
}

static void reference_read(const struct problem *p, double *const *input, const double *state, int64_t head,
                           const struct attention_span *span, double *output)
{
    double value[64];
    double g = 1.0 / (1.0 + exp(-input[GATE][head]));
    for (int64_t t = span->query; t < span->query + span->queries; t++) {
        int64_t at = (t * p->heads + head) * p->width;
        bool holds = (is_gated(p) ? reference_product : reference_recall)(state, input[Q] + at, p->width, value);
        if (p->norm)
            reference_norm(value, input[NORM] + head * p->width, p->width);
        for (int64_t j = 0; j < p->width; j++)
            output[at + j] = holds ? g * value[j] + (1.0 - g) * input[A_DOT][at + j] : input[A_DOT][at + j];
    }
}

/* M += b k^T (v - k M), one token after the other. */
static void reference_rewrite(const struct problem *p, double *const *input, double *state, int64_t kv_head,
                              const struct attention_span *span)
{
    double value[64];
    int64_t width = p->width;
    for (int64_t t = span->key; t < span->key + span->keys; t++) {
        const double *k = input[K] + (t * p->kv_heads + kv_head) * width;
        const double *v = input[V] + (t * p->kv_heads + kv_head) * width;
        double b = 1.0 / (1.0 + exp(-input[STRENGTH][t * p->kv_heads + kv_head]));
        reference_product(state, k, width, value);
        for (int64_t i = 0; i < width * width; i++)
            state[i] += b * k[i / width] * (v[i % width] - value[i % width]);
    }
}

static void reference_write(const struct problem *p, double *const *input, double *state, int64_t kv_head,
                            const struct attention_span *span)
{
    double old[64 * 65], value[64];
    int64_t width = p->width;
    memcpy(old, state, (size_t)infini_elements(p->update, width) * sizeof *old);
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
    int64_t elements = infini_elements(p->update, p->width);
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
            (is_gated(p) ? reference_rewrite : reference_write)(p, input, state, kv_head, span);
        }
    }
}

/* -- Output, final state and gradients against the reference -- */

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
    float largest = 0.1f;
    for (int64_t i = 0; i < count; i++)
        largest = fmaxf(largest, fabsf(gradient[i]));
    wanted[samples] = found[samples] = largest;
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
        gradient_check(p, &e, seed, result.gradient[i], i, half && !is_parameter(i) ? 8e-3 : 1e-5, name);
    values_destroy(value);
    result_destroy(&result);
    for (int i = 0; i < INPUTS; i++)
        free(e.value[i]);
    free(e.output);
    free(e.after);
    free(seed);
}

/* The updates, each without a norm and with it, and in bf16, with each table of kernels that this machine can run. */
static void updates_check(struct problem *p, enum memory_update first, enum memory_update last)
{
    static const char *const cpus[] = {"", "avx2", "reference"};
    for (int cpu = 0; cpu < 3; cpu++) {
        struct bench bench;
        if (!bench_create(&bench, cpus[cpu], 2))
            continue;
        for (int update = (int)first; update <= (int)last; update++)
            for (int which = 0; which < 3; which++) {
                p->update = (enum memory_update)update;
                p->norm = which == 1 || (which == 2 && is_gated(p));
                problem_check_once(&bench, p, which == 2 ? DTYPE_BF16 : DTYPE_F32);
            }
        bench_destroy(&bench);
    }
}

static void problem_check(struct problem *p)
{
    updates_check(p, MEMORY_UPDATE_LINEAR, MEMORY_UPDATE_GATED_DELTA);
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
        updates_check(&p, MEMORY_UPDATE_LINEAR, MEMORY_UPDATE_DELTA);
        for (int64_t i = 0; i < ROWS * KV_HEADS; i++) /* those without z, one behind the other */
            memmove(before + i * WIDTH * WIDTH, before + i * STATE, WIDTH * WIDTH * sizeof *before);
        updates_check(&p, MEMORY_UPDATE_GATED_DELTA, MEMORY_UPDATE_GATED_DELTA);
    }
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
    for (int update = 0; update < 3; update++) {
        p.update = (enum memory_update)update;
        problem_check_once(&bench, &p, DTYPE_F32);
    }
    bench_destroy(&bench);
}

/* Seeds times what the queries of one block of states read from it. */
static double block_loss(const struct problem *p, double *const *input, const double *state, int64_t block,
                         const float *seed, double *output)
{
    const struct attention_span *span = &p->span[block / p->kv_heads];
    double loss = 0.0;
    for (int64_t head = 0; head < p->heads; head++) {
        if (p->kv_of_head[head] != block % p->kv_heads)
            continue;
        reference_read(p, input, state, head, span, output);
        for (int64_t t = span->query; t < span->query + span->queries; t++)
            for (int64_t at = (t * p->heads + head) * p->width; at < (t * p->heads + head + 1) * p->width; at++)
                loss += output[at] * (double)seed[at];
    }
    return loss;
}

/* The gradient of the states that are read; what reads an empty one is attention alone, and gives it none. */
static void test_memory_states_gradient(void **state)
{
    (void)state;
    enum { SPANS = 3, KV_HEADS = 2, HEADS = 4, WIDTH = 5, STATE = WIDTH * WIDTH + WIDTH };
    enum { TOKENS = 4 * SPANS, COUNT = SPANS * KV_HEADS * STATE, OUTPUTS = TOKENS * HEADS * WIDTH, EMPTY = 3 };
    struct problem p = problem_of("states", SPANS, HEADS, KV_HEADS, WIDTH, in_pairs);
    struct bench bench;
    assert_true(bench_create(&bench, "", 2));
    problem_cut(&p, 4, 4);
    float *value[INPUTS], states[COUNT], seed[OUTPUTS], expected[COUNT];
    double *exact[INPUTS], output[OUTPUTS], block[STATE];
    values_make(&p, DTYPE_F32, value);
    fill_random(states, COUNT, "states");
    fill_random(seed, OUTPUTS, "seed");
    for (int64_t i = 0; i < COUNT; i++)
        states[i] = i / STATE == EMPTY ? 0.0f : states[i] + (i % STATE < WIDTH * WIDTH ? 0.0f : 2.0f);
    struct tensor *input[INPUTS];
    for (int i = 0; i < INPUTS; i++) {
        exact[i] = test_allocate(input_count(&p, i), sizeof(double));
        for (int64_t n = 0; n < input_count(&p, i); n++)
            exact[i][n] = (double)value[i][n];
        input[i] = tape_leaf(&bench.tape, DTYPE_F32, 1, (int64_t[]){input_count(&p, i)}, value[i], false);
    }
    for (int64_t i = 0; i < COUNT; i++) {
        double loss[2];
        for (int64_t e = 0; e < STATE; e++)
            block[e] = (double)states[i / STATE * STATE + e];
        for (int side = 0; side < 2; side++) {
            block[i % STATE] = (double)states[i] + (side ? 1e-5 : -1e-5);
            loss[side] = block_loss(&p, exact, block, i / STATE, seed, output);
        }
        expected[i] = i / STATE == EMPTY ? 0.0f : (float)((loss[1] - loss[0]) / 2e-5);
    }
    struct tensor *leaf = tape_leaf(&bench.tape, DTYPE_F32, 2, (int64_t[]){SPANS * KV_HEADS, STATE}, states, true);
    struct infini_read_shape read = {SPANS, p.span, HEADS, KV_HEADS, WIDTH, in_pairs};
    struct tensor *y = infini_read(&bench.tape, input[Q], leaf, input[A_DOT], input[GATE], NULL, &read);
    assert_non_null(y);
    tape_seed(&bench.tape, y, seed);
    tape_backward(&bench.tape);
    assert_near(tape_gradient(leaf), expected, COUNT, 1e-5, "gradient of the states");
    tape_release(&bench.tape, leaf);
    tape_reset(&bench.tape);
    values_destroy(value);
    for (int i = 0; i < INPUTS; i++)
        free(exact[i]);
    bench_destroy(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_small),           cmocka_unit_test(test_memory_blocks),
        cmocka_unit_test(test_memory_nothing),         cmocka_unit_test(test_memory_left_out),
        cmocka_unit_test(test_memory_before),          cmocka_unit_test(test_memory_many_segments),
        cmocka_unit_test(test_memory_states_gradient),
    };
    return cmocka_run_group_tests(tests, bench_begin, NULL);
}
