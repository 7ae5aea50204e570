#include <string.h>
#include <time.h>

#include "dist/parallel/pipeline.h"
#include "dist/parallel/split.h"
#include "src/ops/engine.h"
#include "tests/support/mpi_main.h"

/* Packets of wide chains are larger than what MPI copies away when it is told to send. */
enum { MICRO_BATCHES = 5, COLUMNS = 3, WIDE_COLUMNS = 8192, CHUNKS = 16 };

/* Uneven micro-batches, the first the largest, one empty. */
static const int64_t tokens[MICRO_BATCHES] = {4, 3, 0, 1, 4};

/* A chain of products: y_k = factor * gate * y_(k-1), with one factor for all chunks of a stage and a gate for each
 * row. The loss is the sum of the last y. */
struct chain {
    int chunks; /* of each stage */
    int tensor;
    bool forward_only;
    bool mixed;  /* packets of several types: gates, numbers of the rows, and y_0 in bf16, which adds to the loss */
    bool skips;  /* half of what the stage's chunk before made is added */
    bool ends;   /* the middle chunk has a loss of its own, an eighth of the sum of its y */
    bool passes; /* the second chunk of the model hands on what it is given */
    bool wide;
    int slow; /* 1: even stages rest after each action, 2: odd ones, so that their neighbours are ahead */

    struct mesh *mesh;
    int stage, stages, model_chunks;
    struct parameter factor; /* of this stage */
    float factor_value;
    float factor_gradient;
    float gradient_when_done;
    int done;
    struct tensor *made[MICRO_BATCHES]; /* by the stage's chunk before */
};

static float factor_of(int64_t stage)
{
    return 1.0f + 0.25f * (float)(stage + 1);
}

static float input_of(int64_t micro_batch, int64_t element)
{
    return (float)(micro_batch + 1) + 0.5f * (float)(element % 12);
}

static int64_t columns_of(const struct chain *chain)
{
    return chain->wide ? WIDE_COLUMNS : COLUMNS;
}

static float gate_of(const struct chain *chain, int64_t row)
{
    return chain->mixed && row % 2 ? 0.5f : 1.0f;
}

static bool passes(const struct chain *chain, int64_t k)
{
    return chain->passes && k == 1 && chain->model_chunks > 2;
}

/* Adds what an element contributes to the loss and the gradients of the factors. */
static void expect_element(const struct chain *chain, double input, double gate, double *loss, double *gradients)
{
    double y[CHUNKS] = {0.0};
    double slope[CHUNKS] = {0.0};
    int count = chain->model_chunks;
    int stages = chain->stages;
    for (int k = 0; k < count; k++) {
        double before = k ? y[k - 1] : input;
        y[k] = passes(chain, k) ? before : (double)factor_of(k % stages) * gate * before;
        if (chain->skips && k >= stages && !passes(chain, k))
            y[k] += 0.5 * y[k - stages];
    }
    *loss += y[count - 1];
    if (chain->mixed)
        *loss += (double)bf16_to_float(bf16_from_float((float)y[0]));
    for (int k = count - 1; k >= 0; k--) {
        slope[k] = (k == count - 1) + (chain->mixed && k == 0) + (chain->ends && k == count / 2 ? 0.125 : 0.0);
        if (k + 1 < count)
            slope[k] += slope[k + 1] * (passes(chain, k + 1) ? 1.0 : (double)factor_of((k + 1) % stages) * gate);
        if (chain->skips && k + stages < count && !passes(chain, k + stages))
            slope[k] += 0.5 * slope[k + stages];
        if (!passes(chain, k))
            gradients[k % stages] += slope[k] * gate * (k ? y[k - 1] : input);
    }
}

/* -- Its operations */

static void add_to(struct gradient_target target, int64_t i, float value)
{
    if (!target.data)
        return;
    if (target.dtype == DTYPE_BF16) {
        bf16 *sum = (bf16 *)target.data + i;
        *sum = bf16_from_float(value + (target.beta ? bf16_to_float(*sum) : 0.0f));
    } else {
        float *sum = (float *)target.data + i;
        *sum = value + (target.beta ? *sum : 0.0f);
    }
}

static float value_at(const void *data, enum dtype dtype, int64_t i)
{
    return dtype == DTYPE_BF16 ? bf16_to_float(((const bf16 *)data)[i]) : ((const float *)data)[i];
}

static void step_backward(struct tape *tape, const struct tape_record *record)
{
    const float *upstream = tape_gradient(record->output);
    const struct tensor *x = record->input[0];
    const struct tensor *factor = record->input[2];
    struct gradient_target dx = tape_target(tape, record->input[0]);
    struct gradient_target dskip = tape_target(tape, record->input[1]);
    struct gradient_target dfactor = tape_target(tape, record->input[2]);
    double sum = 0.0;
    for (int64_t i = 0; i < tensor_count(x); i++) {
        float gate = ((const float *)record->input[3]->data)[i / tensor_columns(x)];
        add_to(dx, i, upstream[i] * *(const float *)factor->data * gate);
        add_to(dskip, i, 0.5f * upstream[i]);
        sum += (double)(upstream[i] * ((const float *)x->data)[i] * gate);
    }
    add_to(dfactor, 0, (float)sum);
}

/* factor * gate * x + skip / 2 */
static struct tensor *step(struct tape *tape, struct tensor *x, struct tensor *skip, struct tensor *factor,
                           struct tensor *gate)
{
    struct tensor *y = tape_tensor_like(tape, x);
    for (int64_t i = 0; i < tensor_count(y); i++) {
        float product = *(const float *)factor->data * ((const float *)gate->data)[i / tensor_columns(x)];
        ((float *)y->data)[i] = product * ((const float *)x->data)[i];
        if (skip)
            ((float *)y->data)[i] += 0.5f * ((const float *)skip->data)[i];
    }
    return tape_push(tape,
                     (struct tape_record){.backward = step_backward, .input = {x, skip, factor, gate}, .output = y});
}

static void total_backward(struct tape *tape, const struct tape_record *record)
{
    float upstream = *(const float *)tape_gradient(record->output) * *(const float *)record->saved;
    for (int side = 0; side < 2; side++) {
        struct gradient_target target = tape_target(tape, record->input[side]);
        for (int64_t i = 0; target.data && i < tensor_count(record->input[side]); i++)
            add_to(target, i, upstream);
    }
}

/* scale * (sum of x + sum of y) */
static struct tensor *total(struct tape *tape, float scale, struct tensor *x, struct tensor *y)
{
    struct tensor *out = tape_tensor(tape, DTYPE_F32, 1, (int64_t[]){1});
    float *saved = tape_save(tape, sizeof *saved);
    double sum = 0.0;
    for (int64_t i = 0; i < tensor_count(x); i++)
        sum += (double)value_at(x->data, x->dtype, i);
    for (int64_t i = 0; y && i < tensor_count(y); i++)
        sum += (double)value_at(y->data, y->dtype, i);
    *saved = scale;
    *(float *)out->data = scale * (float)sum;
    return tape_push(tape,
                     (struct tape_record){.backward = total_backward, .input = {x, y}, .output = out, .saved = saved});
}

static void narrow_backward(struct tape *tape, const struct tape_record *record)
{
    struct gradient_target target = tape_target(tape, record->input[0]);
    for (int64_t i = 0; i < tensor_count(record->output); i++)
        add_to(target, i, value_at(tape_gradient(record->output), DTYPE_BF16, i));
}

static struct tensor *narrow(struct tape *tape, struct tensor *x)
{
    struct tensor *y = tape_tensor(tape, DTYPE_BF16, x->rank, x->shape);
    for (int64_t i = 0; i < tensor_count(y); i++)
        ((bf16 *)y->data)[i] = bf16_from_float(((const float *)x->data)[i]);
    return tape_push(tape, (struct tape_record){.backward = narrow_backward, .input = {x}, .output = y});
}

/* -- Its chunks */

enum { ACTIVATION, NUMBER, GATE, FIRST, PARTS };

static void chain_form(void *self, int64_t model_chunk, int64_t micro_batch, struct packet_form *form)
{
    const struct chain *chain = self;
    assert_in_range(model_chunk, 1, chain->model_chunks - 1);
    int64_t rows = sequence_part(chain->mesh, tokens[micro_batch]).count;
    form->count = chain->mixed ? PARTS : 1;
    form->part[ACTIVATION] = (struct packet_part){DTYPE_F32, rows, columns_of(chain), true};
    form->part[NUMBER] = (struct packet_part){DTYPE_I32, rows, 1, false};
    form->part[GATE] = (struct packet_part){DTYPE_F32, rows, 1, false};
    form->part[FIRST] = (struct packet_part){DTYPE_BF16, rows, columns_of(chain), true};
}

/* What the model's first chunk starts from. */
static struct tensor *make_input(const struct chain *chain, struct tape *tape, int64_t micro_batch)
{
    struct range part = sequence_part(chain->mesh, tokens[micro_batch]);
    float *values = tape_save(tape, (size_t)(part.count * columns_of(chain)) * sizeof *values);
    for (int64_t i = 0; i < part.count * columns_of(chain); i++)
        values[i] = input_of(micro_batch, part.begin * columns_of(chain) + i);
    return tape_leaf(tape, DTYPE_F32, 2, (int64_t[]){part.count, columns_of(chain)}, values, tape->recording);
}

static struct tensor *make_gate(const struct chain *chain, struct tape *tape, int64_t micro_batch)
{
    struct range part = sequence_part(chain->mesh, tokens[micro_batch]);
    struct tensor *gate = tape_matrix(tape, DTYPE_F32, part.count, 1);
    for (int64_t i = 0; i < part.count; i++)
        ((float *)gate->data)[i] = gate_of(chain, part.begin + i);
    return gate;
}

/* Numbers of the rows, which must be those that were given. */
static struct tensor *make_numbers(const struct chain *chain, struct tape *tape, int64_t micro_batch,
                                   const struct tensor *given)
{
    struct range part = sequence_part(chain->mesh, tokens[micro_batch]);
    struct tensor *numbers = tape_matrix(tape, DTYPE_I32, part.count, 1);
    for (int64_t i = 0; i < part.count; i++)
        ((int32_t *)numbers->data)[i] = (int32_t)(100 * micro_batch + part.begin + i);
    if (given) {
        assert_false(given->needs_gradient);
        assert_int_equal(tensor_count(given), part.count);
        assert_memory_equal(given->data, numbers->data, (size_t)part.count * sizeof(int32_t));
    }
    return numbers;
}

static bool chain_forward(void *self, struct tape *tape, int chunk, int64_t micro_batch, const struct packet *in,
                          struct packet *out)
{
    struct chain *chain = self;
    int k = chunk * chain->stages + chain->stage;
    bool last = k == chain->model_chunks - 1;
    bool mixed = chain->mixed && k > 0;
    assert_int_equal(in->count, k == 0 ? 0 : chain->mixed ? PARTS : 1);
    struct tensor *y = k == 0 ? make_input(chain, tape, micro_batch) : in->tensor[ACTIVATION];
    struct tensor *gate = mixed ? in->tensor[GATE] : make_gate(chain, tape, micro_batch);
    struct tensor *skip = chain->skips && chunk > 0 ? chain->made[micro_batch] : NULL;
    if (!passes(chain, k))
        y = step(tape, y, skip, &chain->factor.value, gate);
    chain->made[micro_batch] = y;
    if (chain->ends && k == chain->model_chunks / 2)
        tape_seed(tape, total(tape, 0.125f, y, NULL), NULL);
    struct tensor *first = mixed ? in->tensor[FIRST] : chain->mixed ? narrow(tape, y) : NULL;
    out->count = last || !chain->mixed ? 1 : PARTS;
    out->tensor[ACTIVATION] = last ? total(tape, 1.0f, y, first) : y;
    if (out->count == 1)
        return true;
    out->tensor[NUMBER] = make_numbers(chain, tape, micro_batch, mixed ? in->tensor[NUMBER] : NULL);
    out->tensor[GATE] = gate;
    out->tensor[FIRST] = first;
    return true;
}

static void factor_done(void *self, struct parameter *parameter)
{
    struct chain *chain = self;
    chain->done++;
    assert_int_equal(parameter->uses, 0);
    chain->gradient_when_done = chain->factor_gradient;
}

static void rest(void *self, const struct pipeline_action *action)
{
    const struct chain *chain = self;
    if (action && chain->slow == 1 + chain->stage % 2)
        (void)nanosleep(&(struct timespec){.tv_nsec = 4000000}, NULL);
}

/* One run compared with the same chain in double precision. */
static void check_run(struct mpi_fixture *fixture, struct chain *chain, struct pipeline *pipeline)
{
    struct pipeline_stage stage = {
        .self = chain, .form = chain_form, .forward = chain_forward, .acted = rest, .acted_self = chain};
    struct tape_listener listener = {.self = chain, .parameter_done = factor_done};
    double expected_loss = 0.0;
    double expected[CHUNKS] = {0.0};
    for (int64_t m = 0; m < MICRO_BATCHES; m++)
        for (int64_t i = 0; i < tokens[m] * columns_of(chain); i++)
            expect_element(chain, (double)input_of(m, i), (double)gate_of(chain, i / columns_of(chain)), &expected_loss,
                           expected);
    double loss = 0.0;
    chain->factor_gradient = 0.0f;
    chain->done = 0;
    assert_ok(&fixture->context, pipeline_run(pipeline, &stage, &listener, &loss));
    mesh_all_reduce(chain->mesh, MESH_TEAM, &loss, 1, DTYPE_F64, MESH_SUM);
    assert_close(loss, expected_loss, 1e-6, 0.0);
    bool used = expected[chain->stage] != 0.0;
    assert_int_equal(chain->done, used && !chain->forward_only ? 1 : 0);
    if (chain->forward_only)
        return;
    assert_true(chain->gradient_when_done == chain->factor_gradient);
    mesh_all_reduce(chain->mesh, MESH_TENSOR, &chain->factor_gradient, 1, DTYPE_F32, MESH_SUM);
    assert_close((double)chain->factor_gradient, expected[chain->stage], 1e-5, 0.0);
}

static void run_chain(struct mpi_fixture *fixture, struct chain chain)
{
    struct context *context = &fixture->context;
    struct engine engine = {.context = context};
    struct arena work;
    struct pool pool;
    struct pipeline *pipeline;
    arena_create(&work, context, MEMORY_ACTIVATIONS);
    pool_create(&pool, context, MEMORY_ACTIVATIONS);
    chain.mesh = mpi_mesh(fixture, (struct mesh_config){1, 0, 1, chain.tensor, 1});
    chain.stage = mesh_rank(chain.mesh, MESH_PIPELINE);
    chain.stages = mesh_size(chain.mesh, MESH_PIPELINE);
    chain.model_chunks = chain.stages * chain.chunks;
    chain.factor_value = factor_of(chain.stage);
    chain.factor.gradient = &chain.factor_gradient;
    chain.factor.value = (struct tensor){.dtype = DTYPE_F32,
                                         .rank = 1,
                                         .shape = {1},
                                         .data = &chain.factor_value,
                                         .needs_gradient = !chain.forward_only,
                                         .parameter = &chain.factor};
    struct packet_form largest = {0};
    if (chain.model_chunks > 1)
        chain_form(&chain, 1, 0, &largest);
    struct pipeline_shape shape = {chain.chunks, MICRO_BATCHES, packet_bytes(&largest), chain.forward_only};
    assert_ok(context, pipeline_create(context, chain.mesh, &engine, &work, &pool, &shape, &pipeline));
    int64_t allocations = 0;
    for (int round = 0; round < 3; round++) {
        check_run(fixture, &chain, pipeline);
        if (round == 1)
            allocations = context->memory.allocations;
    }
    assert_int_equal(context->memory.allocations, allocations);
    pipeline_destroy(&pipeline);
    arena_destroy(&work);
    pool_destroy(&pool);
    mesh_destroy(&chain.mesh);
    assert_int_equal(context->memory.bytes_total, 0);
}

/* Any number of chunks, forward only too, and tokens divided among tensor ranks. */
static void run_shapes(struct mpi_fixture *fixture, struct chain chain)
{
    for (chain.chunks = 1; chain.chunks <= 4; chain.chunks++)
        for (int forward_only = 0; forward_only < 2; forward_only++) {
            chain.forward_only = forward_only == 1;
            chain.tensor = 1;
            run_chain(fixture, chain);
            chain.tensor = 2;
            if (fixture->ranks % 2 == 0)
                run_chain(fixture, chain);
        }
}

static void stages_compute_the_product(void **state)
{
    run_shapes(mpi_fixture_of(state), (struct chain){0});
}

/* A buffer is not filled anew while what was in it is still on its way. */
static void large_packets_leave_whole(void **state)
{
    for (int slow = 1; slow <= 2; slow++)
        for (int shape = 0; shape < 4; shape++)
            run_chain(mpi_fixture_of(state), (struct chain){.chunks = 1 + shape / 2,
                                                            .tensor = 1,
                                                            .forward_only = shape % 2,
                                                            .mixed = shape / 2,
                                                            .wide = true,
                                                            .slow = slow});
}

static void packets_hold_tensors_of_any_type(void **state)
{
    run_shapes(mpi_fixture_of(state), (struct chain){.mixed = true});
}

static void chunks_share_what_their_stage_made(void **state)
{
    run_shapes(mpi_fixture_of(state), (struct chain){.skips = true});
    run_shapes(mpi_fixture_of(state), (struct chain){.skips = true, .mixed = true});
}

static void a_middle_chunk_has_a_loss_of_its_own(void **state)
{
    run_shapes(mpi_fixture_of(state), (struct chain){.ends = true});
    run_shapes(mpi_fixture_of(state), (struct chain){.ends = true, .skips = true, .mixed = true});
}

static void a_chunk_may_hand_on_its_input(void **state)
{
    run_shapes(mpi_fixture_of(state), (struct chain){.passes = true});
    run_shapes(mpi_fixture_of(state), (struct chain){.passes = true, .skips = true, .mixed = true});
}

static bool give_nothing(void *self, struct tape *tape, int chunk, int64_t micro_batch, const struct packet *in,
                         struct packet *out)
{
    (void)self, (void)tape, (void)chunk, (void)micro_batch, (void)in, (void)out;
    return true;
}

static void a_stage_without_a_result_is_an_error(void **state)
{
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    if (fixture->ranks > 1)
        skip();
    struct context *context = &fixture->context;
    struct chain chain = {.mesh = mpi_mesh(fixture, (struct mesh_config){1, 1, 1, 1, 1}), .model_chunks = 2};
    struct pipeline_stage stage = {.self = &chain, .form = chain_form, .forward = give_nothing};
    for (int chunks = 1; chunks <= 2; chunks++) {
        struct pipeline *pipeline;
        struct pipeline_shape shape = {.chunks = chunks, .micro_batches = 1, .packet_bytes = 64};
        assert_ok(context, pipeline_create(context, chain.mesh, NULL, NULL, NULL, &shape, &pipeline));
        assert_int_equal(pipeline_run(pipeline, &stage, NULL, NULL), STATUS_INTERNAL);
        assert_non_null(strstr(context->text, chunks == 1 ? "no loss" : "no packet"));
        context_clear(context);
        pipeline_destroy(&pipeline);
    }
    mesh_destroy(&chain.mesh);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(stages_compute_the_product),           cmocka_unit_test(large_packets_leave_whole),
    cmocka_unit_test(packets_hold_tensors_of_any_type),     cmocka_unit_test(chunks_share_what_their_stage_made),
    cmocka_unit_test(a_middle_chunk_has_a_loss_of_its_own), cmocka_unit_test(a_chunk_may_hand_on_its_input),
    cmocka_unit_test(a_stage_without_a_result_is_an_error),
};

MPI_MAIN(tests)
