/* What the tests of operations share: a tape on an engine of a chosen CPU, and a check of an operation against a
 * plain computation in double precision: its output, and its gradients against central differences of that
 * computation. */
#ifndef CAIRN_TESTS_UNIT_OPS_SUPPORT_H
#define CAIRN_TESTS_UNIT_OPS_SUPPORT_H

#include "tests/support/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/core/random.h"
#include "src/ops/engine.h"
#include "src/ops/kernels/kernels.h"
#include "src/ops/ops.h"

struct bench {
    struct context context;
    struct engine engine;
    struct arena work;
    struct pool pool;
    struct tape tape;
};

static const char *const bench_cpus[] = {"", "reference", "portable", "avx2", "avx512", "bf16", "amx"};
enum { BENCH_CPUS = sizeof bench_cpus / sizeof bench_cpus[0], BENCH_INPUTS = 3 };

/* False, and a line that names it, when this machine cannot be that CPU. An empty name is the machine's best. */
static inline bool bench_create(struct bench *bench, const char *cpu, int threads)
{
    memset(bench, 0, sizeof *bench);
    context_create(&bench->context);
    setenv("CAIRN_CPU", cpu, 1);
    enum status status = engine_create(&bench->context, threads, &bench->engine);
    unsetenv("CAIRN_CPU");
    if (status == STATUS_USAGE) {
        print_message("skipped for %s: %s\n", cpu, bench->context.text);
        return false;
    }
    assert_ok(&bench->context, status);
    arena_create(&bench->work, &bench->context, MEMORY_BUFFERS);
    pool_create(&bench->pool, &bench->context, MEMORY_BUFFERS);
    tape_create(&bench->tape, &bench->context, &bench->engine, &bench->work, &bench->pool);
    bench->tape.recording = true;
    return true;
}

static inline void bench_destroy(struct bench *bench)
{
    tape_destroy(&bench->tape);
    pool_destroy(&bench->pool);
    arena_destroy(&bench->work);
    engine_destroy(&bench->engine);
    assert_int_equal(bench->context.memory.bytes_total, 0);
}

/* oneDNN takes the first CAIRN_CPU of a process for good; this makes it the machine's best. */
static inline int bench_begin(void **state)
{
    (void)state;
    struct bench bench;
    if (!bench_create(&bench, "", 2))
        return -1;
    bf16 one = bf16_from_float(1.0f);
    float c = 0.0f;
    struct matmul product = {.m = 1, .n = 1, .k = 1, .a = &one, .b = &one, .c = &c, .lda = 1, .ldb = 1, .ldc = 1};
    product.type = DTYPE_BF16;
    enum status status = matmul_run(&bench.engine, &product);
    bench_destroy(&bench);
    return status == STATUS_OK && c == 1.0f ? 0 : -1;
}

static inline void floats_store(void *to, enum dtype dtype, const float *from, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        if (dtype == DTYPE_BF16)
            ((bf16 *)to)[i] = bf16_from_float(from[i]);
        else
            ((float *)to)[i] = from[i];
    }
}

static inline void floats_load(float *to, const void *from, enum dtype dtype, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        to[i] = dtype == DTYPE_BF16 ? bf16_to_float(((const bf16 *)from)[i]) : ((const float *)from)[i];
}

/* Memory for `count` elements of `size` bytes, at least one. */
static inline void *test_allocate(int64_t count, size_t size)
{
    void *memory = calloc((size_t)count + 1, size);
    assert_non_null(memory);
    return memory;
}

/* An operation and the same in double precision. */
struct check {
    const char *name;
    int inputs;
    int64_t rows[BENCH_INPUTS];
    int64_t columns[BENCH_INPUTS];
    bool parameter[BENCH_INPUTS]; /* its gradient goes to fp32 and accumulates */
    bool wide[BENCH_INPUTS];      /* fp32 whatever the others are */
    int64_t outputs;
    enum dtype dtype; /* of the inputs */
    struct tensor *(*run)(struct tape *tape, struct tensor **input, const struct check *check);
    void (*reference)(double *const *input, double *output, const struct check *check);
    enum dtype out;
    const void *argument;
    int samples; /* of each input's gradient; 0 is all */
};

struct check_state {
    float *value[BENCH_INPUTS];  /* exactly representable in the type of the inputs */
    float *before[BENCH_INPUTS]; /* gradients that are there before backward, or NULL */
    float *gradient[BENCH_INPUTS];
    float *seed;
    float *output;
};

static inline int64_t check_count(const struct check *check, int input)
{
    return check->rows[input] * check->columns[input];
}

static inline enum dtype check_dtype(const struct check *check, int input)
{
    return check->wide[input] ? DTYPE_F32 : check->dtype;
}

/* Forward and backward on the tape. */
static inline void check_run(struct bench *bench, const struct check *check, struct check_state *state)
{
    struct tape *tape = &bench->tape;
    struct tensor *input[BENCH_INPUTS] = {NULL};
    struct parameter parameter[BENCH_INPUTS];
    void *data[BENCH_INPUTS];
    memset(parameter, 0, sizeof parameter);
    for (int i = 0; i < check->inputs; i++) {
        int64_t count = check_count(check, i);
        int64_t shape[2] = {check->rows[i], check->columns[i]};
        enum dtype dtype = check_dtype(check, i);
        data[i] = test_allocate(count, dtype_size(dtype));
        floats_store(data[i], dtype, state->value[i], count);
        input[i] = tape_leaf(tape, dtype, 2, shape, data[i], true);
        if (check->parameter[i]) {
            memcpy(state->gradient[i], state->before[i], (size_t)count * sizeof(float));
            parameter[i].gradient = state->gradient[i];
            input[i]->parameter = &parameter[i];
            parameter[i].value = *input[i];
        }
    }
    struct tensor *output = check->run(tape, input, check);
    if (!output)
        fail_msg("%s: %s", check->name, bench->context.text);
    assert_int_equal(tensor_count(output), check->outputs);
    floats_load(state->output, output->data, output->dtype, check->outputs);
    void *seed = test_allocate(check->outputs, dtype_size(output->dtype));
    floats_store(seed, output->dtype, state->seed, check->outputs);
    tape_seed(tape, output, seed);
    for (int i = 0; i < check->inputs; i++)
        if (!check->parameter[i] && state->before[i]) {
            void *before = test_allocate(check_count(check, i), dtype_size(check_dtype(check, i)));
            floats_store(before, check_dtype(check, i), state->before[i], check_count(check, i));
            tape_seed(tape, input[i], before);
            free(before);
        }
    tape_backward(tape);
    assert_ok(&bench->context, bench->context.status);
    for (int i = 0; i < check->inputs; i++) {
        if (!check->parameter[i]) {
            assert_non_null(input[i]->gradient);
            floats_load(state->gradient[i], tape_gradient(input[i]), check_dtype(check, i), check_count(check, i));
            tape_release(tape, input[i]);
        }
        free(data[i]);
    }
    free(seed);
    tape_reset(tape);
}

static inline double check_loss(const struct check *check, double *const *input, double *output, const float *seed)
{
    check->reference(input, output, check);
    double loss = 0.0;
    for (int64_t i = 0; i < check->outputs; i++)
        loss += output[i] * (double)seed[i];
    return loss;
}

static inline void check_gradient(const struct check *check, const struct check_state *state, double **input,
                                  double *output, int which, double tolerance)
{
    int64_t count = check_count(check, which);
    int64_t samples = check->samples && check->samples < count ? check->samples : count;
    float *expected = test_allocate(samples, sizeof *expected);
    float *found = test_allocate(samples, sizeof *found);
    for (int64_t s = 0; s < samples; s++) {
        int64_t i = samples == count ? s : random_permute(random_key(3, check->name), s, count);
        double value = input[which][i];
        double step = 1e-4;
        input[which][i] = value + step;
        double above = check_loss(check, input, output, state->seed);
        input[which][i] = value - step;
        double below = check_loss(check, input, output, state->seed);
        input[which][i] = value;
        expected[s] = (float)((above - below) / (2.0 * step) + (state->before[which] ? state->before[which][i] : 0.0f));
        found[s] = state->gradient[which][i];
    }
    /* Gradients that vanish are held to a part of what the others are. */
    expected[samples] = found[samples] = 0.1f;
    char what[128];
    snprintf(what, sizeof what, "%s, gradient of input %d", check->name, which);
    assert_near(found, expected, samples + 1, tolerance, what);
    free(expected);
    free(found);
}

static inline float *check_values(const struct check *check, int64_t count, const char *name, enum dtype dtype)
{
    float *values = test_allocate(count, sizeof *values);
    char text[128];
    snprintf(text, sizeof text, "%s %s", check->name, name);
    fill_random(values, count, text);
    for (int64_t i = 0; i < count && dtype == DTYPE_BF16; i++)
        values[i] = bf16_to_float(bf16_from_float(values[i]));
    return values;
}

/* Runs the check twice (the second run must give the same bits), with gradients that start empty or, for `before`,
 * hold something. */
static inline void check_once(struct bench *bench, const struct check *check, bool before)
{
    bool half = check->dtype == DTYPE_BF16;
    struct check_state state[2];
    double *input[BENCH_INPUTS];
    for (int i = 0; i < check->inputs; i++) {
        int64_t count = check_count(check, i);
        char name[32];
        snprintf(name, sizeof name, "input %d", i);
        float *value = check_values(check, count, name, check_dtype(check, i));
        float *old = NULL;
        if (before || check->parameter[i])
            old = before ? check_values(check, count, "before", check->dtype) : test_allocate(count, sizeof *old);
        input[i] = test_allocate(count, sizeof(double));
        for (int64_t e = 0; e < count; e++)
            input[i][e] = (double)value[e];
        for (int run = 0; run < 2; run++) {
            state[run].value[i] = value;
            state[run].before[i] = old;
            state[run].gradient[i] = test_allocate(count, sizeof(float));
        }
    }
    float *seed = check_values(check, check->outputs, "seed", check->dtype);
    for (int run = 0; run < 2; run++) {
        state[run].seed = seed;
        state[run].output = test_allocate(check->outputs, sizeof(float));
        check_run(bench, check, &state[run]);
    }
    double *output = test_allocate(check->outputs, sizeof *output);
    float *expected = test_allocate(check->outputs, sizeof *expected);
    check->reference(input, output, check);
    for (int64_t i = 0; i < check->outputs; i++)
        expected[i] = (float)output[i];
    assert_near(state[0].output, expected, check->outputs, half && check->out == DTYPE_BF16 ? 6e-3 : 3e-6, check->name);
    assert_memory_equal(state[0].output, state[1].output, (size_t)check->outputs * sizeof(float));
    for (int i = 0; i < check->inputs; i++) {
        check_gradient(check, &state[0], input, output, i, half ? 8e-3 : 5e-6);
        assert_memory_equal(state[0].gradient[i], state[1].gradient[i], (size_t)check_count(check, i) * sizeof(float));
    }
    for (int i = 0; i < check->inputs; i++) {
        free(state[0].value[i]);
        free(state[0].before[i]);
        free(state[0].gradient[i]);
        free(state[1].gradient[i]);
        free(input[i]);
    }
    free(state[0].output);
    free(state[1].output);
    free(seed);
    free(output);
    free(expected);
}

/* With each table of kernels that this machine can run, in both types, into empty and into used gradients. */
static inline void check_all(struct check check)
{
    static const char *const cpus[] = {"", "avx2", "reference"};
    for (int cpu = 0; cpu < 3; cpu++) {
        struct bench bench;
        if (!bench_create(&bench, cpus[cpu], 2))
            continue;
        enum dtype out = check.out;
        for (int half = 0; half < 2; half++) {
            struct check one = check;
            char name[160];
            snprintf(name, sizeof name, "%s (%s, %s)", check.name, bench.engine.isa, half ? "bf16" : "fp32");
            one.name = name;
            one.dtype = half ? DTYPE_BF16 : DTYPE_F32;
            one.out = half ? out : DTYPE_F32;
            check_once(&bench, &one, false);
            check_once(&bench, &one, true);
        }
        bench_destroy(&bench);
    }
}

/* The call makes nothing, and the context has an INTERNAL error with this part. */
#define assert_refused(context, call, part)                                \
    do {                                                                   \
        assert_false(call);                                                \
        assert_fails(context, (context)->status, STATUS_INTERNAL, (part)); \
    } while (0)

#endif
