/* What the tests of Infini-attention's memory share: a problem, and the operations run on it. */
#ifndef CAIRN_TESTS_UNIT_MEMORY_SUPPORT_H
#define CAIRN_TESTS_UNIT_MEMORY_SUPPORT_H

#include "dist/parallel/infini.h"
#include "src/ops/infini.h"
#include "tests/unit/ops_support.h"

enum { K, V, Q, A_DOT, GATE, STRENGTH, NORM, INPUTS, MOST_SPANS = 600, MOST_SAMPLES = 12 };

static const char *const input_names[INPUTS] = {"k", "v", "q", "a_dot", "gate", "strength", "norm"};

/* Each segment's queries read the memory, its keys then go into it. */
struct problem {
    const char *name;
    int64_t rows, segments, heads, kv_heads, width;
    const int32_t *kv_of_head;
    enum memory_update update;
    bool norm;           /* on what is read */
    const float *before; /* or NULL */
    int64_t samples;     /* of each gradient */
    int64_t tokens;
    struct attention_span span[MOST_SPANS];
};

/* Rows of `length` tokens in segments of `segment`, the last of which may be shorter. */
static inline void problem_cut(struct problem *p, int64_t length, int64_t segment)
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

static inline bool is_gated(const struct problem *p)
{
    return p->update == MEMORY_UPDATE_GATED_DELTA;
}

/* For the sequences as a whole, and not for each token. */
static inline bool is_parameter(int input)
{
    return input == GATE || input == NORM;
}

static inline int64_t input_columns(const struct problem *p, int input)
{
    switch (input) {
    case GATE:
        return p->heads;
    case STRENGTH:
        return is_gated(p) ? p->kv_heads : 0;
    case NORM:
        return p->norm ? p->heads * p->width : 0;
    default:
        return (input < Q ? p->kv_heads : p->heads) * p->width;
    }
}

static inline int64_t input_count(const struct problem *p, int input)
{
    return input_columns(p, input) * (is_parameter(input) ? 1 : p->tokens);
}

/* Where the others are of type `dtype`. */
static inline enum dtype input_type(const struct problem *p, int input, enum dtype dtype)
{
    return is_parameter(input) || (input == Q && is_gated(p)) ? DTYPE_F32 : dtype;
}

static inline int64_t state_count(const struct problem *p)
{
    return p->rows * p->kv_heads * infini_elements(p->update, p->width);
}

static const int32_t one_for_all[] = {0, 0, 0, 0};
static const int32_t each_its_own[] = {0, 1, 2, 3};
static const int32_t in_pairs[] = {0, 0, 1, 1};
static const int32_t crossed[] = {2, 0, 2, 0}; /* nobody reads 1 */

static inline struct problem problem_of(const char *name, int64_t rows, int64_t heads, int64_t kv_heads, int64_t width,
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

struct result {
    float *output, *after;
    float *gradient[INPUTS];
};

static inline struct result result_create(const struct problem *p)
{
    struct result result = {.output = test_allocate(input_count(p, Q), sizeof(float)),
                            .after = test_allocate(state_count(p), sizeof(float))};
    for (int i = 0; i < INPUTS; i++)
        result.gradient[i] = test_allocate(input_count(p, i), sizeof(float));
    return result;
}

static inline void result_destroy(struct result *result)
{
    free(result->output);
    free(result->after);
    for (int i = 0; i < INPUTS; i++)
        free(result->gradient[i]);
}

/* Forward and backward; gradients are added to what result.gradient holds if `adds`. seed NULL is forward only. */
static inline void problem_run(struct bench *bench, const struct problem *p, float *const *value, enum dtype dtype,
                               const float *seed, bool adds, struct result *result)
{
    struct tape *tape = &bench->tape;
    struct tensor *input[INPUTS];
    void *data[INPUTS], *derivatives = test_allocate(input_count(p, Q), sizeof(float));
    struct parameter gate = {.gradient = result->gradient[GATE]};
    for (int i = 0; i < INPUTS; i++) {
        enum dtype type = input_type(p, i, dtype);
        int64_t columns = input_columns(p, i);
        data[i] = test_allocate(input_count(p, i), sizeof(float));
        floats_store(data[i], type, value[i], input_count(p, i));
        input[i] =
            tape_leaf(tape, type, 2, (int64_t[]){is_parameter(i) ? 1 : p->tokens, columns}, data[i], seed != NULL);
        if (seed && adds && i != GATE && input_count(p, i) > 0) {
            floats_store(derivatives, type, result->gradient[i], input_count(p, i));
            tape_seed(tape, input[i], derivatives);
        }
    }
    if (!adds)
        memset(gate.gradient, 0, (size_t)p->heads * sizeof(float));
    input[GATE]->parameter = &gate;
    gate.value = *input[GATE];
    struct infini_shape shape = {p->rows,  p->segments, p->span,   p->kv_heads,
                                 p->width, p->update,   p->before, result->after};
    struct infini_read_shape read = {p->rows * p->segments, p->span, p->heads, p->kv_heads, p->width, p->kv_of_head};
    read.update = p->update;
    struct tensor *states = infini_states(tape, NULL, input[K], input[V], is_gated(p) ? input[STRENGTH] : NULL, &shape);
    struct tensor *output =
        infini_read(tape, input[Q], states, input[A_DOT], input[GATE], p->norm ? input[NORM] : NULL, &read);
    if (!output)
        fail_msg("%s: %s", p->name, bench->context.text);
    floats_load(result->output, output->data, dtype, input_count(p, Q));
    if (seed) {
        floats_store(derivatives, dtype, seed, input_count(p, Q));
        tape_seed(tape, output, derivatives);
        tape_backward(tape);
        assert_ok(&bench->context, bench->context.status);
        for (int i = 0; i < INPUTS; i++) {
            if (i == GATE || input_count(p, i) == 0)
                continue;
            floats_load(result->gradient[i], tape_gradient(input[i]), input_type(p, i, dtype), input_count(p, i));
            tape_release(tape, input[i]);
        }
    }
    for (int i = 0; i < INPUTS; i++)
        free(data[i]);
    free(derivatives);
    tape_reset(tape);
}

static inline void values_make(const struct problem *p, enum dtype dtype, float **value)
{
    for (int i = 0; i < INPUTS; i++) {
        int64_t count = input_count(p, i);
        value[i] = test_allocate(count, sizeof(float));
        fill_random(value[i], count, input_names[i]);
        /* Keys of about unit length for the rule that wants them so. */
        float factor = i == K && is_gated(p) ? 1.5f / sqrtf((float)p->width) : i < GATE ? 2.0f : 1.0f;
        for (int64_t e = 0; e < count; e++)
            value[i][e] = value[i][e] * factor + (i == NORM ? 1.0f : 0.0f);
        for (int64_t e = 0; e < count && input_type(p, i, dtype) == DTYPE_BF16; e++)
            value[i][e] = bf16_to_float(bf16_from_float(value[i][e]));
    }
}

static inline void values_destroy(float **value)
{
    for (int i = 0; i < INPUTS; i++)
        free(value[i]);
}

#endif
