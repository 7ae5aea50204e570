#include <math.h>
#include <string.h>

#include "src/core/random.h"
#include "src/generate/generate.h"
#include "src/train/trainer.h"
#include "tests/support/fields.h"
#include "tests/support/held.h"
#include "tests/support/mpi_main.h"

/* An odd model: uneven heads, kv heads that tensor ranks share, odd vocabulary and layer count. */
static void make_config(struct config *config)
{
    memset(config, 0, sizeof *config);
    config->model = (struct model_config){.vocabulary = 53,
                                          .width = 24,
                                          .layers = 5,
                                          .heads = 6,
                                          .kv_heads = 3,
                                          .head_width = 4,
                                          .hidden = 37,
                                          .norm = NORM_LAYER,
                                          .norm_epsilon = 1e-5,
                                          .rope_base = 10000.0,
                                          .bias = true,
                                          .tied_embeddings = true,
                                          .attention = {.segment = 32}};
    config->compute.bucket_bytes = 4096;
    config->optimizer = (struct optimizer_config){
        .learning_rate = 1e-2, .beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8, .weight_decay = 0.1, .clip = 1.0};
    config->training = (struct training_config){
        .steps = 10, .batch = 5, .micro_batch = 2, .sequence_length = 7, .seed = 11, .skip_limit = 3};
}

struct bench {
    struct context *context;
    struct mesh *mesh;
    struct engine engine;
    struct config config;
    struct trainer trainer;
};

/* Of the configuration that the bench holds. */
static void bench_start(struct bench *bench, void **state, struct mesh_config mesh)
{
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    bench->context = &fixture->context;
    bench->mesh = mpi_mesh(fixture, mesh);
    assert_ok(bench->context, engine_create(bench->context, 1, &bench->engine));
    assert_ok(bench->context,
              trainer_create(bench->context, bench->mesh, &bench->engine, &bench->config, &bench->trainer));
    struct batch *batch = &bench->trainer.batch;
    uint64_t key = random_key(5, "tokens");
    for (int64_t i = 0; i < batch->mine.count * batch->length; i++) {
        uint64_t global = (uint64_t)(batch->mine.begin * batch->length + i);
        batch_tokens(batch)[i] = (int32_t)(random_bits(key, global) % 53);
        batch_targets(batch)[i] = (int32_t)(random_bits(key, global + 1000) % 53);
    }
    batch_ready(&bench->trainer.batch, batch->rows * batch->length, batch->rows * batch->length);
}

/* `vocabulary` 0 is the odd model's own. */
static void bench_create_wide(struct bench *bench, void **state, struct mesh_config mesh, enum compute_type type,
                              int64_t vocabulary)
{
    make_config(&bench->config);
    if (vocabulary)
        bench->config.model.vocabulary = vocabulary;
    bench->config.compute.type = type;
    bench_start(bench, state, mesh);
}

static void bench_create(struct bench *bench, void **state, struct mesh_config mesh, enum compute_type type)
{
    bench_create_wide(bench, state, mesh, type, 0);
}

static void bench_destroy(struct bench *bench)
{
    trainer_destroy(&bench->trainer);
    engine_destroy(&bench->engine);
    mesh_destroy(&bench->mesh);
    assert_int_equal(bench->context->memory.bytes_total, 0);
}

/* The meshes of this many ranks that the model can be split over. */
static int list_meshes(int ranks, struct mesh_config *meshes)
{
    int count = 0;
    for (int tensor = 1; tensor <= 6; tensor++)
        for (int pipeline = 1; pipeline <= 5; pipeline++)
            if (ranks % (tensor * pipeline) == 0)
                meshes[count++] = (struct mesh_config){ranks / (tensor * pipeline), pipeline, 1, tensor, 1};
    if (ranks == 2)
        meshes[count++] = (struct mesh_config){1, 2, 1, 1, 2};
    return count;
}

static void check_initial_values(struct bench *bench)
{
    const struct decoder *decoder = decoder_of(bench->trainer.model);
    for (int i = 0; i < held_count(decoder->list); i++) {
        const struct parameter *parameter = held(decoder->list, i);
        struct parameter whole = *parameter;
        whole.division.axis = 0;
        whole.division.slice = (struct range){.begin = 0, .count = whole.spec.shape[0]};
        struct box box = parameter_box(parameter);
        int64_t columns = box.extent[parameter->spec.rank - 1];
        for (int64_t e = 0; e < box_count(&box, parameter->spec.rank); e++) {
            int64_t index = box.offset[0] + e;
            if (parameter->spec.rank == 2)
                index = (box.offset[0] + e / columns) * whole.spec.shape[1] + box.offset[1] + e % columns;
            float expected;
            parameter_initialize(&whole, 11, (struct range){.begin = index, .count = 1}, &expected);
            if (parameter->value.dtype == DTYPE_BF16)
                assert_int_equal(((bf16 *)parameter->value.data)[e], bf16_from_float(expected));
            else
                assert_true(((float *)parameter->value.data)[e] == expected);
        }
    }
}

static void initial_parameters_are_the_same_on_every_mesh(void **state)
{
    struct mesh_config meshes[32];
    int count = list_meshes(mpi_fixture_of(state)->ranks, meshes);
    for (int i = 0; i < count; i++)
        for (int type = COMPUTE_FP32; type <= COMPUTE_BF16; type++) {
            struct bench bench;
            bench_create(&bench, state, meshes[i], (enum compute_type)type);
            const struct parameter_list *list = &bench.trainer.session.parameters;
            int parameters = 0;
            for (int p = 0; p < list->count; p++)
                parameters += parameter_counts(list->item[p]);
            assert_int_equal(parameters, 2 + 5 * 18 + 1);
            check_initial_values(&bench);
            bench_destroy(&bench);
        }
}

/* The losses of one rank, written down: every mesh of every number of ranks must come to them. */
static void every_mesh_computes_the_same_losses(void **state)
{
    enum { STEPS = 3 };
    struct mesh_config meshes[32];
    int count = list_meshes(mpi_fixture_of(state)->ranks, meshes);
    static const double expected[STEPS] = {3.96773022, 3.86822045, 3.68828356};
    for (int i = 0; i < count; i++) {
        struct bench bench;
        bench_create(&bench, state, meshes[i], COMPUTE_FP32);
        for (int step = 0; step < STEPS; step++) {
            struct step_result result;
            assert_ok(bench.context, trainer_step(&bench.trainer, &result));
            assert_false(result.skipped);
            assert_close(result.loss, expected[step], 1e-5, 0.0);
        }
        struct step_result evaluated;
        assert_ok(bench.context, trainer_loss(&bench.trainer, &evaluated));
        assert_true(evaluated.loss < expected[STEPS - 1]);
        bench_destroy(&bench);
    }
}

/* Elements of the whole that this rank does not hold are below everything, so the maximum is what some copy has. */
static void check_copies(struct bench *bench, const struct parameter *parameter, enum mesh_axis axis)
{
    const struct parameter_spec *spec = &parameter->spec;
    int64_t columns = spec->rank == 2 ? spec->shape[1] : 1;
    int64_t count = spec->shape[0] * columns;
    float *whole = memory_allocate(bench->context, (size_t)count * sizeof *whole, MEMORY_OTHER);
    const float *mine = parameter->value.data;
    for (int64_t i = 0; i < count; i++)
        whole[i] = -INFINITY;
    memcpy(whole + parameter->division.slice.begin * columns, mine,
           (size_t)(parameter->division.slice.count * columns) * sizeof *whole);
    mesh_all_reduce(bench->mesh, axis, whole, count, DTYPE_F32, MESH_MAX);
    for (int64_t i = 0; i < parameter->division.slice.count * columns; i++)
        assert_true(mine[i] == whole[parameter->division.slice.begin * columns + i]);
    memory_free(bench->context, whole);
}

static void copies_stay_equal_to_the_bit(void **state)
{
    struct mesh_config meshes[32];
    int count = list_meshes(mpi_fixture_of(state)->ranks, meshes);
    for (int i = 0; i < count; i++) {
        struct bench bench;
        struct step_result result;
        bench_create(&bench, state, meshes[i], COMPUTE_FP32);
        for (int step = 0; step < 4; step++)
            assert_ok(bench.context, trainer_step(&bench.trainer, &result));
        const struct decoder *decoder = decoder_of(bench.trainer.model);
        for (int p = 0; p < held_count(decoder->list); p++) {
            if (held(decoder->list, p)->division.replicated)
                check_copies(&bench, held(decoder->list, p), MESH_TENSOR);
            if (held(decoder->list, p)->tied)
                check_copies(&bench, held(decoder->list, p), MESH_ENDS);
        }
        bench_destroy(&bench);
    }
}

/* Head and loss cost more than the layers together: the last stage has none of them. */
static void a_heavy_head_gets_fewer_layers(void **state)
{
    enum { VOCABULARY = 4001 };
    int ranks = mpi_fixture_of(state)->ranks;
    if (ranks < 2 || ranks > 5)
        skip();
    struct bench bench;
    struct step_result whole;
    struct step_result staged;
    bench_create_wide(&bench, state, (struct mesh_config){ranks, 1, 1, 1, 1}, COMPUTE_FP32, VOCABULARY);
    assert_ok(bench.context, trainer_step(&bench.trainer, &whole));
    bench_destroy(&bench);
    bench_create_wide(&bench, state, (struct mesh_config){1, ranks, 1, 1, 1}, COMPUTE_FP32, VOCABULARY);
    int64_t layers = decoder_of(bench.trainer.model)->layers[0].count;
    assert_true(mesh_rank(bench.mesh, MESH_PIPELINE) == ranks - 1 ? layers == 0 : layers > 0);
    mesh_all_reduce(bench.mesh, MESH_PIPELINE, &layers, 1, DTYPE_I64, MESH_SUM);
    assert_int_equal(layers, 5);
    assert_ok(bench.context, trainer_step(&bench.trainer, &staged));
    assert_close(staged.loss, whole.loss, 1e-6, 0.0);
    assert_close(staged.gradient_norm, whole.gradient_norm, 1e-5, 0.0);
    bench_destroy(&bench);
}

static void a_step_that_is_not_finite_is_skipped_by_all(void **state)
{
    struct mesh_config meshes[32];
    int count = list_meshes(mpi_fixture_of(state)->ranks, meshes);
    for (int i = 0; i < count; i++) {
        struct bench bench;
        struct step_result result;
        bench_create(&bench, state, meshes[i], COMPUTE_FP32);
        struct decoder *decoder = decoder_of(bench.trainer.model);
        /* One rank's part of one parameter goes bad. */
        float *spoiled = decoder->blocks[0].down.weight->value.data;
        float good = spoiled[0];
        if (mesh_rank(bench.mesh, MESH_TEAM) == 0)
            spoiled[0] = NAN;
        float before = ((float *)held(decoder->list, 0)->value.data)[1];
        assert_ok(bench.context, trainer_step(&bench.trainer, &result));
        assert_true(result.skipped);
        assert_int_equal(bench.trainer.skipped, 1);
        assert_int_equal(bench.trainer.skipped_in_row, 1);
        assert_true(((float *)held(decoder->list, 0)->value.data)[1] == before);
        spoiled[0] = good;
        assert_ok(bench.context, trainer_step(&bench.trainer, &result));
        assert_false(result.skipped);
        assert_int_equal(bench.trainer.skipped_in_row, 0);
        assert_int_equal(bench.trainer.step, 2);
        bench_destroy(&bench);
    }
}

/* What may come before a step that learns. */
enum prelude { NOTHING, NOT_FINITE, NO_TARGET, PRELUDES };

static void run_prelude(struct bench *bench, enum prelude prelude)
{
    struct batch *batch = &bench->trainer.batch;
    struct step_result result;
    size_t bytes = (size_t)(batch->mine.count * batch->length) * sizeof(int32_t);
    int64_t tokens = batch->rows * batch->length;
    if (prelude == NOT_FINITE) {
        float *spoiled = decoder_of(bench->trainer.model)->blocks[0].down.weight->value.data;
        float good = spoiled[0];
        if (mesh_rank(bench->mesh, MESH_TEAM) == 0)
            spoiled[0] = NAN;
        assert_ok(bench->context, trainer_step(&bench->trainer, &result));
        assert_true(result.skipped && !result.no_target);
        spoiled[0] = good;
    } else if (prelude == NO_TARGET) {
        int32_t *kept = memory_allocate(bench->context, bytes, MEMORY_OTHER);
        memcpy(kept, batch_targets(batch), bytes);
        memset(batch_targets(batch), 0xff, bytes);
        batch_ready(&bench->trainer.batch, 0, tokens - 3);
        assert_ok(bench->context, trainer_step(&bench->trainer, &result));
        assert_true(result.no_target && !result.skipped);
        assert_true(isnan(result.loss) && isnan(result.gradient_norm));
        assert_int_equal(bench->trainer.tokens, tokens - 3);
        assert_int_equal(bench->trainer.skipped, 0);
        assert_ok(bench->context, trainer_loss(&bench->trainer, &result));
        assert_true(isnan(result.loss));
        memcpy(batch_targets(batch), kept, bytes);
        memory_free(bench->context, kept);
        batch_ready(&bench->trainer.batch, tokens, tokens);
    }
    assert_int_equal(bench->trainer.updates, 0);
    assert_int_equal(bench->trainer.step, prelude != NOTHING);
}

/* Neither a step that is not finite nor one without targets changes parameters or moments, or counts in the correction
 * of their bias: the step behind it gives the same bits as without it. */
static void steps_without_an_update_leave_no_trace(void **state)
{
    struct mesh_config meshes[32];
    int count = list_meshes(mpi_fixture_of(state)->ranks, meshes);
    for (int i = 0; i < count; i++) {
        double losses[PRELUDES];
        uint64_t sums[PRELUDES] = {0};
        for (int prelude = NOTHING; prelude < PRELUDES; prelude++) {
            struct bench bench;
            struct step_result result;
            bench_create(&bench, state, meshes[i], COMPUTE_FP32);
            run_prelude(&bench, (enum prelude)prelude);
            assert_ok(bench.context, trainer_step(&bench.trainer, &result));
            assert_int_equal(bench.trainer.updates, 1);
            losses[prelude] = result.loss;
            const struct decoder *decoder = decoder_of(bench.trainer.model);
            for (int p = 0; p < held_count(decoder->list); p++) {
                const struct tensor *value = &held(decoder->list, p)->value;
                const uint32_t *bits = value->data;
                for (int64_t e = 0; e < tensor_count(value); e++)
                    sums[prelude] = 31 * sums[prelude] + bits[e];
            }
            bench_destroy(&bench);
            assert_true(losses[prelude] == losses[NOTHING]);
            assert_true(sums[prelude] == sums[NOTHING]);
        }
    }
}

static void cast_rank(void *self, double votes[VOTES])
{
    int rank = mesh_rank(self, MESH_TEAM);
    votes[VOTE_STOP] += rank == mesh_size(self, MESH_TEAM) - 1;
    votes[VOTE_SAVE] += 1 + rank;
}

/* The votes of each rank are counted with every step and evaluated batch, and do not change the losses. */
static void votes_of_all_ranks_reach_all_ranks(void **state)
{
    struct mesh_config meshes[32];
    int count = list_meshes(mpi_fixture_of(state)->ranks, meshes);
    for (int i = 0; i < count; i++) {
        struct bench bench;
        struct step_result silent;
        struct step_result result;
        bench_create(&bench, state, meshes[i], COMPUTE_FP32);
        double ranks = mesh_size(bench.mesh, MESH_TEAM);
        assert_ok(bench.context, trainer_loss(&bench.trainer, &silent));
        assert_true(silent.votes[VOTE_STOP] == 0.0 && silent.votes[VOTE_SAVE] == 0.0);
        bench.trainer.evaluator.voter = (struct voter){bench.mesh, cast_rank};
        assert_ok(bench.context, trainer_loss(&bench.trainer, &result));
        assert_true(result.loss == silent.loss);
        assert_true(result.votes[VOTE_STOP] == 1.0 && result.votes[VOTE_SAVE] == 0.5 * ranks * (ranks + 1.0));
        assert_ok(bench.context, trainer_step(&bench.trainer, &result));
        assert_true(result.votes[VOTE_STOP] == 1.0 && result.votes[VOTE_SAVE] == 0.5 * ranks * (ranks + 1.0));
        bench_destroy(&bench);
    }
}

static void a_model_that_the_mesh_cannot_split_is_refused(void **state)
{
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    struct context *context = &fixture->context;
    if (fixture->ranks < 2)
        skip();
    struct config config;
    struct engine engine;
    struct trainer trainer;
    make_config(&config);
    config.model.layers = 1;
    struct mesh *mesh = mpi_mesh(fixture, (struct mesh_config){1, 0, 1, 1, 1});
    assert_ok(context, engine_create(context, 1, &engine));
    assert_fails(context, trainer_create(context, mesh, &engine, &config, &trainer), STATUS_USAGE,
                 "cannot share 1 layers");
    trainer_destroy(&trainer);
    mesh_destroy(&mesh);
    mesh = mpi_mesh(fixture, (struct mesh_config){1, 1, 1, 0, 1});
    config.model.heads = config.model.kv_heads = 1;
    assert_fails(context, trainer_create(context, mesh, &engine, &config, &trainer), STATUS_USAGE,
                 "cannot share 1 heads");
    trainer_destroy(&trainer);
    mesh_destroy(&mesh);
    engine_destroy(&engine);
    assert_int_equal(context->memory.bytes_total, 0);
}

/* -- Capacity warm-up -- */

enum { WARMUP = 4, WARM_STEPS = 6 };

static void make_routed_config(struct config *config, enum depth_kind kind)
{
    make_config(config);
    config->model.depth.kind = kind;
    config->model.depth.every = 2;
    config->model.depth.capacity = 0.3;
    config->model.depth.recursions = 3;
    config->model.depth.sharing = SHARING_MIDDLE_CYCLE;
    config->model.depth.alpha = 0.1;
    config->model.depth.router_loss = 0.01;
    config->training.sequence_length = 23;
    config->training.capacity_warmup_steps = WARMUP;
}

/* Tokens of a row that have been chosen so far by routed layer 3, or for the last recursion; -1 where another stage has
 * the router. */
static int64_t chosen_so_far(const struct bench *bench, enum depth_kind kind)
{
    const struct decoder *decoder = decoder_of(bench->trainer.model);
    bool here = kind == DEPTH_MOD ? decoder_holds_layer(decoder, 3) : decoder->recursion_routers[0] != NULL;
    int64_t rows = bench->trainer.batch.mine.count;
    return here && rows > 0 ? decoder->router_counts[kind == DEPTH_MOD ? 3 : 2].chosen / rows : -1;
}

static void train_through_warmup(void **state, struct mesh_config mesh, enum depth_kind kind, double *losses)
{
    struct bench bench;
    struct step_result result;
    double capacity = kind == DEPTH_MOD ? 0.3 : 1.0 / 3.0;
    int64_t chosen = 0;
    make_routed_config(&bench.config, kind);
    bench_start(&bench, state, mesh);
    for (int t = 0; t < WARM_STEPS; t++) {
        assert_ok(bench.context, trainer_step(&bench.trainer, &result));
        double progress = fmin(1.0, (double)t / WARMUP);
        double warm = capacity + (1.0 - capacity) * 0.5 * (1.0 + cos(acos(-1.0) * progress));
        chosen += (int64_t)floor(warm * 23.0 + 1e-9);
        if (chosen_so_far(&bench, kind) >= 0)
            assert_int_equal(chosen_so_far(&bench, kind), chosen);
        losses[t] = result.loss;
        /* An evaluation in between has the model's own capacity. */
        struct step_result evaluated;
        assert_ok(bench.context, trainer_loss(&bench.trainer, &evaluated));
        chosen += (int64_t)floor(capacity * 23.0 + 1e-9);
        if (chosen_so_far(&bench, kind) >= 0)
            assert_int_equal(chosen_so_far(&bench, kind), chosen);
        /* What routers lose in it is of this pass alone. */
        struct step_result again;
        assert_ok(bench.context, trainer_loss(&bench.trainer, &again));
        chosen += (int64_t)floor(capacity * 23.0 + 1e-9);
        assert_true(evaluated.router_loss > 0.0);
        assert_true(again.router_loss == evaluated.router_loss);
    }
    bench_destroy(&bench);
}

static void capacities_warm_up_alike_on_every_mesh(void **state)
{
    int ranks = mpi_fixture_of(state)->ranks;
    if (ranks > 4)
        skip();
    for (int kind = DEPTH_MOD; kind <= DEPTH_MOR; kind++) {
        const struct mesh_config meshes[] = {
            {1, 1, ranks, 1, 1}, {1, 1, 1, ranks, 1}, {1, ranks <= 3 ? ranks : 2, 1, ranks <= 3 ? 1 : 2, 1}};
        double expected[WARM_STEPS];
        double losses[WARM_STEPS];
        train_through_warmup(state, (struct mesh_config){ranks, 1, 1, 1, 1}, (enum depth_kind)kind, expected);
        for (size_t i = 0; i < sizeof meshes / sizeof *meshes; i++) {
            train_through_warmup(state, meshes[i], (enum depth_kind)kind, losses);
            for (int t = 0; t < WARM_STEPS; t++)
                assert_close(losses[t], expected[t], 1e-5, 0.0);
        }
    }
}

static void draws_follow_the_probabilities(void **state)
{
    enum { DRAWS = 20000 };
    static const float logits[] = {0.0f, 1.0f, 2.0f, -50.0f};
    struct context *context = &mpi_fixture_of(state)->context;
    struct arena work;
    arena_create(&work, context, MEMORY_BUFFERS);
    struct sampling sampling = {.temperature = 0.5, .top_p = 1.0, .seed = 4};
    int seen[4] = {0};
    for (int i = 0; i < DRAWS; i++)
        seen[sampling_draw(&sampling, logits, 4, i, &work)]++;
    double sum = 1.0 + exp(2.0) + exp(4.0);
    for (int i = 0; i < 3; i++)
        assert_close((double)seen[i] / DRAWS, exp(2.0 * i) / sum, 0.0, 0.01);
    assert_int_equal(seen[3], 0);
    sampling.top_k = 2;
    memset(seen, 0, sizeof seen);
    for (int i = 0; i < DRAWS; i++)
        seen[sampling_draw(&sampling, logits, 4, i, &work)]++;
    assert_int_equal(seen[0], 0);
    assert_close((double)seen[1] / DRAWS, 1.0 / (1.0 + exp(2.0)), 0.0, 0.01);
    sampling = (struct sampling){.temperature = 1.0, .top_p = 0.6, .seed = 4};
    for (int i = 0; i < 100; i++)
        assert_int_equal(sampling_draw(&sampling, logits, 4, i, &work), 2);
    /* Of 0.67 and 0.24 both are needed for 0.9, and of top_k's two 0.731 is enough for 0.73 of them. */
    sampling.top_p = 0.9;
    memset(seen, 0, sizeof seen);
    for (int i = 0; i < DRAWS; i++)
        seen[sampling_draw(&sampling, logits, 4, i, &work)]++;
    assert_int_equal(seen[0], 0);
    assert_close((double)seen[1] / DRAWS, 1.0 / (1.0 + exp(1.0)), 0.0, 0.015);
    sampling.top_p = 0.73;
    sampling.top_k = 2;
    for (int i = 0; i < 100; i++)
        assert_int_equal(sampling_draw(&sampling, logits, 4, i, &work), 2);
    sampling.temperature = 0.0;
    assert_int_equal(sampling_draw(&sampling, logits, 4, 0, &work), 2);
    /* Of equal ones the first. */
    static const float equal[] = {0.0f, 3.0f, 3.0f, 3.0f};
    assert_int_equal(sampling_draw(&sampling, equal, 4, 0, &work), 1);
    sampling = (struct sampling){.temperature = 1.0, .top_p = 1.0, .top_k = 1, .seed = 4};
    assert_int_equal(sampling_draw(&sampling, equal, 4, 0, &work), 1);
    /* The same seed says the same in a later program, too: as another one (in Python) draws. */
    static const int drawn[] = {0, 1, 2, 2, 2, 2, 2, 2, 1, 2, 2, 1, 2, 2, 1};
    sampling.top_k = 0;
    for (int i = 0; i < 15; i++)
        assert_int_equal(sampling_draw(&sampling, logits, 4, i < 12 ? i : (INT64_C(1) << 32) + i - 12, &work),
                         drawn[i]);
    arena_destroy(&work);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(initial_parameters_are_the_same_on_every_mesh),
    cmocka_unit_test(every_mesh_computes_the_same_losses),
    cmocka_unit_test(copies_stay_equal_to_the_bit),
    cmocka_unit_test(a_heavy_head_gets_fewer_layers),
    cmocka_unit_test(a_step_that_is_not_finite_is_skipped_by_all),
    cmocka_unit_test(steps_without_an_update_leave_no_trace),
    cmocka_unit_test(votes_of_all_ranks_reach_all_ranks),
    cmocka_unit_test(a_model_that_the_mesh_cannot_split_is_refused),
    cmocka_unit_test(capacities_warm_up_alike_on_every_mesh),
    cmocka_unit_test(draws_follow_the_probabilities),
};

MPI_MAIN(tests)
