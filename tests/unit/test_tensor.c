#include <string.h>

#include "src/core/random.h"
#include "tests/support/recompute_map.h"
#include "tests/unit/tape_support.h"

/* -- Boxes -- */

/* Walks the boxes and checks that they visit exactly the elements of the range, in order. */
static void check_boxes(const struct box *block, int rank, const int64_t *global, struct range flat)
{
    struct box boxes[BOXES_OF_RANGE];
    int count = box_from_range(block, rank, flat, boxes);
    assert_in_range(count, 0, BOXES_OF_RANGE);
    int64_t local = flat.begin;
    for (int b = 0; b < count; b++) {
        int64_t elements = box_count(&boxes[b], rank);
        assert_true(elements > 0);
        for (int64_t i = 0; i < elements; i++, local++) {
            int64_t in_box = i;
            int64_t in_block = local;
            for (int axis = rank - 1; axis >= 0; axis--) {
                int64_t from_box = boxes[b].offset[axis] + in_box % boxes[b].extent[axis];
                int64_t from_block = block->offset[axis] + in_block % block->extent[axis];
                assert_int_equal(from_box, from_block);
                assert_in_range(from_box, 0, global[axis] - 1);
                in_box /= boxes[b].extent[axis];
                in_block /= block->extent[axis];
            }
        }
    }
    assert_int_equal(local, flat.begin + flat.count);
}

static void boxes_cover_a_flat_range_in_order(void **state)
{
    (void)state;
    const struct {
        int rank;
        int64_t global[TENSOR_RANK];
        struct box block;
    } cases[] = {
        {1, {10}, {.offset = {3}, .extent = {5}}},
        {2, {7, 5}, {.offset = {2, 0}, .extent = {3, 5}}},
        {2, {4, 9}, {.offset = {0, 4}, .extent = {4, 3}}},
        {2, {6, 1}, {.offset = {1, 0}, .extent = {5, 1}}},
        {3, {3, 4, 5}, {.offset = {0, 1, 0}, .extent = {3, 2, 5}}},
        {4, {2, 3, 2, 4}, {.offset = {0, 0, 0, 1}, .extent = {2, 3, 2, 3}}},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        int64_t count = box_count(&cases[c].block, cases[c].rank);
        for (int64_t begin = 0; begin <= count; begin++)
            for (int64_t end = begin; end <= count; end++)
                check_boxes(&cases[c].block, cases[c].rank, cases[c].global,
                            (struct range){.begin = begin, .count = end - begin});
    }
}

static struct parameter matrix_parameter(int axis, struct range slice)
{
    struct parameter parameter = {
        .spec = {.name = "w", .rank = 2, .shape = {6, 8}, .initial = INITIAL_NORMAL, .deviation = 2.0},
        .division.axis = axis,
        .division.slice = slice,
        .division.owned = slice,
    };
    return parameter;
}

static void initial_values_do_not_depend_on_the_division(void **state)
{
    (void)state;
    float whole[48];
    struct parameter parameter = matrix_parameter(0, (struct range){0, 6});
    parameter_initialize(&parameter, 3, (struct range){0, 48}, whole);
    assert_close(whole[11], 2.0 * random_normal(random_key(3, "w"), 11), 1e-6, 0.0);
    struct parameter rows = matrix_parameter(0, (struct range){2, 3});
    struct parameter columns = matrix_parameter(1, (struct range){5, 2});
    for (int64_t i = 0; i < 24; i++) {
        float value;
        parameter_initialize(&rows, 3, (struct range){i, 1}, &value);
        assert_true(value == whole[16 + i]);
        if (i < 12) {
            parameter_initialize(&columns, 3, (struct range){i, 1}, &value);
            assert_true(value == whole[i / 2 * 8 + 5 + i % 2]);
        }
    }
}

/* Two matrices [3, 8] after one another, and the middle of them alone. */
static void orthogonal_rows_share_no_column(void **state)
{
    (void)state;
    enum { ROWS = 3, COLUMNS = 8, COUNT = 2 * ROWS * COLUMNS };
    struct parameter parameter = {
        .spec = {.rank = 3, .shape = {2, ROWS, COLUMNS}, .initial = INITIAL_ORTHOGONAL, .deviation = 0.25},
        .division.slice = {0, 2},
    };
    float whole[COUNT];
    float middle[20];
    parameter_initialize(&parameter, 3, (struct range){0, COUNT}, whole);
    for (int i = 0; i < COUNT; i++)
        assert_true(whole[i] == (i % COLUMNS % ROWS == i / COLUMNS % ROWS ? 0.25f : 0.0f));
    parameter_initialize(&parameter, 3, (struct range){17, 20}, middle);
    for (int i = 0; i < 20; i++)
        assert_true(middle[i] == whole[17 + i]);
}

/* A part of a matrix [5, 4], and of a vector. */
static void first_columns_and_constants(void **state)
{
    (void)state;
    struct parameter parameter = {.spec = {.rank = 2, .shape = {5, 4}, .initial = INITIAL_FIRST, .deviation = 0.5},
                                  .division.slice = {1, 4}};
    float values[13];
    parameter_initialize(&parameter, 3, (struct range){3, 13}, values);
    for (int i = 0; i < 13; i++)
        assert_true(values[i] == ((i + 3) % 4 == 0 ? 1.0f : 0.0f));
    parameter.spec.initial = INITIAL_CONSTANT;
    parameter_initialize(&parameter, 3, (struct range){3, 13}, values);
    for (int i = 0; i < 13; i++)
        assert_true(values[i] == 0.5f);
}

static void ownership_follows_the_owned_range(void **state)
{
    (void)state;
    struct parameter parameter = matrix_parameter(0, (struct range){2, 3});
    struct range all = {.begin = 0, .count = 24};
    assert_int_equal(parameter_owned(&parameter, all).count, 24);
    parameter.division.owned = (struct range){.begin = 3, .count = 2};
    struct range owned = parameter_owned(&parameter, (struct range){.begin = 4, .count = 10});
    assert_int_equal(owned.begin, 8);
    assert_int_equal(owned.count, 6);
    parameter.division.owned.count = 0;
    assert_int_equal(parameter_owned(&parameter, all).count, 0);
}

/* -- The tape -- */

static void multiply_backward(struct tape *tape, const struct tape_record *record)
{
    const float *upstream = tape_gradient(record->output);
    for (int side = 0; side < 2; side++) {
        struct gradient_target target = tape_target(tape, record->input[side]);
        const float *other = record->input[1 - side]->data;
        float *gradient = target.data;
        for (int64_t i = 0; gradient && i < tensor_count(record->output); i++)
            gradient[i] = target.beta * (target.beta ? gradient[i] : 0.0f) + upstream[i] * other[i];
    }
}

/* x * y, elementwise. */
static struct tensor *multiply(struct tape *tape, struct tensor *x, struct tensor *y)
{
    if (!x || !y)
        return NULL;
    struct tensor *out = tape_tensor_like(tape, x);
    for (int64_t i = 0; out && i < tensor_count(x); i++)
        ((float *)out->data)[i] = ((float *)x->data)[i] * ((float *)y->data)[i];
    return tape_push(tape, (struct tape_record){.backward = multiply_backward, .input = {x, y}, .output = out});
}

static void sum_backward(struct tape *tape, const struct tape_record *record)
{
    tape_pass(tape, record->output, record->input[0]);
    tape_pass(tape, record->output, record->input[1]);
}

/* x + y, elementwise. */
static struct tensor *sum(struct tape *tape, struct tensor *x, struct tensor *y)
{
    if (!x || !y)
        return NULL;
    struct tensor *out = tape_tensor_like(tape, x);
    for (int64_t i = 0; out && i < tensor_count(x); i++)
        ((float *)out->data)[i] = ((float *)x->data)[i] + ((float *)y->data)[i];
    return tape_push(tape, (struct tape_record){.backward = sum_backward, .input = {x, y}, .output = out});
}

static void gradients_follow_the_chain_rule(void **state)
{
    struct fixture *fixture = *state;
    float xs[] = {2.0f, 3.0f};
    float ys[] = {5.0f, 7.0f};
    struct tensor *x = leaf(fixture, xs);
    struct tensor *y = leaf(fixture, ys);
    /* z = (x + y) * x + y: dz/dx = 2x + y, dz/dy = x + 1 */
    struct tensor *z = sum(&fixture->tape, multiply(&fixture->tape, sum(&fixture->tape, x, y), x), y);
    tape_seed(&fixture->tape, z, NULL);
    tape_backward(&fixture->tape);
    check_gradient(x, 9.0f, 13.0f);
    check_gradient(y, 3.0f, 4.0f);
    tape_release(&fixture->tape, x);
    tape_release(&fixture->tape, y);
}

static void shared_gradients_are_not_spoiled(void **state)
{
    struct fixture *fixture = *state;
    float xs[] = {2.0f, 3.0f};
    float ones[] = {1.0f, 1.0f};
    struct tensor *x = leaf(fixture, xs);
    struct tensor *one = leaf(fixture, ones);
    one->needs_gradient = false;
    /* A residual stream: h = x + f, f = x * x; out = h + h. The sums share gradients until someone adds to them. */
    struct tensor *h = sum(&fixture->tape, x, multiply(&fixture->tape, x, x));
    struct tensor *out = sum(&fixture->tape, h, multiply(&fixture->tape, h, one));
    tape_seed(&fixture->tape, out, NULL);
    tape_backward(&fixture->tape);
    check_gradient(x, 2.0f * (1.0f + 4.0f), 2.0f * (1.0f + 6.0f));
    tape_release(&fixture->tape, x);
}

static void a_tensor_added_to_itself_counts_twice(void **state)
{
    struct fixture *fixture = *state;
    float xs[] = {2.0f, 3.0f};
    struct tensor *x = leaf(fixture, xs);
    struct tensor *out = sum(&fixture->tape, x, x);
    tape_seed(&fixture->tape, out, NULL);
    tape_backward(&fixture->tape);
    check_gradient(x, 2.0f, 2.0f);
    tape_release(&fixture->tape, x);
}

static void nothing_is_recorded_without_need(void **state)
{
    struct fixture *fixture = *state;
    float xs[] = {2.0f, 3.0f};
    struct tensor *x = leaf(fixture, xs);
    fixture->tape.recording = false;
    struct tensor *out = multiply(&fixture->tape, x, x);
    assert_null(fixture->tape.last);
    assert_false(out->needs_gradient);
    fixture->tape.recording = true;
    x->needs_gradient = false;
    multiply(&fixture->tape, x, x);
    assert_null(fixture->tape.last);
}

struct scale_argument {
    struct tensor *factor;
    int *runs;
};

/* x * w * w + x */
static struct tensor *scale_twice(struct tape *tape, void *argument, struct tensor *x)
{
    struct scale_argument *scale = argument;
    ++*scale->runs;
    return sum(tape, multiply(tape, multiply(tape, x, scale->factor), scale->factor), x);
}

static void run_scaled(struct fixture *fixture, bool recompute, float *x_gradient, float *w_gradient, int *done)
{
    float xs[] = {2.0f, 3.0f};
    float ws[] = {0.5f, 4.0f};
    float gradient[2] = {0.0f, 0.0f};
    int runs = 0;
    struct parameter parameter = {.spec = {.rank = 1, .shape = {2}}, .gradient = gradient};
    parameter.value = (struct tensor){
        .dtype = DTYPE_F32, .rank = 1, .shape = {2}, .data = ws, .needs_gradient = true, .parameter = &parameter};
    struct counter counter = {0};
    struct tape_listener listener = {.self = &counter, .parameter_done = count_done};
    struct tape *tape = &fixture->tape;
    tape->final = true;
    tape->listener = &listener;
    struct scale_argument argument = {.factor = &parameter.value, .runs = &runs};
    struct tensor *x = leaf(fixture, xs);
    struct tensor *h = x;
    for (int layer = 0; layer < 3; layer++)
        h = recompute ? tape_recompute_map(tape, scale_twice, &argument, sizeof argument, h)
                      : scale_twice(tape, &argument, h);
    assert_int_equal(parameter.uses, 6);
    tape_seed(tape, h, NULL);
    tape_backward(tape);
    assert_int_equal(runs, recompute ? 6 : 3);
    assert_int_equal(parameter.uses, 0);
    assert_ptr_equal(counter.last, &parameter);
    memcpy(x_gradient, tape_gradient(x), 2 * sizeof(float));
    memcpy(w_gradient, gradient, sizeof gradient);
    *done = counter.done;
    tape_release(tape, x);
    tape_reset(tape);
}

static void recomputation_changes_nothing(void **state)
{
    struct fixture *fixture = *state;
    float x[2][2];
    float w[2][2];
    int done[2];
    run_scaled(fixture, false, x[0], w[0], &done[0]);
    run_scaled(fixture, true, x[1], w[1], &done[1]);
    /* f = x (1 + w^2)^3: df/dx = (1 + w^2)^3, df/dw = 6 x w (1 + w^2)^2 */
    assert_close(x[0][0], 1.953125, 1e-6, 0.0);
    assert_close(w[0][1], 6.0 * 3.0 * 4.0 * 289.0, 1e-6, 0.0);
    assert_memory_equal(x[0], x[1], sizeof x[0]);
    assert_memory_equal(w[0], w[1], sizeof w[0]);
    /* The listener hears once of the parameter, after its last use. */
    assert_int_equal(done[0], 1);
    assert_int_equal(done[1], 1);
}

struct nested_argument {
    struct scale_argument inner;
};

static struct tensor *nested(struct tape *tape, void *argument, struct tensor *x)
{
    struct nested_argument *outer = argument;
    return sum(tape, tape_recompute_map(tape, scale_twice, &outer->inner, sizeof outer->inner, x), x);
}

static void recomputation_nests(void **state)
{
    struct fixture *fixture = *state;
    float xs[] = {2.0f, 3.0f};
    float ws[] = {0.5f, 4.0f};
    int runs = 0;
    struct tensor *x = leaf(fixture, xs);
    struct tensor *w = leaf(fixture, ws);
    w->needs_gradient = false;
    struct nested_argument argument = {.inner = {.factor = w, .runs = &runs}};
    struct tensor *out = tape_recompute_map(&fixture->tape, nested, &argument, sizeof argument, x);
    tape_seed(&fixture->tape, out, NULL);
    tape_backward(&fixture->tape);
    check_gradient(x, 2.25f, 18.0f);
    tape_release(&fixture->tape, x);
}

static void a_step_allocates_once(void **state)
{
    struct fixture *fixture = *state;
    float x[2];
    float w[2];
    int done;
    run_scaled(fixture, true, x, w, &done);
    int64_t allocations = fixture->context.memory.allocations;
    for (int i = 0; i < 10; i++)
        run_scaled(fixture, true, x, w, &done);
    assert_int_equal(fixture->context.memory.allocations, allocations);
}

static void reset_takes_back_unused_gradients(void **state)
{
    struct fixture *fixture = *state;
    float xs[] = {2.0f, 3.0f};
    struct tensor *x = leaf(fixture, xs);
    struct tensor *out = multiply(&fixture->tape, x, x);
    tape_seed(&fixture->tape, out, NULL);
    tape_reset(&fixture->tape); /* without backward; tear_down checks that nothing is lost */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(boxes_cover_a_flat_range_in_order),
        cmocka_unit_test(initial_values_do_not_depend_on_the_division),
        cmocka_unit_test(orthogonal_rows_share_no_column),
        cmocka_unit_test(first_columns_and_constants),
        cmocka_unit_test(ownership_follows_the_owned_range),
        cmocka_unit_test_setup_teardown(gradients_follow_the_chain_rule, set_up, tear_down),
        cmocka_unit_test_setup_teardown(shared_gradients_are_not_spoiled, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_tensor_added_to_itself_counts_twice, set_up, tear_down),
        cmocka_unit_test_setup_teardown(nothing_is_recorded_without_need, set_up, tear_down),
        cmocka_unit_test_setup_teardown(recomputation_changes_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(recomputation_nests, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_step_allocates_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(reset_takes_back_unused_gradients, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
