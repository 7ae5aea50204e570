/* Routed depth: the choice of tokens, their way out of the stream and back, and a layer of all that. */
#include "tests/support/recompute_map.h"
#include "tests/unit/ops_support.h"

#include "src/ops/route.h"

/* -- The choice of tokens -- */

static bool score_above(float a, float b)
{
    return isnan(b) ? !isnan(a) : a > b;
}

static int64_t select_plain(const float *scores, const uint8_t *candidate, int64_t count, int64_t k, int32_t *positions)
{
    int64_t selected = 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t better = 0; /* candidates that go before i */
        for (int64_t j = 0; j < count; j++)
            if (!candidate || candidate[j])
                better += score_above(scores[j], scores[i]) || (!score_above(scores[i], scores[j]) && j < i);
        if ((!candidate || candidate[i]) && better < k)
            positions[selected++] = (int32_t)i;
    }
    return selected;
}

static void check_select(struct arena *work, const float *scores, const uint8_t *candidate, int64_t count, int64_t k)
{
    enum { MOST = 300 };
    int32_t found[MOST], expected[MOST];
    memset(found, 0xff, sizeof found);
    memset(expected, 0xff, sizeof expected);
    struct arena_mark mark = arena_mark(work);
    int64_t selected = token_select(work, scores, candidate, count, k, found);
    struct arena_mark after = arena_mark(work);
    assert_true(after.used == mark.used);
    assert_int_equal(selected, select_plain(scores, candidate, count, k, expected));
    assert_memory_equal(found, expected, sizeof found);
}

static void test_select(void **state)
{
    (void)state;
    struct bench bench;
    assert_true(bench_create(&bench, "", 1));
    static const float special[] = {-INFINITY, -1.5f, -1e-42f, -0.0f, 0.0f, 1e-42f, 1.0f, 3e38f, INFINITY, NAN};
    enum { MOST = 300, KINDS = 4, SPECIAL = sizeof special / sizeof *special };
    static const int64_t counts[] = {0, 1, 2, 3, 17, MOST};
    float scores[MOST];
    uint8_t candidate[MOST];
    for (int kind = 0; kind < KINDS; kind++)
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
            int64_t count = counts[c];
            fill_random(scores, count, "scores");
            for (int64_t i = 0; i < count; i++) {
                uint64_t bits = random_bits((uint64_t)kind, (uint64_t)i);
                candidate[i] = bits >> 32 & 1;
                if (kind == 1)
                    scores[i] = (float)(bits % 4); /* many are equal */
                else if (kind == 2)
                    scores[i] = special[bits % SPECIAL];
                else if (kind == 3)
                    scores[i] = 0.25f;
            }
            const int64_t ks[] = {0, 1, 2, count / 8, count / 2, count - 1, count, count + 5};
            for (size_t k = 0; k < sizeof ks / sizeof *ks; k++) {
                check_select(&bench.work, scores, NULL, count, ks[k]);
                check_select(&bench.work, scores, candidate, count, ks[k]);
            }
        }
    /* All equal: the first ones; nobody stands for election: none. */
    int32_t positions[MOST];
    assert_int_equal(token_select(&bench.work, scores, NULL, MOST, 3, positions), 3);
    assert_true(positions[0] == 0 && positions[1] == 1 && positions[2] == 2);
    memset(candidate, 0, sizeof candidate);
    assert_int_equal(token_select(&bench.work, scores, candidate, MOST, 3, positions), 0);
    bench_destroy(&bench);
}

/* -- Out of the stream and back -- */

enum { MOST_TOKENS = 600 };

struct move_argument {
    int32_t index[MOST_TOKENS];
    bool difference;
};

/* `count` indices, some of them negative, that name no row of `rows` twice. */
static struct move_argument move_argument(int64_t count, int64_t rows, bool difference)
{
    struct move_argument argument = {.difference = difference};
    for (int64_t i = 0; i < count; i++) {
        int64_t row = random_permute(11, i, integer_max(count, rows));
        argument.index[i] = row < rows && row % 5 != 4 ? (int32_t)row : -1;
    }
    return argument;
}

static struct tensor *take_run(struct tape *tape, struct tensor **input, const struct check *check)
{
    const struct move_argument *argument = check->argument;
    return token_take(tape, input[0], argument->index, check->outputs / check->columns[0]);
}

static void take_reference(double *const *input, double *output, const struct check *check)
{
    const struct move_argument *argument = check->argument;
    int64_t columns = check->columns[0];
    for (int64_t i = 0; i < check->outputs; i++) {
        int32_t row = argument->index[i / columns];
        output[i] = row < 0 ? 0.0 : input[0][row * columns + i % columns];
    }
}

static struct tensor *update_run(struct tape *tape, struct tensor **input, const struct check *check)
{
    const struct move_argument *argument = check->argument;
    return token_update(tape, input[0], input[1], input[2], argument->index, argument->difference);
}

static void update_reference(double *const *input, double *output, const struct check *check)
{
    const struct move_argument *argument = check->argument;
    int64_t columns = check->columns[0];
    for (int64_t i = 0; i < check->outputs; i++) {
        int64_t n = i / columns;
        int32_t row = argument->index[n];
        double h = input[0][i];
        double gate = check->inputs > 2 ? input[2][n] : 1.0;
        double y = row < 0 ? 0.0 : input[1][row * columns + i % columns];
        output[i] = row < 0 ? h : h + gate * (y - (argument->difference ? h : 0.0));
    }
}

static struct tensor *location_run(struct tape *tape, struct tensor **input, const struct check *check)
{
    const struct move_argument *argument = check->argument;
    return token_place(tape, input[0], input[1], argument->index);
}

static void test_moves(void **state)
{
    (void)state;
    /* Tokens of the stream, tokens that take the layer, width. */
    static const int64_t sizes[][3] = {{0, 0, 10}, {0, 3, 5}, {4, 0, 5}, {1, 1, 10}, {9, 4, 33}, {300, 38, 130}};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        int64_t n = sizes[s][0], k = sizes[s][1], d = sizes[s][2];
        struct move_argument take = move_argument(k, n, false);
        struct check check = {.name = "take",
                              .inputs = 1,
                              .rows = {n},
                              .columns = {d},
                              .outputs = k * d,
                              .out = DTYPE_BF16,
                              .run = take_run,
                              .reference = take_reference,
                              .argument = &take,
                              .samples = n > 100 ? 8 : 0};
        check_all(check);
        for (int difference = 0; difference < 2; difference++)
            for (int gated = 0; gated < 2; gated++) {
                struct move_argument update = move_argument(n, k, difference);
                check = (struct check){.name = difference ? "update, difference" : "update",
                                       .inputs = 2 + gated,
                                       .rows = {n, k, n},
                                       .columns = {d, d, 1},
                                       .wide = {false, false, true},
                                       .outputs = n * d,
                                       .out = DTYPE_BF16,
                                       .run = update_run,
                                       .reference = update_reference,
                                       .argument = &update,
                                       .samples = n > 100 ? 8 : 0};
                check_all(check);
                if (difference && !gated) {
                    check.name = "place";
                    check.run = location_run;
                    check_all(check);
                }
            }
    }
}

/* What the sums above allow to the last bits and the equations do not: rows that stay, gates of 0 and 1, an update that
 * changes nothing. */
static void test_update_is_exact(void **state)
{
    (void)state;
    enum { TOKENS = 8, WIDTH = 37, COUNT = TOKENS * WIDTH };
    static const int32_t source[TOKENS] = {-1, 0, 3, -1, 1, 4, -1, 2};
    for (int half = 0; half < 2; half++) {
        struct bench bench;
        assert_true(bench_create(&bench, "", 2));
        struct tape *tape = &bench.tape;
        enum dtype dtype = half ? DTYPE_BF16 : DTYPE_F32;
        size_t bytes = WIDTH * dtype_size(dtype);
        float values[COUNT];
        char h_data[COUNT * 4], y_data[COUNT * 4];
        fill_random(values, COUNT, "h");
        floats_store(h_data, dtype, values, COUNT);
        fill_random(values, COUNT, "y");
        floats_store(y_data, dtype, values, COUNT);
        /* Row 4 of y is row 5 of h, so its difference is 0. */
        memcpy(y_data + 4 * bytes, h_data + 5 * bytes, bytes);
        float gates[TOKENS] = {5.0f, 1.0f, 0.0f, NAN, 1.0f, 3.3f, -3.0f, 0.3f};
        struct tensor *h = tape_leaf(tape, dtype, 2, (int64_t[]){TOKENS, WIDTH}, h_data, true);
        struct tensor *y = tape_leaf(tape, dtype, 2, (int64_t[]){5, WIDTH}, y_data, true);
        struct tensor *gate = tape_leaf(tape, DTYPE_F32, 2, (int64_t[]){TOKENS, 1}, gates, true);
        const char *out = token_update(tape, h, y, gate, source, true)->data;
        const char *placed = token_place(tape, h, y, source)->data;
        for (int n = 0; n < TOKENS; n++) {
            bool stays = source[n] < 0 || gates[n] == 0.0f || source[n] == 4;
            if (stays)
                assert_memory_equal(out + (size_t)n * bytes, h_data + (size_t)n * bytes, bytes);
            else if (gates[n] == 1.0f)
                assert_memory_equal(out + (size_t)n * bytes, y_data + (size_t)source[n] * bytes, bytes);
            const char *from = source[n] < 0 ? h_data + (size_t)n * bytes : y_data + (size_t)source[n] * bytes;
            assert_memory_equal(placed + (size_t)n * bytes, from, bytes);
        }
        tape_reset(tape);
        bench_destroy(&bench);
    }
}

/* -- A routed layer -- */

/* src/model/README.md section 4 with the block h + silu(h): router, choice, gate, loss. */
struct layer {
    struct tensor *router;
    int64_t k;
    double *loss;
};

static struct tensor *layer_run(struct tape *tape, void *argument, struct tensor *h)
{
    const struct layer *layer = argument;
    int64_t tokens = tensor_rows(h);
    struct tensor *scores = router_scores(tape, h, layer->router);
    int32_t *index = tape_save(tape, (size_t)layer->k * sizeof *index);
    int32_t *source = tape_save(tape, (size_t)tokens * sizeof *source);
    int8_t *target = tape_save(tape, (size_t)tokens);
    if (!scores)
        return NULL;
    int64_t selected = token_select(tape->work, scores->data, NULL, tokens, layer->k, index);
    for (int64_t n = 0; n < tokens; n++) {
        source[n] = -1;
        target[n] = 0;
    }
    for (int64_t i = 0; i < selected; i++) {
        source[index[i]] = (int32_t)i;
        target[index[i]] = 1;
    }
    struct tensor *x = token_take(tape, h, index, selected);
    struct tensor *y = add(tape, x, silu(tape, x));
    if (!router_cross_entropy(tape, scores, target, 0.5f, layer->loss))
        return NULL;
    return token_update(tape, h, y, router_gate(tape, scores, GATE_SIGMOID, 0.1f), source, true);
}

/* The same with a choice that is known: sum of seed * output + the router's loss. */
static double layer_plain(const double *h, const double *router, const bool *chosen, int64_t tokens, int64_t width,
                          const float *seed)
{
    double loss = 0.0;
    for (int64_t n = 0; n < tokens; n++) {
        double score = 0.0;
        for (int64_t c = 0; c < width; c++)
            score += h[n * width + c] * router[c];
        double p = 1.0 / (1.0 + exp(-score));
        loss -= 0.5 * log(chosen[n] ? p : 1.0 - p);
        for (int64_t c = 0; c < width; c++) {
            double value = h[n * width + c];
            double f = chosen[n] ? value / (1.0 + exp(-value)) : 0.0;
            loss += (double)seed[n * width + c] * (value + 0.1 * p * f);
        }
    }
    return loss;
}

static double layer_slope(double *values, int64_t i, const double *h, const double *router, const bool *chosen,
                          int64_t tokens, int64_t width, const float *seed)
{
    double value = values[i];
    values[i] = value + 1e-4;
    double above = layer_plain(h, router, chosen, tokens, width, seed);
    values[i] = value - 1e-4;
    double below = layer_plain(h, router, chosen, tokens, width, seed);
    values[i] = value;
    return (above - below) / 2e-4;
}

/* The whole layer with its loss against differences, plain and recomputed; the loss counts once either way, and its
 * gradient reaches router and stream. */
static void test_layer(void **state)
{
    (void)state;
    enum { TOKENS = 11, WIDTH = 6, CHOSEN = 4 };
    float data[TOKENS * WIDTH], weight[WIDTH], seed[TOKENS * WIDTH];
    double h[TOKENS * WIDTH], router[WIDTH];
    bool chosen[TOKENS] = {false};
    fill_random(data, TOKENS * WIDTH, "h");
    fill_random(weight, WIDTH, "router");
    fill_random(seed, TOKENS * WIDTH, "seed");
    for (int i = 0; i < TOKENS * WIDTH; i++)
        h[i] = (double)data[i];
    for (int i = 0; i < WIDTH; i++)
        router[i] = (double)weight[i];
    for (int recompute = 0; recompute < 2; recompute++) {
        struct bench bench;
        assert_true(bench_create(&bench, "", 2));
        struct tape *tape = &bench.tape;
        double loss = 0.0;
        struct tensor *x = tape_leaf(tape, DTYPE_F32, 2, (int64_t[]){TOKENS, WIDTH}, data, true);
        struct layer layer = {
            .router = tape_leaf(tape, DTYPE_F32, 1, (int64_t[]){WIDTH}, weight, true), .k = CHOSEN, .loss = &loss};
        struct tensor *out =
            recompute ? tape_recompute_map(tape, layer_run, &layer, sizeof layer, x) : layer_run(tape, &layer, x);
        double first = loss;
        double total = loss;
        for (int i = 0; i < TOKENS * WIDTH; i++) {
            chosen[i / WIDTH] |= ((float *)out->data)[i] != data[i];
            total += (double)(seed[i] * ((float *)out->data)[i]);
        }
        assert_close(total, layer_plain(h, router, chosen, TOKENS, WIDTH, seed), 1e-6, 0.0);
        tape_seed(tape, out, seed);
        tape_backward(tape);
        assert_ok(&bench.context, bench.context.status);
        assert_true(loss == first);
        for (int i = 0; i < TOKENS * WIDTH; i++)
            assert_close((double)((const float *)tape_gradient(x))[i],
                         layer_slope(h, i, h, router, chosen, TOKENS, WIDTH, seed), 1e-5, 1e-5);
        for (int i = 0; i < WIDTH; i++)
            assert_close((double)((const float *)tape_gradient(layer.router))[i],
                         layer_slope(router, i, h, router, chosen, TOKENS, WIDTH, seed), 1e-5, 1e-5);
        tape_reset(tape);
        bench_destroy(&bench);
    }
}

/* Bits of everything that comes out of a layer and a token-choice gate, on a number of threads. */
enum { LARGE = 700, LARGE_WIDTH = 100, LARGE_CHOICES = 3 };

struct large_result {
    double loss;
    char out[LARGE * LARGE_WIDTH * 4], dh[LARGE * LARGE_WIDTH * 4];
    float drouter[LARGE_WIDTH], dchoice[LARGE_CHOICES * LARGE_WIDTH];
};

static void large_run(struct large_result *result, enum dtype dtype, int threads)
{
    static float values[LARGE * LARGE_WIDTH], weight[LARGE_WIDTH], choice[LARGE_CHOICES * LARGE_WIDTH];
    static char data[LARGE * LARGE_WIDTH * 4];
    static int32_t column[LARGE], self[LARGE];
    memset(result, 0, sizeof *result);
    fill_random(weight, LARGE_WIDTH, "router");
    fill_random(choice, LARGE_CHOICES * LARGE_WIDTH, "choice");
    fill_random(values, LARGE * LARGE_WIDTH, "h");
    floats_store(data, dtype, values, LARGE * LARGE_WIDTH);
    struct bench bench;
    assert_true(bench_create(&bench, "", threads));
    struct tape *tape = &bench.tape;
    for (int step = 0; step < 3; step++) {
        int64_t allocations = bench.context.memory.allocations;
        struct tensor *h = tape_leaf(tape, dtype, 2, (int64_t[]){LARGE, LARGE_WIDTH}, data, true);
        struct tensor *router = tape_leaf(tape, DTYPE_F32, 1, (int64_t[]){LARGE_WIDTH}, weight, true);
        struct tensor *choices = tape_leaf(tape, DTYPE_F32, 2, (int64_t[]){LARGE_CHOICES, LARGE_WIDTH}, choice, true);
        for (int n = 0; n < LARGE; n++) {
            column[n] = n % (LARGE_CHOICES + 1) - 1;
            self[n] = n;
        }
        result->loss = 0.0;
        struct layer layer = {.router = router, .k = LARGE / 8, .loss = &result->loss};
        struct tensor *y = layer_run(tape, &layer, h);
        struct tensor *p = router_softmax(tape, router_scores(tape, h, choices));
        assert_true(router_balance(tape, p, values, 0.01f, &result->loss));
        struct tensor *out = token_update(tape, h, y, router_pick(tape, p, column), self, false);
        assert_non_null(out);
        memcpy(result->out, out->data, LARGE * LARGE_WIDTH * dtype_size(dtype));
        tape_seed(tape, out, NULL);
        tape_backward(tape);
        memcpy(result->dh, tape_gradient(h), LARGE * LARGE_WIDTH * dtype_size(dtype));
        memcpy(result->drouter, tape_gradient(router), sizeof result->drouter);
        memcpy(result->dchoice, tape_gradient(choices), sizeof result->dchoice);
        tape_reset(tape);
        /* Once memory is found no step asks for more. */
        assert_true(step == 0 || bench.context.memory.allocations == allocations);
    }
    bench_destroy(&bench);
}

static void test_threads(void **state)
{
    (void)state;
    static struct large_result one, many;
    for (int half = 0; half < 2; half++) {
        enum dtype dtype = half ? DTYPE_BF16 : DTYPE_F32;
        large_run(&one, dtype, 1);
        for (int threads = 2; threads <= 5; threads++) {
            large_run(&many, dtype, threads);
            assert_memory_equal(&one, &many, sizeof one);
        }
    }
}

/* -- errors -- */

static void test_refusals(void **state)
{
    (void)state;
    struct bench bench;
    assert_true(bench_create(&bench, "", 1));
    struct tape *tape = &bench.tape;
    struct context *context = &bench.context;
    float data[12] = {0};
    bf16 halves[12] = {0};
    static const int32_t far[] = {0, 3, -1, -1};
    struct tensor *x = tape_leaf(tape, DTYPE_F32, 2, (int64_t[]){3, 4}, data, true);
    struct tensor *y = tape_leaf(tape, DTYPE_F32, 2, (int64_t[]){3, 4}, data, true);
    struct tensor *half = tape_leaf(tape, DTYPE_BF16, 2, (int64_t[]){3, 4}, halves, true);
    struct tensor *narrow = tape_leaf(tape, DTYPE_F32, 2, (int64_t[]){4, 3}, data, true);
    assert_refused(context, token_take(tape, x, far, 2), "row");
    assert_refused(context, token_update(tape, x, half, NULL, far, true), "type");
    assert_refused(context, token_update(tape, x, x, NULL, far, true), "two tensors");
    assert_refused(context, token_update(tape, x, narrow, NULL, far, true), "columns");
    assert_refused(context, token_update(tape, x, y, narrow, far, true), "gate");
    assert_refused(context, token_place(tape, x, y, far), "source");
    /* After a failed operation the next ones only pass it on. */
    assert_null(token_take(tape, NULL, far, 1));
    assert_null(token_update(tape, x, NULL, NULL, far, true));
    assert_null(token_place(tape, NULL, x, far));
    tape_reset(tape);
    bench_destroy(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_select), cmocka_unit_test(test_moves),   cmocka_unit_test(test_update_is_exact),
        cmocka_unit_test(test_layer),  cmocka_unit_test(test_threads), cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, bench_begin, NULL);
}
