#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dist/parallel/replica.h"
#include "dist/parallel/split.h"
#include "dist/parallel/vocabulary.h"
#include "tests/mpi/tape_bench.h"

enum { COLUMNS = 5 };

static void gathering_and_scattering_are_each_others_backward(void **state)
{
    struct bench bench;
    bench_create(&bench, state, (struct mesh_config){1, 1, 1, 0, 1});
    int ranks = bench.fixture->ranks;
    for (int64_t tokens = 0; tokens <= 7; tokens++) {
        struct range part = sequence_part(bench.mesh, tokens);
        float values[7 * COLUMNS];
        for (int64_t i = 0; i < part.count * COLUMNS; i++)
            values[i] = (float)(part.begin * COLUMNS + i);
        struct tensor *x = tape_leaf(&bench.tape, DTYPE_F32, 2, (int64_t[]){part.count, COLUMNS}, values, true);
        struct tensor *all = sequence_gather(&bench.tape, bench.mesh, x, tokens);
        assert_int_equal(tensor_rows(all), tokens);
        for (int64_t i = 0; i < tokens * COLUMNS; i++)
            assert_true(((float *)all->data)[i] == (float)i);
        /* Every rank has the same sum in hand, so scattering counts it once a rank. */
        struct tensor *y = sequence_scatter(&bench.tape, bench.mesh, all);
        assert_int_equal(tensor_rows(y), part.count);
        for (int64_t i = 0; i < part.count * COLUMNS; i++)
            assert_true(((float *)y->data)[i] == (float)(ranks * (part.begin * COLUMNS + i)));
        /* Used again, what is gathered and what is scattered have gradients that add up. */
        y = add(&bench.tape, y, sequence_scatter(&bench.tape, bench.mesh, all));
        struct tensor *again = sequence_gather(&bench.tape, bench.mesh, x, tokens);
        y = add(&bench.tape, y, sequence_scatter(&bench.tape, bench.mesh, again));
        float seed[7 * COLUMNS];
        for (int64_t i = 0; i < part.count * COLUMNS; i++)
            seed[i] = 1.0f + (float)(part.begin * COLUMNS + i);
        tape_seed(&bench.tape, y, seed);
        tape_backward(&bench.tape);
        const float *gradient = tape_gradient(x);
        for (int64_t i = 0; i < part.count * COLUMNS; i++)
            assert_true(gradient[i] == 3.0f * (float)ranks * seed[i]);
        tape_reset(&bench.tape);
    }
    bench_destroy(&bench);
}

/* -- Linear layers whose messages run under their products -- */

enum { LAYERS = 3, WIDTH = 6, FEATURES = 7 };

/* Three layers of a shared input, each rank with its part of their features (of few features some have none), and
 * behind their sum a row-parallel one: once with messages under the products and once with messages between them. */
struct layers {
    int64_t tokens;
    struct range features[LAYERS];
    float *x, *seed;
    struct tensor *input, *weight[LAYERS], *bias[LAYERS], *down, *output;
};

static struct tensor *random_leaf(struct bench *bench, int64_t rows, int64_t columns, const char *name, float **values)
{
    *values = memory_allocate(bench->context, (size_t)(rows * columns) * sizeof **values, MEMORY_OTHER);
    char own[48];
    snprintf(own, sizeof own, "%s of rank %d", name, bench->fixture->rank);
    fill_random(*values, rows * columns, own);
    return tape_leaf(&bench->tape, DTYPE_F32, 2, (int64_t[]){rows, columns}, *values, true);
}

static void layers_run(struct bench *bench, struct layers *layers, bool under, float **owned)
{
    struct tape *tape = &bench->tape;
    struct range part = sequence_part(bench->mesh, layers->tokens);
    struct linear_weights weights[LAYERS];
    struct tensor *y[LAYERS];
    char name[32];
    layers->input = random_leaf(bench, part.count, WIDTH, "input", owned++);
    for (int i = 0; i < LAYERS; i++) {
        snprintf(name, sizeof name, "weight %d", i);
        layers->weight[i] = random_leaf(bench, layers->features[i].count, WIDTH, name, owned++);
        layers->bias[i] = i == 1 ? NULL : random_leaf(bench, 1, layers->features[i].count, "bias", owned++);
        weights[i] = (struct linear_weights){layers->weight[i], layers->bias[i]};
    }
    layers->down = random_leaf(bench, WIDTH + 1, layers->features[0].count, "down", owned++);
    if (under) {
        assert_true(column_linear(tape, bench->mesh, layers->input, layers->tokens, weights, LAYERS, y));
    } else {
        struct tensor *all = sequence_gather(tape, bench->mesh, layers->input, layers->tokens);
        for (int i = 0; i < LAYERS; i++)
            y[i] = linear(tape, all, weights[i].weight, weights[i].bias, DTYPE_F32);
    }
    struct tensor *sum = add(tape, add(tape, y[0], y[1]), silu(tape, y[2]));
    layers->output = under ? row_linear(tape, bench->mesh, sum, layers->down)
                           : sequence_scatter(tape, bench->mesh, linear(tape, sum, layers->down, NULL, DTYPE_F32));
    assert_non_null(layers->output);
    float *seed = memory_allocate(bench->context, (size_t)tensor_count(layers->output) * sizeof *seed, MEMORY_OTHER);
    fill_random(seed, tensor_count(layers->output), "seed");
    tape_seed(tape, layers->output, seed);
    memory_free(bench->context, seed);
    tape_backward(tape);
}

static void assert_same(const struct tensor *a, const struct tensor *b, bool gradients)
{
    const float *x = gradients ? tape_gradient(a) : a->data;
    const float *y = gradients ? tape_gradient(b) : b->data;
    assert_int_equal(tensor_count(a), tensor_count(b));
    for (int64_t i = 0; i < tensor_count(a); i++)
        assert_close((double)x[i], (double)y[i], 1e-5, 2e-6 * (double)(tensor_rows(a) + WIDTH));
}

static void messages_under_products_change_nothing(void **state)
{
    /* The last has more tokens than one block; with 1 and 2 features some ranks have none. */
    static const int64_t shapes[][2] = {{0, FEATURES}, {1, FEATURES}, {3, 1}, {7, 2}, {1501, FEATURES}};
    enum { OWNED = 8 };
    struct bench bench;
    bench_create(&bench, state, (struct mesh_config){1, 1, 1, 0, 1});
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        struct layers layers[2];
        float *owned[2][OWNED] = {{NULL}};
        for (int under = 0; under < 2; under++) {
            layers[under] = (struct layers){.tokens = shapes[s][0]};
            for (int i = 0; i < LAYERS; i++)
                layers[under].features[i] = range_partition(shapes[s][1], bench.fixture->ranks, bench.fixture->rank);
            layers_run(&bench, &layers[under], under, owned[under]);
        }
        assert_same(layers[1].output, layers[0].output, false);
        assert_same(layers[1].input, layers[0].input, true);
        assert_same(layers[1].down, layers[0].down, true);
        for (int i = 0; i < LAYERS; i++) {
            assert_same(layers[1].weight[i], layers[0].weight[i], true);
            if (layers[1].bias[i])
                assert_same(layers[1].bias[i], layers[0].bias[i], true);
        }
        tape_reset(&bench.tape);
        for (int i = 0; i < 2 * OWNED; i++)
            memory_free(bench.context, owned[i / OWNED][i % OWNED]);
    }
    bench_destroy(&bench);
}

/* Against one rank's sum over all logits in double, with more ranks than columns, and targets that do not count. */
struct head {
    int64_t tokens, width, vocabulary;
    float *n, *weight;
    int32_t *targets;
    double scale, loss;
    double *dn, *dweight;
};

static void head_expect(struct head *head)
{
    memset(head->dn, 0, (size_t)(head->tokens * head->width) * sizeof(double));
    memset(head->dweight, 0, (size_t)(head->vocabulary * head->width) * sizeof(double));
    head->loss = 0.0;
    double *logits = calloc((size_t)head->vocabulary, sizeof *logits);
    assert_non_null(logits);
    for (int64_t t = 0; t < head->tokens; t++) {
        double sum = 0.0;
        const float *n = head->n + t * head->width;
        for (int64_t v = 0; v < head->vocabulary; v++) {
            logits[v] = 0.0;
            for (int64_t d = 0; d < head->width; d++)
                logits[v] += (double)n[d] * (double)head->weight[v * head->width + d];
            sum += exp(logits[v]);
        }
        if (head->targets[t] < 0)
            continue;
        head->loss += head->scale * (log(sum) - logits[head->targets[t]]);
        for (int64_t v = 0; v < head->vocabulary; v++) {
            double slope = head->scale * (exp(logits[v]) / sum - (v == head->targets[t]));
            for (int64_t d = 0; d < head->width; d++) {
                head->dn[t * head->width + d] += slope * (double)head->weight[v * head->width + d];
                head->dweight[v * head->width + d] += slope * (double)n[d];
            }
        }
    }
    free(logits);
}

static void check_head(struct bench *bench, struct head *head)
{
    struct tape *tape = &bench->tape;
    struct range mine = range_partition(head->vocabulary, bench->fixture->ranks, bench->fixture->rank);
    struct tensor *n = tape_leaf(tape, DTYPE_F32, 2, (int64_t[]){head->tokens, head->width}, head->n, true);
    struct tensor *weight = tape_leaf(tape, DTYPE_F32, 2, (int64_t[]){mine.count, head->width},
                                      head->weight + mine.begin * head->width, true);
    struct vocabulary_targets targets = {
        .tokens = head->targets, .vocabulary = head->vocabulary, .first = mine.begin, .scale = (float)head->scale};
    struct tensor *loss = vocabulary_loss(tape, bench->mesh, n, weight, &targets);
    assert_non_null(loss);
    assert_close((double)*(float *)loss->data, head->loss, 1e-6, 0.0);
    tape_seed(tape, loss, NULL);
    tape_backward(tape);
    int64_t count = head->tokens * head->width;
    float *dn = memory_allocate(bench->context, (size_t)count * sizeof *dn, MEMORY_OTHER);
    memcpy(dn, tape_gradient(n), (size_t)count * sizeof *dn);
    mesh_all_reduce(bench->mesh, MESH_TENSOR, dn, count, DTYPE_F32, MESH_SUM);
    for (int64_t i = 0; i < count; i++)
        assert_close((double)dn[i], head->dn[i], 1e-4, 1e-7);
    memory_free(bench->context, dn);
    for (int64_t i = 0; i < mine.count * head->width; i++)
        assert_close((double)((const float *)tape_gradient(weight))[i], head->dweight[mine.begin * head->width + i],
                     1e-4, 1e-6);
    tape_reset(tape);
}

static void the_loss_does_not_depend_on_who_holds_the_vocabulary(void **state)
{
    /* More tokens than one block; then more than a chunk, which the ranks' own columns would make of different sizes.
     */
    static const int64_t shapes[][3] = {{6, 4, 3},     {1, 3, 7},       {9, 5, 23},
                                        {2500, 3, 11}, {1900, 2, 4501}, {800, 2, 16385}};
    struct bench bench;
    bench_create(&bench, state, (struct mesh_config){1, 1, 1, 0, 1});
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        struct head head = {.tokens = shapes[s][0], .width = shapes[s][1], .vocabulary = shapes[s][2], .scale = 0.25};
        size_t inputs = (size_t)(head.tokens * head.width);
        size_t weights = (size_t)(head.vocabulary * head.width);
        head.n = memory_allocate(bench.context, inputs * sizeof(float), MEMORY_OTHER);
        head.weight = memory_allocate(bench.context, weights * sizeof(float), MEMORY_OTHER);
        head.targets = memory_allocate(bench.context, (size_t)head.tokens * sizeof(int32_t), MEMORY_OTHER);
        head.dn = memory_allocate(bench.context, inputs * sizeof(double), MEMORY_OTHER);
        head.dweight = memory_allocate(bench.context, weights * sizeof(double), MEMORY_OTHER);
        fill_random(head.n, (int64_t)inputs, "n");
        fill_random(head.weight, (int64_t)weights, "weight");
        head.n[0] = 60.0f; /* logits large enough to overflow without the maximum, in float */
        head.weight[0] = 2.0f;
        for (int64_t t = 0; t < head.tokens; t++)
            head.targets[t] = t % 5 == 3 ? -1 : (int32_t)(t * 7 % head.vocabulary);
        head_expect(&head);
        check_head(&bench, &head);
        void *owned[] = {head.n, head.weight, head.targets, head.dn, head.dweight};
        for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
            memory_free(bench.context, owned[i]);
    }
    bench_destroy(&bench);
}

/* -- Replicas -- */

enum { PARAMETERS = 8 };

/* Tensor ranks hold overlapping rows of it. */
static bool overlaps(int parameter, int tensor)
{
    return tensor > 1 && (parameter == 4 || parameter > 5);
}

/* Two exclusive ones, two that tensor ranks hold whole, three of which they hold overlapping rows, one tied. */
static void make_parameters(const struct mesh *mesh, struct parameter *parameters)
{
    static const int64_t shapes[PARAMETERS][2] = {{7, 5}, {3, 1}, {11, 2}, {4, 3}, {6, 5}, {9, 3}, {6, 1}, {6, 7}};
    int tensor = mesh_size(mesh, MESH_TENSOR);
    int rank = mesh_rank(mesh, MESH_TENSOR);
    memset(parameters, 0, PARAMETERS * sizeof *parameters);
    for (int i = 0; i < PARAMETERS; i++) {
        struct parameter *parameter = &parameters[i];
        parameter->spec = (struct parameter_spec){.rank = 2, .shape = {shapes[i][0], shapes[i][1]}};
        parameter->spec.name[0] = (char)('a' + i);
        struct range all = {.begin = 0, .count = shapes[i][0]};
        bool divided = i < 2 || i == 5;
        parameter->division.slice = divided ? range_partition(shapes[i][0], tensor, rank) : all;
        parameter->division.owned = parameter->division.slice;
        parameter->division.replicated = !divided && tensor > 1;
        if (!divided && rank > 0)
            parameter->division.owned.count = 0;
        parameter->tied = i == 5 && mesh_size(mesh, MESH_ENDS) == 2;
        if (parameter->tied && mesh_rank(mesh, MESH_PIPELINE) > 0)
            parameter->division.owned.count = 0;
    }
    for (int i = 0; i < PARAMETERS; i++) {
        /* Rank t holds rows t and t + 1 of six, and owns the first of them (the last rank both). */
        struct parameter *overlapping = &parameters[i];
        if (!overlaps(i, tensor))
            continue;
        overlapping->division.overlapping = true;
        overlapping->division.slice = (struct range){.begin = rank, .count = 2};
        overlapping->division.owned = (struct range){.begin = rank, .count = rank == tensor - 1 ? 2 : 1};
    }
}

static struct parameter_list list_of(struct parameter *parameters)
{
    static struct parameter *item[PARAMETERS];
    for (int i = 0; i < PARAMETERS; i++)
        item[i] = &parameters[i];
    return (struct parameter_list){.item = item, .count = PARAMETERS};
}

/* What this rank puts into a gradient at a row and column of the whole: different on every rank. */
static float own_gradient(const struct mesh *mesh, int64_t row, int64_t column)
{
    return (float)((mesh_rank(mesh, MESH_TEAM) + 1) * (row + 1)) + 0.5f * (float)column;
}

/* The sum over all ranks that hold this row. */
static double whole_gradient(const struct mesh *mesh, int parameter, int64_t rows, int64_t row, int64_t column)
{
    int tensor = mesh_size(mesh, MESH_TENSOR);
    int stages = mesh_size(mesh, MESH_PIPELINE);
    int my_stage = mesh_rank(mesh, MESH_PIPELINE);
    int data = mesh_size(mesh, MESH_DATA);
    double sum = 0.0;
    for (int d = 0; d < data; d++)
        for (int p = 0; p < stages; p++)
            for (int t = 0; t < tensor; t++) {
                struct range part = range_partition(rows, tensor, t);
                if (overlaps(parameter, tensor))
                    part = (struct range){.begin = t, .count = 2};
                bool divided = parameter < 2 || parameter == 5 || overlaps(parameter, tensor);
                bool holds = !divided || (row >= part.begin && row < part.begin + part.count);
                bool ends = (p == 0 || p == stages - 1) && (my_stage == 0 || my_stage == stages - 1);
                bool this_stage = p == my_stage || (parameter == 5 && ends);
                int world = (d * stages + p) * tensor + t;
                if (holds && this_stage)
                    sum += (double)((world + 1) * (row + 1)) + 0.5 * (double)column;
            }
    return sum;
}

/* Bit i of `floats`: parameter i stays in fp32. */
static void check_replicas(void **state, struct mesh_config sizes, enum dtype dtype, int64_t bucket_bytes, int floats)
{
    struct bench bench;
    struct parameter parameters[PARAMETERS];
    struct parameter_list list;
    struct replica *replica;
    bench_create(&bench, state, sizes);
    make_parameters(bench.mesh, parameters);
    list = list_of(parameters);
    for (int i = 0; i < PARAMETERS; i++) {
        parameters[i].here = true;
        parameters[i].spec.keeps_float = floats >> i & 1;
    }
    assert_ok(bench.context,
              replica_create(bench.context, bench.mesh, &bench.engine, &list, dtype, bucket_bytes, true, &replica));
    struct tape_listener listener = replica_listener(replica);
    for (int round = 0; round < 2; round++) {
        replica_begin(replica);
        for (int i = PARAMETERS - 1; i >= 0; i--) {
            int64_t columns = parameters[i].spec.shape[1];
            for (int64_t e = 0; e < parameters[i].division.slice.count * columns; e++)
                parameters[i].gradient[e] =
                    own_gradient(bench.mesh, parameters[i].division.slice.begin + e / columns, e % columns);
            /* The last is never told of: finish must see to it. */
            if (i > 0)
                listener.parameter_done(listener.self, &parameters[i]);
            listener.progress(listener.self);
        }
        replica_finish(replica);
    }
    int count;
    const struct shard *shards = replica_shards(replica, &count);
    double owned_here = 0.0;
    double stages = 0.0;
    for (int s = 0; s < count; s++) {
        int index = (int)(shards[s].parameter - parameters);
        int64_t columns = parameters[index].spec.shape[1];
        for (int64_t e = 0; e < shards[s].flat.count; e++) {
            int64_t local = shards[s].flat.begin + e;
            double expected = whole_gradient(bench.mesh, index, parameters[index].spec.shape[0],
                                             parameters[index].division.slice.begin + local / columns, local % columns);
            assert_close((double)shards[s].gradient[e], expected, 1e-6, 0.0);
            shards[s].master[e] = (float)expected;
        }
        owned_here += (double)parameter_owned(&parameters[index], shards[s].flat).count;
    }
    /* Every element of every stage's parameters is owned by one rank; of the tied one's copies the first stage's
     * counts. */
    mesh_all_reduce(bench.mesh, MESH_TEAM, &owned_here, 1, DTYPE_F64, MESH_SUM);
    stages = mesh_size(bench.mesh, MESH_PIPELINE);
    int64_t elements = 0;
    for (int i = 0; i < PARAMETERS; i++) {
        double copies = i == 5 && stages > 1.0 ? stages - 1.0 : stages;
        int tensor = mesh_size(bench.mesh, MESH_TENSOR);
        int64_t rows = overlaps(i, tensor) ? tensor + 1 : parameters[i].spec.shape[0];
        elements += (int64_t)copies * rows * parameters[i].spec.shape[1];
    }
    assert_true(owned_here == (double)elements);
    replica_gather(replica);
    for (int i = 0; i < PARAMETERS; i++) {
        int64_t columns = parameters[i].spec.shape[1];
        for (int64_t e = 0; e < parameters[i].division.slice.count * columns; e++) {
            float expected = (float)whole_gradient(bench.mesh, i, parameters[i].spec.shape[0],
                                                   parameters[i].division.slice.begin + e / columns, e % columns);
            enum dtype expected_dtype = floats >> i & 1 ? DTYPE_F32 : dtype;
            assert_int_equal(parameters[i].value.dtype, expected_dtype);
            if (expected_dtype == DTYPE_BF16)
                assert_int_equal(((bf16 *)parameters[i].value.data)[e], bf16_from_float(expected));
            else
                assert_true(fabsf(((float *)parameters[i].value.data)[e] - expected) <= 1e-6f * expected);
        }
    }
    replica_destroy(&replica);
    bench_destroy(&bench);
}

static void replicas_sum_every_gradient_once(void **state)
{
    int ranks = mpi_fixture_of(state)->ranks;
    check_replicas(state, (struct mesh_config){0, 1, 1, 1, 1}, DTYPE_F32, 1, 0);
    check_replicas(state, (struct mesh_config){0, 1, 1, 1, 1}, DTYPE_BF16, 64, 0);
    check_replicas(state, (struct mesh_config){0, 1, 1, 1, 1}, DTYPE_F32, 1 << 20, 0);
    check_replicas(state, (struct mesh_config){1, 1, 1, 0, 1}, DTYPE_F32, 64, 0);
    check_replicas(state, (struct mesh_config){1, 0, 1, 1, 1}, DTYPE_F32, 64, 0);
    if (ranks % 2 == 0) {
        check_replicas(state, (struct mesh_config){0, 1, 1, 2, 1}, DTYPE_F32, 64, 0);
        check_replicas(state, (struct mesh_config){0, 2, 1, 1, 1}, DTYPE_BF16, 64, 0);
        check_replicas(state, (struct mesh_config){1, 0, 1, 2, 1}, DTYPE_F32, 64, 0);
    }
}

/* What a step's calls are, and their bytes: copies that tensor ranks hold whole in one all-reduce, those that they hold
 * in part in one, as many as a bucket takes. */
static void copies_are_summed_together(void **state)
{
    struct bench bench;
    struct parameter parameters[PARAMETERS];
    struct parameter_list list;
    /* Overlapping wholes of 30, 6 and 42 elements. */
    static const struct {
        int64_t bucket_bytes, calls;
    } cases[] = {{1 << 20, 2}, {78 * 4, 2}, {77 * 4, 3}, {4, 3}};
    if (mpi_fixture_of(state)->ranks == 1)
        skip();
    bench_create(&bench, state, (struct mesh_config){1, 1, 1, 0, 1});
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct replica *replica;
        make_parameters(bench.mesh, parameters);
        list = list_of(parameters);
        for (int j = 0; j < PARAMETERS; j++)
            parameters[j].here = true;
        assert_ok(bench.context, replica_create(bench.context, bench.mesh, &bench.engine, &list, DTYPE_F32,
                                                cases[i].bucket_bytes, true, &replica));
        struct mesh_traffic before = mesh_traffic(bench.mesh, MESH_TENSOR);
        replica_begin(replica);
        replica_finish(replica);
        struct mesh_traffic after = mesh_traffic(bench.mesh, MESH_TENSOR);
        assert_int_equal(after.calls - before.calls, cases[i].calls);
        /* The two held whole have 22 and 12 elements, of which each begins at a multiple of 16. */
        assert_int_equal(after.bytes - before.bytes, (32 + 16 + 30 + 6 + 42) * 4);
        replica_destroy(&replica);
    }
    bench_destroy(&bench);
}

/* One, every second, all but the first, and all of the parameters, so that each kind has some of either type. */
static void some_values_stay_in_fp32(void **state)
{
    static const int choices[] = {0x04, 0x55, 0xaa, 0xfe, 0xff};
    int ranks = mpi_fixture_of(state)->ranks;
    for (size_t i = 0; i < sizeof choices / sizeof *choices; i++) {
        check_replicas(state, (struct mesh_config){0, 1, 1, 1, 1}, DTYPE_BF16, 64, choices[i]);
        check_replicas(state, (struct mesh_config){1, 1, 1, 0, 1}, DTYPE_BF16, 64, choices[i]);
        check_replicas(state, (struct mesh_config){1, 0, 1, 1, 1}, DTYPE_BF16, 1 << 20, choices[i]);
        check_replicas(state, (struct mesh_config){0, 1, 1, 1, 1}, DTYPE_F32, 64, choices[i]);
        if (ranks % 2 == 0)
            check_replicas(state, (struct mesh_config){0, 1, 1, 2, 1}, DTYPE_BF16, 1, choices[i]);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(messages_under_products_change_nothing),
    cmocka_unit_test(gathering_and_scattering_are_each_others_backward),
    cmocka_unit_test(the_loss_does_not_depend_on_who_holds_the_vocabulary),
    cmocka_unit_test(replicas_sum_every_gradient_once),
    cmocka_unit_test(copies_are_summed_together),
    cmocka_unit_test(some_values_stay_in_fp32),
};

MPI_MAIN(tests)
