/* The parameters of every kind of model, divided over every mesh. */
#include <math.h>
#include <string.h>

#include "src/model/decoder_private.h"
#include "src/model/layers.h"
#include "src/model/stages.h"
#include "src/optim/optimizer.h"
#include "tests/support/held.h"
#include "tests/support/mpi_main.h"

enum { SEED = 11, STEPS = 2, VARIANTS = 5 };

/* Odd numbers of everything that ranks share. */
static struct model_config variant(int number)
{
    struct model_config config = {.vocabulary = 53,
                                  .width = 26,
                                  .layers = 8,
                                  .heads = 6,
                                  .kv_heads = 3,
                                  .head_width = 4,
                                  .hidden = 37,
                                  .bias = true,
                                  .attention = {.kind = ATTENTION_INFINI, .segment = 4}};
    config.depth.kind = DEPTH_MOR;
    switch (number) {
    case 0: /* Mixture-of-Depths, everything that LAuReL has */
        config.depth.kind = DEPTH_MOD;
        config.depth.every = 3;
        config.depth.capacity = 0.5;
        config.depth.causal_router = CAUSAL_ROUTER_PREDICTOR;
        config.residual.kind = RESIDUAL_LAUREL;
        config.residual.weights = true;
        config.residual.rank = 3;
        config.residual.previous = 2;
        break;
    case 1: /* expert choice, tied embeddings */
        config.depth.recursions = 3;
        config.depth.sharing = SHARING_MIDDLE_CYCLE;
        config.tied_embeddings = true;
        break;
    case 2: /* token choice, one learned residual a layer */
        config.depth.recursions = 2;
        config.depth.sharing = SHARING_CYCLE;
        config.depth.routing = ROUTING_TOKEN;
        config.residual.kind = RESIDUAL_LAUREL;
        config.residual.scope = RESIDUAL_LAYER;
        config.residual.rank = 4;
        break;
    default: /* recursive transformers whose layers repeat at once */
        config.depth.recursions = 2;
        config.depth.sharing = number == 3 ? SHARING_SEQUENCE : SHARING_MIDDLE_SEQUENCE;
        config.depth.routing = ROUTING_NONE;
    }
    return config;
}

struct bench {
    struct context *context;
    struct mesh *mesh;
    struct engine engine;
    struct parameter_list list;
    struct decoder *decoder;
    struct replica *replica;
};

/* A decoder with its parameters and nothing else. */
static void bench_create(struct bench *bench, void **state, const struct mesh_config *mesh,
                         const struct model_config *config, enum dtype dtype)
{
    struct mpi_fixture *fixture = mpi_fixture_of(state);
    bench->context = &fixture->context;
    bench->mesh = mpi_mesh(fixture, *mesh);
    assert_ok(bench->context, engine_create(bench->context, 1, &bench->engine));
    struct decoder *d = memory_allocate(bench->context, sizeof *d, MEMORY_OTHER);
    bench->decoder = d;
    d->context = bench->context;
    d->mesh = bench->mesh;
    d->engine = &bench->engine;
    d->config = *config;
    d->dtype = dtype;
    d->max_length = 8;
    d->list = &bench->list;
    parameter_list_create(bench->context, &bench->list);
    int ranks = mesh_size(bench->mesh, MESH_TENSOR);
    int rank = mesh_rank(bench->mesh, MESH_TENSOR);
    int64_t group = config->heads / config->kv_heads;
    d->heads = range_partition(config->heads, ranks, rank);
    d->kv_heads.begin = d->heads.begin / group;
    d->kv_heads.count = (d->heads.begin + d->heads.count - 1) / group - d->kv_heads.begin + 1;
    d->vocabulary = range_partition(config->vocabulary, ranks, rank);
    d->chunks = stages_chunks(config, mesh);
    d->layers = memory_allocate(bench->context, (size_t)d->chunks * sizeof *d->layers, MEMORY_OTHER);
    for (int64_t chunk = 0; chunk < d->chunks; chunk++)
        d->layers[chunk] =
            stages_layers(config, mesh, chunk * mesh->pipeline + mesh_rank(bench->mesh, MESH_PIPELINE), 8);
    assert_ok(bench->context, decoder_declare(d));
    assert_ok(bench->context, replica_create(bench->context, bench->mesh, &bench->engine, &bench->list, dtype, 2048,
                                             true, &bench->replica));
    replica_initialize(bench->replica, SEED);
}

static void bench_destroy(struct bench *bench)
{
    replica_destroy(&bench->replica);
    decoder_destroy(&bench->decoder);
    parameter_list_destroy(&bench->list);
    engine_destroy(&bench->engine);
    mesh_destroy(&bench->mesh);
    assert_int_equal(bench->context->memory.bytes_total, 0);
}

/* Runs a check for each variant on each mesh of the ranks there are, with both types. */
static void on_every_mesh(void **state, void (*check)(struct bench *bench))
{
    int64_t ranks = mpi_fixture_of(state)->ranks;
    for (int number = 0; number < VARIANTS; number++)
        for (int64_t tensor = 1; tensor <= 6; tensor++)
            for (int64_t pipeline = 1; pipeline <= 4; pipeline++)
                for (int type = 0; type < 2 && ranks % (tensor * pipeline) == 0; type++) {
                    struct bench bench;
                    struct model_config config = variant(number);
                    struct mesh_config mesh = {ranks / (tensor * pipeline), pipeline, 1, tensor, 1};
                    bench_create(&bench, state, &mesh, &config, type ? DTYPE_BF16 : DTYPE_F32);
                    check(&bench);
                    bench_destroy(&bench);
                }
}

/* The index in the whole tensor of an element of this rank's block. */
static int64_t global_index(const struct parameter *parameter, int64_t element)
{
    struct box box = parameter_box(parameter);
    int64_t index = 0;
    int64_t stride = 1;
    for (int axis = parameter->spec.rank - 1; axis >= 0; axis--) {
        index += (box.offset[axis] + element % box.extent[axis]) * stride;
        element /= box.extent[axis];
        stride *= parameter->spec.shape[axis];
    }
    return index;
}

static float initial_value(const struct parameter_spec *spec, int64_t index)
{
    struct parameter whole = {.spec = *spec, .division.slice = {0, spec->shape[0]}};
    float value;
    parameter_initialize(&whole, SEED, (struct range){index, 1}, &value);
    return value;
}

static void check_initial_values(struct bench *bench)
{
    const struct decoder *decoder = bench->decoder;
    for (int i = 0; i < held_count(decoder->list); i++) {
        const struct parameter *parameter = held(decoder->list, i);
        bool is_float = parameter->spec.keeps_float || decoder->dtype == DTYPE_F32;
        assert_int_equal(parameter->value.dtype, is_float ? DTYPE_F32 : DTYPE_BF16);
        for (int64_t e = 0; e < tensor_count(&parameter->value); e++) {
            float expected = initial_value(&parameter->spec, global_index(parameter, e));
            if (is_float)
                assert_true(((float *)parameter->value.data)[e] == expected);
            else
                assert_int_equal(((bf16 *)parameter->value.data)[e], bf16_from_float(expected));
        }
    }
}

static void initial_parameters_are_the_same_on_every_mesh(void **state)
{
    on_every_mesh(state, check_initial_values);
}

static void check_owners(struct bench *bench)
{
    const struct decoder *decoder = bench->decoder;
    int count;
    const struct shard *shards = replica_shards(bench->replica, &count);
    int64_t owned = 0;
    for (int i = 0; i < count; i++)
        owned += parameter_owned(shards[i].parameter, shards[i].flat).count;
    mesh_all_reduce(bench->mesh, MESH_TEAM, &owned, 1, DTYPE_I64, MESH_SUM);
    assert_int_equal(owned, parameter_list_elements(decoder->list));
}

static void every_element_has_one_owner(void **state)
{
    on_every_mesh(state, check_owners);
}

/* A stage holds what its unrolled layers use, once, and the routers where recursions begin. */
static void check_blocks(struct bench *bench)
{
    const struct decoder *decoder = bench->decoder;
    const struct model_config *config = &decoder->config;
    bool used[16] = {false};
    int stored = 0;
    for (int chunk = 0; chunk < decoder->chunks; chunk++)
        for (int64_t i = 0; i < decoder->layers[chunk].count; i++) {
            int64_t layer = decoder->layers[chunk].begin + i;
            const struct block *block = decoder_block(decoder, layer);
            assert_non_null(block);
            assert_int_equal(block->layer, layers_stored_of(config, layer));
            assert_non_null(block->down.weight);
            assert_true((block->router != NULL) == layers_routed(config, layer));
            stored += !used[block->layer];
            used[block->layer] = true;
        }
    assert_int_equal(decoder->block_count, stored);
    bool first = mesh_rank(bench->mesh, MESH_PIPELINE) == 0;
    bool expert = config->depth.kind == DEPTH_MOR && config->depth.routing == ROUTING_EXPERT;
    bool token = config->depth.kind == DEPTH_MOR && config->depth.routing == ROUTING_TOKEN;
    for (int64_t r = 0; expert && r < config->depth.recursions; r++)
        assert_true((decoder->recursion_routers[r] != NULL) == first);
    assert_true((decoder->depth_router != NULL) == (token && first));
}

static void stages_hold_what_their_layers_use(void **state)
{
    on_every_mesh(state, check_blocks);
}

/* The same on every rank of any mesh. */
static float gradient_of(const struct parameter_spec *spec, int64_t index)
{
    return (float)((index * 7 + spec->name[strlen(spec->name) - 8] * 3) % 11 - 5) / 8.0f;
}

/* The owner of an element brings its gradient, divided among the replicas. */
static void fill_gradients(struct bench *bench)
{
    const struct decoder *decoder = bench->decoder;
    float part = 1.0f / (float)mesh_size(bench->mesh, MESH_REPLICA);
    for (int i = 0; i < held_count(decoder->list); i++) {
        const struct parameter *parameter = held(decoder->list, i);
        struct range all = {.begin = 0, .count = tensor_count(&parameter->value)};
        struct range owned = parameter_owned(parameter, all);
        for (int64_t e = owned.begin; e < owned.begin + owned.count; e++)
            parameter->gradient[e] = part * gradient_of(&parameter->spec, global_index(parameter, e));
    }
}

/* One rank's AdamW of section 7, in double. */
static double updated(const struct optimizer_config *config, const struct parameter_spec *spec, int64_t index)
{
    double p = (double)initial_value(spec, index);
    double g = (double)gradient_of(spec, index);
    double rate = config->learning_rate * (spec->is_gate ? config->gate_lr_factor : 1.0);
    for (int t = 1; t <= STEPS; t++)
        p -= rate * (g / (fabs(g) + config->epsilon) + (spec->decay ? config->weight_decay : 0.0) * p);
    return p;
}

static void check_updates(struct bench *bench)
{
    const struct decoder *decoder = bench->decoder;
    const struct optimizer_config config = {.learning_rate = 0.01,
                                            .beta1 = 0.9,
                                            .beta2 = 0.95,
                                            .epsilon = 1e-6,
                                            .weight_decay = 0.5,
                                            .gate_lr_factor = 10.0};
    struct optimizer optimizer;
    int count;
    const struct shard *shards = replica_shards(bench->replica, &count);
    assert_ok(bench->context, optimizer_create(bench->context, bench->mesh, &config, NULL, shards, count, &optimizer));
    for (int t = 1; t <= STEPS; t++) {
        replica_begin(bench->replica);
        fill_gradients(bench);
        replica_finish(bench->replica);
        assert_ok(bench->context,
                  optimizer_update(&optimizer, &bench->engine, bench->mesh, t, config.learning_rate, 1.0));
        replica_gather(bench->replica);
    }
    for (int i = 0; i < held_count(decoder->list); i++) {
        const struct parameter *parameter = held(decoder->list, i);
        for (int64_t e = 0; e < tensor_count(&parameter->value); e++) {
            double expected = updated(&config, &parameter->spec, global_index(parameter, e));
            if (parameter->value.dtype == DTYPE_F32)
                assert_close((double)((float *)parameter->value.data)[e], expected, 1e-5, 1e-6);
            else
                assert_close((double)bf16_to_float(((bf16 *)parameter->value.data)[e]), expected, 4e-3, 1e-6);
        }
    }
    optimizer_destroy(&optimizer);
}

static void every_mesh_updates_alike(void **state)
{
    on_every_mesh(state, check_updates);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(initial_parameters_are_the_same_on_every_mesh),
    cmocka_unit_test(every_element_has_one_owner),
    cmocka_unit_test(stages_hold_what_their_layers_use),
    cmocka_unit_test(every_mesh_updates_alike),
};

MPI_MAIN(tests)
