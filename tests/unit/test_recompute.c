#include <string.h>

#include "tests/unit/tape_support.h"

/* -- An operation with two outputs -- */

static void both_backward(struct tape *tape, const struct tape_record *record)
{
    const struct tensor *sum = record->output;
    const struct tensor *product = record->further[0];
    for (int side = 0; side < 2; side++) {
        struct gradient_target target = tape_target(tape, record->input[side]);
        const float *other = record->input[1 - side]->data;
        float *gradient = target.data;
        for (int64_t i = 0; gradient && i < tensor_count(sum); i++) {
            gradient[i] = target.beta ? gradient[i] : 0.0f;
            if (sum->gradient)
                gradient[i] += ((const float *)tape_gradient(sum))[i];
            if (product->gradient)
                gradient[i] += ((const float *)tape_gradient(product))[i] * other[i];
        }
    }
}

/* x + y and x * y; returns the product. */
static struct tensor *both(struct tape *tape, struct tensor *x, struct tensor *y, struct tensor **sum)
{
    struct tensor *s = tape_tensor_like(tape, x);
    struct tensor *p = tape_tensor_like(tape, x);
    struct tensor **further = tape_save(tape, sizeof(struct tensor *));
    assert_true(s && p && further);
    for (int64_t i = 0; i < tensor_count(x); i++) {
        ((float *)s->data)[i] = ((float *)x->data)[i] + ((float *)y->data)[i];
        ((float *)p->data)[i] = ((float *)x->data)[i] * ((float *)y->data)[i];
    }
    further[0] = p;
    tape_push(tape,
              (struct tape_record){
                  .backward = both_backward, .input = {x, y}, .output = s, .further = further, .further_count = 1});
    if (sum)
        *sum = s;
    return p;
}

static void a_record_runs_when_any_output_has_a_gradient(void **state)
{
    struct fixture *fixture = *state;
    struct tape *tape = &fixture->tape;
    float xs[] = {2.0f, 3.0f};
    float ys[] = {5.0f, 7.0f};
    for (int seeds = 0; seeds < 4; seeds++) {
        struct tensor *x = leaf(fixture, xs);
        struct tensor *y = leaf(fixture, ys);
        struct tensor *sum;
        struct tensor *product = both(tape, x, y, &sum);
        assert_true(sum->needs_gradient && product->needs_gradient);
        float to_sum = seeds & 1 ? 1.0f : 0.0f;
        float to_product = seeds & 2 ? 1.0f : 0.0f;
        if (seeds & 1)
            tape_seed(tape, sum, NULL);
        if (seeds & 2)
            tape_seed(tape, product, NULL);
        tape_backward(tape);
        assert_null(sum->gradient);
        assert_null(product->gradient);
        if (seeds)
            check_gradient(x, to_sum + to_product * ys[0], to_sum + to_product * ys[1]);
        else
            assert_null(x->gradient);
        tape_reset(tape);
    }
}

static void seeds_add_up(void **state)
{
    struct fixture *fixture = *state;
    struct tape *tape = &fixture->tape;
    float xs[] = {2.0f, 3.0f};
    float more[] = {10.0f, 20.0f};
    struct tensor *x = leaf(fixture, xs);
    struct tensor *square = both(tape, x, x, NULL);
    tape_seed(tape, square, NULL); /* an end in the middle */
    struct tensor *twice;
    both(tape, square, square, &twice);
    tape_seed(tape, twice, more);
    tape_seed(tape, twice, NULL);
    tape_seed(tape, twice, more);
    tape_backward(tape);
    check_gradient(x, (1.0f + 2.0f * 21.0f) * 4.0f, (1.0f + 2.0f * 41.0f) * 6.0f);
    tape->recording = false;
    tape_seed(tape, x, NULL);
    check_gradient(x, 172.0f, 498.0f);
}

static void bf16_seeds_add_up(void **state)
{
    struct fixture *fixture = *state;
    struct tape *tape = &fixture->tape;
    bf16 xs[] = {bf16_from_float(2.0f), bf16_from_float(3.0f)};
    struct tensor *x = tape_leaf(tape, DTYPE_BF16, 1, (int64_t[]){2}, xs, true);
    tape_seed(tape, x, NULL);
    tape_seed(tape, x, xs);
    tape_seed(tape, x, NULL);
    const bf16 *gradient = tape_gradient(x);
    assert_true(bf16_to_float(gradient[0]) == 4.0f && bf16_to_float(gradient[1]) == 5.0f);
}

/* -- Marks -- */

static bool same_place(const struct tape *tape, struct tape_mark mark)
{
    return tape->last == mark.record && tape->leaves == mark.leaf && tape->own.current == mark.arena.block &&
           tape->own.used == mark.arena.used;
}

static void later_records_run_before_earlier_ones(void **state)
{
    struct fixture *fixture = *state;
    struct tape *tape = &fixture->tape;
    float xs[] = {2.0f, 3.0f};
    float ys[] = {5.0f, 7.0f};
    struct tensor *x = leaf(fixture, xs);
    struct tensor *square = both(tape, x, x, NULL);
    struct tape_mark mark = tape_mark(tape);
    /* What the earlier part made collects gradients of the later part, in whatever memory that works. */
    for (int round = 1; round <= 3; round++) {
        struct tensor *y = leaf(fixture, ys);
        struct tensor *product = both(tape, both(tape, square, y, NULL), y, NULL);
        tape_seed(tape, product, NULL);
        tape_backward_to(tape, mark);
        check_gradient(y, 2.0f * 4.0f * 5.0f, 2.0f * 9.0f * 7.0f);
        tape_rewind(tape, mark);
        assert_true(same_place(tape, mark));
        check_gradient(square, 25.0f * (float)round, 49.0f * (float)round);
        assert_null(x->gradient);
    }
    /* Nothing comes of what is forgotten before it runs. */
    tape_seed(tape, both(tape, square, x, NULL), NULL);
    tape_rewind(tape, mark);
    tape_backward(tape);
    check_gradient(x, 75.0f * 4.0f, 147.0f * 6.0f);
    tape_rewind(tape, (struct tape_mark){0});
    assert_null(tape->leaves);
}

/* -- Recomputation of several tensors -- */

enum { X, ABSENT, Y, NUMBERS, INPUTS };
enum { PRODUCT, PASSED, SUM, COPIED, CONSTANT, NOTHING, OUTPUTS };
enum way { DIRECT, RECOMPUTED, NESTED, WAYS };

struct layer {
    struct tensor *weight;
    int *runs;
};

/* x y w, x as it is, x + y, numbers, a constant, nothing. */
static bool layer_forward(struct tape *tape, void *argument, struct tensor *const *inputs, struct tensor **outputs)
{
    static float threes[] = {3.0f, 3.0f, 3.0f};
    struct layer *layer = argument;
    ++*layer->runs;
    assert_null(inputs[ABSENT]);
    struct tensor *product = both(tape, inputs[X], inputs[Y], &outputs[SUM]);
    outputs[PRODUCT] = both(tape, product, layer->weight, NULL);
    outputs[PASSED] = inputs[X];
    outputs[COPIED] = inputs[NUMBERS];
    outputs[CONSTANT] = tape_leaf(tape, DTYPE_F32, 2, (int64_t[]){3, 1}, threes, false);
    return outputs[CONSTANT] != NULL;
}

static bool nested_forward(struct tape *tape, void *argument, struct tensor *const *inputs, struct tensor **outputs)
{
    return tape_recompute(tape, layer_forward, argument, sizeof(struct layer), inputs, INPUTS, outputs, OUTPUTS);
}

struct result {
    float x[2], y[2], weight[2];
    int runs, done;
};

static void check_outputs(struct tensor *const *inputs, struct tensor *const *outputs, bool copied, bool needed)
{
    const float *product = outputs[PRODUCT]->data;
    const float *sum = outputs[SUM]->data;
    assert_true(product[0] == 5.0f && product[1] == 84.0f && sum[0] == 7.0f && sum[1] == 10.0f);
    assert_memory_equal(outputs[PASSED]->data, inputs[X]->data, 2 * sizeof(float));
    assert_memory_equal(outputs[COPIED]->data, inputs[NUMBERS]->data, 3 * sizeof(int32_t));
    assert_true(*(float *)outputs[CONSTANT]->data == 3.0f && outputs[CONSTANT]->shape[0] == 3);
    assert_null(outputs[NOTHING]);
    assert_true((outputs[PASSED]->data != inputs[X]->data) == copied);
    assert_true(outputs[PRODUCT]->needs_gradient == needed && outputs[SUM]->needs_gradient == needed);
    assert_false(outputs[COPIED]->needs_gradient || outputs[CONSTANT]->needs_gradient);
}

/* `seeds` has a bit for each of the outputs product, passed and sum. */
static struct result run_layer(struct fixture *fixture, enum way way, int seeds)
{
    static const tape_function functions[WAYS] = {layer_forward, layer_forward, nested_forward};
    struct tape *tape = &fixture->tape;
    float xs[] = {2.0f, 3.0f};
    float ys[] = {5.0f, 7.0f};
    float ws[] = {0.5f, 4.0f};
    int32_t numbers[] = {11, 12, 13};
    struct result result = {0};
    struct counter counter = {0};
    struct tape_listener listener = {.self = &counter, .parameter_done = count_done};
    struct parameter parameter = {.spec = {.rank = 1, .shape = {2}}, .gradient = result.weight};
    parameter.value = (struct tensor){
        .dtype = DTYPE_F32, .rank = 1, .shape = {2}, .data = ws, .needs_gradient = true, .parameter = &parameter};
    tape->final = true;
    tape->listener = &listener;
    struct layer layer = {.weight = &parameter.value, .runs = &result.runs};
    struct tensor *outputs[OUTPUTS] = {NULL};
    struct tensor *inputs[INPUTS] = {[X] = leaf(fixture, xs), [Y] = leaf(fixture, ys)};
    inputs[NUMBERS] = tape_leaf(tape, DTYPE_I32, 1, (int64_t[]){3}, numbers, false);
    struct arena_mark work = arena_mark(&fixture->work);
    assert_true(way == DIRECT
                    ? layer_forward(tape, &layer, inputs, outputs)
                    : tape_recompute(tape, functions[way], &layer, sizeof layer, inputs, INPUTS, outputs, OUTPUTS));
    check_outputs(inputs, outputs, way != DIRECT, true);
    assert_int_equal(parameter.uses, 1);
    for (int i = PRODUCT; i <= SUM; i++)
        if (seeds & 1 << i)
            tape_seed(tape, outputs[i], NULL);
    tape_backward(tape);
    assert_int_equal(fixture->work.used, work.used);
    for (int i = 0; i < 2; i++) {
        result.x[i] = inputs[X]->gradient ? ((const float *)tape_gradient(inputs[X]))[i] : 0.0f;
        result.y[i] = inputs[Y]->gradient ? ((const float *)tape_gradient(inputs[Y]))[i] : 0.0f;
    }
    result.done = counter.done;
    tape_reset(tape);
    return result;
}

static void several_tensors_are_recomputed(void **state)
{
    static const int runs[WAYS] = {1, 2, 3};
    struct fixture *fixture = *state;
    run_layer(fixture, RECOMPUTED, 7);
    for (int seeds = 1; seeds < 8; seeds++)
        for (int way = DIRECT; way < WAYS; way++) {
            struct result result = run_layer(fixture, way, seeds);
            float product = seeds & 1 << PRODUCT ? 1.0f : 0.0f;
            float passed = seeds & 1 << PASSED ? 1.0f : 0.0f;
            float sum = seeds & 1 << SUM ? 1.0f : 0.0f;
            assert_true(result.x[0] == product * 5.0f * 0.5f + passed + sum);
            assert_true(result.x[1] == product * 7.0f * 4.0f + passed + sum);
            assert_true(result.y[0] == product * 2.0f * 0.5f + sum);
            assert_true(result.y[1] == product * 3.0f * 4.0f + sum);
            assert_true(result.weight[0] == product * 10.0f && result.weight[1] == product * 21.0f);
            assert_int_equal(result.done, 1);
            assert_int_equal(result.runs, runs[way]);
        }
}

static void without_a_gradient_nothing_is_run_again(void **state)
{
    assert_int_equal(run_layer(*state, RECOMPUTED, 0).runs, 1);
    assert_int_equal(run_layer(*state, NESTED, 0).runs, 1);
}

static void repeated_runs_allocate_once(void **state)
{
    struct fixture *fixture = *state;
    run_layer(fixture, NESTED, 7);
    int64_t allocations = fixture->context.memory.allocations;
    for (int i = 0; i < 10; i++)
        run_layer(fixture, NESTED, 7);
    assert_int_equal(fixture->context.memory.allocations, allocations);
}

static void inference_keeps_the_outputs_only(void **state)
{
    struct fixture *fixture = *state;
    struct tape *tape = &fixture->tape;
    float xs[] = {2.0f, 3.0f};
    float ys[] = {5.0f, 7.0f};
    float ws[] = {0.5f, 4.0f};
    int32_t numbers[] = {11, 12, 13};
    int runs = 0;
    tape->recording = false;
    struct layer layer = {.weight = leaf(fixture, ws), .runs = &runs};
    struct tensor *inputs[INPUTS] = {[X] = leaf(fixture, xs), [Y] = leaf(fixture, ys)};
    inputs[NUMBERS] = tape_leaf(tape, DTYPE_I32, 1, (int64_t[]){3}, numbers, false);
    for (int nested = 0; nested < 2; nested++) {
        struct tensor *outputs[OUTPUTS];
        assert_true(tape_recompute(tape, nested ? nested_forward : layer_forward, &layer, sizeof layer, inputs, INPUTS,
                                   outputs, OUTPUTS));
        check_outputs(inputs, outputs, true, false);
        assert_null(tape->last);
        assert_int_equal(fixture->work.used, 0);
    }
}

static bool fail_always(struct tape *tape, void *argument, struct tensor *const *inputs, struct tensor **outputs)
{
    (void)argument;
    outputs[0] = tape_tensor_like(tape, inputs[0]);
    context_fail(tape->context, STATUS_NUMERIC, "no");
    return false;
}

static void failures_leave_no_outputs(void **state)
{
    struct fixture *fixture = *state;
    float xs[] = {2.0f, 3.0f};
    struct tensor *x = leaf(fixture, xs);
    struct tensor *outputs[RECOMPUTE_TENSORS + 1] = {x, x};
    assert_false(tape_recompute(&fixture->tape, fail_always, NULL, 0, &x, 1, outputs, 2));
    assert_true(!outputs[0] && !outputs[1]);
    assert_int_equal(fixture->context.status, STATUS_NUMERIC);
    assert_int_equal(fixture->work.used, 0);
    context_clear(&fixture->context);
    assert_false(tape_recompute(&fixture->tape, fail_always, NULL, 0, &x, 1, outputs, RECOMPUTE_TENSORS + 1));
    assert_int_equal(fixture->context.status, STATUS_INTERNAL);
    context_clear(&fixture->context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_record_runs_when_any_output_has_a_gradient, set_up, tear_down),
        cmocka_unit_test_setup_teardown(seeds_add_up, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bf16_seeds_add_up, set_up, tear_down),
        cmocka_unit_test_setup_teardown(later_records_run_before_earlier_ones, set_up, tear_down),
        cmocka_unit_test_setup_teardown(several_tensors_are_recomputed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_a_gradient_nothing_is_run_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(repeated_runs_allocate_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(inference_keeps_the_outputs_only, set_up, tear_down),
        cmocka_unit_test_setup_teardown(failures_leave_no_outputs, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
